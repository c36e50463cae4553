"""
Other processes of idlewatch's than the daemon and its children: the page, and verbs that somebody runs.

What idlewatch itself causes never counts as use, so each says which it is: by a file `STATE_DIR/own/PID-START` (its
start in clock ticks, proc_pid_stat(5): PIDs come back) that it keeps locked. What only looks like idlewatch, by its
name or its interpreter, is a program like any other. The lock is gone with the process, and with an exec of another
program; a fork that keeps it does not have the name's PID. The folder is the daemon's user's alone: nobody else's
word counts.

The file holds the bytes that the process has moved to and from other machines.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Key: TypeAlias = tuple[int, int]
"""PID and start."""
FOLDER = "own"
_MOST = 64
"""So many are read at a look; more are none of ours."""
_DIGITS = 20
_TRIES, _TRIED_EVERY_S = 5, 0.02


@contextmanager
def registered(state_dir: Path) -> Iterator[Callable[[int], None]]:
    """
    Say that this process is idlewatch's own while the block runs, and so is all that it starts.

    Not for whoever runs programs of others. Gives what to call with all bytes moved so far. Where the file can't be
    made nothing happens: what this process does counts as use then.
    """
    descriptor = _made(state_dir / FOLDER)
    try:
        yield lambda moved: _say(descriptor, moved)
    finally:
        if descriptor is not None:
            with suppress(OSError):
                (state_dir / FOLDER / _name()).unlink()
            os.close(descriptor)


def registrations(state_dir: Path, proc: str = "/proc") -> Mapping[Key, int]:
    """Return those that live, with the bytes they have moved; what can't be proven is none. Never raises."""
    folder, found = state_dir / FOLDER, dict[Key, int]()
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))[:_MOST] if status.st_uid == os.geteuid() else []  # noqa: PTH208  (names only)
    except OSError:
        return found
    if status.st_mode & 0o022:
        return found
    for name in names:
        with suppress(OSError, ValueError):
            pid, _, start = name.partition("-")
            key = int(pid), int(start)
            moved = _held(f"{folder}/{name}")
            if moved is not None and _start(pid, proc) == key[1]:
                found[key] = moved
    return found


def _made(folder: Path) -> int | None:
    """The locked file; None where it can't be had."""
    with suppress(OSError, ValueError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for _ in range(_TRIES):  # a daemon that looks has the lock for an instant, and takes away what is unlocked
            descriptor = _locked(folder / _name())
            if descriptor is not None:
                return descriptor
            time.sleep(_TRIED_EVERY_S)
    return None


def _locked(path: Path) -> int | None:
    """Raises OSError where the file can't be made; None where it can't be locked just now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    os.close(descriptor)
    return None


def _held(path: str) -> int | None:
    """The figure in a file that somebody keeps locked; one that nobody does is taken away."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, _DIGITS).strip()
        return int(text) if text else 0
    else:
        os.unlink(path)  # noqa: PTH108  (a Path each is dear in a tick)
        return None
    finally:
        os.close(descriptor)


def _say(descriptor: int | None, moved: int) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.pwrite(descriptor, f"{moved:{_DIGITS}d}".encode(), 0)


def _name() -> str:
    pid = os.getpid()
    return f"{pid}-{_start(str(pid), '/proc')}"


def _start(pid: str, proc: str) -> int:
    """When a process started, in clock ticks. Raises OSError or ValueError where there is none."""
    with open(f"{proc}/{int(pid)}/stat", "rb") as file:  # noqa: PTH123  (a Path each is dear in a tick)
        fields = file.read().rpartition(b")")[2].split()
    if fields[0] in {b"Z", b"X"}:
        raise ValueError("it has ended")
    return int(fields[19])
