"""
Whether others than root or the daemon's user could have written a program.

Everything on the way to it counts: who may write a folder may put another program, or another folder, into its place.
An access control list needs no look of its own: where it lets somebody write, the mode's group bits say so (acl(5)).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_ROOT = 0
_LINKS_MAX = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def untrusted(path: Path, own_uid: int) -> str | None:
    """
    Return who else could have written the program at `path`, an absolute path; None: nobody but root and `own_uid`.

    A folder above that all may write is fine where it is sticky (as /tmp is): there they can't replace what isn't
    theirs. Not so the folder in which it lies: others could link any program of root's into it. Raises OSError.
    """
    for step in _way(path):
        status = step.lstat()
        if status.st_uid not in (_ROOT, own_uid):
            return f"{step} belongs to user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            continue
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & _OTHERS_WRITE and not sticky:
            return f"{step} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    if path.parent.stat().st_mode & _OTHERS_WRITE:
        return f"{path.parent} can be written by others"
    return None


def _way(path: Path) -> Iterator[Path]:
    """Yield every folder, link and file that leads to `path`, each link followed by itself."""
    at, left, links = Path("/"), list(path.parts[1:]), 0
    yield at
    while left:
        part = left.pop(0)
        if part == "..":
            at = at.parent
            continue
        step = at / part
        yield step
        if not step.is_symlink():
            at = step
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        at = Path("/") if target.is_absolute() else at
        left = [*(part for part in target.parts if part != "/"), *left]
