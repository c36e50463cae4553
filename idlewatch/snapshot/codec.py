"""
Zstandard as archives use it, and how an archive's file is laid out.

One zstd frame with the tar stream, then one skippable frame (RFC 8878, 3.1.2) with the index. `zstd -dc FILE | tar -x`
sees only the first. Python 3.14 has zstd in its standard library, older ones the backport; it is imported only where
bytes are packed, so that this package stays light for the daemon.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final, Protocol, TypeAlias, cast

from idlewatch.errors import SnapshotError

Bytes: TypeAlias = "bytes | bytearray | memoryview"

CHUNK_BYTES: Final = 1024 * 1024
LEVEL: Final = 3
_MOST_WORKERS: Final = 4
_JOB_BYTES: Final = 1024 * 1024
"""What one worker packs at a time: fits its cache (2 MiB take a sixth more CPU time and gain 1 in 1,000 bytes)."""
SKIPPABLE: Final = (0x184D2A50).to_bytes(4, "little")
SKIPPABLE_HEAD_BYTES: Final = 8


class Compressor(Protocol):
    """What both libraries pack with."""

    def compress(self, data: Bytes, /) -> bytes:
        """Take more, and return what is packed by now."""
        ...

    def flush(self) -> bytes:
        """End the frame and return the rest of it."""
        ...


class Decompressor(Protocol):
    """What both libraries unpack one frame with."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: Bytes, max_length: int = -1) -> bytes:
        """Take more, and return at most `max_length` bytes. Raises one of `damage`."""
        ...


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def new_compressor(workers: int) -> Compressor:
    """Return a compressor that writes zstd's own checksum of the content; `workers` 0 packs in this thread."""
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    options = {parameter.compression_level: LEVEL, parameter.checksum_flag: 1, parameter.nb_workers: workers}
    if workers:
        options[parameter.job_size] = _JOB_BYTES
    return cast("Compressor", zstd.ZstdCompressor(options=options))


def new_decompressor() -> Decompressor:
    """Return a decompressor of one frame, which compares zstd's checksum at its end."""
    return cast("Decompressor", _zstd().ZstdDecompressor())


def damage() -> tuple[type[Exception], ...]:
    """Return what a decompressor raises for bytes that are no frame."""
    return (_zstd().ZstdError, EOFError)


def packed(data: bytes) -> bytes:
    """Return small data as one zstd frame with a checksum."""
    compressor = new_compressor(0)
    return compressor.compress(data) + compressor.flush()


def unpacked(data: bytes, most: int) -> bytes:
    """Undo `packed` of at most so many bytes. Raises SnapshotError for damage."""
    decompressor = new_decompressor()
    try:
        found = decompressor.decompress(data, most + 1)
    except damage() as error:
        raise SnapshotError(f"packed data is damaged: {error}") from error
    if len(found) > most:
        raise SnapshotError(f"packed data is damaged: it unpacks to more than {most} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise SnapshotError("packed data is damaged: it is cut short, or more follows it")
    return found


def usable_workers() -> int:
    """Return how many threads may pack: the CPUs that this process may use, at most 4."""
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
