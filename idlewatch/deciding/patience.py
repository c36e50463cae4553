"""
How long to wait before a stop, learned from this Pod's own gaps: IDLEWATCH_IDLE_AFTER=auto. Pure.

Waiting in an idle Pod is a ski-rental problem (Karlin et al., Algorithmica 3, 1988): each hour of waiting costs the
Pod's price, a stop that comes before the person does costs a restart. Whoever waits exactly until the waiting has cost
as much as a restart (the break-even) never pays more than twice what hindsight would have paid, and no fixed rule can
promise less. Gaps are not an adversary's, though: people come back within minutes, or not before morning. So once
enough gaps are known, the wait that would have cost least over those of this time of day is taken instead, where it
would have been clearly cheaper, and only as far as what earlier gaps left over covers its worst case. So over all gaps
together no more is paid than twice hindsight either.

That holds, too, where only the newest gaps are remembered: whoever goes back from the last gap takes away either one
gap that was paid within the bound, or one that was a guess together with the gaps that covered it.

    gap       a stretch in which nothing used the Pod, until somebody did again
    limit     how long is waited before the warning; the stop comes `warn_s` later, and that is paid for, too
    slack_s   what the bound leaves over: so many times what hindsight would have paid for the gaps so far, less what
              was paid; in seconds of the Pod's price
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from idlewatch.durations import format_duration

ENOUGH_GAPS = 20
ENOUGH_DAYS = 3
"""With less history nothing is learned from it."""
CLEARLY = 0.05
"""By so much of the break-even's cost another limit must have been cheaper: less is luck. Chosen on lists of gaps that
the figures of docs/judgement.md are not from."""
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
    """The limit of that time and its warning: in a longer gap the Pod was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """What waiting and a false stop cost."""

    usd_per_hour: float
    restart_usd: float
    """Of a stop before the person comes back: see `restart_usd`."""
    least_s: float
    most_s: float
    """The bounds that the owner set to the limit."""
    warn_s: float = 0.0
    """From the limit to the stop."""

    @property
    def restart_s(self) -> float:
        """How long waiting takes to cost as much as a restart: the break-even. One that costs nothing counts as 1 s."""
        return max(1.0, self.restart_usd / self.usd_per_hour * 3600.0)

    @property
    def break_even_s(self) -> float:
        """The limit with which the stop comes at the break-even, or as near to it as the owner allows."""
        return self.within_bounds(self.restart_s - self.warn_s)

    @property
    def times(self) -> float:
        """
        How many times hindsight the break-even pays at worst: 2.

        More, where the owner's bounds keep the stop away from it.
        """
        wait_s = self.break_even_s + self.warn_s
        return 1 + max(wait_s, self.restart_s) / min(wait_s, self.restart_s)

    def within_bounds(self, limit_s: float) -> float:
        """The nearest limit that the owner allows."""
        return min(self.most_s, max(self.least_s, limit_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait now before the warning, and why in one sentence."""

    wait_s: float
    why: str


def restart_usd(*, usd_per_hour: float, takes_s: float, person_usd_per_hour: float, unlucky: float) -> float:
    """
    Return what a false stop costs: restart and reload, in which the Pod bills and its person waits.

    `unlucky` is the chance that the Pod comes back without its GPUs; finding another then takes that person an hour.
    """
    hours = takes_s / 3600.0
    return hours * (usd_per_hour + person_usd_per_hour) + unlucky * person_usd_per_hour


def cost_s(lasted_s: float, waited_s: float, restart_s: float) -> float:
    """What a gap costs, in seconds of the Pod's price: the waiting, and a restart where it was stopped."""
    return lasted_s if lasted_s <= waited_s else waited_s + restart_s


def hindsight_s(lasted_s: float, restart_s: float) -> float:
    """What it costs whoever knows how long it lasts: to wait it out, or to stop at once."""
    return min(lasted_s, restart_s)


def slack_s(gaps: Iterable[Gap], stakes: Stakes) -> float:
    """What the bound leaves over, after what was really waited."""
    restart_s, times = stakes.restart_s, stakes.times
    return sum(
        times * hindsight_s(gap.lasted_s, restart_s) - cost_s(gap.lasted_s, gap.waited_s, restart_s) for gap in gaps
    )


def affordable(limit_s: float, slack: float, stakes: Stakes) -> bool:
    """
    Whether the worst gap that can come still keeps the bound.

    With a wait of at most the break-even the worst gap ends right after the stop, and hindsight would have waited it
    out; with a longer one hindsight would have stopped at once.
    """
    wait_s, restart_s = limit_s + stakes.warn_s, stakes.restart_s
    return wait_s + restart_s <= stakes.times * min(wait_s, restart_s) + slack


def patience(gaps: Sequence[Gap], stakes: Stakes, now_s: float) -> Patience:
    """Return how long to wait in a gap that begins at `now_s`, seconds since 1970."""
    even_s = stakes.break_even_s
    counted = [gap for gap in gaps if gap.lasted_s >= SHORTEST_GAP_S]
    days = len({int(gap.began_s // _DAY_S) for gap in counted})
    if len(counted) < ENOUGH_GAPS or days < ENOUGH_DAYS:
        return Patience(wait_s=even_s, why=_few(len(counted), days, stakes))
    alike = _alike(counted, now_s)
    best_s = _cheapest(alike, stakes)
    if best_s == even_s:
        return Patience(wait_s=even_s, why=f"no other limit would have been clearly cheaper so far; {_even(stakes)}")
    if not affordable(best_s, slack_s(gaps, stakes), stakes):
        return Patience(wait_s=even_s, why=_unpaid(best_s, stakes))
    return Patience(wait_s=best_s, why=_said(alike, best_s, stakes))


def without_price(wait_s: float) -> Patience:
    """What is waited for, and why, as long as nothing can be weighed."""
    unknown = "the price of this Pod is not known (IDLEWATCH_USD_PER_HOUR sets it), and without it nothing is weighed"
    return Patience(wait_s=wait_s, why=f"{unknown}; until then it is {format_duration(wait_s)}")


def _unpaid(limit_s: float, stakes: Stakes) -> str:
    limit = format_duration(limit_s)
    return f"guesses have cost too much lately to risk a limit of {limit}; {_even(stakes)}"


def _few(count: int, days: int, stakes: Stakes) -> str:
    known = f"{count} gap{'' if count == 1 else 's'} on {days} day{'' if days == 1 else 's'}"
    return f"{known} are too few to learn from, {ENOUGH_GAPS} on {ENOUGH_DAYS} are needed; {_even(stakes)}"


def _even(stakes: Stakes) -> str:
    restart, even = format_duration(stakes.restart_s), format_duration(stakes.break_even_s)
    return f"a restart costs as much as {restart} of waiting, so the limit is {even}"


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
    """The limit that would have cost least over these gaps, if clearly; the cost only changes where a gap ends."""

    def cost(limit_s: float) -> float:
        return sum(cost_s(gap.lasted_s, limit_s + stakes.warn_s, stakes.restart_s) for gap in gaps)

    ends = {stakes.within_bounds(gap.lasted_s + 1.0 - stakes.warn_s) for gap in gaps}
    best_s = min(sorted({stakes.least_s, *ends}), key=cost)
    return best_s if cost(best_s) < (1 - CLEARLY) * cost(stakes.break_even_s) else stakes.break_even_s


def _said(gaps: Sequence[Gap], limit_s: float, stakes: Stakes) -> str:
    wait_s = limit_s + stakes.warn_s
    back = sum(gap.lasted_s <= wait_s for gap in gaps)
    share, wait = f"{back} of {len(gaps)}", format_duration(wait_s)
    later = sorted(gap.lasted_s for gap in gaps if gap.lasted_s > wait_s)
    rest = f", the others after {format_duration(later[len(later) // 2])} or so" if later else ""
    warned = f", the warning {format_duration(stakes.warn_s)} before" if stakes.warn_s else ""
    return f"at this time of day you came back within {wait} in {share} gaps{rest}; so the stop comes then{warned}"
