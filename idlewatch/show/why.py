"""Why the Pod is up: what every signal said and since when, what keeps it up, and what would have been without that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Json, Limits
from idlewatch.show.status import mapping, number
from idlewatch.verdicts import HELD, HOLD, Span, would_have_stopped_s

LOOK_BACK_S = 24 * 3600.0
"""How far back the policy is asked what it would have done."""
_UP_NOW_S = 60.0
"""A verdict that stood at most so long ago still keeps the Pod up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Something that keeps the Pod up, and what would have been without it."""

    name: str
    reason: str
    stopped_s: float | None
    """When the Pod would have been stopped (CLOCK_BOOTTIME seconds); None: not by now either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The whole answer."""

    now_s: float
    at: datetime
    status: Mapping[str, Json]
    keepers: Sequence[Keeper]

    def wall(self, at_s: float) -> datetime:
        """The wall time of an instant."""
        return self.at + timedelta(seconds=at_s - self.now_s)

    def as_json(self) -> dict[str, Json]:
        """For programs: format 1."""
        return {
            "format": 1,
            "at": self.at.isoformat(),
            "phase": self.status.get("phase"),
            "reason": self.status.get("reason"),
            "idle_for_s": self.status.get("idle_for_s"),
            "signals": dict(mapping(self.status.get("signals"))),
            "keepers": [
                {
                    "name": keeper.name,
                    "reason": keeper.reason,
                    "without_it_stopped_at": None
                    if keeper.stopped_s is None
                    else self.wall(keeper.stopped_s).isoformat(),
                }
                for keeper in self.keepers
            ],
        }

    def lines(self) -> list[str]:
        """For people."""
        told = [f"{self.status.get('phase')}: {self.status.get('reason')}"]
        told += [_signal_line(name, mapping(said), self.now_s) for name, said in self._signals().items()]
        if not self.keepers:
            return [*told, "Nothing keeps this Pod up but the time that is still to pass."]
        return told + [sentence for keeper in self.keepers for sentence in self._sentences(keeper)]

    def _signals(self) -> Mapping[str, Json]:
        return mapping(self.status.get("signals"))

    def _sentences(self, keeper: Keeper) -> list[str]:
        kept = f"Kept up by {keeper.name}: {keeper.reason}."
        if keeper.stopped_s is None:
            return [kept, f"  Without it this Pod would not have been stopped yet: {self._still_to_pass()}."]
        spent = self._dollars_since(keeper.stopped_s)
        ago = format_duration(self.now_s - keeper.stopped_s)
        at = self.wall(keeper.stopped_s).astimezone()
        return [kept, f"  Without it this Pod would have been stopped at {at:%a %H:%M}, {ago} ago{spent}."]

    def _still_to_pass(self) -> str:
        return "the quiet time was not over" if len(self.keepers) == 1 else "something else kept it up as well"

    def _dollars_since(self, at_s: float) -> str:
        price = number(self.status.get("usd_per_hour"))
        return f" (${price * (self.now_s - at_s) / 3600:.2f})" if price else ""


def explained(
    status: Mapping[str, Json], spans: Sequence[Span], limits: Limits, now_s: float, wall: Callable[[], datetime]
) -> Why:
    """Ask the policy what it would have done without each of what keeps the Pod up now; `spans` by their beginning."""
    started_s = number(status.get("started_s"))
    newest = {span.name: span for span in spans}
    keepers = [
        Keeper(
            name="a hold" if span.name == HOLD else span.name,
            reason=span.reason,
            stopped_s=would_have_stopped_s(spans, limits, started_s, span.name),
        )
        for span in newest.values()
        if _keeps_up(span) and now_s - span.to_s <= _UP_NOW_S
    ]
    return Why(now_s=now_s, at=wall(), status=status, keepers=keepers)


def _keeps_up(span: Span) -> bool:
    return span.bars or span.verdict in (Activity.ACTIVE, Activity.UNKNOWN, HELD)


def _signal_line(name: str, said: Mapping[str, Json], now_s: float) -> str:
    stands = format_duration(now_s - number(said.get("since_s")))
    read = format_duration(max(0.0, now_s - number(said.get("read_s"))))
    return f"  {name:<9} {said.get('activity')!s:<8} {said.get('reason')}  (for {stands}, read {read} ago)"
