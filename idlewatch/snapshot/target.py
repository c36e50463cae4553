"""
The folder that a restore writes into: every access is relative to an open folder, and no symlink is followed.

A file is made under a temporary name beside its place and renamed over it, so that a running program keeps the file
it has open, and an interruption leaves the old one or the new one. The temporary names are always the same, one for
each that writes (`hands.py`), so that the next run clears up what an interruption left.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.kinds import FOLDER, SYMLINK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idlewatch.snapshot.pax import Member

_MOST_HANDS: Final = 3
"""More gain nothing: the thread that reads the archive can't feed them."""
_TEMPORARY: Final = ".idlewatch-restoring"
TEMPORARIES: Final = (_TEMPORARY, *(f"{_TEMPORARY}-{number}" for number in range(1, _MOST_HANDS + 1)))
"""The first is that of the thread that reads the archive."""
_T = TypeVar("_T")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class InTheWayError(Exception):
    """Something stands in the target that must not be passed or replaced; the text says what."""


class Target:
    """The folder, and the way to the folder last used in it, kept open."""

    def __init__(self, path: Path, temporary: str = _TEMPORARY) -> None:
        """`temporary` is one of TEMPORARIES, no two at work with the same. Raises SnapshotError for no folder."""
        try:
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotError(f"cannot restore into {path}: {error.strerror}") from error
        self.path = path
        self.temporary = temporary
        self._names: list[str] = []
        self._fds = [root]
        self.root_user = os.geteuid() == 0
        self._own = (os.geteuid(), os.getegid())
        self.given_up: set[str] = set()
        """What a dry run would put a folder in place of: nothing lies below it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all that is open."""
        while self._fds:
            os.close(self._fds.pop())

    def parent(self, path: str, *, make: bool) -> tuple[int, str]:
        """
        Return the open folder of a path, and its name in it.

        With `make` missing folders are made, else FileNotFoundError is raised. Raises InTheWayError where a part of
        the way is a symlink or no folder.
        """
        *names, name = path.split("/")
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        while len(self._names) > same:
            os.close(self._fds.pop())
            self._names.pop()
        for part in names[same:]:
            if self.given_up and "/".join((*self._names, part)) in self.given_up:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), part)
            self._fds.append(self._open(self._fds[-1], part, make=make))
            self._names.append(part)
        return self._fds[-1], name

    def _open(self, above: int, name: str, *, make: bool) -> int:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=above)
        try:
            return os.open(name, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InTheWayError(f"{name} is no folder there") from error

    def status(self, path: str) -> os.stat_result | None:
        """Return what stands at a path, symlinks not followed; None: nothing. Raises InTheWayError."""
        try:
            folder, name = self.parent(path, make=False)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names_beside(self, path: str) -> frozenset[str]:
        """Return what lies in the folder of a path. Raises InTheWayError."""
        try:
            return frozenset(os.listdir(self.parent(path, make=False)[0]))  # noqa: PTH208 - of an open folder
        except FileNotFoundError:
            return frozenset()

    def open(self, path: str) -> int:
        """Open a regular file for reading. Raises OSError, InTheWayError."""
        folder, name = self.parent(path, make=False)
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)

    def create(self, path: str, member: Member | None = None) -> int:
        """
        Open a new file for writing under the temporary name beside `path`; `settle` puts it there.

        Closed to others until it is dressed, but where `member` says that it will be ours and open anyway.
        """
        folder, _ = self.parent(path, make=True)
        ours = member is not None and (member.uid, member.gid) == self._own
        mode = member.mode & 0o777 if member is not None and ours else 0o600
        return self._new(folder, lambda: os.open(self.temporary, _FILE, mode, dir_fd=folder))

    def create_symlink(self, path: str, target: str) -> None:
        """Make a symlink under the temporary name."""
        folder, _ = self.parent(path, make=True)
        self._new(folder, lambda: os.symlink(target, self.temporary, dir_fd=folder))

    def create_node(self, path: str, mode: int, device: tuple[int, int] = (0, 0)) -> None:
        """Make a fifo or a device under the temporary name."""
        folder, _ = self.parent(path, make=True)
        self._new(folder, lambda: os.mknod(self.temporary, mode, os.makedev(*device), dir_fd=folder))

    def link(self, existing: str, path: str) -> None:
        """Make `path` another name of `existing`, which is not the same file yet."""
        above, name = self.parent(existing, make=False)
        source = os.dup(above)
        try:
            folder, _ = self.parent(path, make=True)
            self._new(
                folder,
                lambda: os.link(name, self.temporary, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False),
            )
        finally:
            os.close(source)
        self.settle(path)

    @contextmanager
    def made(self, path: str) -> Iterator[None]:
        """Put what the body made under the temporary name in its place, or remove it where the body failed."""
        try:
            yield
        except BaseException:
            with suppress(OSError, InTheWayError):
                self.abandon(path)
            raise
        self.settle(path)

    def read(self, path: str) -> bytes:
        """Return the content of a small regular file."""
        with os.fdopen(self.open(path), "rb") as file:
            return file.read()

    def read_symlink(self, path: str) -> str | None:
        """Return where a symlink leads; None where there is none."""
        try:
            folder, name = self.parent(path, make=False)
            return os.readlink(name, dir_fd=folder)
        except (OSError, InTheWayError):
            return None

    def replace_content(self, path: str, content: bytes, status: os.stat_result) -> None:
        """Replace a regular file by one with this content, and owner and mode of `status`."""
        with self.made(path), os.fdopen(self.create(path), "wb") as file:
            file.write(content)
            if self.root_user:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))

    def settle(self, path: str) -> None:
        """Rename what has been made under the temporary name to its place."""
        folder, name = self.parent(path, make=False)
        try:
            os.rename(self.temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError as error:
            self.abandon(path)
            raise InTheWayError("a folder stands there") from error

    def abandon(self, path: str) -> None:
        """Remove what stands under the temporary name beside `path`."""
        self._unlink(self.parent(path, make=False)[0])

    def clear(self, folder: str) -> None:
        """Remove what an interrupted run left in a folder, the root where it is empty."""
        fd, _ = self.parent(f"{folder}/." if folder else ".", make=False)
        for name in TEMPORARIES:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)

    def make_folder(self, path: str) -> None:
        """Make a folder where there is none, in place of what else stands there."""
        folder, name = self.parent(path, make=True)
        status = self.status(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=folder)
            status = None
        if status is None:
            os.mkdir(name, 0o700, dir_fd=folder)

    def remove(self, path: str, *, folder: bool) -> None:
        """Remove one entry; a folder only where it is empty. Raises OSError, InTheWayError."""
        above, name = self.parent(path, make=False)
        if not folder:
            os.unlink(name, dir_fd=above)
            return
        self._leave(path)
        os.rmdir(name, dir_fd=above)

    def _leave(self, path: str) -> None:
        """Close what is kept open below a folder that is about to go."""
        depth = path.count("/") + 1
        while len(self._names) >= depth and "/".join(self._names[:depth]) == path:
            os.close(self._fds.pop())
            self._names.pop()

    def dress_new(self, fd: int, member: Member) -> list[str]:
        """Do what `dress` does for an open file of our making; what it has already costs no call."""
        status = os.fstat(fd)
        owner_differs = (status.st_uid, status.st_gid) != (member.uid, member.gid)
        if self.root_user and owner_differs:
            os.fchown(fd, member.uid, member.gid)
        mode = self._mode(member)
        if stat.S_IMODE(status.st_mode) != mode or (self.root_user and owner_differs):
            os.fchmod(fd, mode)
        lacking = [*self._lacking(member), *_set_xattrs(fd, member)]
        os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        return lacking

    def _mode(self, member: Member) -> int:
        return member.mode if self.root_user else member.mode & 0o1777

    def _lacking(self, member: Member) -> list[str]:
        special = not self.root_user and member.kind != FOLDER and member.mode & (stat.S_ISUID | stat.S_ISGID)
        return ["setuid and setgid bits: only root may restore them"] if special else []

    def dress(self, path: str, member: Member, *, new: bool = False) -> list[str]:
        """
        Give what stands at `path` (or `new` beside it) owner, mode, attributes and mtime of the member.

        Returns a sentence for each attribute that this file system or user can't have. Owners, and the setuid and
        setgid bits with them, only as root.
        """
        folder, own_name = self.parent(path, make=False)
        name = self.temporary if new else own_name
        if self.root_user:
            os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        if member.kind != SYMLINK:
            os.chmod(name, self._mode(member), dir_fd=folder)
        lacking = [*self._lacking(member), *_set_xattrs(f"/proc/self/fd/{folder}/{name}", member)]
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=folder, follow_symlinks=False)
        return lacking

    def _new(self, folder: int, make: Callable[[], _T]) -> _T:
        try:
            return make()
        except FileExistsError:
            self._unlink(folder)
            return make()

    def _unlink(self, folder: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.temporary, dir_fd=folder)


def _set_xattrs(file: str | int, member: Member) -> Iterator[str]:
    for name, value in member.xattrs.items():
        try:
            if _xattr(file, name) != value:
                os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            yield f"{name}: {error.strerror}"


def _xattr(file: str | int, name: str) -> bytes | None:
    try:
        return os.getxattr(file, name, follow_symlinks=isinstance(file, int))
    except OSError:
        return None
