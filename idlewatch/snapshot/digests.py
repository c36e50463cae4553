"""
The checksums of archives and of the files in them.

BLAKE3 since format 4: each byte is hashed up to three times on its way to the volume and back, and BLAKE2b, which the
archives of older formats hold, took longer for that than reading and writing did (benchmarks/README.md). It is
imported only where bytes are hashed, as zstd is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from idlewatch.snapshot.codec import Bytes

_BLAKE3_FROM: Final = 4
_ARCHIVE_BYTES: Final = 32
_FILE_BYTES: Final = 16


class Digest(Protocol):
    """A checksum in the making."""

    def update(self, data: Bytes, /) -> object:
        """Add to it."""
        ...

    def digest(self) -> bytes:
        """Return that of all that was added."""
        ...

    def hexdigest(self) -> str:
        """Return the same as hexadecimal digits."""
        ...


class Digests(NamedTuple):
    """How the archives of one format are hashed; both may be given the first bytes."""

    archive_format: int
    archive: Callable[..., Digest]
    """Makes that of a whole archive; the manifest holds its 64 hexadecimal digits."""
    file: Callable[..., Digest]
    """Makes that of what one file holds; the index holds what `told` returns of it."""


def digests_of(archive_format: int) -> Digests:
    """Return how the archives of this format (`manifest.FORMAT`) are hashed."""
    if archive_format < _BLAKE3_FROM:
        whole, each = partial(blake2b, digest_size=_ARCHIVE_BYTES), partial(blake2b, digest_size=_FILE_BYTES)
        return Digests(archive_format, whole, each)
    from blake3 import blake3

    return Digests(archive_format, blake3, blake3)


def told(digest: Digest) -> bytes:
    """Return the checksum of a file as an index holds it: the first 16 bytes."""
    return digest.digest()[:_FILE_BYTES]
