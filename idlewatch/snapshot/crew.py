"""
The threads of a restore: they write small files and read them back, each with a way of its own into the target.

What is written and whether is decided before, by one thread and in the order of the archive. Only system calls are
spread: they are most of the work where files are small, and let other threads run.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.codec import usable_workers
from idlewatch.snapshot.reader import shown
from idlewatch.snapshot.target import MOST_THREADS, TEMPORARIES, InTheWayError, Target
from idlewatch.snapshot.writer import FILE_DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from idlewatch.snapshot.pax import Member
    from idlewatch.snapshot.report import RestoreReport

SMALL_BYTES: Final = 256 * 1024
_CHUNK: Final = 1024 * 1024
_BATCH_FILES: Final = 24
_BATCH_BYTES: Final = 1024 * 1024


class NewFile(NamedTuple):
    """A small file that is to be written as it is, in the place of what stands there."""

    path: str
    member: Member
    content: bytes


class Written(NamedTuple):
    """A file that was written: what it must hold."""

    path: str
    digest: bytes | None
    extents: int | list[tuple[int, int]]
    """Offset and length of what it holds; a number: all of it, in one."""

    @property
    def segments(self) -> list[tuple[int, int]]:
        """The extents as a list."""
        return [(0, self.extents)] if isinstance(self.extents, int) else self.extents


class Crew:
    """The threads. To be closed, and then nothing is written any more."""

    def __init__(self, path: Path) -> None:
        """`path` is the target, which must be a folder."""
        threads = min(MOST_THREADS, usable_workers())
        self._targets = [Target(path, name) for name in TEMPORARIES[1 : threads + 1]]
        self._free: SimpleQueue[Target] = SimpleQueue()
        for target in self._targets:
            self._free.put(target)
        self._beside: Beside[Any] = Beside(threads=threads, depth=3 * threads)
        self._batch: list[NewFile] = []
        self._batch_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()
        for target in self._targets:
            target.close()

    def write(self, new: NewFile, report: RestoreReport) -> None:
        """Have a file written, soon. Raises SnapshotError for one that could not be."""
        elsewhere = bool(self._batch) and self._batch[0].path.rpartition("/")[0] != new.path.rpartition("/")[0]
        if elsewhere or len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self.flush(report)
        self._batch.append(new)
        self._batch_bytes += len(new.content)

    def flush(self, report: RestoreReport) -> None:
        """Have written what was gathered."""
        if self._batch:
            self._beside.give(self._as_one, _write_all, self._batch, report)
            self._batch, self._batch_bytes = [], 0

    def settle(self, report: RestoreReport) -> None:
        """Wait until all is written. Raises SnapshotError for what could not be."""
        self.flush(report)
        for _ in self._beside.rest():
            pass

    def compare(self, files: Sequence[Written]) -> Iterator[tuple[int, list[str]]]:
        """Read all back, and yield now and then how many bytes were read and which paths are not as they must be."""
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
    for path, member, content in files:
        try:
            lacking = _write(target, path, member, content)
        except InTheWayError as error:
            report.in_the_way[path] = str(error)
        except OSError as error:
            raise failed(path, error) from error
        else:
            if lacking:
                report.attributes[path] = "; ".join(lacking)


def _write(target: Target, path: str, member: Member, content: bytes) -> list[str]:
    with target.made(path):
        fd = target.create(path, member)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            return target.dress_new(fd, member)
        finally:
            os.close(fd)


def failed(path: str, error: OSError) -> SnapshotError:
    """Return the error of a restore that the target ended."""
    return SnapshotError(f"cannot restore {shown(path)}: {error.strerror}; what is back stays, run it again")


def _compare_all(target: Target, files: Sequence[Written]) -> tuple[int, list[str]]:
    done, wrong = 0, []
    for file in files:
        if digest_in(target, file.path, file.segments) != file.digest:
            wrong.append(file.path)
        done += sum(length for _, length in file.segments)
    return done, wrong


def digest_in(target: Target, path: str, segments: list[tuple[int, int]]) -> bytes | None:
    """Return the digest of what a file of the target holds in its segments; None: it can't be read."""
    try:
        fd = target.open(path)
    except (OSError, InTheWayError):
        return None
    digest = blake2b(digest_size=FILE_DIGEST_BYTES)
    try:
        for piece in _read_segments(fd, segments):
            digest.update(piece)
    except OSError:
        return None
    finally:
        os.close(fd)
    return digest.digest()


def _read_segments(fd: int, segments: list[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in segments:
        at = offset
        while at < offset + length:
            piece = os.pread(fd, min(_CHUNK, offset + length - at), at)
            if not piece:
                return
            at += len(piece)
            yield piece
