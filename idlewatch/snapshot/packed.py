"""An archive as it lies on its shelf, plain or encrypted, read at any place as if it were plain."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import PIECE_BYTES, Key, SealedContent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.shelf import Stored

_PIECES: Final = 16
"""Read and opened in one: a MiB."""


class PlainArchive:
    """One that is not encrypted."""

    def __init__(self, stored: Stored, archive_bytes: int) -> None:
        self.stored = stored
        self.content_bytes = self.archive_bytes = archive_bytes

    def read(self, at: int, most: int, each_raw: Callable[[bytes], object] = lambda _: None) -> bytes:
        """Return at least one byte and at most `most` from `at`; empty at the end. `each_raw` gets the file's own."""
        chunk = self.stored.read(at, most)
        each_raw(chunk)
        return chunk


class SealedArchive:
    """One that is encrypted; reading on is cheap, going back opens a MiB anew."""

    def __init__(self, stored: Stored, archive_bytes: int, key: Key) -> None:
        """Raises SnapshotError for another key."""
        self.stored = stored
        self.key = key
        self.archive_bytes = archive_bytes
        self._content = SealedContent(key, lambda at, size: _exactly(stored, at, size), archive_bytes)
        self.content_bytes = self._content.content_bytes
        self._number, self._piece = -1, b""

    def read(self, at: int, most: int, each_raw: Callable[[bytes], object] = lambda _: None) -> bytes:
        """As of a plain one. Raises SnapshotError for damage."""
        if at >= self.content_bytes:
            return b""
        number = at // (PIECE_BYTES * _PIECES) * _PIECES
        if number != self._number:
            if not number:
                each_raw(self._content.head)
            self._piece = self._content.piece(number, _PIECES, each_raw)
            self._number = number
        begin = at - number * PIECE_BYTES
        return self._piece[begin : begin + most]


Archive = PlainArchive | SealedArchive


def another(file: Archive) -> Archive:
    """Return a second way into the same archive."""
    return file if isinstance(file, PlainArchive) else SealedArchive(file.stored, file.archive_bytes, file.key)


def _exactly(stored: Stored, at: int, size: int) -> bytes:
    found = stored.read(at, size)
    while len(found) < size and (more := stored.read(at + len(found), size - len(found))):
        found += more
    if len(found) < size:
        raise SnapshotError("the archive is damaged: the file is shorter than its manifest says")
    return found


@contextmanager
def opened(snapshot: Snapshot, key: Key | None) -> Iterator[Archive]:
    """Open an archive for reading. Raises SnapshotError, also where it is encrypted with another key, or with one."""
    try:
        with snapshot.kept_on.opened(snapshot.archive) as stored:
            yield _archive(stored, snapshot, key)
    except OSError as error:
        where = f"{snapshot.folder}/{snapshot.archive}"
        raise SnapshotError(f"cannot read the archive {where}: {error.strerror}") from error


def _archive(stored: Stored, snapshot: Snapshot, key: Key | None) -> Archive:
    if snapshot.locked is None:
        return PlainArchive(stored, snapshot.archive_bytes)
    return SealedArchive(stored, snapshot.archive_bytes, required(key, snapshot.id))


def required(key: Key | None, snapshot_id: str) -> Key:
    """Return the key. Raises SnapshotError where there is none."""
    if key is None:
        raise SnapshotError(f"snapshot {snapshot_id} is encrypted; set IDLEWATCH_SNAPSHOT_KEY to its key")
    return key
