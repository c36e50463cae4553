"""
The last minutes of this Pod's CPU, network, disk and memory, and what stands out in them. Pure: no I/O, no clock.

Why a window and a median: one busy tick proves nothing (cron, a health poll, a garbage collection), and a steady hum
(a language server) is no work. So CPU counts by how much of one core it takes above its own median, over ten minutes,
and no tick may count for more than one core: eight cores for 20 s are as little as one.

Measured on made-up series at ticks of 5 to 6 s, all phases: a cron job of 20 s each 10 min makes 3.5 % on one core
and up to 4.9 % on eight, which saturate the part-filled first and last tick and leave one more at the window's edge;
an agent with 5 s a minute makes 8.3 %. A limit of 4 % would let the eight-core job hold a Pod for ever; hence 5 %.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Above which figures a host is in use. Means are over `window_s`; a core is one CPU second a second."""

    window_s: float = 600.0
    cpu_cores: float = 0.05
    """Mean CPU above the median, each tick cut at one core: 30 busy seconds in 10 min."""
    cpu_median_max_cores: float = 0.10
    """As much of the median may pass for a hum: a steady load counts from 15 % of a core on."""
    cpu_steady_cores: float = math.inf
    """A median above this is no hum at all, but work. Only where one thing is judged alone: hums of many add up."""
    cpu_now_cores: float = 0.50
    """One tick above this is `busy now`: it pauses and bars, and never clears the clock."""
    network_bytes_per_s: float = 50e3
    disk_bytes_per_s: float = 1e6
    memory_mib: float = 256.0
    """Growth within the window that has stayed for `memory_stays_s`: what a short job takes and gives back is none."""
    memory_stays_s: float = 60.0
    least_s: float = 120.0
    """A window that is not full counts as at least this long, so that a first tick can't fill it alone."""

    @property
    def memory_mib_per_s(self) -> float:
        """The growth at which a tick stands out; over a whole window it makes `memory_mib`."""
        return self.memory_mib / self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one reading covered. Rates are per second; None where this Pod does not count such a thing."""

    at_s: float
    span_s: float
    cpu_cores: float
    network_bytes_per_s: float
    disk_bytes_per_s: float | None
    memory_mib: float | None
    """Growth, may be negative."""

    @property
    def cut_cores(self) -> float:
        """CPU, cut at one core."""
        return min(self.cpu_cores, 1.0)


@dataclass(frozen=True, slots=True)
class Excess:
    """One figure over the window against its limit, in its own unit."""

    value: float
    limit: float
    newest_s: float | None
    """The newest tick that stands out by itself; None where the figure is within its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of them at one instant."""

    mean_cores: float
    """Uncut."""
    cpu: Excess
    network: Excess
    disk: Excess
    memory: Excess
    over_s: float


class Window:
    """The ticks of the last `window_s`."""

    def __init__(self, limits: HostLimits) -> None:
        self._limits = limits
        self._ticks: deque[Tick] = deque()
        self._spans_s: list[float] = []
        self._seen_s = 0.0

    def add(self, tick: Tick) -> None:
        """Take in the newest tick; one that is no newer than the last is a repetition and changes nothing."""
        if self._ticks and tick.at_s <= self._ticks[-1].at_s:
            return
        self._ticks.append(tick)
        while self._ticks[0].at_s <= tick.at_s - self._limits.window_s:
            self._ticks.popleft()
        start_s = tick.at_s - self._limits.window_s
        self._spans_s = [min(kept.span_s, kept.at_s - start_s) for kept in self._ticks]
        self._seen_s = sum(self._spans_s)

    @property
    def counted_s(self) -> float:
        """The time over which means are taken."""
        return max(self._seen_s, self._limits.least_s)

    def is_empty(self) -> bool:
        """Whether nothing in it used CPU or disk."""
        return not any(tick.cpu_cores > 0 or tick.disk_bytes_per_s for tick in self._ticks)

    def figures(self) -> Figures:
        """Return everything that this window shows."""
        return Figures(
            mean_cores=self.mean_cores(),
            cpu=self.cpu(),
            network=self.network(),
            disk=self.disk(),
            memory=self.memory(),
            over_s=self.counted_s,
        )

    def mean_cores(self) -> float:
        """Return the mean CPU in cores, uncut."""
        return self._mean([tick.cpu_cores for tick in self._ticks])

    def cpu(self) -> Excess:
        """Return the mean CPU, each tick cut at one core, against its limit above the median."""
        limits, hum, cut = self._limits, self._hum_cores(), [tick.cut_cores for tick in self._ticks]
        limit = limits.cpu_cores + hum * self._seen_s / self.counted_s
        return self._excess(self._mean(cut), limit, [cores - hum > limits.cpu_cores for cores in cut])

    def network(self) -> Excess:
        """Return the mean network rate in bytes a second."""
        return self._rate([tick.network_bytes_per_s for tick in self._ticks], self._limits.network_bytes_per_s)

    def disk(self) -> Excess:
        """Return the mean disk rate in bytes a second."""
        return self._rate([tick.disk_bytes_per_s or 0.0 for tick in self._ticks], self._limits.disk_bytes_per_s)

    def memory(self) -> Excess:
        """Return by how many MiB memory has grown for good: from its lowest level to the lowest of the last minute."""
        levels = self._levels_mib()
        recent_s = self._ticks[-1].at_s - self._limits.memory_stays_s
        first = next(index for index, tick in enumerate(self._ticks) if tick.at_s > recent_s)
        grown = min(levels[first:]) - min(levels)
        rate = self._limits.memory_mib_per_s
        out = [(tick.memory_mib or 0.0) > rate * tick.span_s for tick in self._ticks]
        return self._excess(grown, self._limits.memory_mib, out)

    def _levels_mib(self) -> list[float]:
        """The level before each tick and after the last, from 0 at the start of the window."""
        levels = [0.0]
        for tick in self._ticks:
            levels.append(levels[-1] + (tick.memory_mib or 0.0))
        return levels

    def _rate(self, rates: list[float], limit: float) -> Excess:
        return self._excess(self._mean(rates), limit, [rate > limit for rate in rates])

    def _excess(self, value: float, limit: float, out: list[bool]) -> Excess:
        newest = max((tick.at_s for tick, stands_out in zip(self._ticks, out, strict=True) if stands_out), default=None)
        return Excess(value, limit, newest if value > limit else None)

    def _mean(self, rates: list[float]) -> float:
        return sum(rate * span for rate, span in zip(rates, self._spans_s, strict=True)) / self.counted_s

    def _hum_cores(self) -> float:
        """
        The time-weighted median of CPU, as far as it may pass for a hum.

        A tick longer than a quarter of the window (the daemon was stopped or starved) hides what happened in it, so
        it says nothing about what is steady.
        """
        limits = self._limits
        whole_s = limits.window_s / 4
        parts = sorted(
            (tick.cut_cores, span)
            for tick, span in zip(self._ticks, self._spans_s, strict=True)
            if tick.span_s <= whole_s
        )
        half_s, passed_s = sum(span for _, span in parts) / 2, 0.0
        for cores, span in parts:
            passed_s += span
            if passed_s >= half_s:
                return 0.0 if cores > limits.cpu_steady_cores else min(cores, limits.cpu_median_max_cores)
        return 0.0
