"""
What has gone through one connection: is it more than its own hum, and does the peer still answer?

Two ways to stand out of the hum. *A burst*: `BURST_BYTES` within a few seconds are a person's at once, wherever the
looks fall into them. *A stretch*: two of the last four looks above the floor, for whoever sends less at a time.
What an editor sends by itself stays below both: a message of 13 bytes each 5 s (VS Code's HeaderLength and
KeepAliveSendTime, vscode: src/vs/base/parts/ipc/common/ipc.net.ts), 52 bytes once SSH has wrapped it, and a new key
exchange each hour: 2,780 bytes from the client, the lone burst of an idle connection (both measured with OpenSSH 9.2
and its post-quantum default; an hour is RFC 4253's advice, section 9, and PuTTY's default).

A page that reloads itself (TensorBoard, Grafana) stands out each time, and evenly: no person does that for hours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from idlewatch.model import Json

FLOOR_BYTES_PER_S = 200.0
"""Payload from the client above the connection's own median that is a person's."""
HUM_MAX_BYTES_PER_S = 1000.0
"""A hum is at most this loud; above it is work, however steady (an upload for an hour would be its own median)."""
STUCK_S = 120.0
"""A peer that acknowledges none of what waits for it for so long is gone."""
BURST_BYTES = 6000.0
"""From the client above the hum within the newest two looks: the floor over 30 s, and twice a key exchange. Its hum is
the lower quartile of an hour: the median of who types for 15 s of each minute is their typing, torn in two by looks."""
BURST_LOOK_S = 25.0
"""Where looks are short, all that ended so long ago belong to a burst: then one of 10 s is never torn apart."""
_LONG_LOOKS_S = 120.0
"""Where the newest two looks took longer, a burst must be larger in proportion: a hum is never that even."""
_SAMPLES, _RECENT_SAMPLES = 240, 40
"""Looks that are remembered: an hour's and ten minutes'."""
_FEWEST_SAMPLES = 2
"""The first two looks at a connection hold its handshake and what an editor sends to take up where it was: a
reconnect is no sign."""
_LEAST_LOOK_S = 15.0
"""A shorter look must hold as much as one of these to stand out: else a key exchange torn in two would be a stretch."""
_LAST_FEW, _OF_THEM = 4, 2
"""Of a stretch, so many of the last looks must stand out: a key exchange can stand out in one."""
_EVEN_LOOKS, _EVEN_LEAST_S = 2, 5.0
"""Gaps that differ by no more than two looks, and some jitter, are even: each end of a gap falls into some look."""
_EVEN_FOR_S, _EVEN_GAPS = 3 * 3600.0, 12
"""So long, and so often, does no person stand out evenly."""
PAGE_BURST_BYTES = 3000.0
"""The burst of a page: two or three requests of a browser, of 1 to 2 kB each behind a proxy. A scrape has 400 bytes, a
health poll 300, a scanner's knock less."""
PAGE_HUM_MAX_BYTES_PER_S = 5000.0
"""What comes to a port from several machines may be louder than one connection: health polls of many monitors."""
_SETTLES_S, _SETTLES_LOOKS = 120.0, 4
"""So long is a port's hum learned before anything that came to it is judged: polls begin without one, too."""

Facts: TypeAlias = Mapping[str, Json]
"""One object of a reading."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What came from the client in one look."""

    at_s: float
    span_s: float
    count: float


@dataclass(slots=True)
class _Gaps:
    """How even the gaps are between what stood out; what stands out in looks on end is one."""

    from_s: float | None = None
    last_s: float = 0.0
    least_s: float = math.inf
    most_s: float = 0.0
    count: int = 0
    goes_on: bool = False

    def add(self, look: _Look, *, stands_out: bool) -> None:
        """Take in the next look."""
        begins, self.goes_on = stands_out and not self.goes_on, stands_out
        if not begins:
            return
        gap_s = look.at_s - self.last_s
        least_s, most_s = min(self.least_s, gap_s), max(self.most_s, gap_s)
        if self.from_s is None:
            self.from_s = look.at_s
        elif most_s - least_s <= _EVEN_LOOKS * look.span_s + _EVEN_LEAST_S:
            self.least_s, self.most_s, self.count = least_s, most_s, self.count + 1
        else:
            self.from_s, self.least_s, self.most_s, self.count = self.last_s, gap_s, gap_s, 1
        self.last_s = look.at_s

    @property
    def even(self) -> bool:
        return self.from_s is not None and self.count >= _EVEN_GAPS and self.last_s - self.from_s >= _EVEN_FOR_S


