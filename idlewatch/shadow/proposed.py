"""
Which of the settings that were tried are worth a word. Pure.

    better   the most dollars more, with no more stops than now of any Pod that was in use, or soon was again
    bolder   more dollars than that, also after its restarts are paid; how many stops more is said with it
    kinder   fewer stops of a Pod in use than now; what that costs is said with it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idlewatch.durations import format_duration
from idlewatch.shadow.tried import Shadow, Tried

BETTER, BOLDER, KINDER = "better", "bolder", "kinder"
_LEAST_SHARE = 0.01
"""Of the time that the Pod was up: to gain less is no reason to change anything."""
_LEAST_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One setting, and what must be known of it."""

    kind: str
    """`better`, `bolder` or `kinder`."""
    tried: Tried
    text: str
    """In one sentence, with its stops in use wherever there are more than now."""


def proposals(shadow: Shadow) -> list[Proposal]:
    """At most one of each kind, the safest first; none where the settings of now do as well."""
    least_s = max(_LEAST_S, _LEAST_SHARE * shadow.up_s)
    gaining = [one for one in shadow.tried if one.more_s >= least_s]
    harmless = [one for one in gaining if one.more_working <= 0 and one.more_too_soon <= 0]
    better = max(harmless, key=lambda one: one.more_s, default=None)
    bolder = max(gaining, key=lambda one: _net_s(one, shadow), default=None)
    found = [(BETTER, better)] if better else []
    if bolder and bolder not in harmless and _net_s(bolder, shadow) > (better.more_s if better else 0.0):
        found.append((BOLDER, bolder))
    kinder = _kinder(shadow.tried)
    if kinder and (better is None or kinder.more_working < better.more_working):
        found.append((KINDER, kinder))
    return [Proposal(kind=kind, tried=one, text=_sentence(one, shadow)) for kind, one in found]


def _net_s(one: Tried, shadow: Shadow) -> float:
    """What it gains after the restarts of its stops that came too early, in seconds of the Pod's price."""
    if not shadow.usd_per_hour:
        return float("-inf") if one.more_working + one.more_too_soon > 0 else one.more_s
    restarts = max(0, one.more_working) + max(0, one.more_too_soon)
    return one.more_s - restarts * shadow.restart_usd / shadow.usd_per_hour * 3600.0


def _kinder(tried: Sequence[Tried]) -> Tried | None:
    """The fewest stops in use, and of those the cheapest."""
    fewer = [one for one in tried if one.more_working < 0 and one.more_too_soon <= 0]
    return min(fewer, key=lambda one: (one.more_working, -one.more_s), default=None)


def _sentence(one: Tried, shadow: Shadow) -> str:
    usd, span = shadow.usd(abs(one.more_s)), format_duration(abs(one.more_s))
    saved = f"${usd:,.2f} ({span} of billing)" if usd is not None else f"{span} of billing"
    gained = "more" if one.more_s >= 0 else "less"
    working = _times(one.more_working, "while you were working")
    too_soon = _times(one.more_too_soon, "within the hour before you came back")
    return f"with {one.other.words} you would have saved {saved} {gained}, and been stopped {working} and {too_soon}"


def _times(count: int, when: str) -> str:
    if not count:
        return f"as often as now {when}"
    times = {1: "once", 2: "twice"}.get(abs(count), f"{abs(count)} times")
    return f"{times} {'more' if count > 0 else 'less'} {when}"
