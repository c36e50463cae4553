"""The real clock: CLOCK_BOOTTIME, and a sleep that a shutdown request ends."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime

_SHUTDOWN_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP: the terminal is gone, or the settings are other ones."""


class MachineClock:
    """CLOCK_BOOTTIME, the wall clock, and a sleep that a shutdown request ends."""

    def __init__(self) -> None:
        """Not asked to end."""
        self._ended = self._hung_up = False
        self._requests: tuple[signal.Signals, ...] = _SHUTDOWN_REQUESTS[:2]
        self.sender: int | None = None
        """Who sent the shutdown request: a PID, 0 for somebody outside this PID namespace; None: not known."""

    def now_s(self) -> float:
        """Seconds since this machine booted, suspended time included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """
        Wait, or less where a shutdown request comes.

        It is waited for and not only interrupted by: that alone tells who sent it, and leaves no moment in which one
        that comes while we fall asleep is slept through.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._requests)
        try:
            came = None if self.ended() else signal.sigtimedwait(self._requests, max(0.0, seconds))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            self._came(came)

    def _came(self, request: signal.struct_siginfo) -> None:
        self._end(request.si_signo, None)
        self.sender = request.si_pid if request.si_code <= 0 else None  # above 0: the kernel's own, such as Ctrl-C

    def rest(self, seconds: float) -> None:
        """Wait, also once a shutdown request came; for seconds at the most."""
        time.sleep(seconds)

    def end_on_shutdown_request(self) -> None:
        """
        From now on SIGTERM, SIGINT and SIGHUP end the sleep, and `ended` says so; also of one that came while it was
        blocked. But SIGHUP is left alone where it is ignored: the daemon was started with nohup(1).

        Nothing but a flag is set: whatever takes a lock would wait for the one that the interrupted code holds.
        """
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._requests = _SHUTDOWN_REQUESTS[:2] if nohup else _SHUTDOWN_REQUESTS
        waiting = signal.sigtimedwait(signal.sigpending() & set(self._requests), 0.0)
        if waiting:
            self._came(waiting)
        for number in self._requests:
            signal.signal(number, self._end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._requests)

    def _end(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._ended = True

    def ended(self) -> bool:
        """Whether a shutdown request came."""
        return self._ended or self._hung_up

    def stay(self) -> bool:
        """Take back what SIGHUP asked for, for whoever has something against it; whether nothing else was asked for."""
        self._hung_up = False
        return not self._ended
