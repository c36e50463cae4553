"""The lock of the state folder: one daemon a folder, and how others see whether one lives."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.files import file_behind
from idlewatch.history.status import is_stale
from idlewatch.history.store import status_of
from idlewatch.model import Json

LOCK_FILE = "daemon.lock"
_TRY_FOR_S = 0.5
_TRY_EVERY_S = 0.02


@contextmanager
def only_daemon(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock. Raises Refused where another daemon has it, or the folder can't be used."""
    try:
        descriptor = _locked(state_dir)
    except BlockingIOError:
        raise Refused(_taken(state_dir)) from None
    except OSError as error:
        raise Refused(_unusable(state_dir, error)) from error
    try:
        yield
    finally:
        os.close(descriptor)


def daemon_watches(state_dir: Path) -> bool:
    """
    Whether a daemon lives that watches with this folder, whether it hangs or not; false from the instant it ends.

    The lock is taken, shared and without waiting, and given back at once. A daemon that starts in that instant is not
    turned away by it: it tries for half a second. Where this user can't read the lock, `status.json` decides by its
    age, so for a while after the end it is still true.
    """
    try:
        descriptor = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return _has_looked_lately(state_dir)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return _has_looked_lately(state_dir)
    finally:
        os.close(descriptor)
    return False


def said_by_daemon(state_dir: Path, now_s: float) -> dict[str, Json] | None:
    """What the daemon that watches with this folder says of now; None where none does, or it has not looked lately."""
    lives = daemon_watches(state_dir)  # before what it says: one that ends in between has said so
    said = status_of(state_dir) if lives else None
    return None if said is None or is_stale(said, now_s) else said


def _has_looked_lately(state_dir: Path) -> bool:
    said = status_of(state_dir)
    return said is not None and not is_stale(said, time.clock_gettime(time.CLOCK_BOOTTIME))


class KeptFolder:
    """The state folder while a daemon watches with it: made again, lock and all, where somebody has removed it."""

    def __init__(self, state_dir: Path) -> None:
        """Its lock is held by the caller."""
        self._state_dir = state_dir
        self._file = file_behind(state_dir / LOCK_FILE)
        self._descriptor: int | None = None

    def made_again(self) -> bool:
        """
        Whether the folder was gone, or another one, and is now made and locked again.

        Raises Refused where another daemon has taken its place, OSError where it can't be made.
        """
        if file_behind(self._state_dir / LOCK_FILE) == self._file:
            return False
        try:
            descriptor = _locked(self._state_dir)
        except BlockingIOError:
            raise Refused(f"the state folder was removed, and {_taken(self._state_dir)}") from None
        self.close()
        self._descriptor, self._file = descriptor, file_behind(self._state_dir / LOCK_FILE)
        return True

    def close(self) -> None:
        """Give up the lock that was taken again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _locked(state_dir: Path) -> int:
    """Return a descriptor that holds the lock. Raises BlockingIOError where another has it, or another OSError."""
    state_dir.mkdir(parents=True, exist_ok=True)
    (state_dir / "holds").mkdir(exist_ok=True)
    descriptor = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, within_s: float = _TRY_FOR_S) -> None:
    """Take the lock; whoever looks whether a daemon lives has it for an instant, so once is not enough."""
    gives_up_s = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= gives_up_s:
                raise
            time.sleep(_TRY_EVERY_S)
        else:
            return


def _taken(state_dir: Path) -> str:
    return f"another idlewatch watches with {state_dir}; `idlewatch status` shows it"


def _unusable(state_dir: Path, error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "make room on its file system",
        errno.EDQUOT: "make room in this user's quota",
        errno.EACCES: "run it as root",
        errno.EPERM: "run it as root",
    }
    remedy = remedies.get(error.errno or 0, "set it to a folder that can be written")
    return f"can't use IDLEWATCH_STATE_DIR={state_dir}: {error.strerror}; {remedy}"
