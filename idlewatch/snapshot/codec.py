"""
The packed stream: Zstandard and BLAKE2b between a tar stream and one file.

Layout of the file: one zstd frame with the tar stream, then one skippable frame (RFC 8878, 3.1.2) with the index.
`zstd -dc FILE | tar -x` sees only the first. Python 3.14 has zstd in its standard library, older ones the backport;
it is imported only where bytes are packed, so that this package stays light for the daemon.
"""

from __future__ import annotations

import os
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TypeAlias, cast

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import SealingWriter
from idlewatch.snapshot.beside import Beside, DigestBeside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idlewatch.snapshot.age import Key
    from idlewatch.snapshot.packed import Archive
    from idlewatch.snapshot.shelf import Stored

Bytes: TypeAlias = "bytes | bytearray | memoryview"

CHUNK_BYTES: Final = 1024 * 1024
LEVEL: Final = 3
DIGEST_BYTES: Final = 32
_MOST_WORKERS: Final = 4
_JOB_BYTES: Final = 2 * 1024 * 1024
"""What one worker packs at a time: fits the caches, and four workers stay far below zstd's own choice of 150 MiB."""
_AHEAD: Final = 3
"""Pieces that are unpacked before they are asked for."""
_SKIPPABLE: Final = (0x184D2A50).to_bytes(4, "little")
_SKIPPABLE_HEAD_BYTES: Final = 8


