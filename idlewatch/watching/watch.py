"""
Puts the daemon together for this machine: the real clock, one daemon a state folder, its holds and its end.

Used by the command line only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog

from idlewatch.deciding.moment import Moment, StopRequest
from idlewatch.deciding.patience import Patience
from idlewatch.model import Hold, PodIdentity
from idlewatch.requests import holds
from idlewatch.requests.hold_events import HoldEvents
from idlewatch.requests.holds import EndedHold
from idlewatch.requests.stop_requests import request_file, stop_request
from idlewatch.stopping.checkpoints import asked_of
from idlewatch.watching.lock import daemon_watches, only_daemon

__all__ = [
    "Known",
    "MachineClock",
    "Moments",
    "daemon_watches",
    "only_daemon",
    "request_file",
    "stop_request",
]

OneHold = TypeVar("OneHold", Hold, EndedHold)

log = structlog.get_logger()

_SHUTDOWN_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP: the terminal is gone, or the settings are other ones; whoever keeps the daemon alive starts it again."""


class MachineClock:
    """CLOCK_BOOTTIME, the wall clock, and a sleep that a shutdown request ends."""

    def __init__(self) -> None:
        """Not asked to end."""
        self._ended = False
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
            came = None if self._ended else signal.sigtimedwait(self._requests, max(0.0, seconds))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            self._came(came)

    def _came(self, request: signal.struct_siginfo) -> None:
        self._ended = True
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

    def _end(self, _number: int, _frame: object) -> None:
        self._ended = True

    def ended(self) -> bool:
        """Whether a shutdown request came."""
        return self._ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of this Pod beside what is looked at in each tick."""

    usd_per_hour: float | None = None
    refusal: str | None = None
    """Why this Pod must not or can't be stopped."""
    working: bool = False
    """Whether these are the owner's working hours."""
    patience: Patience | None = None
    """The idle limit that was learned; None: the set one holds."""
    troubles: Mapping[str, str | None] = field(default_factory=dict)
    """Name -> what people must hear; None: all is well."""


class Moments:
    """Tells what is true now, beside what the signals find; reads the holds at each tick."""

    def __init__(
        self,
        *,
        state_dir: Path,
        pod: PodIdentity,
        hold_max_s: float,
        known: Callable[[float], Known],
        request: Callable[[float], StopRequest | None] = lambda _now_s: None,
        observing: bool = False,
        clean: Callable[[str], str] = str,
        hold_events: HoldEvents | None = None,
    ) -> None:
        """
        `pod`: which start this is; `known` and `request` tell what is known and asked for at an instant.

        `clean` takes secrets out of what people and programs have written; `hold_events` tells of holds that begin and
        end.
        """
        self._clean, self._hold_events = clean, hold_events
        self._state_dir, self._pod = state_dir, pod
        self._request, self._observing = request, observing
        self._hold_max_s, self._known_of = hold_max_s, known
        self._holds: tuple[Hold, ...] = hold_events.known if hold_events else ()

    def __call__(self, now_s: float) -> Moment:
        """Return the moment of `now_s`."""
        found = holds.read_holds(self._state_dir, now_s, hold_max_s=self._hold_max_s, known=self._holds)
        self._holds = found.active
        for ended in found.ended:
            log.info("hold_ended", who=ended.who, why=ended.why)
        holds.remove(self._state_dir, [ended.id for ended in found.ended])
        active = [self._cleaned(hold) for hold in found.active]
        if self._hold_events:
            self._hold_events.look(active, [self._cleaned(ended) for ended in found.ended], now_s)
        uptime_s, known = now_s - self._pod.started_s, self._known_of(now_s)
        price, asked = known.usd_per_hour, asked_of(self._state_dir, self._pod.boot_key)
        return Moment(
            now_s=now_s,
            uptime_s=uptime_s,
            spent_usd=uptime_s / 3600 * price if price else None,
            usd_per_hour=price,
            holds=active,
            request=self._request(now_s),
            observing=self._observing,
            refusal=known.refusal,
            working=known.working,
            learned_idle_after_s=known.patience.wait_s if known.patience else None,
            learned_why=known.patience.why if known.patience else None,
            troubles=known.troubles,
            asked=None if asked is None else (asked.from_s, asked.until_s),
        )

    def _cleaned(self, hold: OneHold) -> OneHold:
        return replace(hold, who=self._clean(hold.who), reason=self._clean(hold.reason))
