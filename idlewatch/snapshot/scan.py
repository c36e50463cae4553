"""
What a stop would destroy: every entry that changed since the container was made.

The change set is all that has ctime >= birth of the container. ctime can't be set back, so the scan needs no list
of what the image held, and finds a write whose mtime was put back, a chmod and an xattr, too. What it can't see is
what is gone: deletions lose nothing and are not part of a save. Mount points are left out by the kernel's own list,
other things by the rules of `Excludes`; both are named in the result, so that nothing is dropped in silence.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from idlewatch.snapshot.mounts import points_below, root_mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idlewatch.snapshot.mounts import Mount

FILE: Final = "file"
FOLDER: Final = "folder"
SYMLINK: Final = "symlink"
FIFO: Final = "fifo"
CHAR: Final = "char"
BLOCK: Final = "block"
SOCKET: Final = "socket"
KINDS: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFSOCK: SOCKET,
}
SPARSE_FROM_BYTES = 64 * 1024
"""Below this a file that fills fewer blocks than its size is inlined or packed by the file system, not sparse."""

NEVER_RESTORED: Final = frozenset(
    {
        ".dockerenv",
        "etc/hostname",
        "etc/hosts",
        "etc/ld.so.cache",
        "etc/mtab",
        "etc/resolv.conf",
        "etc/rp_environment",
    }
)
"""Made anew by the runtime at each start, for this Pod and this host's driver: an old copy does harm."""

_TREES: Final = (
    *("proc", "sys", "dev", "run", "tmp", "var/tmp", "var/run", "var/lock"),
    *("var/lib/apt/lists", "var/cache/apt/archives"),
)
_CACHES: Final = (
    *(".cache/pip", ".cache/uv", ".conda/pkgs", "conda/pkgs", "miniconda3/pkgs", "anaconda3/pkgs"),
    *("miniforge3/pkgs", "mambaforge/pkgs", "micromamba/pkgs"),
)
_PID_FILE_BYTES = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Excludes:
    """What is left out on purpose; paths are relative to the root, which stands for the container's `/`."""

    trees: frozenset[str] = frozenset(_TREES) | NEVER_RESTORED
    caches: tuple[str, ...] = _CACHES
    """Ends of paths of folders with downloaded packages, wherever they lie."""

    def rule(self, path: str, name: str, kind: str, size: int) -> str | None:
        """Return the rule that leaves this entry out, for people; None where none does."""
        if path in self.trees:
            return "/" + path
        if kind == FOLDER:
            return next((cache for cache in self.caches if path == cache or path.endswith("/" + cache)), None)
        if kind == SOCKET:
            return "sockets"
        if kind == FILE and size <= _PID_FILE_BYTES and name.endswith(".pid"):
            return "pid files"
        return None


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
    notes: tuple[str, ...] = ()
    excluded: dict[str, Amount] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    _inodes: set[tuple[int, int, bool]] = field(default_factory=set)
    _driver_files: frozenset[str] | None = None

    def entries(self, pause: Callable[[], None] = lambda: None) -> Iterator[Entry]:
        """
        Yield the change set, each folder just before what is in it. `pause` is called once a folder and may raise.

        That order matters to tar: it sets a folder's mtime when it comes to a member outside it.
        """
        stack: list[_Pending] = [_Pending("", None, None)]
        while stack:
            folder, rule, entry = stack.pop()
            if entry is not None:
                yield entry
            pause()
            try:
                listing = os.scandir(f"{self.root}/{folder}")
            except OSError as error:
                self._unreadable(folder, rule, error)
                continue
            with listing:
                yield from self._folder(listing, folder, rule, stack)

    def _folder(
        self,
        listing: Iterator[os.DirEntry[str]],
        folder: str,
        outer: str | None,
        stack: list[_Pending],
    ) -> Iterator[Entry]:
        since_ns = self.since_ns if self.since_ns is not None else -(1 << 63)
        prefix = folder + "/" if folder else ""
        for item in listing:
            path = prefix + item.name
            if self._elsewhere(path):
                continue
            try:
                status = item.stat(follow_symlinks=False)
            except OSError as error:
                self._unreadable(path, outer, error)
                continue
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            rule = outer or self.excludes.rule(path, item.name, kind, status.st_size)
            if status.st_ctime_ns < since_ns:
                if kind == FOLDER:
                    stack.append(_Pending(path, rule, None))
                continue
            if kind == SYMLINK and rule is None and self._is_driver_link(path):
                rule = "links to the driver's files"
            entry = Entry(path, kind, status.st_size, self._weigh(status, rule), status.st_ctime_ns)
            if rule is not None:
                self._leave_out(entry, rule, inside=outer is not None)
            if kind == FOLDER:
                stack.append(_Pending(path, rule, entry if rule is None else None))
            elif rule is None:
                yield entry

    def _unreadable(self, path: str, rule: str | None, error: OSError) -> None:
        vanished = isinstance(error, FileNotFoundError | NotADirectoryError)
        if rule is None and (not vanished or not path):
            self.errors[path] = error.strerror or str(error)

    def _elsewhere(self, path: str) -> bool:
        """Tell whether it lies on another file system, before it is touched: a dead network volume never answers."""
        if path in self.mount_points:
            self.mounts.append(path)
            return True
        return path in self.skipped

    def _leave_out(self, entry: Entry, rule: str, *, inside: bool) -> None:
        amount = self.excluded.setdefault(rule, Amount())
        amount.disk_bytes += entry.disk_bytes
        amount.entries += 1
        if entry.kind == SOCKET and not inside:
            self.sockets.append(entry.path)

    def _weigh(self, status: os.stat_result, rule: str | None) -> int:
        """Return the bytes on disk; an inode weighs once, and once more where a package cache shares it."""
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            inode = (status.st_dev, status.st_ino, rule is not None)
            if inode in self._inodes:
                return 0
            self._inodes.add(inode)
        return min(status.st_size, status.st_blocks * 512) if is_sparse(status) else _plain_bytes(status)

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


