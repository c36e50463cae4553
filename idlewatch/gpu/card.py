"""
One NVIDIA GPU: everything since the last poll, metric by metric: a value, or why there is none.

Runs in the child process only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idlewatch.gpu import ENGINES, METRICS, UTILIZATION
from idlewatch.gpu.meter import Meter
from idlewatch.gpu.mig import Instances
from idlewatch.gpu.nvml import Supports, ask, count, memory_bytes, process_count
from idlewatch.gpu.said import COVERS_AT_MOST_S, TAP_S, Troubles, nothing_said
from idlewatch.gpu.samples import two_highest
from idlewatch.gpu.words import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES_EVERY_POLLS = 12
MEASURES = {
    "encoder": (3, "nvmlDeviceGetEncoderUtilization"),
    "decoder": (4, "nvmlDeviceGetDecoderUtilization"),
    "jpeg": (8, "nvmlDeviceGetJpgUtilization"),
    "ofa": (9, "nvmlDeviceGetOfaUtilization"),
}
"""nvmlSamplingType_t of an engine's ring, and the getter of its instant reading."""
VIRTUAL = {2: "vGPU", 3: "vGPU host", 4: "vSGA host"}
"""nvmlGpuVirtualizationMode_t; 1, a whole GPU passed through, reads like any other."""


class Card:
    """One GPU of this Pod, known by its UUID: indices shift when a GPU is lost. `gpm`: ask MIG for its counters."""

    def __init__(self, index: int, handle: object, uuid: str, name: str, *, gpm: bool = False) -> None:
        self._index, self._handle, self._uuid, self._name = index, handle, uuid, name
        self._supports = Supports()
        self._utilization = Meter(UTILIZATION, 1, lambda handle: int(ask("nvmlDeviceGetUtilizationRates", handle).gpu))
        self._engines = [Meter(name, kind, _engine(getter)) for name, (kind, getter) in MEASURES.items()]
        self._instances = Instances(handle, gpm=gpm)
        self._about: dict[str, Any] | None = None
        self._polls = 0
        self._processes: int | None = None
        self._good_s: float | None = None

    @property
    def ring_span_s(self) -> float | None:
        """Measured depth of the utilization ring in seconds; None until a full read gave it."""
        return self._utilization.ring_span_s

    @property
    def ringless(self) -> bool:
        """Whether instant readings between polls are all there is."""
        return self._utilization.ringless(self._supports)

    def tap(self, now_s: float) -> None:
        """Take one instant utilization reading where the GPU keeps no ring."""
        self._utilization.tap(self._handle, self._supports, now_s)

    def poll(self, now_s: float) -> dict[str, Any]:
        """Everything since the last poll, as it stands in the line; `error` where something is unknown."""
        said, troubles = nothing_said(self._index, self._uuid, self._name, "nvidia"), Troubles()
        said["mig"] = self._mig(troubles, now_s)
        for read in (self._read_mig if said["mig"] else self._read_utilization, self._read_votes):
            if not troubles.lost:
                read(said, troubles, now_s)
        troubles.into(said)
        if said["error"]:
            said["covered_s"] = 0.0
        elif not said["mig"]:
            said["covered_s"], self._good_s = self._covered_s(now_s, said["samples"]), now_s
        return said

    def _mig(self, troubles: Troubles, now_s: float) -> bool:
        try:
            modes = self._supports.ask("mig", now_s, lambda: ask("nvmlDeviceGetMigMode", self._handle))
        except MetricError as error:
            troubles.failed(UTILIZATION if error.lost else "MIG mode", error)
            return False
        return modes is not None and modes[0] == 1

    def _read_mig(self, said: dict[str, Any], troubles: Troubles, now_s: float) -> None:
        """NVML documents utilization and engines as not supported with MIG; a 0 of theirs would be a lie."""
        look = self._instances.look(now_s)
        said.update(instances=look.instances, covered_s=look.covered_s or 0.0)
        if look.error and look.error.lost:
            troubles.failed("instances", look.error)
        if look.covered_s is None:
            troubles.lacks(UTILIZATION, look.blind, for_good=True)
        for metric in ENGINES:
            troubles.lacks(metric, "MIG is on", for_good=True)

    def _read_utilization(self, said: dict[str, Any], troubles: Troubles, now_s: float) -> None:
        values = self._metered(self._utilization, troubles, now_s)
        if values:
            highest, second = two_highest(values)
            said.update(util_max_pct=highest, util_second_pct=second, samples=len(values))
            said["util_mean_pct"] = round(sum(values) / len(values), 2)
        said.update(instant=self.ringless, ring_span_s=self.ring_span_s, ring_period_s=self._utilization.ring_period_s)
        for meter in self._engines:
            values = [] if troubles.lost else self._metered(meter, troubles, now_s)
            if values:
                said["engines_max_pct"][meter.metric] = max(values)

    def _metered(self, meter: Meter, troubles: Troubles, now_s: float) -> list[int]:
        values, error = meter.read(self._handle, self._supports, now_s)
        if error:
            troubles.failed(meter.metric, error)
        elif not values:
            # A ring that has nothing newer, beside an instant reading that this library lacks, may have more next time.
            troubles.lacks(meter.metric, self._supports.why(meter.metric), for_good=meter.ringless(self._supports))
        return values

    def _covered_s(self, now_s: float, samples: int) -> float:
        """Nothing at the first poll: what the ring held before NVML was opened may be the opening itself."""
        if self._good_s is None:
            return 0.0
        seen_s = samples * TAP_S if self.ringless else self.ring_span_s or COVERS_AT_MOST_S
        return round(min(now_s - self._good_s, seen_s, COVERS_AT_MOST_S), 3)

    def _read_votes(self, said: dict[str, Any], troubles: Troubles, now_s: float) -> None:
        """What can only speak for activity: unread it is None, and the utilization stands without it."""

        def vote(metric: str, call: Callable[[], Any]) -> Any:
            return self._vote(metric, troubles, now_s, call)

        handle = self._handle
        said["energy_total_mj"] = vote("energy", lambda: int(ask("nvmlDeviceGetTotalEnergyConsumption", handle)))
        if said["energy_total_mj"] is None:
            said["power_w"] = vote("power", lambda: int(ask("nvmlDeviceGetPowerUsage", handle)) / 1000)
        said.update(_memory_mib(vote("memory", lambda: memory_bytes(handle)), said["instances"]))
        if self._polls % PROCESSES_EVERY_POLLS == 0:
            self._processes = vote("processes", lambda: process_count(handle))
        elif self._supports.lacks("processes"):
            troubles.lacks("processes", self._supports.why("processes"), for_good=True)
        self._polls += 1
        said["processes"] = self._processes
        if self._about is None:
            self._about = {"power_limit_w": _power_limit_w(handle), "virtual": _virtual(handle)}
        said.update(self._about)

    def _vote(self, metric: str, troubles: Troubles, now_s: float, call: Callable[[], Any]) -> Any:
        if troubles.lost:
            return None
        try:
            value = self._supports.ask(metric, now_s, call)
        except MetricError as error:
            if error.lost:
                troubles.failed(metric, error)
            troubles.lacks(metric, str(error), for_good=False)
            return None
        if value is None:
            troubles.lacks(metric, self._supports.why(metric), for_good=True)
        return value


