"""What kinds of entries there are in a file system, and when a file counts as sparse."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import os

FILE: Final = "file"
FOLDER: Final = "folder"
SYMLINK: Final = "symlink"
FIFO: Final = "fifo"
CHAR: Final = "char"
BLOCK: Final = "block"
SOCKET: Final = "socket"
KINDS: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFSOCK: SOCKET,
}
SMALL_BYTES = 256 * 1024
"""A file up to this is read and written in one piece: most files are, and each call costs."""
SPARSE_FROM_BYTES = 64 * 1024
"""Below this a file that fills fewer blocks than its size is inlined or packed by the file system, not sparse."""


def is_sparse(status: os.stat_result) -> bool:
    """Tell whether a regular file fills clearly fewer blocks than its size."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size >= SPARSE_FROM_BYTES
        and status.st_blocks * 512 <= status.st_size - 4096
    )