@dataclass(slots=True)
class Flow:
    """What has gone through one connection."""

    at_s: float
    received: float | None
    acked: float | None
    of_port: bool = False
    """All that comes to one port of a page, and not one connection."""
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    stands_out: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST_FEW))
    newest: deque[_Look] = field(default_factory=deque)
    """Looks that a burst may still lie in, the oldest first."""
    unsettled: list[_Look] | None = field(default_factory=list)
    """Of a port, the looks until its hum is known; None from then on."""
    stuck_from_s: float | None = None
    gaps: _Gaps = field(default_factory=_Gaps)

    def add(self, at_s: float, one: Facts) -> float | None:
        """Take in the next look; return the client's bytes a second where they are a person's."""
        received, acked = number_or_none(one["received_bytes"]), number_or_none(one["acked_bytes"])
        look = None
        if received is not None and self.received is not None and at_s > self.at_s:
            look = _Look(at_s, at_s - self.at_s, received - self.received)
        self._progress(acked, one)
        self.at_s, self.received, self.acked = at_s, received, acked
        rate = None if look is None else self._judged(look)
        if look is not None:
            self.gaps.add(look, stands_out=rate is not None)
        return rate

    def _judged(self, look: _Look) -> float | None:
        if self.of_port and self.unsettled is not None:
            return self._settled(self.unsettled, look)
        is_known, rate = len(self.rates) >= _FEWEST_SAMPLES, look.count / look.span_s
        floor = FLOOR_BYTES_PER_S * max(1.0, _LEAST_LOOK_S / look.span_s)
        stands_out = is_known and rate > floor + self._steady()
        burst = self._burst(look) if is_known else None
        self.rates.append(rate)
        self.stands_out.append(stands_out)
        return rate if stands_out and sum(self.stands_out) >= _OF_THEM else burst

    def _settled(self, looks: list[_Look], look: _Look) -> float | None:
        looks.append(look)
        self.rates.append(look.count / look.span_s)
        if len(looks) < _SETTLES_LOOKS or look.at_s - looks[0].at_s + looks[0].span_s < _SETTLES_S:
            return None
        self.unsettled = None
        return next((rate for each in looks if (rate := self._burst(each)) is not None), None)

    @property
    def _hum_max(self) -> float:
        return PAGE_HUM_MAX_BYTES_PER_S if self.of_port else HUM_MAX_BYTES_PER_S

    def _steady(self) -> float:
        """The hum of a stretch: what is so for ten minutes is none of a person's."""
        return min(self._hum_max, median(list(self.rates)[-_RECENT_SAMPLES:]))

    def _least(self) -> float:
        """The hum of a burst: what goes through whether somebody types or not."""
        return min(self._hum_max, sorted(self.rates)[len(self.rates) // 4])

    def _burst(self, look: _Look) -> float | None:
        """Return the bytes a second of a burst that the newest look completes; what was one is not counted again."""
        self.newest.append(look)
        while len(self.newest) > 2 and self.newest[0].at_s <= look.at_s - BURST_LOOK_S:
            self.newest.popleft()
        burst_bytes = PAGE_BURST_BYTES if self.of_port else BURST_BYTES
        hum, span_s, count = self._least(), 0.0, 0.0
        for each in reversed(self.newest):
            span_s, count = span_s + each.span_s, count + each.count
            if count - hum * span_s >= burst_bytes * max(1.0, span_s / _LONG_LOOKS_S):
                self.newest.clear()
                return count / span_s
        return None

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

    @property
    def is_even(self) -> bool:
        """Whether what stands out has come so evenly for so long that it is no person's."""
        return self.gaps.even


def number(value: Json) -> float:
    """Return a fact as a number. Raises TypeError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def number_or_none(value: Json) -> float | None:
    """Return a fact as a number, or None where it is not known. Raises TypeError where it is something else."""
    return None if value is None else number(value)
