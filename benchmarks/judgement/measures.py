"""
What a rule costs on a life: idle hours paid, stops of a Pod in use, stops that had to be undone within the hour.

A stop ends the bill until the Pod is needed again; then its person starts it, which costs `Stakes.restart_usd` (the
restart and reload in which the Pod bills and its person waits, and now and then no GPU). A Pod that is stopped while it
was needed is started again after the time that a restart takes. It is charged no more than any other restart, although
a run is lost: that favours rules that stop too early. The optimum knows every gap's end and pays the lesser of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from benchmarks.judgement.doing import HOUR_S, PodLife
from benchmarks.judgement.observed import Seen
from idlewatch.deciding.patience import hindsight_s
from idlewatch.settings import Settings
from idlewatch.watching.learning import stakes_of

USD_PER_HOUR = 2.5
RESTART_S = Settings().restart_takes.total_seconds()
STAKES = stakes_of(Settings())(USD_PER_HOUR)
"""With the defaults of idlewatch: a person at $10 an hour, and one start in twenty without a GPU."""

Stopping = Callable[[Sequence[Seen], int], int | None]
"""A rule: looks and the start among them, to the look at which it stops."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one life, or of several together."""

    days: float = 0.0
    idle_usd: float = 0.0
    stops: int = 0
    in_use: int = 0
    """Stops of a Pod that was needed at that moment."""
    undone: int = 0
    """Of the others, those after which it was needed again within the hour."""
    lives_hurt: int = 0
    """Lives with at least one stop in use."""

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Cost)))

    @property
    def usd(self) -> float:
        """Idleness and restarts together."""
        return self.idle_usd + self.stops * STAKES.restart_usd


def cost(life: PodLife, looks: Sequence[Seen], step_s: float, stopping: Stopping) -> Cost:
    """What this rule costs on this life."""
    idle = stops = in_use = undone = start = 0
    while start < len(looks):
        at = stopping(looks, start)
        end = len(looks) if at is None else at + 1
        idle += sum(not one.needed for one in looks[start:end])
        if at is None:
            break
        stops += 1
        start = _started_again(looks, at, step_s)
        in_use += looks[at].needed
        undone += not looks[at].needed and (start - at) * step_s <= HOUR_S
    hours = life.ends_s / HOUR_S
    return Cost(hours / 24, idle * step_s / HOUR_S * USD_PER_HOUR, stops, in_use, undone, int(in_use > 0))


def _started_again(looks: Sequence[Seen], at: int, step_s: float) -> int:
    if looks[at].needed:
        return at + round(RESTART_S / step_s)
    return next((place for place in range(at, len(looks)) if looks[place].needed), len(looks))


def optimum_usd(life: PodLife) -> float:
    """What hindsight would have paid: for each gap to wait it out, or to stop at its beginning."""
    return sum(hindsight_s(to_s - from_s, STAKES.restart_s) for from_s, to_s in life.gaps()) / HOUR_S * USD_PER_HOUR


def all_knowing(wait_s: float, step_s: float) -> Stopping:
    """A rule that is told at every look whether the Pod is needed, and waits so long in every gap."""

    def stop(looks: Sequence[Seen], start: int) -> int | None:
        idle = 0
        for place in range(start, len(looks)):
            idle = 0 if looks[place].needed else idle + 1
            if idle * step_s > wait_s:
                return place
        return None

    return stop
