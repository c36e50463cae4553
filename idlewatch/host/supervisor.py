"""
Keeps a daemon alive beside a command, or by itself: one loop, asleep but for signals and for the next start.

Where there is a command, its end is our end, and the daemon's never is. What comes from outside is passed on to the
command as it came; a request to end goes to the daemon, too, which nobody else would tell.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from idlewatch.host import children
from idlewatch.host.children import Signals
from idlewatch.host.daemon_life import DaemonLife

_SYSTEMD_HALT = signal.SIGRTMIN + 3
"""How a container with systemd is asked to end (systemd(1)); an engine sends what the image's STOPSIGNAL says."""
_REQUESTS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, _SYSTEMD_HALT})
_DAEMON_GETS_S = 60.0
"""For its own end, once there is nothing left to guard: it keeps to IDLEWATCH_SHUTDOWN_WITHIN by itself, and only one
that hangs is waited for so long."""
_RARELY_S = 3600.0


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Supervisor:
    """One daemon and at most one command."""

    def __init__(self, daemon: Sequence[str], command: Sequence[str] | None, *, name: str) -> None:
        """`name`: who says what is said."""
        self._daemon, self._command, self._name = daemon, command, name
        self._life = DaemonLife()
        self._command_pid: int | None = None
        self._ends_with: int | None = None
        self._signals = Signals()

    def run(self) -> int:
        """Until the command ends, or without one until somebody asks; return the exit status to end with."""
        if self._command is not None:
            self._command_pid = children.start(self._command, lambda: children.in_front(self._signals))
        while self._ends_with is None:
            self._start_daemon()
            self._wait(max(0.0, min(_RARELY_S, self._life.due_s - _now_s())) if self._life.pid is None else _RARELY_S)
            self._reap()
        self._end_daemon()
        return self._ends_with

    def _wait(self, seconds: float) -> None:
        """For one signal, and pass it on."""
        came = signal.sigtimedwait(self._signals.waited_for, seconds)
        if came is None or came.si_signo == signal.SIGCHLD:
            return
        if self._command_pid is not None:
            children.ask(self._command_pid, came.si_signo)
        if came.si_signo in _REQUESTS:
            self._asked_to_end()

    def _asked_to_end(self) -> None:
        self._life.shutdown_requested(_now_s())
        if self._life.pid is not None:
            children.ask(self._life.pid, signal.SIGTERM)
        if self._command is None:
            self._ends_with = 0

    def _reap(self) -> None:
        for pid, status in children.reaped():
            if pid == self._life.pid:
                self._say(self._life.ended(status, _now_s()))
            elif pid == self._command_pid:
                code = os.waitstatus_to_exitcode(status)
                self._command_pid, self._ends_with = None, 128 - code if code < 0 else code

    def _start_daemon(self) -> None:
        now_s = _now_s()
        if not self._life.wanted(now_s):
            return
        try:
            self._life.started(children.start(self._daemon, lambda: children.in_back(self._signals)), now_s)
        except OSError as error:
            self._say(self._life.not_started(error, now_s))

    def _end_daemon(self) -> None:
        """It gets its seconds: what it writes down now is all that the next start will know."""
        until_s = _now_s() + _DAEMON_GETS_S
        self._asked_to_end()
        while self._life.pid is not None and _now_s() < until_s:
            signal.sigtimedwait({signal.SIGCHLD}, until_s - _now_s())
            self._reap()
        if self._life.pid is not None:
            children.ask(self._life.pid, signal.SIGKILL)

    def _say(self, text: str | None) -> None:
        if text:
            children.say(f"{self._name}: {text}")
