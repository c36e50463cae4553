"""
What a stop would destroy: every entry that changed since the container was made.

The change set is all that has ctime >= birth of the container. ctime can't be set back, so the scan needs no list
of what the image held, and finds a write whose mtime was put back, a chmod and an xattr, too. What it can't see is
what is gone: that is told by the names of the image, where they were noted at the start. Mount points are left out by
the kernel's own list, other things by the rules of `Excludes`; both are named in the result, so that nothing is
dropped in silence.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from idlewatch.snapshot.excludes import Excludes
from idlewatch.snapshot.image import LATE_S, kind_of, sign, size_of
from idlewatch.snapshot.kinds import FILE, FOLDER, KINDS, SOCKET, SPARSE_FROM_BYTES, SYMLINK, is_sparse
from idlewatch.snapshot.mounts import points_below, root_mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idlewatch.snapshot.image import Image
    from idlewatch.snapshot.mounts import Mount


_FORMAT: Final = 0o170000
"""The bits of a mode that tell the kind of an entry; see inode(7)."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTHING: Final[frozenset[str]] = frozenset()
_NOTED: Final = "the names of the image were noted"
_NOT_KNOWN: Final = "what had been deleted before is not known"


class Entry(NamedTuple):
    """One thing that a stop would destroy; a tuple because there may be hundreds of thousands."""

    path: str
    """Relative to the root; bytes that are no UTF-8 are kept as surrogates (PEP 383)."""
    kind: str
    size: int
    disk_bytes: int
    """What it weighs: holes of a sparse file and the further names of a hard link weigh nothing."""
    ctime_ns: int


class _Pending(NamedTuple):
    """A folder that is still to be walked, the rule that leaves it out, and what to say of itself."""

    path: str
    rule: str | None
    entry: Entry | None
    whole: bool = False
    """The image had no such folder: all that is in it is new, also what has an old ctime (a renamed folder)."""


@dataclass(slots=True)
class Amount:
    """How much a rule left out."""

    disk_bytes: int = 0
    entries: int = 0


