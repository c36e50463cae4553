"""
Where the parts of a Pod's snapshots are kept, each under a name, whole or not at all.

`Store` knows what a snapshot consists of. A shelf knows only how to list, read, write with a commit at the end, and
remove. This one is a folder on the volume; `objects.py` has one in object storage.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from idlewatch.amounts import amount
from idlewatch.errors import Refused, SnapshotError
from idlewatch.snapshot.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

PART: Final = ".part"
_LOCK: Final = "save.lock"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_BYTES: Final = 1024 * 1024
MOST_READ_BYTES: Final = 128 * 1024 * 1024
"""A small thing is no larger: a manifest with a million paths has less."""
_SURELY_ROOM_BYTES: Final = 64 * 1024 * 1024
"""So little is written as soon as it is known whether there is room."""
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES})
"""What CIFS and some FUSE file systems answer to fsync of a folder."""
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_NOT_WAITING: Final = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
"""Whoever shares the volume may have put a pipe there, which would never answer."""
_NO_LOCKS: Final = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})


class SaveUnderWay(Refused):
    """Another save of this Pod holds the lock; it will be over by itself."""


class Item(NamedTuple):
    """What lies on a shelf under a name."""

    size_bytes: int
    age_s: float
    """Since it was written, by the clocks of both sides."""
    touched_s: float = 0.0
    """When anything of it was changed last, by the clock of where it is kept; seconds since 1970."""
    regular: bool = True
    """Whether it is a thing that can be read, and no pipe, link or folder under its name."""


class Contents(NamedTuple):
    """What lies on a shelf, by name."""

    items: Mapping[str, Item]
    """What is whole."""
    leftovers: Mapping[str, Item]
    """What was begun and not committed; `remove` knows these names, too."""


class Stored(Protocol):
    """One thing that lies on a shelf, opened. Threads may read at the same time."""

    @property
    def size_bytes(self) -> int:
        """How long it is now."""
        ...

    def read(self, at: int, most: int) -> bytes:
        """Return at least one byte and at most `most` from `at`; empty at the end. Raises OSError or SnapshotError."""
        ...

    def forget(self) -> None:
        """Read what comes from where it is kept, and not from memory."""
        ...


class Shelf(Protocol):
    """
    A place for things with names. Everything raises SnapshotError or OSError where the place can't be had.

    A thing is listed from its commit on, at once as a whole; until then, and where the writing failed, it is at most
    a leftover.
    """

    @property
    def where(self) -> str:
        """What people call it."""
        ...

    def make(self) -> bool:
        """Get it ready to be written to, and return whether it was made just now, so that nothing can lie there."""
        ...

    def locked(self) -> AbstractContextManager[bool]:
        """Hold the lock of saves; False where there are no locks. Raises SaveUnderWay where another save holds it."""
        ...

    def contents(self) -> Contents:
        """Return all that lies there at one instant; nothing where the place was never made."""
        ...

    def read(self, name: str) -> bytes:
        """Return a small thing. Raises OSError, FileNotFoundError where it is not there."""
        ...

    def opened(self, name: str) -> AbstractContextManager[Stored]:
        """Open one for reading. Raises FileNotFoundError where it is not there."""
        ...

    def put(self, name: str, content: bytes, *, direct: bool = False) -> None:
        """
        Write a small thing.

        `direct`: half of it may be listed after a sudden end, which is no harm where it counts only with another one.
        """
        ...

    def sync(self) -> None:
        """Make what was committed outlast a sudden end of the machine."""
        ...

    def writing(self, name: str, expected_bytes: int) -> AbstractContextManager[Callable[[bytes], None]]:
        """
        Yield what writes piece by piece; committed at the end of the block, given up where that raises.

        `expected_bytes` need not be right. The bytes must stay as they are.
        """
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove these, in this order; what isn't there is no error."""
        ...

    def require_space(self, content_bytes: int) -> None:
        """Raise SnapshotError where so much surely finds no room; a quota may show only while writing."""
        ...


