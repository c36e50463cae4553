"""
Whether the quiet time was seen well enough: unknown is never idle, and what was hardly looked at is not known.

Pure. A stop for idleness asks twice: before the warning, and with the last look's fresh readings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from idlewatch.deciding import clock as idle_clock
from idlewatch.deciding import troubles as trouble
from idlewatch.deciding.asked_work import ASKED_TAIL_S
from idlewatch.deciding.given import Given
from idlewatch.deciding.remembered import State
from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding

LEAST_COVERAGE = 0.8
"""Share of the time since the clock's zero that each present signal must have seen."""
LAST_LOOK_S = 60.0
"""Every signal must have been seen quiet for this long, up to a reading newer than the save."""


def unseen(state: State, given: Given) -> str | None:
    """Why the quiet time does not count, where it does not."""
    present = [f for f in given.findings if f.activity is not Activity.ABSENT]
    ground = [f for f in present if not f.refines]
    if not ground:
        return "neither gpu nor host sees this Pod: unknown is never idle"
    waits_for = given.limits.connected_for_s
    unknown = [
        f for f in present if f.activity is Activity.UNKNOWN and trouble.still_waited_for(state.blind, f, waits_for)
    ]
    if unknown:
        return _unknowns(unknown)
    if idle_clock.idle_for_s(state.clock) < given.idle_after_s:
        return None
    for finding in ground:
        share = idle_clock.coverage(state.clock, finding.signal, given.moment.now_s)
        if share < LEAST_COVERAGE:
            seen = math.floor(share * 100)  # 79.9 is not enough, and 80 % would not say so
            return f"{finding.signal} saw only {seen}% of the quiet time; a stop needs {LEAST_COVERAGE:.0%}"
    return None


def _unknowns(unknown: Sequence[Finding]) -> str:
    """What can't be seen and why; signals with the same reason are named together."""
    names: dict[str, list[str]] = {}
    for finding in unknown:
        names.setdefault(finding.reason, []).append(finding.signal)
    return "; ".join(f"{', '.join(signals)} unknown: {reason}" for reason, signals in names.items())


def unsure(state: State, given: Given) -> str | None:
    """What the last look still has to see."""
    missing = unseen(state, given)
    if missing:
        return missing
    least_s = min(LAST_LOOK_S, given.idle_after_s)
    asked = given.moment.asked  # what hid behind the work of asked programs must have had its chance to show
    look_from_s = state.look_from_s if asked is None else max(state.look_from_s, asked[1] + ASKED_TAIL_S)
    for finding in given.findings:
        if finding.activity in (Activity.ABSENT, Activity.UNKNOWN):  # an unknown one that is waited for: see `unseen`
            continue
        if finding.seen_to_s <= look_from_s:
            return f"waiting for a fresh reading of {finding.signal}"
        if finding.pauses:
            return f"{finding.signal} is busy at this moment"
        if finding.refines:
            continue
        if idle_clock.seen_through_s(state.clock, finding.signal) < least_s:
            return f"{finding.signal} not seen quiet for the last {format_duration(least_s)}"
    return None
