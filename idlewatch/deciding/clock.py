"""
The idle clock: how long the Pod has been seen to be quiet.

Pure. It keeps, for each signal, up to when it was seen and the spans since the clock's zero that were not; all
else follows. Time counts as idle only where *every* present ground signal saw it and no signal saw activity (what a
refining signal did not see is the policy's business: it bars for a while). A reading that
comes late may cover the time before it (a counter's difference does), so time is never counted in ticks, and a
reading that is handed over twice changes nothing. A refining signal that saw nothing for longer than the limit, and
whose next reading does not tell of that time, begins it anew: what it would have seen there is not known.

    zero ─────────seen─────────┤ gap ├────seen────┤ not seen yet ├ now
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from idlewatch.model import Activity, Finding

Span = tuple[float, float]

_JITTER_S = 0.05
"""Two readings nearer than this are contiguous: they come from clocks read in two processes."""
_MOST_GAPS = 128
"""Per signal; beyond it the nearest two become one, which can only make the clock slower."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one signal has seen since the clock's zero."""

    until_s: float
    gaps: tuple[Span, ...] = ()
    """Spans before `until_s` that it did not see, or that it saw and that do not count as quiet; sorted."""


@dataclass(frozen=True, slots=True)
class IdleClock:
    """The clock's whole memory; CLOCK_BOOTTIME seconds."""

    zero_s: float
    """Instant of the newest evidence, or of the start of watching."""
    looked_s: float
    """The last tick."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    refined_to_s: Mapping[str, float] = field(default_factory=dict)
    """Refining signal -> up to when it was seen."""


def started(now_s: float) -> IdleClock:
    """A clock at 0."""
    return IdleClock(now_s, now_s)


def advanced(
    clock: IdleClock, findings: Iterable[Finding], now_s: float, blind_limit_s: float, aside: Container[str] = ()
) -> IdleClock:
    """Return the clock after one tick's findings; `aside`: refining signals that are not waited for any more."""
    findings = list(findings)
    ground = [f for f in findings if not f.refines]
    nobody_looks = all(f.activity is Activity.ABSENT for f in ground)
    seen = {f.signal: clock.seen.get(f.signal, Seen(clock.zero_s)) for f in ground}
    if not nobody_looks:
        seen = {f.signal: _seen_more(seen[f.signal], f, (clock.looked_s, now_s)) for f in ground}
    zero_s = max([clock.zero_s, *_evidence(findings, now_s)])
    if now_s - clock.looked_s > blind_limit_s:
        zero_s = now_s
    zero_s = max([zero_s, *(_blind_end(one, now_s, blind_limit_s) for one in seen.values())])
    sights = {f.signal: _sight(clock, f, now_s) for f in findings if f.refines}
    back = (from_s for name, (to_s, from_s, _) in sights.items() if name not in aside and from_s - to_s > blind_limit_s)
    zero_s = max([zero_s, *back])
    refined = {name: to_s for name, (_, _, to_s) in sights.items()}
    return IdleClock(zero_s, now_s, {name: _since(one, zero_s) for name, one in seen.items()}, refined)


def idle_for_s(clock: IdleClock) -> float:
    """Seconds since the clock's zero that every signal saw and none saw activity in; 0 where nothing was seen."""
    if not clock.seen:
        return 0.0
    until_s = min(one.until_s for one in clock.seen.values())
    gaps = _union(gap for one in clock.seen.values() for gap in one.gaps)
    if not gaps:
        return max(0.0, until_s - clock.zero_s)
    missed = sum(max(0.0, min(end, until_s) - start) for start, end in gaps)
    return max(0.0, until_s - clock.zero_s - missed)


def unseen_s(clock: IdleClock, signal: str, now_s: float) -> float:
    """Seconds since the clock's zero that `signal` has not seen."""
    one = clock.seen[signal]
    return sum(end - start for start, end in one.gaps) + max(0.0, now_s - one.until_s)


def coverage(clock: IdleClock, signal: str, now_s: float) -> float:
    """Share of the time since the clock's zero that `signal` saw, 0 to 1."""
    span_s = now_s - clock.zero_s
    return 1.0 if span_s <= 0 else 1.0 - unseen_s(clock, signal, now_s) / span_s


def seen_through_s(clock: IdleClock, signal: str) -> float:
    """Seconds up to its newest reading that `signal` saw without a gap."""
    one = clock.seen[signal]
    return one.until_s - (one.gaps[-1][1] if one.gaps else clock.zero_s)


def _seen_more(one: Seen, finding: Finding, tick: Span) -> Seen:
    if finding.activity is Activity.UNKNOWN:
        return one
    proven_absent = finding.activity is Activity.ABSENT
    from_s, to_s = tick if proven_absent else (finding.seen_from_s, min(finding.seen_to_s, tick[1]))
    if to_s <= one.until_s:
        return one
    counts_from_s = to_s if finding.pauses else max(from_s, one.until_s)
    return Seen(to_s, _with_gap(one.gaps, (one.until_s, counts_from_s)))


def _sight(clock: IdleClock, finding: Finding, now_s: float) -> tuple[float, float, float]:
    """Up to when a refining signal had seen; from and up to when it sees now, both the same where it sees no more."""
    before_s = clock.refined_to_s.get(finding.signal, clock.zero_s)
    span = clock.looked_s, now_s
    if finding.activity is not Activity.ABSENT:
        span = finding.seen_from_s, min(finding.seen_to_s, now_s)
    if finding.activity is Activity.UNKNOWN or span[1] <= before_s:
        return before_s, before_s, before_s
    return before_s, max(span[0], before_s), span[1]


def _with_gap(gaps: tuple[Span, ...], gap: Span) -> tuple[Span, ...]:
    start, end = gap
    if end - start <= _JITTER_S:
        return gaps
    if gaps and start - gaps[-1][1] <= _JITTER_S:
        return (*gaps[:-1], (gaps[-1][0], end))
    gaps = (*gaps, gap)
    if len(gaps) <= _MOST_GAPS:
        return gaps
    nearest = min(range(1, len(gaps)), key=lambda i: gaps[i][0] - gaps[i - 1][1])
    return (*gaps[: nearest - 1], (gaps[nearest - 1][0], gaps[nearest][1]), *gaps[nearest + 1 :])


def _evidence(findings: Iterable[Finding], now_s: float) -> list[float]:
    active = (f for f in findings if f.activity is Activity.ACTIVE)
    return [min(now_s, now_s if f.evidence_s is None else f.evidence_s) for f in active]


def _blind_end(one: Seen, now_s: float, blind_limit_s: float) -> float:
    """End of the newest span that was not seen for longer than the limit; before any zero where there is none."""
    if now_s - one.until_s > blind_limit_s:
        return now_s
    return max((end for start, end in one.gaps if end - start > blind_limit_s), default=float("-inf"))


def _since(one: Seen, zero_s: float) -> Seen:
    gaps = tuple((max(start, zero_s), end) for start, end in one.gaps if end > zero_s)
    return Seen(max(one.until_s, zero_s), gaps)


def _union(gaps: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(gaps):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
