"""What is true at one instant beside the signals' findings: holds, requests, money, uptime, working hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from idlewatch.model import Hold, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """A person's `idlewatch stop`."""

    who: str
    warn_for_s: float
    asked_s: float = 0.0
    """When it was asked for, CLOCK_BOOTTIME seconds; tells two requests of one person apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is true now, beside the findings."""

    now_s: float
    uptime_s: float
    holds: Sequence[Hold] = ()
    request: StopRequest | None = None
    spent_usd: float | None = None
    """Cost of this start so far; None where the price is not known."""
    usd_per_hour: float | None = None
    refusal: str | None = None
    """Why this Pod must not or can't be stopped, known beforehand."""
    working: bool = False
    """Whether these are the owner's working hours."""
    learned_idle_after_s: float | None = None
    """The idle limit of this gap, where it is learned; else that of the limits holds."""
    learned_why: str | None = None
    """Why it is that long, in one sentence."""
    asked: tuple[float, float] | None = None
    """The newest span in which programs in the Pod were asked for a checkpoint, CLOCK_BOOTTIME; None: never."""
    troubles: Mapping[str, str | None] = field(default_factory=dict)
    """Troubles that others found, name -> text; None: that one is over."""
    observing: bool = False
    """Whether nothing of what is decided is done; then it is said as what would be."""


def idle_after_s(moment: Moment, limits: Limits) -> float:
    """Return the quiet time that is asked for now; 0: idleness stops nothing."""
    if moment.working:
        return limits.working_idle_after_s
    return limits.idle_after_s if moment.learned_idle_after_s is None else moment.learned_idle_after_s
