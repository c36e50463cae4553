"""
What IDLEWATCH_IDLE_AFTER=auto costs on lists of gaps: against the break-even, fixed limits, and hindsight.

A Pod of one kind is used day after day; its gaps are the spans in which nothing of its lives showed, thinking and
lulls among them, for at least `patience.SHORTEST_GAP_S`. `patience` meets them in their order and learns from those
before. Costs are those of `patience.cost_s`: the seconds until the stop, its warning among them, and a restart for each
stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.judgement import published
from benchmarks.judgement.days import life
from benchmarks.judgement.doing import DAY_S, HOUR_S
from benchmarks.judgement.measures import USD_PER_HOUR
from idlewatch.deciding.patience import SHORTEST_GAP_S, Gap, Stakes, cost_s, hindsight_s, patience
from idlewatch.durations import format_duration
from idlewatch.settings import Settings
from idlewatch.watching.gaps import MOST
from idlewatch.watching.learning import stakes_of

FRESH = 300_000
"""The first seed of days that nothing else here uses, and that nothing was run on before the document's figures."""
DAYS = 21
PODS = 8
"""Of each kind."""
FIXED_S = 1800.0
PRICES_USD = (USD_PER_HOUR, 0.44)
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
    """With the default limit of 30 min and its warning."""
    best_fixed_s: float
    """With the one limit that is best for this very list, within the same bounds."""
    best_limit_s: float
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
    lasted = [lasted_s for _, lasted_s in gaps]
    limits = {stakes.break_even_s, stakes.least_s}
    limits |= {stakes.within_bounds(one + 1.0 - stakes.warn_s) for one in lasted}
    best_s, best_limit_s = min((_fixed(lasted, limit_s, stakes), limit_s) for limit_s in limits)
    return Learned(
        name=name,
        gaps=len(gaps),
        auto_s=_auto(gaps, stakes),
        even_s=_fixed(lasted, stakes.break_even_s, stakes),
        fixed_s=_fixed(lasted, FIXED_S, stakes),
        best_fixed_s=best_s,
        best_limit_s=best_limit_s,
        hindsight_s=sum(hindsight_s(one, stakes.restart_s) for one in lasted),
    )


def _fixed(lasted: Sequence[float], limit_s: float, stakes: Stakes) -> float:
    return sum(cost_s(one, limit_s + stakes.warn_s, stakes.restart_s) for one in lasted)


def _auto(gaps: Sequence[tuple[float, float]], stakes: Stakes) -> float:
    known: list[Gap] = []
    for began_s, lasted_s in gaps:
        waited_s = patience(known[-MOST:], stakes, began_s).wait_s + stakes.warn_s
        known.append(Gap(began_s=began_s, lasted_s=lasted_s, waited_s=waited_s))
    return sum(cost_s(gap.lasted_s, gap.waited_s, stakes.restart_s) for gap in known)


def measured(first: int, stakes: Stakes, pods: int = PODS, days: int = DAYS) -> Iterator[list[Learned]]:
    """Pods of each kind, and the recordings that were left out."""
    for kind in KINDS:
        yield [learned(kind, used(kind, first + pod, days), stakes) for pod in range(pods)]
    yield [learned("recordings left out", left_out(), stakes)]


def lines(first: int) -> Iterator[str]:
    """A table in Markdown for each price of the Pod: each way to wait as so many times hindsight."""
    for usd_per_hour in PRICES_USD:
        stakes = stakes_of(Settings())(usd_per_hour)
        even = f"break-even ({format_duration(stakes.break_even_s)})"
        yield f"| Pod at ${usd_per_hour:.2f}/h | gaps | auto | {even} | 30m | best fixed | {_COMPARED} |"
        yield f"| --- |{' --- |' * 9}"
        yield from map(_line, measured(first, stakes))
        yield ""


_COMPARED = "auto to break-even | of the Pods | auto to 30m | worst auto"


def _line(pods: Sequence[Learned]) -> str:
    def total(figure: Callable[[Learned], float]) -> float:
        return sum(map(figure, pods))

    auto_s, even_s = total(lambda one: one.auto_s), total(lambda one: one.even_s)
    fixed_s, least_s = total(lambda one: one.fixed_s), total(lambda one: one.hindsight_s)
    figures = (auto_s, even_s, fixed_s, total(lambda one: one.best_fixed_s))
    times = " | ".join(f"{figure / least_s:.2f}" for figure in figures)
    gains = sorted(one.auto_s / one.even_s - 1 for one in pods)
    spread = f"{gains[0]:+.0%} to {gains[-1]:+.0%}" if len(pods) > 1 else ""
    worst = max(one.auto_s / one.hindsight_s for one in pods)
    name, count = pods[0].name, sum(one.gaps for one in pods)
    gain, to_fixed = f"{auto_s / even_s - 1:+.0%}", f"{auto_s / fixed_s - 1:+.0%}"
    return f"| {name} | {count} | {times} | {gain} | {spread} | {to_fixed} | {worst:.2f} |"
