"""The writing half of a restore: member after member into the target, where it is safe, then all of it compared."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.crew import Crew
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.hands import NewFile, failed
from idlewatch.snapshot.kinds import FILE, FOLDER, KINDS, SYMLINK
from idlewatch.snapshot.manifest import FORMAT
from idlewatch.snapshot.precedence import is_key_list
from idlewatch.snapshot.reader import walk
from idlewatch.snapshot.target import InTheWayError, Target
from idlewatch.snapshot.writeback import Writeback
from idlewatch.snapshot.written import Written

if TYPE_CHECKING:
    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.packed import Archive
    from idlewatch.snapshot.pax import Member
    from idlewatch.snapshot.plan import Plan, Step
    from idlewatch.snapshot.precedence import Precedence
    from idlewatch.snapshot.reader import Content, Members
    from idlewatch.snapshot.report import RestoreReport
    from idlewatch.snapshot.steps import Steps

_MERGED_UP_TO_BYTES: Final = 1024 * 1024
_NO_DEVICES: Final = frozenset({errno.EPERM, errno.EACCES})


class Restoring:
    """Writes what a plan says, from one archive after the other, and compares it afterwards."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        crew: Crew,
        report: RestoreReport,
        steps: Steps,
        precedence: Precedence,
    ) -> None:
        self._plan = plan
        self._target = target
        self._crew = crew
        self._report = report
        self._steps = steps
        self._precedence = precedence
        self._digests = digests_of(FORMAT)
        self._place = 0
        self._folders: list[tuple[str, Member]] = []
        self._files: list[Written] = []

    def bring(self, file: Archive, snapshot: Snapshot) -> None:
        """Write what the plan wants of one archive; the places of the members go on where the last one ended."""
        self._digests = digests_of(snapshot.format)
        for members, member, _ in walk(file, snapshot, self._steps.add, digest=False):
            step = self._plan.steps.get(self._place)
            self._place += 1
            if step is not None:
                self._apply(members, member, step)
        self._crew.settle(self._report)

    def finish(self) -> None:
        """Give the folders their times, and read back what was written. Raises SnapshotError for what differs."""
        if not self._report.dry_run:
            self._finish_folders()
            self._compare()

    def leave(self) -> None:
        """Open the folders that were made, where the restore ends before its end: until then only we may enter them."""
        if not self._report.dry_run:
            with suppress(OSError):  # the first error says more
                self._finish_folders()

    def _finish_folders(self) -> None:
        """Give the folders their mtime once nothing is made in them any more, the innermost first."""
        for path, member in reversed(self._folders):
            try:
                self._target.clear(path)
                self._dress(path, member)
            except (OSError, InTheWayError) as error:
                self._report.in_the_way[path] = f"changed meanwhile: {error}"
        self._target.clear("")

    def _apply(self, members: Members, member: Member, step: Step) -> None:
        self._steps.add(0)
        try:
            if member.kind == FOLDER:
                self._folder(step.names[0], member)
            elif member.kind == FILE:
                self._file(members, member, step)
            else:
                self._special(member, step)
        except InTheWayError as error:
            self._report.in_the_way.update(dict.fromkeys(step.names, str(error)))
        except OSError as error:
            raise failed(step.names[0], error) from error

    def _folder(self, path: str, member: Member) -> None:
        status = self._target.status(path)
        if status is not None and not stat.S_ISDIR(status.st_mode) and self._precedence.is_newer(path, status, member):
            raise InTheWayError("something newer that is no folder stands there")
        if (status is not None and path in self._plan.ways) or self._precedence.stays(path):
            return
        in_place = status is not None and not stat.S_ISDIR(status.st_mode)
        if in_place:
            self._report.replaced.append(path)
        if not self._report.dry_run:
            self._target.make_folder(path)
            self._folders.append((path, member))
        elif in_place:
            self._target.given_up.add(path)
        self._report.folders += status is None or in_place

    def _file(self, members: Members, member: Member, step: Step) -> None:
        content = members.content(member)
        extents = content.segments if member.sparse else member.size

        def as_saved(path: str) -> Written:
            return Written(path, step.digest, self._digests, extents)

        names = self._precedence.writable(
            step.names, member, lambda path: self._precedence.holds(as_saved(path), member)
        )
        if not names:
            return
        first, same = names[0]
        written = as_saved(first)
        if same:
            self._report.unchanged += 1
            self._dress(first, member)
        elif is_key_list(first) and self._merge(first, member, content):
            return
        else:
            self._write(written, member, content, alone=len(names) == 1)
        self._files.append(written)
        self._link(first, [path for path, _ in names[1:]])

    def _write(self, written: Written, member: Member, content: Content, *, alone: bool) -> None:
        self._report.files += 1
        self._report.disk_bytes += written.disk_bytes
        if self._report.dry_run:
            return
        if alone and content.is_small and not member.sparse:
            self._crew.write(NewFile(written, member, content.whole()), self._report)
        else:
            self._write_here(written, member, content)
            self._crew.read_back(written)

    def _write_here(self, written: Written, member: Member, content: Content) -> None:
        with self._target.made(written.path):
            fd = self._target.create(written.path)
            try:
                _fill(fd, content)
                if member.sparse:
                    os.ftruncate(fd, member.size)
            finally:
                os.close(fd)
            self._dress(written.path, member, new=True)

    def _link(self, first: str, others: list[str]) -> None:
        for path in others:
            if self._same_inode(first, path):
                continue
            self._report.files += 1
            if not self._report.dry_run:
                self._target.link(first, path)

    def _same_inode(self, one: str, other: str) -> bool:
        a, b = self._target.status(one), self._target.status(other)
        return a is not None and b is not None and (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)

    def _special(self, member: Member, step: Step) -> None:
        names = self._precedence.writable(
            step.names, member, lambda path: self._precedence.is_same_special(path, member)
        )
        if not names:
            return
        first, same = names[0]
        if same:
            self._report.unchanged += 1
            self._dress(first, member)
        elif not self._make_special(first, member):
            return
        self._link(first, [path for path, _ in names[1:]])

    def _make_special(self, path: str, member: Member) -> bool:
        if member.kind in {"char", "block"} and not self._target.root_user:
            self._report.skipped[path] = "only root can make a device"
            return False
        self._report.files += 1
        if self._report.dry_run:
            return True
        with self._target.made(path):
            try:
                self._create_special(path, member)
            except OSError as error:
                if member.kind == SYMLINK or error.errno not in _NO_DEVICES:
                    raise
                raise InTheWayError(f"a {member.kind} can't be made here: {error.strerror}") from error
            self._dress(path, member, new=True)
        return True

    def _create_special(self, path: str, member: Member) -> None:
        if member.kind == SYMLINK:
            self._target.create_symlink(path, member.target)
        else:
            self._target.create_node(path, _MODES[member.kind] | 0o600, member.device)

    def _merge(self, path: str, member: Member, content: Content) -> bool:
        """
        Add the saved lines to the `authorized_keys` of the target; False where it has none.

        The image's start appends the owner's current key at each boot: an old copy in its place locks them out.
        """
        status = self._target.status(path)
        if status is None or not stat.S_ISREG(status.st_mode) or max(status.st_size, member.size) > _MERGED_UP_TO_BYTES:
            return False
        self._report.merged.append(path)
        if not self._report.dry_run:
            self._target.replace_content(path, _joined(self._target.read(path), content.whole()), status)
        return True

    def _dress(self, path: str, member: Member, *, new: bool = False) -> None:
        if self._report.dry_run:
            return
        lacking = self._target.dress(path, member, new=new)
        if lacking:
            self._report.attributes[path] = "; ".join(lacking)

    def _compare(self) -> None:
        """Read back what was written. Raises SnapshotError naming what is not as it was saved."""
        self._steps.stage("compare", self._report.disk_bytes)
        wrong: list[str] = []
        in_place = [file for file in self._files if file.path not in self._report.in_the_way]
        for done, differ in self._crew.compare(in_place):
            self._steps.add(done)
            wrong += map(shown, differ)
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise SnapshotError(f"restored, but not as saved: {', '.join(wrong[:5])}{more}; run it again")


_MODES: Final = {kind: mode for mode, kind in KINDS.items()}


def _joined(present: bytes, saved: bytes) -> bytes:
    lines = [*present.splitlines(), *saved.splitlines()]
    return b"".join(line + b"\n" for line in dict.fromkeys(lines))


def _fill(fd: int, content: Content) -> None:
    """Write the pieces, which follow each other without holes, into the segments."""
    writeback = Writeback(fd)
    ends = iter(content.segments)
    at = end = 0
    for piece in content.pieces():
        left = piece
        while left:
            while at == end:
                at, length = next(ends)
                end = at + length
            written = os.pwrite(fd, left[: end - at], at)
            at += written
            left = left[written:]
            writeback.reached(at)
    writeback.reached(at, last=True)
