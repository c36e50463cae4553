"""What is true at an instant beside what the signals find: holds, requests, uptime, money, what is known of the Pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import structlog

from idlewatch.deciding.moment import Moment, StopRequest
from idlewatch.deciding.patience import Patience
from idlewatch.model import Hold, PodIdentity
from idlewatch.requests import holds
from idlewatch.requests.hold_events import HoldEvents
from idlewatch.requests.holds import EndedHold
from idlewatch.stopping.checkpoints import asked_of

OneHold = TypeVar("OneHold", Hold, EndedHold)

log = structlog.get_logger()


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