class FolderShelf:
    """
    A folder on a volume, closed to others. Files are written as `.part`, synced and renamed.

    On a network volume each call that opens, looks or renames is a round trip, so none is made twice.
    """

    def __init__(self, folder: Path, volume: Path | None = None) -> None:
        """`volume` must be there for `make`; the folders below it are made."""
        self.folder = folder
        self.volume = folder if volume is None else volume
        self._fd: int | None = None

    @property
    def where(self) -> str:
        """The path."""
        return str(self.folder)

    def make(self) -> bool:
        """Make the folders. Raises SnapshotError where the volume isn't there."""
        try:
            fd, made = self._opened(), False
        except FileNotFoundError:
            self._make_folders()
            fd, made = self._opened(), True
        if not made and stat.S_IMODE(os.fstat(fd).st_mode) != 0o700:
            os.fchmod(fd, 0o700)
        return made

    def _make_folders(self) -> None:
        for folder in (self.folder.parent.parent, self.folder.parent, self.folder):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                continue
            except (FileNotFoundError, NotADirectoryError) as error:
                raise SnapshotError(f"no place to save to: {self.volume} is no folder") from error

    def _opened(self) -> int:
        """Return the folder, open as long as this shelf is there."""
        if self._fd is None:
            try:
                self._fd = os.open(self.folder, _FOLDER)
            except NotADirectoryError as error:
                raise SnapshotError(f"no place to save to: {self.folder} is no folder") from error
            weakref.finalize(self, os.close, self._fd)
        return self._fd

    def locked(self) -> AbstractContextManager[bool]:
        """A lock file in the folder: whoever shares the volume sees it."""
        return locked_file(self.folder / _LOCK, self.where)

    def contents(self) -> Contents:
        """All files; what was not committed are the parts."""
        names = self._names()
        parts = [name for name in names if name.endswith(PART)]
        return Contents(_Files(self.folder, (name for name in names if name not in parts)), _Files(self.folder, parts))

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))  # noqa: PTH208 - names, and no look at each
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SnapshotError(f"cannot read {self.folder}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """The whole file."""
        with self.opened(name) as stored:
            return stored.all()

    @contextmanager
    def opened(self, name: str) -> Iterator[StoredFile]:
        """No link is followed. What is no regular file fails while it is read, or ends where that is too much."""
        fd = os.open(self.folder / name, os.O_RDONLY | _NOT_WAITING)
        try:
            yield StoredFile(fd)
        finally:
            os.close(fd)

    def put(self, name: str, content: bytes, *, direct: bool = False) -> None:
        """Write a file, with `direct` under its own name at once."""
        if len(content) > MOST_READ_BYTES:
            raise SnapshotError(f"{name} would be larger than {amount(MOST_READ_BYTES)}, and not be read again")
        if not direct:
            with self.writing(name, len(content)) as write:
                write(content)
            return
        fd = self._created(self.folder / name)
        try:
            _write_all(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _created(self, path: Path) -> int:
        """Open a new file for writing; what stands there is removed, which may be anything."""
        try:
            return os.open(path, _WRITE | os.O_EXCL, 0o600)
        except FileExistsError:
            path.unlink(missing_ok=True)
            return os.open(path, _WRITE | os.O_EXCL, 0o600)

    @contextmanager
    def writing(self, name: str, expected_bytes: int) -> Iterator[Callable[[bytes], None]]:
        """Write a part, and rename it."""
        del expected_bytes
        part = self.folder / (name + PART)
        fd = os.open(part, _WRITE | os.O_EXCL, 0o600)
        try:
            writeback, written = Writeback(fd), 0

            def write(data: bytes) -> None:
                nonlocal written
                _write_all(fd, data)
                written += len(data)
                writeback.reached(written)

            yield write
            os.fsync(fd)
            part.rename(self.folder / name)
        except BaseException:
            with suppress(OSError):  # the first error says more; the next save sweeps
                part.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Make renames last."""
        try:
            os.fsync(self._opened())
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def require_space(self, content_bytes: int) -> None:
        """Compare with what is free."""
        if content_bytes < _SURELY_ROOM_BYTES:
            return
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        if free < content_bytes * _PACKED_SHARE:
            raise SnapshotError(
                f"{self.volume} has {amount(free)} free, too little for {amount(content_bytes)} that a stop would "
                "wipe; free some space on it, lower IDLEWATCH_KEEP_SNAPSHOTS, or leave some out with IDLEWATCH_EXCLUDE"
            )


_PACKED_SHARE: Final = 0.6
"""What is left of typical content (environments, weights, sources) after packing; a guess that only saves time."""


class _Files(Mapping[str, Item]):
    """Files by name; one is looked at when it is asked for, and once."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._seen: dict[str, Item | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Item:
        item = self._seen[name]
        if item is None:
            try:
                status = (self._folder / name).lstat()
            except FileNotFoundError as error:
                raise KeyError(name) from error
            item = self._seen[name] = Item(
                size_bytes=status.st_size,
                age_s=time.time() - status.st_mtime,
                touched_s=max(status.st_mtime_ns, status.st_ctime_ns) / 1e9,
                regular=stat.S_ISREG(status.st_mode),
            )
        return item

    def __contains__(self, name: object) -> bool:
        return name in self._seen

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


class StoredFile:
    """A file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return os.fstat(self._fd).st_size

    def read(self, at: int, most: int) -> bytes:
        """Read some."""
        return os.pread(self._fd, most, at)

    def all(self) -> bytes:
        """Read all of it. Raises OSError where that is too much."""
        found = bytearray()
        while piece := os.read(self._fd, _READ_BYTES):
            found += piece
            if len(found) > MOST_READ_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {amount(MOST_READ_BYTES)}")
        return bytes(found)

    def forget(self) -> None:
        """Have the kernel drop its pages."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def locked_file(path: Path, where: str) -> Iterator[bool]:
    """
    Hold the lock on a file; False where its file system has no locks.

    Raises SaveUnderWay where another process holds it. The lock goes with its process, however that ends.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _NOT_WAITING, 0o600)
    try:
        yield _lock(fd, where)
    finally:
        os.close(fd)


def _lock(fd: int, where: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SaveUnderWay(f"another save into {where} is under way; wait until it is over") from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True
