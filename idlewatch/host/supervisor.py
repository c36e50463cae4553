"""
Keeps a daemon alive beside a command, or by itself: one loop, asleep but for signals and for the next start.

A daemon that stands still is ended and started again, like one that ended by itself: `signs_of_life` hears it.

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
from idlewatch.host.signs_of_life import SignsOfLife

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

    def __init__(
        self,
        daemon: Sequence[str],
        command: Sequence[str] | None,
        *,
        name: str,
        signs: SignsOfLife | None = None,
        before: Sequence[str] | None = None,
    ) -> None:
        """
        `name`: who says what is said; `signs`: what hears the daemon; `before`: what the command waits for.

        What it waits for must end by itself; how it ends makes no difference.
        """
        self._daemon, self._command, self._name = daemon, command, name
        self._life, self._signs = DaemonLife(), signs or SignsOfLife()
        self._before = before
        self._command_pid: int | None = None
        self._ends_with: int | None = None
        self._signals = Signals()

    def run(self) -> int:
        """Until the command ends, or without one until somebody asks; return the exit status to end with."""
        if self._before is not None:
            self._wait_for(self._before)
        if self._command is not None and self._ends_with is None:
            self._command_pid = children.start(self._command, lambda: children.in_front(self._signals))
        while self._ends_with is None:
            self._start_daemon()
            next_s = self._life.due_s if self._life.pid is None else self._signs.due_s
            self._wait(max(0.0, min(_RARELY_S, next_s - _now_s())))
            self._reap()
            self._end_silent_daemon()
        self._end_daemon()
        return self._ends_with

    def _wait_for(self, before: Sequence[str]) -> None:
        """Until it has ended; a request to end meanwhile ends it, and us with the status of a command so ended."""
        try:
            pid = children.start(before, lambda: children.in_back(self._signals))
        except OSError as error:
            self._say(f"{' '.join(before)} can't be started: {error.strerror}")
            return
        until_s = float("inf")
        while pid not in [ended for ended, _ in children.reaped()]:
            came = signal.sigtimedwait(self._signals.waited_for, max(0.0, min(_RARELY_S, until_s - _now_s())))
            if came and came.si_signo in _REQUESTS:
                self._ends_with, until_s = 128 + came.si_signo, _now_s() + _DAEMON_GETS_S
                children.ask(pid, signal.SIGTERM)
            if _now_s() >= until_s:
                children.ask(pid, signal.SIGKILL)
                return

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
            children.ask(self._life.pid, signal.SIGCONT)  # one that somebody stopped would not hear it
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
            more = self._signs.variables()
            self._life.started(children.start(self._daemon, lambda: children.in_back(self._signals), more), now_s)
            self._signs.begun(now_s)
        except OSError as error:
            self._say(self._life.not_started(error, now_s))

    def _end_silent_daemon(self) -> None:
        silent_s = None if self._life.pid is None else self._signs.silent_s(self._life.pid, _now_s())
        if self._life.pid is not None and silent_s is not None:
            self._say(f"the daemon stands still: it has not looked at this Pod for {silent_s:.0f} s; it is ended")
            children.ask(self._life.pid, signal.SIGKILL)

    def _end_daemon(self) -> None:
        """It gets its seconds: what it writes down now is all that the next start will know."""
        until_s = _now_s() + _DAEMON_GETS_S
        self._asked_to_end()
        while self._life.pid is not None and _now_s() < until_s:
            signal.sigtimedwait({signal.SIGCHLD}, until_s - _now_s())
            self._reap()
        if self._life.pid is not None:
            children.ask(self._life.pid, signal.SIGKILL)
        self._signs.close()

    def _say(self, text: str | None) -> None:
        if text:
            children.say(f"{self._name}: {text}")
