"""The way out of an archive: its tar stream, its index and its digest, never more than the manifest promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.codec import CHUNK_BYTES, SKIPPABLE, SKIPPABLE_HEAD_BYTES, damage, new_decompressor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idlewatch.snapshot.digests import Digest
    from idlewatch.snapshot.packed import Archive
    from idlewatch.snapshot.shelf import Stored


_AHEAD: Final = 3
"""Pieces that are unpacked before they are asked for."""


class _Piece(NamedTuple):
    unpacked: bytes
    packed_bytes: int
    """How much of the file was read for it."""


class Source:
    """The tar stream of a packed file, unpacked piece by piece beside its reader; never more than was promised."""

    def __init__(
        self,
        file: Archive,
        *,
        index_at: int,
        tar_bytes: int,
        each_chunk: Callable[[int], None],
        each_raw: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        """
        Begin at the front of it.

        `each_chunk` is called with the number of packed bytes of each piece and may raise, `each_raw` with all bytes
        of the file in order, by another thread until `finish` has returned.
        """
        self._file = file
        self._index_at = index_at
        self._promised = tar_bytes
        self._each_chunk = each_chunk
        self._beside: Beside[_Piece | None] = Beside()
        self._piece = memoryview(b"")
        self._ended = False
        # What follows belongs to the thread beside until the stream has ended.
        self._at = 0
        self._decompressor = new_decompressor()
        self._harm = damage()
        self._unpacked = 0
        self._each_raw = each_raw

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Raises SnapshotError where the stream ends before."""
        if len(self._piece) >= size:
            data = bytes(self._piece[:size])
            self._piece = self._piece[size:]
            return data
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield exactly `size` bytes in pieces of at most 1 MiB."""
        while size:
            if not self._piece and not self._fill():
                raise SnapshotError("the archive is damaged: it ends in the middle of a member")
            piece = self._piece[:size]
            self._piece = self._piece[len(piece) :]
            size -= len(piece)
            yield piece

    def finish(self) -> None:
        """Read the file to its end. Raises SnapshotError unless the stream has ended as promised."""
        if self._piece or self._fill() or not self._decompressor.eof or self._at != self._index_at:
            raise SnapshotError("the archive is damaged: there is more in it than its members")
        if self._unpacked != self._promised:
            raise SnapshotError("the archive is damaged: it unpacks to less than its manifest says")
        while self._at < self._file.content_bytes:
            self._each_chunk(len(self._packed(self._file.content_bytes)))

    def _fill(self) -> bool:
        """Take the next piece; False at the end of the stream."""
        while not self._ended:
            while len(self._beside) < _AHEAD:
                self._beside.give(self._next)
            piece = self._beside.take()
            if piece is None:
                self._ended = True
                for _ in self._beside.rest():
                    pass
                break
            self._each_chunk(piece.packed_bytes)
            if piece.unpacked:
                self._piece = memoryview(piece.unpacked)
                return True
        return False

    def _next(self) -> _Piece | None:
        """Read and unpack one piece, which may be empty; None at the end."""
        chunk = b""
        if self._decompressor.eof or (self._decompressor.needs_input and self._at >= self._index_at):
            return None
        if self._decompressor.needs_input:
            chunk = self._packed(self._index_at)
        return _Piece(self._unpack(chunk), len(chunk))

    def _packed(self, end: int) -> bytes:
        chunk = self._file.read(self._at, min(CHUNK_BYTES, end - self._at), self._each_raw)
        if not chunk:
            raise SnapshotError("the archive is damaged: the file is shorter than its manifest says")
        self._at += len(chunk)
        return chunk

    def _unpack(self, chunk: bytes) -> bytes:
        try:
            piece = self._decompressor.decompress(chunk, CHUNK_BYTES)
        except self._harm as error:
            raise SnapshotError(f"the archive is damaged: {error}") from error
        self._unpacked += len(piece)
        if self._unpacked > self._promised or self._decompressor.unused_data:
            raise SnapshotError("the archive is damaged: it unpacks to more than its manifest says")
        return piece


def file_digest(file: Stored, archive_bytes: int, digest: Digest, each_chunk: Callable[[int], None]) -> str:
    """Return the digest of a whole archive, or of what there is of it; `digest` is an empty one."""
    at = 0
    while at < archive_bytes:
        chunk = file.read(at, min(CHUNK_BYTES, archive_bytes - at))
        if not chunk:
            break
        digest.update(chunk)
        at += len(chunk)
        each_chunk(len(chunk))
    return digest.hexdigest()


def index_lines(file: Archive, *, index_at: int) -> Iterator[bytes]:
    """Yield the lines of the index, without their ends. Raises SnapshotError for damage."""
    head = _read_all(file, index_at, SKIPPABLE_HEAD_BYTES)
    size = int.from_bytes(head[4:], "little")
    if head[:4] != SKIPPABLE or index_at + SKIPPABLE_HEAD_BYTES + size != file.content_bytes:
        raise SnapshotError("the archive is damaged: its index does not stand where its manifest says")
    rest = b""
    for piece in _unpacked_index(file, index_at + SKIPPABLE_HEAD_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        raise SnapshotError("the archive is damaged: its index ends in the middle of a line")


def _read_all(file: Archive, at: int, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := file.read(at + len(found), size - len(found))):
        found += more
    return found


def _unpacked_index(file: Archive, at: int) -> Iterator[bytes]:
    decompressor, harm = new_decompressor(), damage()
    while not decompressor.eof:
        chunk = b""
        if decompressor.needs_input:
            chunk = file.read(at, min(CHUNK_BYTES, max(0, file.content_bytes - at)))
            at += len(chunk)
            if not chunk:
                raise SnapshotError("the archive is damaged: its index is cut short")
        try:
            yield decompressor.decompress(chunk, CHUNK_BYTES)
        except harm as error:
            raise SnapshotError(f"the archive is damaged: {error}") from error