@dataclass(slots=True)
class Scan:
    """One pass over the root: what it found, and what it left out and why. `entries` fills what is beside it."""

    root: str
    since_ns: int | None
    excludes: Excludes
    mount_points: frozenset[str]
    """Relative to the root, as are all paths here."""
    skipped: frozenset[str]
    """Our own folders: not walked, because what lies on a volume may be large, slow, or not answer at all."""
    image: Image | None = None
    """The names that the image held; None: not known, and then nothing is known to be deleted."""
    notes: tuple[str, ...] = ()
    deleted: list[str] = field(default_factory=list)
    """What the image held and is gone, the topmost paths only; also its folders that are no folders any more."""
    altered: list[str] = field(default_factory=list)
    """Folders that are new, or have another owner or mode than in the image."""
    excluded: dict[str, Amount] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    _inodes: set[tuple[int, int, bool]] = field(default_factory=set)
    _driver_files: frozenset[str] | None = None
    _apart: dict[str, set[str]] = field(init=False, repr=False)
    """Folder to the names in it that are mount points or our own."""

    def __post_init__(self) -> None:
        """Sort what must not be touched by the folder it lies in: one look a folder instead of two a file."""
        self._apart = {}
        for path in self.mount_points | self.skipped:
            folder, _, name = path.rpartition("/")
            self._apart.setdefault(folder, set()).add(name)

    def entries(self, pause: Callable[[], None] = lambda: None) -> Iterator[Entry]:
        """
        Yield the change set, each folder just before what is in it. `pause` is called once a folder and may raise.

        That order matters to tar: it sets a folder's mtime when it comes to a member outside it.
        """
        stack: list[_Pending] = [_Pending("", None, None)]
        while stack:
            folder = stack.pop()
            if folder.entry is not None:
                yield folder.entry
            pause()
            try:
                fd = os.open(f"{self.root}/{folder.path}", _FOLDER)
            except OSError as error:
                self._unreadable(folder.path, folder.rule, error)
                continue
            compared = self.image is not None and (folder.entry is not None or not folder.path)
            present: dict[str, str | None] | None = {} if compared else None
            try:
                yield from self._folder(fd, folder, stack, present)
            finally:
                os.close(fd)
            if self.image is not None and present is not None:
                self._find_deleted(self.image, folder.path, present)

    def _folder(
        self, fd: int, folder: _Pending, stack: list[_Pending], present: dict[str, str | None] | None
    ) -> Iterator[Entry]:
        """Go through an open folder: what has not changed, mostly all, must cost little more than its status."""
        since_ns = self.since_ns if self.since_ns is not None and not folder.whole else -(1 << 63)
        apart = self._apart.get(folder.path, _NOTHING)
        with os.scandir(fd) as listing:
            for item in listing:
                name = item.name
                if present is not None:
                    present[name] = None
                if name in apart:
                    self._pass_by(_joined(folder.path, name))
                    continue
                try:
                    status = item.stat(follow_symlinks=False)
                except OSError as error:
                    self._unreadable(_joined(folder.path, name), folder.rule, error)
                    continue
                kind = KINDS[status.st_mode & _FORMAT]
                if present is not None:
                    present[name] = kind
                if status.st_ctime_ns < since_ns:
                    if kind == FOLDER:
                        stack.append(self._unchanged(folder, name))
                elif (entry := self._changed(folder, name, kind, status, stack)) is not None:
                    yield entry

    def _unchanged(self, above: _Pending, name: str) -> _Pending:
        """Return a folder that has not changed itself: what lies below it may have."""
        path = _joined(above.path, name)
        return _Pending(path, above.rule or self.excludes.rule(path, name, FOLDER, 0), None)

    def _changed(
        self, above: _Pending, name: str, kind: str, status: os.stat_result, stack: list[_Pending]
    ) -> Entry | None:
        """Return what has changed, but what a rule leaves out; a folder is put on the stack instead."""
        path, size = f"{above.path}/{name}" if above.path else name, status.st_size
        rule = above.rule or self.excludes.rule(path, name, kind, size)
        if kind == SYMLINK and rule is None and self._is_driver_link(path):
            rule = "links to the driver's files"
        plain = kind == FILE and size < SPARSE_FROM_BYTES and status.st_nlink == 1
        entry = Entry(path, kind, size, size if plain else self._weigh(status, rule), status.st_ctime_ns)
        if rule is not None:
            self._leave_out(entry, rule, inside=above.rule is not None)
        if kind == FOLDER:
            stack.append(self._walk_into(entry, rule, status))
            return None
        return entry if rule is None else None

    def _walk_into(self, entry: Entry, rule: str | None, status: os.stat_result) -> _Pending:
        if rule is not None or self.image is None:
            return _Pending(entry.path, rule, entry if rule is None else None)
        before = self.image.signature(entry.path)
        if before != sign(status):
            self.altered.append(entry.path)
        return _Pending(entry.path, None, entry, whole=before is None)

    def _find_deleted(self, image: Image, folder: str, present: dict[str, str | None]) -> None:
        """Compare a folder that has changed with what the image held in it: a deletion moves the folder's ctime."""
        for name, signature in image.children(folder).items():
            path, kind = f"{folder}/{name}" if folder else name, kind_of(signature)
            if name in present and (kind != FOLDER or present[name] in {FOLDER, None}):
                continue
            if self.excludes.rule(path, name, kind, size_of(signature)) is None and not self._is_ours(path):
                self.deleted.append(path)

    def _is_ours(self, path: str) -> bool:
        return path in self.mount_points or path in self.skipped

    def _unreadable(self, path: str, rule: str | None, error: OSError) -> None:
        vanished = isinstance(error, FileNotFoundError | NotADirectoryError)
        if rule is None and (not vanished or not path):
            self.errors[path] = error.strerror or str(error)

    def _pass_by(self, path: str) -> None:
        """Note another file system before it is touched: a dead network volume never answers."""
        if path in self.mount_points:
            self.mounts.append(path)

    def _leave_out(self, entry: Entry, rule: str, *, inside: bool) -> None:
        amount = self.excluded.setdefault(rule, Amount())
        amount.disk_bytes += entry.disk_bytes
        amount.entries += 1
        if entry.kind == SOCKET and not inside:
            self.sockets.append(entry.path)

    def _weigh(self, status: os.stat_result, rule: str | None) -> int:
        """Return the bytes on disk; an inode weighs once, and once more where a package cache shares it."""
        if not stat.S_ISREG(status.st_mode):
            return 0
        if status.st_nlink > 1:
            inode = (status.st_dev, status.st_ino, rule is not None)
            if inode in self._inodes:
                return 0
            self._inodes.add(inode)
        return status.st_blocks * 512 if is_sparse(status) else status.st_size

    def _is_driver_link(self, path: str) -> bool:
        """
        Tell whether a symlink leads to a file that is a mount point, as the NVIDIA runtime's links do.

        They fit only this host's driver. A link to a mounted folder (`~/data -> /workspace/data`) is a person's.
        """
        if self._driver_files is None:
            points = (Path(self._full(point)) for point in self.mount_points - self.skipped)
            self._driver_files = frozenset(os.path.realpath(point) for point in points if not point.is_dir())
        if not self._driver_files:
            return False
        link = Path(self._full(path))
        if any(_lexical_target(link).startswith(self._full(own)) for own in self.skipped):
            return False
        return os.path.realpath(link) in self._driver_files

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _lexical_target(link: Path) -> str:
    """Return where a symlink leads without touching what is there."""
    try:
        return os.path.normpath(link.parent / link.readlink())
    except OSError:
        return ""


def new_scan(
    root: Path,
    *,
    since_ns: int | None,
    mounts: Sequence[Mount],
    excludes: Excludes | None = None,
    skip: Sequence[Path] = (),
    image: Image | None = None,
) -> Scan:
    """
    Return a scan of `root` that has not walked yet.

    `since_ns` is a wall clock instant in nanoseconds, None: everything counts. `skip` are absolute paths of our own:
    the state folder and the volume. `image` counts only where it was noted in this very container.
    """
    real = os.path.realpath(root)
    known = image if image is not None and image.since_ns == since_ns else None
    return Scan(
        root=real.rstrip("/"),
        since_ns=since_ns,
        excludes=excludes or Excludes(),
        mount_points=points_below(real, mounts),
        skipped=_below(real, skip),
        image=known,
        notes=_blind_spots(mounts, known) if since_ns is not None else (),
    )


def _below(real: str, paths: Sequence[Path]) -> frozenset[str]:
    prefix = real.rstrip("/") + "/"
    resolved = (os.path.realpath(path) for path in paths)
    return frozenset(path.removeprefix(prefix) for path in resolved if path.startswith(prefix) and path != prefix)


def _blind_spots(mounts: Sequence[Mount], image: Image | None) -> tuple[str, ...]:
    """Return what can't be seen here, for people."""
    if image is not None:
        late = image.late_s > LATE_S
        return (f"{_NOTED} {image.late_s / 60:.0f} min after the start: {_NOT_KNOWN}",) if late else ()
    root = root_mount(mounts)
    renames = root is not None and "redirect_dir=on" in root.options
    lost = ("/ is an overlay with redirect_dir=on: the files in a renamed folder of the image are not seen",)
    return (
        "the names of the image were not noted at the start: what has been deleted is not known",
        *(lost if renames else ()),
    )