class LostCard:
    """A GPU that NVML lists and does not open: it must be missed, not left out."""

    ring_span_s = None
    ringless = False

    def __init__(self, index: int, error: MetricError) -> None:
        self._index, self._error = index, error

    def tap(self, now_s: float) -> None:
        """Nothing can be asked of it."""

    def poll(self, now_s: float) -> dict[str, Any]:  # noqa: ARG002  (polled like any other)
        """Why it was not seen."""
        said = nothing_said(self._index, f"index {self._index}", "", "nvidia")
        said["not_readable"] = dict.fromkeys(METRICS, str(self._error))
        return {**said, "error": str(self._error)}


def cards(*, gpm: bool) -> list[Card | LostCard]:
    """Every GPU that NVML, which is open, lists; raises MetricError where it can't be counted."""
    return [_card(index, gpm=gpm) for index in range(count())]


def _card(index: int, *, gpm: bool) -> Card | LostCard:
    try:
        handle = ask("nvmlDeviceGetHandleByIndex", index)
        uuid, name = str(ask("nvmlDeviceGetUUID", handle)), str(ask("nvmlDeviceGetName", handle))
    except MetricError as error:
        return LostCard(index, error)
    return Card(index, handle, uuid, name, gpm=gpm)


def _engine(getter: str) -> Callable[[object], int]:
    return lambda handle: int(ask(getter, handle)[0])


def _memory_mib(memory: tuple[int, int] | None, instances: list[dict[str, Any]]) -> dict[str, int | None]:
    """The instances that are ours, where there are any: the whole GPU's memory is also that of its other tenants."""
    used_mib, total_mib = (None, None) if memory is None else (memory[0] >> 20, memory[1] >> 20)
    parts = [part["mem_used_mib"] for part in instances]
    return {"mem_used_mib": sum(parts) if parts and None not in parts else used_mib, "mem_total_mib": total_mib}


def _power_limit_w(handle: object) -> float | None:
    try:
        return int(ask("nvmlDeviceGetEnforcedPowerLimit", handle)) / 1000
    except MetricError:
        return None


def _virtual(handle: object) -> str | None:
    try:
        return VIRTUAL.get(int(ask("nvmlDeviceGetVirtualizationMode", handle)))
    except MetricError:
        return None
