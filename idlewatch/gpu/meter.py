"""
One utilization of one GPU: every reading since the last poll.

Runs in the child process only. The driver keeps a ring of samples (about 100, 16 to 20 s); where it has nothing
newer (it stands still while a GPU sleeps) or there is none, the instant reading is all there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.gpu.nvml import Supports, sample_rows
from idlewatch.gpu.samples import HIGHEST_PCT, cleaned, period_s, span_s
from idlewatch.gpu.words import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable

RING_MEASURED_FROM = 50
"""Rows from which a read is taken for the whole ring; a GPU that just woke has only a few."""


def ring(handle: object, kind: int, since_us: int, tries: int = 3) -> list[tuple[int, int]]:
    """Rows of one sample ring from `since_us` on, cleaned; none where there are none. Source: nvmlDeviceGetSamples."""
    try:
        return cleaned(sample_rows(handle, kind, since_us), since_us)
    except MetricError as error:
        if error.none_there:
            return []
        if not error.grew or tries == 1:
            raise
        return ring(handle, kind, since_us, tries - 1)


class Meter:
    """Reads one utilization from its ring or else the instant one; `kind` is the ring's nvmlSamplingType_t."""

    def __init__(self, metric: str, kind: int, instant: Callable[[object], int]) -> None:
        self.metric = metric
        self.ring_span_s: float | None = None
        """Depth of the ring in seconds, and seconds between its samples; None until a full read gave them."""
        self.ring_period_s: float | None = None
        self._kind = kind
        self._instant = instant
        self._newest_us = 0
        self._tapped: list[int] = []

    def read(self, handle: object, supports: Supports, now_s: float) -> tuple[list[int], MetricError | None]:
        """
        Percentages since the last call, and what went wrong.

        Neither: the GPU has no such metric. Both: the ring failed, and the instant reading is all there is. A ring
        with nothing newer is no failure: it stands still while the GPU sleeps.
        """
        values, error = self._from_ring(handle, supports, now_s)
        if values or (error and error.lost):
            return values, error
        values, self._tapped = self._tapped, []
        try:
            value = supports.ask(self.metric, now_s, lambda: self._plausible(handle))
        except MetricError as failed:
            return values, error or failed
        return values if value is None else [*values, value], error

    def tap(self, handle: object, supports: Supports, now_s: float) -> None:
        """Where there is no ring: take one instant reading between polls. A failure shows at the poll."""
        if not self.ringless(supports):
            return
        try:
            value = supports.ask(self.metric, now_s, lambda: self._plausible(handle))
        except MetricError:
            return
        if value is not None:
            self._tapped.append(value)

    def ringless(self, supports: Supports) -> bool:
        """Whether this GPU keeps no ring of this utilization."""
        return supports.lacks(f"{self.metric} samples")

    def _from_ring(self, handle: object, supports: Supports, now_s: float) -> tuple[list[int], MetricError | None]:
        """
        Only time stamps of the ring itself are handed back: the domain of its clock is not the same everywhere.

        Where nothing is newer the whole ring is asked for: one whose newest row is older than what was seen had its
        clock set back (a wall clock on most drivers), and would else be blind until that clock has caught up.
        """
        since_us = 0 if self.ring_span_s is None else self._newest_us
        try:
            rows = supports.ask(f"{self.metric} samples", now_s, lambda: ring(handle, self._kind, since_us))
            if not rows and since_us:
                rows = supports.ask(f"{self.metric} samples", now_s, lambda: ring(handle, self._kind, 0))
        except MetricError as error:
            return [], error
        if rows and since_us == 0 and len(rows) >= RING_MEASURED_FROM:
            self.ring_span_s, self.ring_period_s = span_s(rows), period_s(rows)
        if rows and rows[-1][0] < self._newest_us:
            self._newest_us = 0
        newer = [(at_us, value) for at_us, value in rows or [] if at_us > self._newest_us]
        self._newest_us = newer[-1][0] if newer else self._newest_us
        return [value for _, value in newer], None

    def _plausible(self, handle: object) -> int:
        value = self._instant(handle)
        if not 0 <= value <= HIGHEST_PCT:
            raise MetricError(0, f"reads {value} %")
        return value