def _lexical_target(link: Path) -> str:
    """Return where a symlink leads without touching what is there."""
    try:
        return os.path.normpath(link.parent / link.readlink())
    except OSError:
        return ""


def _plain_bytes(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def is_sparse(status: os.stat_result) -> bool:
    """Tell whether a regular file fills clearly fewer blocks than its size."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size >= SPARSE_FROM_BYTES
        and status.st_blocks * 512 <= status.st_size - 4096
    )


def new_scan(
    root: Path,
    *,
    since_ns: int | None,
    mounts: Sequence[Mount],
    excludes: Excludes | None = None,
    skip: Sequence[Path] = (),
) -> Scan:
    """
    Return a scan of `root` that has not walked yet.

    `since_ns` is a wall clock instant in nanoseconds, None: everything counts. `skip` are absolute paths of our own:
    the state folder and the volume.
    """
    real = os.path.realpath(root)
    return Scan(
        root=real.rstrip("/"),
        since_ns=since_ns,
        excludes=excludes or Excludes(),
        mount_points=points_below(real, mounts),
        skipped=_below(real, skip),
        notes=_blind_spots(mounts) if since_ns is not None else (),
    )


def _below(real: str, paths: Sequence[Path]) -> frozenset[str]:
    prefix = real.rstrip("/") + "/"
    resolved = (os.path.realpath(path) for path in paths)
    return frozenset(path.removeprefix(prefix) for path in resolved if path.startswith(prefix) and path != prefix)


def _blind_spots(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Return what a ctime scan can't see here: overlays that rename folders of the image without copying them."""
    root = root_mount(mounts)
    if root is None or "redirect_dir=on" not in root.options:
        return ()
    return ("/ is an overlay with redirect_dir=on: the files in a renamed folder of the image are not seen",)
