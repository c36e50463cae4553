"""
Whose state of a path counts in a restore: the saved one, the image's own, or what somebody changed since.

Only looks, and says in the report what it leaves as it is.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from idlewatch.snapshot.kinds import FOLDER, KINDS, SYMLINK

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.snapshot.images import Images
    from idlewatch.snapshot.pax import Member
    from idlewatch.snapshot.report import RestoreReport
    from idlewatch.snapshot.steps import Steps
    from idlewatch.snapshot.target import Target
    from idlewatch.snapshot.written import Written


class Precedence:
    """Compares what is to be written with what stands in the target."""

    def __init__(
        self,
        target: Target,
        report: RestoreReport,
        steps: Steps,
        *,
        saved_ns: int,
        since_ns: int | None,
        overwrite: bool,
        images: Images | None,
    ) -> None:
        """`saved_ns`: the snapshot's moment. `images`: None where nothing is known of them."""
        self._target = target
        self._report = report
        self._steps = steps
        self._saved_ns = saved_ns
        self._since_ns = since_ns
        self._overwrite = overwrite
        self._images = images
        self._beside: tuple[str | None, frozenset[str]] = (None, frozenset())

    def writable(self, paths: list[str], member: Member, same: Callable[[str], bool]) -> list[tuple[str, bool]]:
        """Return the names that may be written, each with whether it is right already, those first."""
        found = []
        for path in paths:
            status = self._target.status(path) if len(paths) > 1 or self._is_there(path) else None
            right = status is not None and _kind(status) == member.kind and same(path)
            if status is not None and _kind(status) == FOLDER:
                self._report.in_the_way[path] = "a folder stands there"
                continue
            own = not right and not is_key_list(path)
            if own and self._images is not None and not self._overwrite and (why := self._images.conflict(path)):
                self._report.conflicts[path] = why
            elif status is not None and own and self.is_newer(path, status, member):
                self._report.kept_newer.append(path)
            else:
                found.append((path, right))
                if status is not None and own:
                    self._report.replaced.append(path)
        return sorted(found, key=lambda item: not item[1]) if len(found) > 1 else found

    def _is_there(self, path: str) -> bool:
        """Tell from a list of its folder: a look for each name would wait for those who write into that folder."""
        folder, _, name = path.rpartition("/")
        if self._beside[0] != folder:
            self._beside = (folder, self._target.names_beside(path))
        return name in self._beside[1]

    def stays(self, path: str) -> bool:
        """Tell whether the image of now has its own there, which is left."""
        return self._images is not None and not self._overwrite and self._images.conflict(path) is not None

    def is_newer(self, path: str, status: os.stat_result, member: Member) -> bool:
        """
        Tell whether what stands there, and is not what was saved, is somebody's later work: it stays.

        It is none where it is older than this container, or where size and mtime are those of the image's own file:
        that was at most opened or given another owner. Else it is where it carries a later mtime than what was saved,
        and wherever it was put there after the snapshot's moment, by ctime, for `rsync -a`, `cp -p`, `tar -x` and
        `touch -d` write old mtimes. What a restore of the same snapshot has put there is what was saved.
        """
        if self._overwrite or (self._since_ns is not None and status.st_ctime_ns < self._since_ns):
            return False
        if self._images is not None and self._images.held(path, status):
            return False
        return status.st_mtime_ns > member.mtime_ns or status.st_ctime_ns > self._saved_ns

    def holds(self, saved: Written, member: Member) -> bool:
        """Tell whether a file has the saved content already."""
        status = self._target.status(saved.path)
        if status is None or status.st_size != member.size:
            return False
        self._steps.add(member.size)
        return saved.holds(self._target)

    def is_same_special(self, path: str, member: Member) -> bool:
        """Tell whether a symlink leads there already, or a device is that one."""
        if member.kind == SYMLINK:
            return self._target.read_symlink(path) == member.target
        status = self._target.status(path)
        return status is not None and status.st_rdev == os.makedev(*member.device)


def _kind(status: os.stat_result) -> str:
    return KINDS[stat.S_IFMT(status.st_mode)]


def is_key_list(path: str) -> bool:
    """Tell whether lines of a file are joined rather than replaced."""
    return path.rpartition("/")[2] == "authorized_keys"
