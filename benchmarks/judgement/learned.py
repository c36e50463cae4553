"""
What IDLEWATCH_IDLE_AFTER=auto costs on lists of gaps: against the break-even, fixed limits, and hindsight.

A Pod of one kind is used day after day; its gaps are the spans in which nothing of its lives showed, thinking and
lulls among them, for at least `patience.SHORTEST_GAP_S`. `patience` meets them in their order and learns from those
before. Costs are those of `patience.cost_s`: the seconds that were waited, and a restart for each stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.judgement import published
from benchmarks.judgement.days import life
from benchmarks.judgement.doing import DAY_S, HOUR_S
from benchmarks.judgement.measures import STAKES
from idlewatch.deciding.patience import SHORTEST_GAP_S, Gap, Stakes, cost_s, hindsight_s, patience
from idlewatch.watching.gaps import MOST

FRESH = 10_000
"""The first seed of days that nothing else here uses."""
DAYS = 21
FIXED_S = 1800.0
KINDS = ("notebook day", "editor day", "training", "forgotten", "inference", "download", "hung", "cpu work")
_MONDAY_S = 1_761_955_200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What one list of gaps cost, in seconds of the Pod's price."""

    name: str
    gaps: int
    auto_s: float
    even_s: float
    fixed_s: float
    """With the default limit of 30 min."""
    best_fixed_s: float
    """With the one limit that is best for this very list, within the same bounds."""
    best_wait_s: float
    hindsight_s: float


def used(kind: str, first: int, days: int = DAYS) -> list[tuple[float, float]]:
    """When the gaps of a Pod of one kind began, seconds since 1970, and how long they lasted."""
    found = []
    for day in range(days):
        made = life(kind, FRESH + first * 100 + day)
        zero_s = _MONDAY_S + day * DAY_S + made.begins_hour * HOUR_S
        found += [(zero_s + from_s, to_s - from_s) for from_s, to_s in made.unseen() if to_s - from_s >= SHORTEST_GAP_S]
    return sorted(found)


def left_out() -> list[tuple[float, float]]:
    """The gaps of the recordings that nothing is fitted to, each recording on a day of its own."""
    found = []
    for day, name in enumerate(published.LEFT_OUT):
        at_s = _MONDAY_S + day * DAY_S
        for lasted_s in published.gaps_s(name, SHORTEST_GAP_S):
            found.append((at_s, lasted_s))
            at_s += lasted_s + 600.0
    return found


def learned(name: str, gaps: Sequence[tuple[float, float]], stakes: Stakes) -> Learned:
    """What each way to wait would have cost on these gaps."""
    even_s = stakes.break_even_s
    lasted = [lasted_s for _, lasted_s in gaps]
    best_s, best_wait_s = min(
        (_fixed(lasted, wait_s, even_s), wait_s)
        for wait_s in {even_s, stakes.least_s, *(stakes.within_bounds(one + 1.0) for one in lasted)}
    )
    return Learned(
        name=name,
        gaps=len(gaps),
        auto_s=_auto(gaps, stakes),
        even_s=_fixed(lasted, even_s, even_s),
        fixed_s=_fixed(lasted, FIXED_S, even_s),
        best_fixed_s=best_s,
        best_wait_s=best_wait_s,
        hindsight_s=sum(hindsight_s(one, even_s) for one in lasted),
    )


def _fixed(lasted: Sequence[float], wait_s: float, even_s: float) -> float:
    return sum(cost_s(one, wait_s, even_s) for one in lasted)


def _auto(gaps: Sequence[tuple[float, float]], stakes: Stakes) -> float:
    known: list[Gap] = []
    spent_s = 0.0
    for began_s, lasted_s in gaps:
        wait_s = patience(known[-MOST:], stakes, began_s).wait_s
        spent_s += cost_s(lasted_s, wait_s, stakes.break_even_s)
        known.append(Gap(began_s=began_s, lasted_s=lasted_s, waited_s=wait_s))
    return spent_s


def measured(first: int, kinds: Sequence[str] = KINDS, days: int = DAYS, stakes: Stakes = STAKES) -> list[Learned]:
    """A Pod of each kind, and the recordings that were left out."""
    told = [learned(kind, used(kind, first, days), stakes) for kind in kinds]
    return [*told, learned("recordings left out", left_out(), stakes)]


def lines(first: int) -> Iterator[str]:
    """The table in Markdown: each way to wait as so many times hindsight."""
    yield f"| {DAYS} days of | gaps | auto | break-even | 30 min | best fixed | that is | auto to break-even |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for one in measured(first):
        figures = (one.auto_s, one.even_s, one.fixed_s, one.best_fixed_s)
        times = " | ".join(f"{figure / one.hindsight_s:.2f}" for figure in figures)
        gain = one.auto_s / one.even_s - 1
        yield f"| {one.name} | {one.gaps} | {times} | {one.best_wait_s / 60:.0f} min | {gain:+.0%} |"
