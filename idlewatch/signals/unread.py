"""The verdict on a reading that saw nothing: the same for every signal."""

from __future__ import annotations

from idlewatch.model import FIRST_READING, Activity, Finding, Reading


def unread(reading: Reading) -> Finding | None:
    """ABSENT where that is proven, UNKNOWN where it could not be had; None: there are facts to judge."""
    if reading.absent is not None:
        return Finding(signal=reading.signal, activity=Activity.ABSENT, reason=reading.absent)
    if reading.error is not None:
        return Finding(signal=reading.signal, activity=Activity.UNKNOWN, reason=reading.error)
    return None


def covers_nothing(reading: Reading) -> Finding | None:
    """The same, and UNKNOWN for a first look at counters, which only a second one makes a span of."""
    if reading.covers_s <= 0:
        return unread(reading) or Finding(signal=reading.signal, activity=Activity.UNKNOWN, reason=FIRST_READING)
    return unread(reading)
