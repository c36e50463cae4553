"""Files are the interface: replaced whole or not at all, and what others leave is read only where that can't hang."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_SMALL_BYTES = 64 * 1024


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """
    Replace `path` in one rename, so that a reader sees the old text or the new one. Raises OSError.

    Where that fails nothing is left of the new one: on a full disk it would take up room.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def small_file(path: Path) -> bytes:
    """
    Return what a small regular file holds; a pipe would never answer, and a link may lead anywhere.

    Raises OSError, or ValueError where it is no regular file or larger than 64 KiB.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_SMALL_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _SMALL_BYTES:
        raise ValueError("it is larger than 64 KiB")
    return content


def file_behind(path: Path) -> tuple[int, int] | None:
    """Which file has this name now: device and inode; None where there is none, or it can't be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
