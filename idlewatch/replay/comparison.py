"""
Two ways to set idlewatch on the same lives: what each would have saved, and whom it would have stopped.

A stop saves until the Pod is used again, or to the end of what was recorded. A Pod that was in use again within ten
minutes was stopped while somebody was working; within the hour, too soon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from idlewatch.durations import format_duration
from idlewatch.model import Action, Json
from idlewatch.replay.life import Lived

WORKING_S = 10 * 60.0
TOO_SOON_S = 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What settings would have done to one life, or to several together."""

    stops: int = 0
    saved_s: float = 0.0
    working: int = 0
    """Stops after which it was in use again within ten minutes."""
    too_soon: int = 0
    """The other stops after which it was in use again within the hour."""

    def __add__(self, other: Outcome) -> Outcome:
        """Both together."""
        return Outcome(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Outcome)))


def outcome(lived: Lived, ends_s: float) -> Outcome:
    """What came of one life that goes on after a stop; one that ends with it has saved nothing yet."""
    stops = lived.when(Action.STOP)
    again = [lived.in_use_after_s(stop_s) for stop_s in stops]
    away = [(ends_s if back_s is None else back_s) - stop_s for stop_s, back_s in zip(stops, again, strict=True)]
    back = [span_s for span_s, back_s in zip(away, again, strict=True) if back_s is not None]
    working = sum(span_s <= WORKING_S for span_s in back)
    return Outcome(len(stops), sum(away), working, sum(span_s <= TOO_SOON_S for span_s in back) - working)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two outcomes on the same lives; `usd_per_hour` is what to reckon with, 0: no dollars are told."""

    names: tuple[str, str]
    outcomes: tuple[Outcome, Outcome]
    lasted_s: float
    usd_per_hour: float

    def lines(self) -> Iterator[str]:
        """For people."""
        wide = max(map(len, self.names))
        yield f"{format_duration(self.lasted_s)} under two settings:"
        yield f"  {'':{wide}}  stops  saved{'':20}  while working  within the hour"
        for name, one in zip(self.names, self.outcomes, strict=True):
            saved = self._saved(one.saved_s)
            yield f"  {name:{wide}}  {one.stops:5}  {saved:25}  {one.working:13}  {one.too_soon:15}"
        yield from self._sentence()

    def _saved(self, span_s: float) -> str:
        dollars = f"${span_s / 3600 * self.usd_per_hour:,.2f} in " if self.usd_per_hour else ""
        return dollars + format_duration(span_s)

    def _sentence(self) -> Iterator[str]:
        first, second = self.outcomes
        if first == second:
            yield "Both would have done the same."
            return
        more_s = second.saved_s - first.saved_s
        told = f"would have saved {self._saved(abs(more_s))} {'more' if more_s >= 0 else 'less'}"
        stops = _difference(second.working - first.working, "while you were working")
        soon = _difference(second.too_soon - first.too_soon, "within the hour before you came back")
        yield f"{self.names[1]} {told}, and stopped the Pod {stops} and {soon}."

    def as_json(self) -> dict[str, Json]:
        """For programs; format 1."""
        outcomes: list[Json] = [
            {
                "settings": name,
                "stops": one.stops,
                "saved_s": one.saved_s,
                "saved_usd": one.saved_s / 3600 * self.usd_per_hour if self.usd_per_hour else None,
                "stops_while_working": one.working,
                "stops_within_the_hour": one.too_soon,
            }
            for name, one in zip(self.names, self.outcomes, strict=True)
        ]
        return {"format": 1, "lasted_s": self.lasted_s, "compared": outcomes}


def _difference(count: int, when: str) -> str:
    if not count:
        return f"as often {when}"
    times = {1: "once", 2: "twice"}.get(abs(count), f"{abs(count)} times")
    return f"{times} {'more' if count > 0 else 'less'} {when}"


def total(outcomes: Sequence[Outcome]) -> Outcome:
    """Several lives as one."""
    return sum(outcomes, Outcome())
