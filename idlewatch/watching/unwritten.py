"""
What of the state folder can't be written now: said in words, and never a reason to stop watching.

The daemon decides from what it has in memory. "What is decided is written down before it is begun" protects a daemon
that dies in between, and one that could write nothing is protected as well: the next one finds no state that counts
(`database.Mark`), so its idle clock is at 0, it warns anew and in full, and it asks for a stop that was perhaps asked
for already, which changes nothing. Keeping the Pod up instead would break the first promise for the commonest of
faults: a full disk, on the very Pod that nobody looks at. What a stop would wipe is saved to the volume, not here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from idlewatch.history.database import StateFolderError

log = structlog.get_logger()

_STEADY_S = 60.0
"""A trouble is over once everything could be written for so long: a disk that is nearly full fails now and then."""
_GONE, _FULL, _READ_ONLY = "it is gone", "no space is left", "it can only be read"
_REMEDIES = {
    _GONE: "make it again, or restart the daemon",
    _FULL: "make room on its file system",
    _READ_ONLY: "make its file system writable again",
}
_ELSE = "see what is wrong with its file system, or restart the daemon with another folder in IDLEWATCH_STATE_DIR"


class Unwritten:
    """Which writes fail, since when, and the trouble that people hear of."""

    def __init__(self, state_dir: Path) -> None:
        """Nothing has failed."""
        self._state_dir = state_dir
        self._since_s: dict[str, float] = {}
        self._failed_s = 0.0
        self.trouble: str | None = None
        """What people must hear; None: all could be written for a while."""

    def attempt(self, what: str, write: Callable[[], object], now_s: float) -> bool:
        """Whether `write` could write `what`; one that failed is worth trying again with the next tick."""
        try:
            write()
        except (StateFolderError, OSError) as error:
            self._failed(what, error, now_s)
            return False
        if what in self._since_s:
            log.info("written_again", what=what, after_s=round(now_s - self._since_s.pop(what)))
        if self.trouble and not self._since_s and now_s - self._failed_s >= _STEADY_S:
            self.trouble = None
        return True

    def since_s(self, what: str) -> float | None:
        """Since when this can't be written; None where it could, the last time."""
        return self._since_s.get(what)

    def _failed(self, what: str, error: StateFolderError | OSError, now_s: float) -> None:
        self._failed_s = now_s
        if what not in self._since_s:
            self._since_s[what] = now_s
            log.error("not_written", what=what, error=str(error))
        if self.trouble is None:  # and then these words stand: each change would be another alarm
            self.trouble = self._words(error)

    def _words(self, error: StateFolderError | OSError) -> str:
        why = _cause(self._state_dir, error)
        remedy = remedy_for(why)
        goes_on = "nothing is recorded, the watch goes on from memory, and recording starts again by itself"
        return f"{self._state_dir} can't be written ({why}): {goes_on}; {remedy}"


def fault_of(state_dir: Path, number: int | None = None) -> str | None:
    """What is wrong with the folder's file system, in words; None: nothing that can be seen. `number`: an errno."""
    try:
        disk = os.statvfs(state_dir)
    except FileNotFoundError:
        return _GONE
    except OSError as failed:
        return failed.strerror or str(failed)
    if disk.f_flag & os.ST_RDONLY or number == errno.EROFS:
        return _READ_ONLY
    no_room = 0 in (disk.f_bavail, disk.f_ffree if disk.f_files else 1)
    return _FULL if no_room or number in (errno.ENOSPC, errno.EDQUOT) else None


def remedy_for(fault: str) -> str:
    """What helps against a fault that `fault_of` has named, in words."""
    return _REMEDIES.get(fault, _ELSE)


def _cause(state_dir: Path, error: StateFolderError | OSError) -> str:
    """The file system's own state first: what a failed write says of it differs from file to file."""
    number = error.number if isinstance(error, StateFolderError) else error.errno
    return fault_of(state_dir, number) or (os.strerror(number).lower() if number else str(error))
