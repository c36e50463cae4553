"""What has gone through one connection: is it more than its own hum, and does the peer still answer?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from idlewatch.model import Json

FLOOR_BYTES_PER_S = 200.0
"""Payload from the client above the connection's own median that is a person's: an editor left open sends one small
message each 5 s."""
MEDIAN_MAX_BYTES_PER_S = 1000.0
"""A hum is at most this loud; above it is work, however steady (an upload for an hour would be its own median)."""
STUCK_S = 120.0
"""A peer that acknowledges none of what waits for it for so long is gone."""
_SAMPLES = 40
_FEWEST_SAMPLES = 2
"""The first two looks at a connection hold its handshake and what an editor sends to take up where it was: a
reconnect is no sign."""
_LAST_FEW, _OF_THEM = 4, 2
"""So many of the last looks must stand out: a new key exchange each hour (PuTTY) is one burst of 3 kB, a person's
work is many."""

Facts: TypeAlias = Mapping[str, Json]
"""One object of a reading."""


@dataclass(slots=True)
class Flow:
    """What has gone through one connection."""

    at_s: float
    received: float | None
    acked: float | None
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    stands_out: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST_FEW))
    stuck_from_s: float | None = None

    def add(self, at_s: float, one: Facts) -> float | None:
        """Take in the next look; return the client's bytes a second where they are a person's."""
        received, acked = number_or_none(one["received_bytes"]), number_or_none(one["acked_bytes"])
        rate = None
        if received is not None and self.received is not None and at_s > self.at_s:
            rate = (received - self.received) / (at_s - self.at_s)
        self._progress(acked, one)
        self.at_s, self.received, self.acked = at_s, received, acked
        return None if rate is None else self._judged(rate)

    def _judged(self, rate: float) -> float | None:
        limit = FLOOR_BYTES_PER_S + min(MEDIAN_MAX_BYTES_PER_S, median(self.rates or [0.0]))
        stands_out = len(self.rates) >= _FEWEST_SAMPLES and rate > limit
        self.rates.append(rate)
        self.stands_out.append(stands_out)
        return rate if stands_out and sum(self.stands_out) >= _OF_THEM else None

    def _progress(self, acked: float | None, one: Facts) -> None:
        waits = bool(number_or_none(one["queued_bytes"]))
        if acked is None:
            waits = waits and bool(number_or_none(one["retransmits"]))
        if not waits or acked != self.acked:
            self.stuck_from_s = None
        elif self.stuck_from_s is None:
            self.stuck_from_s = self.at_s

    @property
    def is_live(self) -> bool:
        """Whether the peer still answers, as far as the kernel can tell."""
        return self.stuck_from_s is None or self.at_s - self.stuck_from_s < STUCK_S


def number(value: Json) -> float:
    """Return a fact as a number. Raises TypeError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def number_or_none(value: Json) -> float | None:
    """Return a fact as a number, or None where it is not known. Raises TypeError where it is something else."""
    return None if value is None else number(value)
