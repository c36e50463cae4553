"""
Verdicts over time: each signal's finding, told as spans in which it stayed the same.

Pure. Spans are what the timeline, `why` and the report are drawn from: a day of ticks is a few hundred of them. From
them findings can be made again, so that the policy can be asked what it would have done without one of the signals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from idlewatch.deciding import policy, remembered
from idlewatch.deciding.moment import Moment
from idlewatch.model import Action, Activity, Finding, Hold, Limits, Outcome

HOLD = "hold"
"""The name under which holds are told beside the signals; their verdict is `held`."""
HELD = "held"
_STEP_S = 30.0
_SAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Span:
    """One verdict and how long it stood; instants are CLOCK_BOOTTIME seconds."""

    name: str
    from_s: float
    to_s: float
    verdict: str
    """An `Activity`, or `held`."""
    bars: bool = False
    pauses: bool = False
    refines: bool = False
    reason: str = ""
    """The newest reason of the span."""


def extended(
    standing: Mapping[str, Span], findings: Iterable[Finding], holds: Sequence[Hold], now_s: float, longest_gap_s: float
) -> dict[str, Span]:
    """
    Return the spans that stand after one tick, by name: made longer where the verdict stayed, else begun anew.

    A stretch of more than `longest_gap_s` without a tick is in no span.
    """
    told = [_of_finding(finding, now_s) for finding in findings]
    if holds:
        who = "; ".join(f"{hold.who}: {hold.reason or 'no reason given'}" for hold in holds)
        told.append(Span(HOLD, now_s, now_s, HELD, reason=who))
    return {span.name: _joined(standing.get(span.name), span, now_s, longest_gap_s) for span in told}


def _of_finding(finding: Finding, now_s: float) -> Span:
    return Span(
        finding.signal,
        now_s,
        now_s,
        finding.activity.value,
        finding.bars,
        finding.pauses,
        finding.refines,
        finding.reason,
    )


def _joined(before: Span | None, span: Span, now_s: float, longest_gap_s: float) -> Span:
    if before is None or now_s - before.to_s > longest_gap_s:
        return span
    from_s = before.from_s if _kind(before) == _kind(span) else before.to_s
    return Span(span.name, from_s, span.to_s, span.verdict, span.bars, span.pauses, span.refines, span.reason)


def _kind(span: Span) -> tuple[object, ...]:
    return span.verdict, span.bars, span.pauses, span.refines


def would_have_stopped_s(spans: Sequence[Span], limits: Limits, started_s: float, without: str) -> float | None:
    """
    When the policy would have stopped this Pod without what one signal (or the holds) said; None: not by now.

    `spans` are those of the time to look at, sorted by their beginning. Accurate to about half a minute.
    """
    kept = [span for span in spans if span.name != without]
    if not kept:
        return None
    now_s, end_s = min(span.from_s for span in kept), max(span.to_s for span in spans)
    state = remembered.started(now_s)
    while now_s < end_s:
        now_s = min(end_s, now_s + _STEP_S)
        found, holds = found_over(kept, now_s - _STEP_S, now_s)
        state, decision = policy.decide(
            state, found, Moment(now_s=now_s, uptime_s=now_s - started_s, holds=holds), limits
        )
        if decision.action is Action.STOP:
            return now_s
        if decision.action is Action.SAVE:
            saved = Outcome(action=Action.SAVE, ok=True, reason="", save_began_s=now_s)
            state, _ = policy.after_outcome(state, saved, now_s + _SAVE_S, limits)
    return None


def found_over(spans: Sequence[Span], from_s: float, to_s: float) -> tuple[list[Finding], list[Hold]]:
    """What was found over a step, as a tick at its end would have been told it; the strongest where it changed."""
    there = [span for span in spans if span.from_s < to_s and span.to_s > from_s]
    holds = [Hold(id=HOLD, who=span.reason, reason="", until_s=span.to_s) for span in there if span.verdict == HELD]
    by_name: dict[str, list[Span]] = {}
    for span in there:
        if span.verdict != HELD:
            by_name.setdefault(span.name, []).append(span)
    return [_found(several, from_s, to_s) for several in by_name.values()], holds


_STRENGTH = [Activity.ABSENT, Activity.QUIET, Activity.UNKNOWN, Activity.ACTIVE]


def _found(several: Sequence[Span], from_s: float, to_s: float) -> Finding:
    span = several[0]
    if len(several) > 1:
        span = max(several, key=lambda one: _STRENGTH.index(Activity(one.verdict)))
    return Finding(
        signal=span.name,
        activity=Activity(span.verdict),
        reason=span.reason,
        seen_from_s=max(span.from_s, from_s),
        seen_to_s=min(span.to_s, to_s),
        evidence_s=min(span.to_s, to_s) if span.verdict == Activity.ACTIVE else None,
        bars=any(one.bars for one in several),
        pauses=span.pauses,
        refines=span.refines,
    )