class _Compressor(Protocol):
    def compress(self, data: Bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Decompressor(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: Bytes, max_length: int = -1) -> bytes: ...


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def new_compressor(workers: int) -> _Compressor:
    """Return a compressor that writes zstd's own checksum of the content; `workers` 0 packs in this thread."""
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    options = {parameter.compression_level: LEVEL, parameter.checksum_flag: 1, parameter.nb_workers: workers}
    if workers:
        options[parameter.job_size] = _JOB_BYTES
    return cast("_Compressor", zstd.ZstdCompressor(options=options))


def _new_decompressor() -> _Decompressor:
    return cast("_Decompressor", _zstd().ZstdDecompressor())


def _damage() -> tuple[type[Exception], ...]:
    return (_zstd().ZstdError, EOFError)


def new_digest() -> Any:
    """Return an empty digest of a whole archive."""
    return blake2b(digest_size=DIGEST_BYTES)


def packed(data: bytes) -> bytes:
    """Return small data as one zstd frame with a checksum."""
    compressor = new_compressor(0)
    return compressor.compress(data) + compressor.flush()


def unpacked(data: bytes) -> bytes:
    """Undo `packed`. Raises SnapshotError for damage."""
    decompressor = _new_decompressor()
    try:
        found = decompressor.decompress(data)
    except _damage() as error:
        raise SnapshotError(f"packed data is damaged: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise SnapshotError("packed data is damaged: it is cut short, or more follows it")
    return found


def usable_workers() -> int:
    """Return how many threads may pack: the CPUs that this process may use, at most 4."""
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


class Sink:
    """
    Packs what is put into it and hands it on to be written, in a thread beside the one that reads.

    To be left before the file is closed: the thread may still write. What it meets is raised by a later call.
    """

    def __init__(self, write: Callable[[bytes], object], workers: int, key: Key | None = None) -> None:
        """`write` gets the bytes of the file, which stay as they are; with a `key` encrypted."""
        self._write_file = write
        self._compressor = new_compressor(workers)
        self._index = new_compressor(0)
        self._index_parts: list[bytes] = []
        self._digest = DigestBeside(new_digest())
        self._beside: Beside[None] = Beside()
        self._buffer = bytearray()
        self.tar_bytes = 0
        self.packed_bytes = 0
        """Length of the file."""
        self.members = 0
        self._content_bytes = 0
        self._sealing = None if key is None else SealingWriter(key, self._write_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()

    def put(self, data: Bytes) -> None:
        """Add to the tar stream; small pieces are gathered, and all are copied."""
        self.tar_bytes += len(data)
        if len(data) >= CHUNK_BYTES // 2:
            self._drain()
            self._beside.give(self._pack, bytes(data))
            return
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._drain()

    def note(self, line: bytes) -> None:
        """Add the line of a member to the index."""
        self.members += 1
        packed = self._index.compress(line)
        if packed:
            self._index_parts.append(packed)

    def finish(self) -> int:
        """End the tar stream, write the index behind it, and return where in the content the index begins."""
        self._drain()
        for _ in self._beside.rest():
            pass
        self._write(self._compressor.flush())
        index_at = self._content_bytes
        index = b"".join([*self._index_parts, self._index.flush()])
        self._write(_SKIPPABLE + len(index).to_bytes(4, "little") + index)
        if self._sealing is not None:
            self._sealing.finish()
        return index_at

    def hexdigest(self) -> str:
        """Return the digest of all bytes written so far."""
        return self._digest.hexdigest()

    def _drain(self) -> None:
        if self._buffer:
            self._beside.give(self._pack, self._buffer)
            self._buffer = bytearray()

    def _pack(self, data: Bytes) -> None:
        self._write(self._compressor.compress(data))

    def _write(self, packed: bytes) -> None:
        self._content_bytes += len(packed)
        if self._sealing is None:
            self._write_out(packed)
        else:
            self._sealing.put(packed)

    def _write_out(self, packed: bytes) -> None:
        if not packed:
            return
        self._digest.update(packed)
        self.packed_bytes += len(packed)
        try:
            self._write_file(packed)
        except OSError as error:
            raise SnapshotError(f"cannot write the archive: {error.strerror}") from error


class _Piece(NamedTuple):
    unpacked: bytes
    packed_bytes: int
    """How much of the file was read for it."""


class Source:
    """The tar stream of a packed file, unpacked piece by piece beside its reader; never more than was promised."""

    def __init__(
        self, file: Archive, *, index_at: int, tar_bytes: int, each_chunk: Callable[[int], None], digest: bool = True
    ) -> None:
        """`each_chunk` is called with the number of packed bytes of each piece and may raise."""
        self._file = file
        self._index_at = index_at
        self._promised = tar_bytes
        self._each_chunk = each_chunk
        self._beside: Beside[_Piece | None] = Beside()
        self._piece = memoryview(b"")
        self._ended = False
        # What follows belongs to the thread beside until the stream has ended.
        self._at = 0
        self._decompressor = _new_decompressor()
        self._damage = _damage()
        self._unpacked = 0
        self._digest = DigestBeside(new_digest()) if digest else None

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

    def finish(self) -> str:
        """Return the digest of the whole file. Raises SnapshotError unless the stream has ended as promised."""
        if self._piece or self._fill() or not self._decompressor.eof or self._at != self._index_at:
            raise SnapshotError("the archive is damaged: there is more in it than its members")
        if self._unpacked != self._promised:
            raise SnapshotError("the archive is damaged: it unpacks to less than its manifest says")
        while self._at < self._file.content_bytes:
            self._each_chunk(len(self._packed(self._file.content_bytes)))
        return "" if self._digest is None else self._digest.hexdigest()

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
        chunk = self._file.read(self._at, min(CHUNK_BYTES, end - self._at), self._raw)
        if not chunk:
            raise SnapshotError("the archive is damaged: the file is shorter than its manifest says")
        self._at += len(chunk)
        return chunk

    def _raw(self, data: bytes) -> None:
        if self._digest is not None:
            self._digest.update(data)

    def _unpack(self, chunk: bytes) -> bytes:
        try:
            piece = self._decompressor.decompress(chunk, CHUNK_BYTES)
        except self._damage as error:
            raise SnapshotError(f"the archive is damaged: {error}") from error
        self._unpacked += len(piece)
        if self._unpacked > self._promised or self._decompressor.unused_data:
            raise SnapshotError("the archive is damaged: it unpacks to more than its manifest says")
        return piece


def file_digest(file: Stored, archive_bytes: int, each_chunk: Callable[[int], None]) -> str:
    """Return the digest of a whole archive. Raises SnapshotError where it is shorter."""
    digest, at = DigestBeside(new_digest()), 0
    while at < archive_bytes:
        chunk = file.read(at, min(CHUNK_BYTES, archive_bytes - at))
        if not chunk:
            raise SnapshotError("the archive is damaged: the file is shorter than its manifest says")
        digest.update(chunk)
        at += len(chunk)
        each_chunk(len(chunk))
    return digest.hexdigest()


def index_lines(file: Archive, *, index_at: int) -> Iterator[bytes]:
    """Yield the lines of the index, without their ends. Raises SnapshotError for damage."""
    head = _read_all(file, index_at, _SKIPPABLE_HEAD_BYTES)
    size = int.from_bytes(head[4:], "little")
    if head[:4] != _SKIPPABLE or index_at + _SKIPPABLE_HEAD_BYTES + size != file.content_bytes:
        raise SnapshotError("the archive is damaged: its index does not stand where its manifest says")
    rest = b""
    for piece in _unpacked_index(file, index_at + _SKIPPABLE_HEAD_BYTES):
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
    decompressor, damage = _new_decompressor(), _damage()
    while not decompressor.eof:
        chunk = b""
        if decompressor.needs_input:
            chunk = file.read(at, min(CHUNK_BYTES, max(0, file.content_bytes - at)))
            at += len(chunk)
            if not chunk:
                raise SnapshotError("the archive is damaged: its index is cut short")
        try:
            yield decompressor.decompress(chunk, CHUNK_BYTES)
        except damage as error:
            raise SnapshotError(f"the archive is damaged: {error}") from error
