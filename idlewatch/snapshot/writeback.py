"""Has the disk begin with a file while more of it is made."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_EVERY_BYTES: Final = 32 * 1024 * 1024


class Writeback:
    """
    What has been written to an open file, from its beginning on.

    The kernel begins late by itself, at a tenth of the memory: gigabytes that a sync at the end would wait for. Asked
    to forget pages (posix_fadvise(2), POSIX_FADV_DONTNEED) it begins with those that are not on the disk yet, and
    keeps them until they are.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = 0

    def reached(self, end: int, *, last: bool = False) -> None:
        """All up to this offset has been written; `last`: there is no more to come soon."""
        if end - self._begun >= _EVERY_BYTES or last:
            with suppress(OSError):  # a file system that takes no advice is slower, and nothing else
                os.posix_fadvise(self._fd, self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
