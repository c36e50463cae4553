"""
What is left of a sample ring after the rows that drivers get wrong.

Runs in the child process, so it imports next to nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HIGHEST_PCT = 100


def cleaned(rows: list[tuple[int, int]], newest_us: int) -> list[tuple[int, int]]:
    """
    The rows (time stamp in µs, percent) that are newer than `newest_us`, in order of time, one for each instant.

    nvmlDeviceGetSamples promises no order, and drivers return rows without a time stamp and values above 100
    (seen by nvidia-smi's own negative duration, and by other readers that filter them). Of two values for one
    instant the higher is kept: an error may keep a Pod up, never stop it.
    """
    best: dict[int, int] = {}
    for at_us, value in rows:
        if at_us > newest_us and at_us > 0 and 0 <= value <= HIGHEST_PCT:
            best[at_us] = max(value, best.get(at_us, 0))
    return sorted(best.items())


def span_s(rows: list[tuple[int, int]]) -> float:
    """Seconds between the oldest and the newest of cleaned rows."""
    return (rows[-1][0] - rows[0][0]) / 1e6 if rows else 0.0


def two_highest(values: Sequence[float]) -> tuple[float, float]:
    """The highest value and the next one (0 where there is none): one busy sample alone may be a false reading."""
    top = sorted(values, reverse=True)[:2]
    return top[0], top[1] if len(top) > 1 else 0


def period_s(rows: list[tuple[int, int]]) -> float | None:
    """Seconds between two samples, the median of cleaned rows; None below two rows."""
    gaps = sorted(after - before for (before, _), (after, _) in pairwise(rows))
    return gaps[len(gaps) // 2] / 1e6 if gaps else None
