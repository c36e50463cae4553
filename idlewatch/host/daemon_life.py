"""
When a daemon that ended is started again: pure, instants come in.

Wrong settings (exit code 2) mostly stay wrong until the container's next start, but a secret's file may come later,
written by the Pod's own start. A refusal (3) is mostly another daemon that watches already; should that one end,
somebody must watch. So both are said once, and tried again, rarely.
"""

from __future__ import annotations

import os

BAD_SETTINGS, REFUSED = 2, 3
"""The command line's exit codes."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0
_WELL_AFTER_S = 600.0
"""A daemon that lived for so long ended for a new reason: waiting begins anew."""
_WRONG = "the daemon's settings are wrong, as said above: NOTHING GUARDS this Pod until they are mended"
_AFTER_REQUEST_S = 60.0
"""A command that lives on for so long after a shutdown request was not ended by it, and needs a daemon again."""


class DaemonLife:
    """Whether the daemon runs, and from when on it may be started."""

    def __init__(self) -> None:
        """It was never started and may be."""
        self.pid: int | None = None
        self.due_s = 0.0
        self._started_s = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._said = ""

    def wanted(self, now_s: float) -> bool:
        """Whether to start it now."""
        return self.pid is None and now_s >= self.due_s

    def started(self, pid: int, now_s: float) -> None:
        """It runs."""
        self.pid, self._started_s = pid, now_s

    def shutdown_requested(self, now_s: float) -> None:
        """It was asked to end, and so was what it watches beside; it is not started anew meanwhile."""
        self.due_s = max(self.due_s, now_s + _AFTER_REQUEST_S)

    def not_started(self, error: OSError, now_s: float) -> str | None:
        """It could not be started; return what to say of it."""
        return self._again(f"the daemon can't be started ({error.strerror})", now_s)

    def ended(self, status: int, now_s: float) -> str | None:
        """It ended with this wait status; return what to say of it, None where that has been said."""
        lived_s, self.pid = now_s - self._started_s, None
        if now_s < self.due_s:
            return None
        code = os.waitstatus_to_exitcode(status)
        if lived_s >= _WELL_AFTER_S:
            self._wait_s, self._said = _FIRST_WAIT_S, ""
        if code in (BAD_SETTINGS, REFUSED):
            self._wait_s = _LONGEST_WAIT_S
        if code == BAD_SETTINGS:
            return self._again(_WRONG, now_s)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return self._again(f"the daemon {how}", now_s)

    def _again(self, what: str, now_s: float) -> str | None:
        wait_s, said = self._wait_s, self._said
        self.due_s, self._wait_s = now_s + wait_s, min(_LONGEST_WAIT_S, wait_s * 2)
        self._said = f"{what} at {wait_s:.0f}"
        if self._said == said:
            return None
        return f"{what}; it is started again in {wait_s:.0f} s"
