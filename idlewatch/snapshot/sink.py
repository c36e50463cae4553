"""The way into an archive: a tar stream is packed, its index behind it, beside the thread that reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import SealingWriter
from idlewatch.snapshot.beside import Beside, DigestBeside
from idlewatch.snapshot.codec import CHUNK_BYTES, SKIPPABLE, Bytes, new_compressor, new_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.snapshot.age import Key


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
        self._write(SKIPPABLE + len(index).to_bytes(4, "little") + index)
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
