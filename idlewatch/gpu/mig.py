"""
The instances of a GPU that MIG has cut up: their memory, and how busy they are where GPM may be asked.

Runs in the child process only. NVML has no utilization with MIG. GPM (Hopper and newer) counts per instance: two
samples of its counters give the share of the time between them in which the instance worked, nothing missed. In a
container it may be refused, at once or after an hour (NVIDIA/DCGM#214), so it is asked only where the owner wants it.
Sources: nvmlGpmMigSampleGet, nvmlGpmMetricsGet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pynvml

from idlewatch.gpu.nvml import Supports, ask, memory_bytes
from idlewatch.gpu.words import NOT_SUPPORTED, MetricError

WORK = (1, 2)
"""nvmlGpmMetricId_t: graphics (anything ran), SM; one of them must answer."""
OWN_ENGINES = (30, 40, 50)
"""The first NVDEC, JPEG and OFA engine; not every instance has one."""
SHORTEST_S = 0.1
"""nvmlGpmMetricsGet wants its two samples so far apart."""
NOT_ASKED = "MIG: this driver does not tell how busy its instances are, and GPM was not asked"
NONE_SEEN = "MIG: none of its instances can be seen from here"


class Look(NamedTuple):
    """What one poll saw of a GPU's instances."""

    instances: list[dict[str, Any]]
    covered_s: float | None
    """Seconds that every instance's `util_mean_pct` covers, 0 at its first look; None: not known how busy they are."""
    blind: str
    """Why it is None, in words."""
    error: MetricError | None = None
    """What went wrong where they could not be listed."""


class Instances:
    """The instances of one GPU; found anew at each poll, since MIG may be cut up anew."""

    def __init__(self, handle: object, *, gpm: bool) -> None:
        self._handle, self._gpm = handle, gpm
        self._supports = Supports()
        self._counters: dict[str, _Counters] = {}

    def look(self, now_s: float) -> Look:
        """Each instance's memory, and how busy it was since the last look."""
        try:
            handles = self._handles()
        except MetricError as error:
            return Look([], None, f"MIG: its instances can't be listed: {error}", error)
        if not handles:
            return Look([], None, NONE_SEEN)
        instances = [self._instance(handle) for handle in handles]
        if not self._gpm:
            return Look(instances, None, NOT_ASKED)
        try:
            spans_s = [self._count(handle, facts, now_s) for handle, facts in zip(handles, instances, strict=True)]
        except MetricError as error:
            self._counters.clear()
            return Look(instances, None, f"MIG: GPM can't be read: {error}")
        return Look(instances, min(spans_s), "")

    def _handles(self) -> list[Any]:
        found = []
        for slot in range(int(ask("nvmlDeviceGetMaxMigDeviceCount", self._handle))):
            try:
                found.append(ask("nvmlDeviceGetMigDeviceHandleByIndex", self._handle, slot))
            except MetricError as error:
                if not error.none_there:  # slots are sparse
                    raise
        return found

    def _instance(self, handle: object) -> dict[str, Any]:
        try:
            used_mib = memory_bytes(handle)[0] >> 20
        except MetricError:
            used_mib = None
        return {"uuid": _uuid(handle), "mem_used_mib": used_mib, "util_mean_pct": None}

    def _count(self, handle: object, facts: dict[str, Any], now_s: float) -> float:
        """Put the instance's busy share into its facts; returns the seconds that it covers."""
        key = facts["uuid"]

        def read() -> tuple[float | None, float]:
            if key not in self._counters:
                self._counters[key] = _Counters(self._handle, int(ask("nvmlDeviceGetGpuInstanceId", handle)))
            return self._counters[key].busy_pct(now_s)

        read_now = self._supports.ask("GPM", now_s, read)
        if read_now is None:
            raise MetricError(0, self._supports.why("GPM"))
        facts["util_mean_pct"], span_s = read_now
        return span_s


class _Counters:
    """The counters of one instance, compared with those of the last look."""

    def __init__(self, gpu: object, instance: int) -> None:
        if not ask("nvmlGpmQueryDeviceSupport", gpu).isSupportedDevice:
            raise MetricError(NOT_SUPPORTED, "this GPU has no GPM")
        self._gpu, self._instance = gpu, instance
        self._before, self._now = ask("nvmlGpmSampleAlloc"), ask("nvmlGpmSampleAlloc")
        self._before_s: float | None = None

    def busy_pct(self, now_s: float) -> tuple[float | None, float]:
        """Share of the time since the last look in which anything ran, and that time; None at the first look."""
        if self._before_s is not None and now_s - self._before_s < SHORTEST_S:
            return None, 0.0
        ask("nvmlGpmMigSampleGet", self._gpu, self._instance, self._now)
        span_s = 0.0 if self._before_s is None else now_s - self._before_s
        busy = None if self._before_s is None else self._compared()
        self._before, self._now, self._before_s = self._now, self._before, now_s
        return busy, round(span_s, 3)

    def _compared(self) -> float:
        wanted = (*WORK, *OWN_ENGINES)
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(wanted)
        asked.sample1, asked.sample2 = self._before, self._now
        for place, metric in enumerate(wanted):
            asked.metrics[place].metricId = metric
        ask("nvmlGpmMetricsGet", asked)
        told = {asked.metrics[place].metricId: _percent(asked.metrics[place]) for place in range(len(wanted))}
        if all(told.get(metric) is None for metric in WORK):
            raise MetricError(0, "GPM says nothing of this instance's work")
        return round(max(value for value in told.values() if value is not None), 2)


def _percent(metric: Any) -> float | None:
    """NaN, below 0 or above 100 is no reading."""
    return metric.value if metric.nvmlReturn == 0 and 0 <= metric.value <= 100 else None


def _uuid(handle: object) -> str:
    try:
        return str(ask("nvmlDeviceGetUUID", handle))
    except MetricError:
        return "MIG"
