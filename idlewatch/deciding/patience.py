"""
How long to wait before a stop, learned from this Pod's own gaps: IDLEWATCH_IDLE_AFTER=auto. Pure.

Waiting in an idle Pod is a ski-rental problem (Karlin et al., Algorithmica 3, 1988): each hour of waiting costs the
Pod's price, a stop that comes before the person does costs a restart. Whoever waits exactly until the waiting has cost
as much as a restart (the break-even) never pays more than twice what hindsight would have paid, and no fixed rule can
promise less. Gaps are not an adversary's, though: people come back within minutes, or not before morning. So the wait
that would have cost least over the gaps of this time of day is taken instead, and before enough gaps are known the
default, but only as far as what was earned in earlier gaps, and a credit of one restart, cover its worst case. Over
all gaps together no more is paid than twice hindsight and that credit, once.

    gap       a stretch in which nothing used the Pod, until somebody did again
    slack_s   the credit, and twice what hindsight would have paid for all gaps so far, less what was paid; in seconds
              of its price
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from idlewatch.durations import format_duration

ENOUGH_GAPS = 20
ENOUGH_DAYS = 3
"""With less history nothing is learned from it."""
CREDIT_RESTARTS = 1.0
"""So many restarts may be lost to guesses before any were earned. Where it was chosen (docs/judgement.md) one was as
good as four, and better than none."""
SHORTEST_GAP_S = 120.0
"""A shorter pause is part of the work."""
_DAY_S = 86400.0
_HOURS_AROUND = 2
"""Gaps that began within so many hours of the day count for this hour."""
_ALIKE = 10
"""With fewer of them, all gaps count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch of idleness that has ended."""

    began_s: float
    """Seconds since 1970, UTC."""
    lasted_s: float
    """Until the Pod was used again; where it was stopped in between, until somebody used it after the next start."""
    waited_s: float
    """The idle limit of that time: a longer gap was one in which the Pod was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """What waiting and a false stop cost."""

    usd_per_hour: float
    restart_usd: float
    """Of a stop before the person comes back: see `restart_usd`."""
    least_s: float
    most_s: float
    """The bounds that the owner set."""
    first_s: float = float("inf")
    """What is waited for as long as too little is known, where the break-even is longer."""

    @property
    def break_even_s(self) -> float:
        """How long waiting takes to cost as much as a restart; within the bounds."""
        return self.within_bounds(self.restart_usd / self.usd_per_hour * 3600.0)

    def within_bounds(self, wait_s: float) -> float:
        """The nearest wait that the owner allows."""
        return min(self.most_s, max(self.least_s, wait_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait now, and why in one sentence."""

    wait_s: float
    why: str


def restart_usd(*, usd_per_hour: float, takes_s: float, person_usd_per_hour: float, unlucky: float) -> float:
    """
    Return what a false stop costs: restart and reload, in which the Pod bills and its person waits.

    `unlucky` is the chance that the Pod comes back without its GPUs; finding another then takes that person an hour.
    """
    hours = takes_s / 3600.0
    return hours * (usd_per_hour + person_usd_per_hour) + unlucky * person_usd_per_hour


def cost_s(lasted_s: float, wait_s: float, break_even_s: float) -> float:
    """What a gap costs with a wait, in seconds of the Pod's price: the waiting, and a restart where it was stopped."""
    return lasted_s if lasted_s <= wait_s else wait_s + break_even_s


def hindsight_s(lasted_s: float, break_even_s: float) -> float:
    """What it costs whoever knows how long it lasts: to wait it out, or to stop at once."""
    return min(lasted_s, break_even_s)


def slack_s(gaps: Iterable[Gap], break_even_s: float) -> float:
    """What the bound leaves over, after what was really waited."""
    return CREDIT_RESTARTS * break_even_s + sum(
        2 * hindsight_s(gap.lasted_s, break_even_s) - cost_s(gap.lasted_s, gap.waited_s, break_even_s) for gap in gaps
    )


def affordable(wait_s: float, slack: float, break_even_s: float) -> bool:
    """
    Whether the worst gap that can come still keeps the bound.

    With a wait of at most the break-even the worst gap ends right after the stop, and hindsight would have waited it
    out; with a longer one hindsight would have stopped at once.
    """
    return wait_s + break_even_s <= 2 * min(wait_s, break_even_s) + slack


def patience(gaps: Sequence[Gap], stakes: Stakes, now_s: float) -> Patience:
    """Return how long to wait in a gap that begins at `now_s`, seconds since 1970."""
    even_s = stakes.break_even_s
    counted = [gap for gap in gaps if gap.lasted_s >= SHORTEST_GAP_S]
    days = len({int(gap.began_s // _DAY_S) for gap in counted})
    learned = len(counted) >= ENOUGH_GAPS and days >= ENOUGH_DAYS
    alike = _alike(counted, now_s) if learned else ()
    best_s = _cheapest(alike, stakes) if learned else min(even_s, stakes.within_bounds(stakes.first_s))
    if not affordable(best_s, slack_s(counted, even_s), even_s):
        told = f"a restart costs as much as {format_duration(even_s)} of waiting, so that is waited for"
        return Patience(wait_s=even_s, why=f"guesses have cost too much lately; {told}")
    return Patience(wait_s=best_s, why=_said(alike, best_s) if learned else _too_few(len(counted), days, best_s))


def without_price(wait_s: float) -> Patience:
    """What is waited for, and why, as long as nothing can be weighed."""
    unknown = "the price of this Pod is not known (IDLEWATCH_USD_PER_HOUR sets it), and without it nothing is weighed"
    return Patience(wait_s=wait_s, why=f"{unknown}; until then it is {format_duration(wait_s)}")


def _too_few(count: int, days: int, wait_s: float) -> str:
    known = f"{count} gap{'' if count == 1 else 's'} on {days} day{'' if days == 1 else 's'}"
    return f"{known} are too few to learn from; until {ENOUGH_GAPS} on {ENOUGH_DAYS} it is {format_duration(wait_s)}"


def _alike(gaps: Sequence[Gap], now_s: float) -> Sequence[Gap]:
    """Those of this time of day; all of them where those are few."""
    hour_s, around_s = now_s % _DAY_S, (_HOURS_AROUND + 0.5) * 3600.0
    near = [gap for gap in gaps if _apart(gap.began_s % _DAY_S, hour_s) <= around_s]
    return near if len(near) >= _ALIKE else gaps


def _apart(one_s: float, other_s: float) -> float:
    """Of two times of day, around midnight, too."""
    apart_s = abs(one_s - other_s)
    return min(apart_s, _DAY_S - apart_s)


def _cheapest(gaps: Sequence[Gap], stakes: Stakes) -> float:
    """The wait that would have cost least over these gaps; the cost only changes where a gap ends."""
    even_s = stakes.break_even_s
    ends = {stakes.within_bounds(gap.lasted_s + 1.0) for gap in gaps}
    waits = sorted({stakes.least_s, even_s, *ends})
    return min(waits, key=lambda wait_s: sum(cost_s(gap.lasted_s, wait_s, even_s) for gap in gaps))


def _said(gaps: Sequence[Gap], wait_s: float) -> str:
    back = sum(gap.lasted_s <= wait_s for gap in gaps)
    share, wait = f"{back} of {len(gaps)}", format_duration(wait_s)
    later = sorted(gap.lasted_s for gap in gaps if gap.lasted_s > wait_s)
    rest = f", the others after {format_duration(later[len(later) // 2])} or so" if later else ""
    return f"at this time of day you came back within {wait} in {share} gaps{rest}; so {wait} is waited for"
