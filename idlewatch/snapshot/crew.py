"""
The threads of a restore: they write small files, and read back what was written, each with a way of its own.

What is written and whether is decided before, by one thread and in the order of the archive. Only system calls are
spread: they are most of the work where files are small, and let other threads run. A file is read back as soon as it
is written, while its bytes are at hand; at the end it is looked at once more, and read again if anything has touched
it since.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.codec import usable_workers
from idlewatch.snapshot.digests import told
from idlewatch.snapshot.reader import shown
from idlewatch.snapshot.target import MOST_THREADS, TEMPORARIES, InTheWayError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from idlewatch.snapshot.digests import Digests
    from idlewatch.snapshot.pax import Member
    from idlewatch.snapshot.report import RestoreReport

SMALL_BYTES: Final = 256 * 1024
_CHUNK: Final = 1024 * 1024
_BATCH_FILES: Final = 128
_BATCH_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Written:
    """A file that was written: what it must hold."""

    path: str
    digest: bytes | None
    digests: Digests
    """How `digest` came about."""
    extents: int | list[tuple[int, int]]
    """Offset and length of what it holds; a number: all of it, in one."""
    proof: int | None = None
    """What it was, in one number, when it was read back and right; None: it was not."""

    @property
    def segments(self) -> list[tuple[int, int]]:
        """The extents as a list."""
        return [(0, self.extents)] if isinstance(self.extents, int) else self.extents

    @property
    def disk_bytes(self) -> int:
        """How much there is to read."""
        return self.extents if isinstance(self.extents, int) else sum(length for _, length in self.extents)


class NewFile(NamedTuple):
    """A small file that is to be written as it is, in the place of what stands there."""

    written: Written
    member: Member
    content: bytes


class Crew:
    """The threads. To be closed, and then nothing is written any more."""

    def __init__(self, path: Path) -> None:
        """`path` is the target, which must be a folder."""
        threads = min(MOST_THREADS, usable_workers())
        self._reader = Target(path)
        self._targets = [Target(path, name) for name in TEMPORARIES[1 : threads + 1]]
        self._free: SimpleQueue[Target] = SimpleQueue()
        for target in self._targets:
            self._free.put(target)
        self._beside: Beside[Any] = Beside(threads=threads, depth=3 * threads)
        # Of its own: a large file is read for seconds, and those who write must not wait for their turn behind it.
        self._reading: Beside[None] = Beside()
        self._batch: list[NewFile] = []
        self._batch_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()
        self._reading.close()
        for target in (*self._targets, self._reader):
            target.close()

    def write(self, new: NewFile, report: RestoreReport) -> None:
        """Have a file written and read back, soon. Raises SnapshotError for one that could not be written."""
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self.flush(report)
        self._batch.append(new)
        self._batch_bytes += len(new.content)

    def read_back(self, written: Written) -> None:
        """Have a file read back that another thread has written."""
        self._reading.give(_read_back, self._reader, written)

    def flush(self, report: RestoreReport) -> None:
        """Have written what was gathered."""
        if self._batch:
            self._beside.give(self._as_one, _write_all, self._batch, report)
            self._batch, self._batch_bytes = [], 0

    def settle(self, report: RestoreReport) -> None:
        """Wait until all is written and read back. Raises SnapshotError for what could not be written."""
        self.flush(report)
        for _ in (*self._beside.rest(), *self._reading.rest()):
            pass

    def compare(self, files: Sequence[Written]) -> Iterator[tuple[int, list[str]]]:
        """
        Look at all of them, and read what was not proven or has been touched since.

        Yields now and then how many bytes are right or were read, and which paths are not as they must be.
        """
        for at in range(0, len(files), _BATCH_FILES):
            done = self._beside.give(self._as_one, _compare_all, files[at : at + _BATCH_FILES])
            if done is not None:
                yield done
        yield from self._beside.rest()

    def _as_one(self, work: Callable[..., Any], *arguments: Any) -> Any:
        target = self._free.get()
        try:
            return work(target, *arguments)
        finally:
            self._free.put(target)


def _write_all(target: Target, files: Sequence[NewFile], report: RestoreReport) -> None:
    for new in files:
        path = new.written.path
        try:
            lacking = _write(target, new)
        except InTheWayError as error:
            report.in_the_way[path] = str(error)
        except OSError as error:
            raise failed(path, error) from error
        else:
            if lacking:
                report.attributes[path] = "; ".join(lacking)


def _write(target: Target, new: NewFile) -> list[str]:
    written, member, content = new
    with target.made(written.path):
        fd = target.create(written.path, member)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            lacking = target.dress_new(fd, member)
            written.proof = _proof(fd, written)
        finally:
            os.close(fd)
    return lacking


def _proof(fd: int, written: Written) -> int | None:
    """
    Read an open file back and return what it was before, in one number; None: it is not as it must be.

    It has been given its mtime by now, which lies in the past: any later write moves that, also within one tick of the
    kernel's clock, where ctime would stay.
    """
    try:
        before = os.fstat(fd)
        return _marks(before) if _digest_of(fd, written.segments, written.digests) == written.digest else None
    except OSError:
        return None


def _marks(status: os.stat_result) -> int:
    return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _read_back(target: Target, written: Written) -> None:
    try:
        fd = target.open(written.path)
    except (OSError, InTheWayError):
        return
    try:
        written.proof = _proof(fd, written)
    finally:
        os.close(fd)


def failed(path: str, error: OSError) -> SnapshotError:
    """Return the error of a restore that the target ended."""
    return SnapshotError(f"cannot restore {shown(path)}: {error.strerror}; what is back stays, run it again")


def _compare_all(target: Target, files: Sequence[Written]) -> tuple[int, list[str]]:
    done, wrong = 0, []
    for file in files:
        if not _is_as_proven(target, file) and digest_in(target, file.path, file.segments, file.digests) != file.digest:
            wrong.append(file.path)
        done += file.disk_bytes
    return done, wrong


def _is_as_proven(target: Target, file: Written) -> bool:
    """Tell whether what stands there is the very file that was read back, and nobody has written to it since."""
    if file.proof is None:
        return False
    try:
        status = target.status(file.path)
    except (OSError, InTheWayError):
        return False
    return status is not None and _marks(status) == file.proof


def digest_in(target: Target, path: str, segments: list[tuple[int, int]], digests: Digests) -> bytes | None:
    """Return the digest of what a file of the target holds in its segments; None: it can't be read."""
    try:
        fd = target.open(path)
    except (OSError, InTheWayError):
        return None
    try:
        return _digest_of(fd, segments, digests)
    except OSError:
        return None
    finally:
        os.close(fd)


def _digest_of(fd: int, segments: list[tuple[int, int]], digests: Digests) -> bytes:
    digest = digests.file()
    for piece in _read_segments(fd, segments):
        digest.update(piece)
    return told(digest)


def _read_segments(fd: int, segments: list[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in segments:
        at = offset
        while at < offset + length:
            piece = os.pread(fd, min(_CHUNK, offset + length - at), at)
            if not piece:
                return
            at += len(piece)
            yield piece
