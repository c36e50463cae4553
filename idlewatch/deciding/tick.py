"""What one pass over everything came to: the word that the daemon's loop has for all who hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import State
from idlewatch.model import Alarm, Decision, Finding, Outcome, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """All that one pass saw and decided."""

    moment: Moment
    readings: Sequence[Reading]
    findings: Sequence[Finding]
    decision: Decision
    state: State
    outcome: Outcome | None
    alarms: Sequence[Alarm]
    """What people must hear, from the outcome and from the decision."""


def longest_gap_s(interval_s: float) -> float:
    """How far apart two ticks may be: a late one is no hole, and no sign that nobody watches any more."""
    return 3 * interval_s + 5.0
