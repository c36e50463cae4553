"""The way into an archive: a tar stream is packed, its index behind it, beside the thread that reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import SealingWriter
from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.codec import SKIPPABLE, new_compressor

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.snapshot.age import Key
    from idlewatch.snapshot.digests import Digests

PIECE_BYTES: Final = 512 * 1024
"""Of a large file read at once, which stays in the cache of a core; two of them are packed at once."""
_WAITING: Final = 12
"""Pieces that may wait between two threads: each goes on while the other waits for its turn or for the disk."""
_LINES: Final = 512


class Sink:
    """
    Packs what is put into it in a thread beside the one that reads, and writes it in another.

    To be left before the file is closed: the threads may still write. What they meet is raised by a later call.
    """

    def __init__(
        self, write: Callable[[bytes], object], workers: int, digests: Digests, key: Key | None = None
    ) -> None:
        """`write` gets the bytes of the file, which stay as they are; with a `key` encrypted."""
        self.digests = digests
        """How this archive is hashed, and the files in it."""
        self._write_file = write
        self._compressor = new_compressor(workers)
        self._index = new_compressor(0)
        self._index_parts: list[bytes] = []
        self._lines: list[bytes] = []
        self._digest = digests.archive()
        self._packing: Beside[None] = Beside(depth=_WAITING)
        # Of its own: a write may wait for the disk or the network, and those who pack must not wait with it.
        self._writing: Beside[None] = Beside(depth=_WAITING)
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self.tar_bytes = 0
        self.packed_bytes = 0
        """Length of the file."""
        self.members = 0
        self._content_bytes = 0
        self._sealing = None if key is None else SealingWriter(key, self._write_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._packing.close()
        self._writing.close()

    def put(self, *pieces: bytes) -> None:
        """Add to the tar stream; the pieces must stay as they are."""
        size = sum(map(len, pieces))
        self.tar_bytes += size
        self._waiting_bytes += size
        self._pieces += pieces
        if self._waiting_bytes >= 2 * PIECE_BYTES:
            self._drain()

    def note(self, line: bytes) -> None:
        """Add the line of a member to the index."""
        self.members += 1
        self._lines.append(line)
        if len(self._lines) >= _LINES:
            self._pack_lines()

    def finish(self) -> int:
        """End the tar stream, write the index behind it, and return where in the content the index begins."""
        self._drain()
        for _ in self._packing.rest():
            pass
        self._write(self._compressor.flush())
        index_at = self._content_bytes
        self._pack_lines()
        index = b"".join([*self._index_parts, self._index.flush()])
        self._write(SKIPPABLE + len(index).to_bytes(4, "little") + index)
        if self._sealing is not None:
            self._sealing.finish()
        for _ in self._writing.rest():
            pass
        return index_at

    def hexdigest(self) -> str:
        """Return the digest of all bytes written so far."""
        return self._digest.hexdigest()

    def _drain(self) -> None:
        if self._pieces:
            self._packing.give(self._pack, self._pieces)
            self._pieces, self._waiting_bytes = [], 0

    def _pack(self, pieces: list[bytes]) -> None:
        self._write(self._compressor.compress(pieces[0] if len(pieces) == 1 else b"".join(pieces)))

    def _pack_lines(self) -> None:
        self._index_parts.append(self._index.compress(b"".join(self._lines)))
        self._lines.clear()

    def _write(self, packed: bytes) -> None:
        self._content_bytes += len(packed)
        if self._sealing is None:
            self._write_out(packed)
        else:
            self._sealing.put(packed)

    def _write_out(self, packed: bytes) -> None:
        if packed:
            self.packed_bytes += len(packed)
            self._writing.give(self._hash_and_write, packed)

    def _hash_and_write(self, packed: bytes) -> None:
        self._digest.update(packed)
        try:
            self._write_file(packed)
        except OSError as error:
            raise SnapshotError(f"cannot write the archive: {error.strerror}") from error
