"""
A file that a restore has written: what it must hold, and whether it does.

It is read back as soon as it is written, while its bytes are at hand; at the end it is looked at once more, and read
again only if anything has touched it since.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot.digests import told
from idlewatch.snapshot.target import InTheWayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idlewatch.snapshot.digests import Digests
    from idlewatch.snapshot.target import Target

_PIECE_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Written:
    """One file, and what it must hold."""

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

    def prove(self, fd: int) -> None:
        """
        Read it back, open as it is.

        It has been given its mtime by now, which lies in the past: any later write moves that, also within one tick of
        the kernel's clock, where ctime would stay.
        """
        try:
            before = os.fstat(fd)
            self.proof = _marks(before) if self._digest_of(fd) == self.digest else None
        except OSError:
            self.proof = None

    def prove_in(self, target: Target) -> None:
        """Read it back where it stands."""
        try:
            fd = target.open(self.path)
        except (OSError, InTheWayError):
            return
        try:
            self.prove(fd)
        finally:
            os.close(fd)

    def is_right(self, target: Target) -> bool:
        """Tell whether what stands there is what was proven, or else holds what it must."""
        return self._is_as_proven(target) or self.holds(target)

    def _is_as_proven(self, target: Target) -> bool:
        if self.proof is None:
            return False
        try:
            status = target.status(self.path)
        except (OSError, InTheWayError):
            return False
        return status is not None and _marks(status) == self.proof

    def holds(self, target: Target) -> bool:
        """Tell whether what stands there can be read, and holds what it must in its segments."""
        try:
            fd = target.open(self.path)
        except (OSError, InTheWayError):
            return False
        try:
            return self._digest_of(fd) == self.digest
        except OSError:
            return False
        finally:
            os.close(fd)

    def _digest_of(self, fd: int) -> bytes:
        digest = self.digests.file()
        for piece in _read(fd, self.segments):
            digest.update(piece)
        return told(digest)


def _marks(status: os.stat_result) -> int:
    return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _read(fd: int, segments: list[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in segments:
        at = offset
        while at < offset + length:
            piece = os.pread(fd, min(_PIECE_BYTES, offset + length - at), at)
            if not piece:
                return
            at += len(piece)
            yield piece
