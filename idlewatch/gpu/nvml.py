"""
What NVML says of one GPU, metric by metric: a value, "this GPU has no such metric", or an error in words.

Runs in the child process only. Nothing here turns a failed call into a number: a metric that is NOT_SUPPORTED, not
permitted or missing in the library is listed as unsupported and asked for again after an hour; every other failure
is an error of this poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pynvml

from idlewatch.gpu.samples import HIGHEST_PCT, cleaned, span_s, two_highest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 3, 4, 13
INVALID_ARGUMENT, NOT_FOUND, INSUFFICIENT_SIZE, ARGUMENT_VERSION_MISMATCH = 2, 6, 7, 25
ASK_AGAIN_S = 3600.0
COVERS_AT_MOST_S = 15.0
"""The sample ring is 16 to 20 s deep: what a longer gap held is lost."""
RING_MEASURED_FROM = 50
"""Rows from which a first read is taken for the whole ring; a GPU that just woke has only a few."""
TAP_S = 1.0
"""Seconds that one instant reading stands for on a GPU without a ring (cards seen average over 1/6 to 1 s)."""
PROCESSES_EVERY_POLLS = 12

UTILIZATION = "utilization"
ENGINES = {
    "encoder": (3, "nvmlDeviceGetEncoderUtilization"),
    "decoder": (4, "nvmlDeviceGetDecoderUtilization"),
    "jpeg": (8, "nvmlDeviceGetJpgUtilization"),
    "ofa": (9, "nvmlDeviceGetOfaUtilization"),
}
"""Engines that GPU utilization leaves out: nvmlSamplingType_t of their ring, getter of their instant reading."""


class MetricError(Exception):
    """One NVML call failed; `code` is its nvmlReturn_t, the text NVML's own words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.unsupported = code in {NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND}
        self.other_version = self.unsupported or code in {INVALID_ARGUMENT, ARGUMENT_VERSION_MISMATCH}
        self.nothing_newer = code in {NOT_FOUND, INVALID_ARGUMENT}  # the latter: the binding asked for 0 rows
        self.grew = code == INSUFFICIENT_SIZE


def ask(name: str, *args: object) -> Any:
    """What the binding's function `name` returns; raises MetricError, also where the binding lacks it."""
    call = getattr(pynvml, name, None)
    if call is None:
        raise MetricError(FUNCTION_NOT_FOUND, f"this pynvml has no {name}")
    try:
        return call(*args)
    except pynvml.NVMLError as error:
        raise MetricError(error.value, str(error)) from error
    except pynvml.NVMLLibraryMismatchError as error:  # not an NVMLError: an old library without the function
        raise MetricError(FUNCTION_NOT_FOUND, str(error)) from error


class Supports:
    """Which metrics this GPU lacks; each is asked for again after an hour."""

    def __init__(self) -> None:
        self._again_s: dict[str, float] = {}

    def ask(self, metric: str, now_s: float, call: Callable[[], T]) -> T | None:
        """The metric's value, None where the GPU has no such metric; any other MetricError goes through."""
        if now_s < self._again_s.get(metric, 0.0):
            return None
        try:
            value = call()
        except MetricError as error:
            if not error.unsupported:
                raise
            self._again_s[metric] = now_s + ASK_AGAIN_S
            return None
        self._again_s.pop(metric, None)
        return value

    def lacks(self, metric: str) -> bool:
        """Whether the metric was refused for good within the hour."""
        return metric in self._again_s


def ring(handle: object, kind: int, newest_us: int, tries: int = 3) -> list[tuple[int, int]]:
    """New rows of one sample ring, cleaned; none where it has nothing newer. Source: nvmlDeviceGetSamples."""
    try:
        _, rows = ask("nvmlDeviceGetSamples", handle, kind, newest_us)
    except MetricError as error:
        if error.nothing_newer:
            return []
        if not error.grew or tries == 1:
            raise
        return ring(handle, kind, newest_us, tries - 1)
    return cleaned([(row.timeStamp, row.sampleValue.uiVal) for row in rows], newest_us)


class Meter:
    """One utilization of one GPU: every reading since the last poll, from its ring or else the instant one."""

    def __init__(self, metric: str, kind: int, instant: Callable[[object], int]) -> None:
        self.metric = metric
        self.ring_span_s: float | None = None
        self._kind = kind
        self._instant = instant
        self._newest_us = 0
        self._tapped: list[int] = []

    def read(self, handle: object, supports: Supports, now_s: float) -> tuple[list[int], str | None]:
        """
        Percentages since the last call, and what went wrong.

        Neither: the GPU has no such metric. Both: the ring failed, and the instant reading is all there is. A ring
        with nothing newer is no failure: it stands still while the GPU sleeps.
        """
        values, error = self._from_ring(handle, supports, now_s)
        if values:
            return values, None
        values, self._tapped = self._tapped, []
        try:
            value = supports.ask(self.metric, now_s, lambda: self._checked(handle))
        except MetricError as failed:
            return values, error or str(failed)
        return values if value is None else [*values, value], error

    def tap(self, handle: object, supports: Supports, now_s: float) -> None:
        """Where there is no ring: take one instant reading between polls. A failure shows at the poll."""
        if not self.ringless(supports):
            return
        try:
            value = supports.ask(self.metric, now_s, lambda: self._checked(handle))
        except MetricError:
            return
        if value is not None:
            self._tapped.append(value)

    def ringless(self, supports: Supports) -> bool:
        """Whether this GPU keeps no ring of this utilization."""
        return supports.lacks(f"{self.metric} samples")

    def _from_ring(self, handle: object, supports: Supports, now_s: float) -> tuple[list[int], str | None]:
        first = self._newest_us == 0
        try:
            rows = supports.ask(f"{self.metric} samples", now_s, lambda: ring(handle, self._kind, self._newest_us))
        except MetricError as error:
            return [], str(error)
        if not rows:
            return [], None
        if first and len(rows) >= RING_MEASURED_FROM:
            self.ring_span_s = span_s(rows)
        self._newest_us = rows[-1][0]
        return [value for _, value in rows], None

    def _checked(self, handle: object) -> int:
        value = self._instant(handle)
        if not 0 <= value <= HIGHEST_PCT:
            raise MetricError(0, f"reads {value} %")
        return value


def _engine(getter: str) -> Callable[[object], int]:
    return lambda handle: int(ask(getter, handle)[0])


def memory_used_bytes(handle: object) -> int:
    """
    Memory used: without what the driver reserves where the library can tell (v2), else with it (v1).

    Source: nvmlDeviceGetMemoryInfo_v2; the driver's reserve is 410 to 614 MiB on cards seen.
    """
    try:
        return int(ask("nvmlDeviceGetMemoryInfo", handle, getattr(pynvml, "nvmlMemory_v2", None)).used)
    except MetricError as error:
        if not error.other_version:  # one poll with the reserve and one without would look like growth
            raise
        return int(ask("nvmlDeviceGetMemoryInfo", handle).used)


def process_count(handle: object) -> int:
    """Processes with a context. Only counted: the ids are the host's and mean nothing in a container."""
    compute = ask("nvmlDeviceGetComputeRunningProcesses", handle)
    return len(compute) + len(ask("nvmlDeviceGetGraphicsRunningProcesses", handle))


class Gpu:
    """One GPU of this Pod, known by its UUID: indices shift when a GPU is lost."""

    def __init__(self, handle: object, uuid: str, name: str, lost: str | None = None) -> None:
        self.uuid = uuid
        self._handle = handle
        self._name = name
        self._lost = lost
        self._supports = Supports()
        self._utilization = Meter(UTILIZATION, 1, lambda handle: int(ask("nvmlDeviceGetUtilizationRates", handle).gpu))
        self._engines = [Meter(name, kind, _engine(getter)) for name, (kind, getter) in ENGINES.items()]
        self._polls = 0
        self._processes: int | None = None
        self._good_s: float | None = None
        self._errors: list[str] = []
        self._unsupported: list[str] = []

    @property
    def ring_span_s(self) -> float | None:
        """Measured depth of the utilization ring in seconds; None until a first full read gave it."""
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
        self._errors, self._unsupported = ([self._lost] if self._lost else []), []
        said: dict[str, Any] = {"uuid": self.uuid, "name": self._name, "mig": False, "covered_s": 0.0}
        said.update(util_max_pct=None, util_second_pct=None, util_mean_pct=None, samples=0, engines_max_pct={})
        said.update(energy_total_mj=None, mem_used_mib=None, processes=None)
        if not self._lost:
            self._read(said, now_s)
        said.update(unsupported=self._unsupported, error="; ".join(self._errors) or None)
        return said

    def _read(self, said: dict[str, Any], now_s: float) -> None:
        said["mig"] = mig = self._mig(now_s)
        if mig:  # NVML documents utilization and engines as not supported then; a 0 would be a lie
            self._unsupported.extend([UTILIZATION, *ENGINES])
        else:
            self._read_utilization(said, now_s)
            self._read_engines(said, now_s)
        if not self._errors and not mig:
            said["covered_s"] = self._covered_s(now_s, said["samples"])
            self._good_s = now_s
        self._read_votes(said, now_s)

    def _mig(self, now_s: float) -> bool:
        try:
            modes = self._supports.ask("mig", now_s, lambda: ask("nvmlDeviceGetMigMode", self._handle))
        except MetricError as error:
            self._errors.append(f"MIG mode: {error}")
            return False
        return modes is not None and modes[0] == 1

    def _read_utilization(self, said: dict[str, Any], now_s: float) -> None:
        values = self._metered(self._utilization, now_s)
        if values:
            highest, second = two_highest(values)
            said.update(util_max_pct=highest, util_second_pct=second, samples=len(values))
            said["util_mean_pct"] = round(sum(values) / len(values), 2)

    def _read_engines(self, said: dict[str, Any], now_s: float) -> None:
        for meter in self._engines:
            values = self._metered(meter, now_s)
            if values:
                said["engines_max_pct"][meter.metric] = max(values)

    def _metered(self, meter: Meter, now_s: float) -> list[int]:
        values, error = meter.read(self._handle, self._supports, now_s)
        if error:
            self._errors.append(f"{meter.metric}: {error}")
        elif not values:
            self._unsupported.append(meter.metric)
        return values

    def _covered_s(self, now_s: float, samples: int) -> float:
        """Nothing at the first poll: what the ring held before NVML was opened may be the opening itself."""
        if self._good_s is None:
            return 0.0
        seen_s = samples * TAP_S if self.ringless else self.ring_span_s or COVERS_AT_MOST_S
        return round(min(now_s - self._good_s, seen_s, COVERS_AT_MOST_S), 3)

    def _read_votes(self, said: dict[str, Any], now_s: float) -> None:
        """What can only speak for activity: unread it is None, and the utilization stands without it."""
        energy = self._vote("energy", now_s, lambda: ask("nvmlDeviceGetTotalEnergyConsumption", self._handle))
        said["energy_total_mj"] = energy
        used = self._vote("memory", now_s, lambda: memory_used_bytes(self._handle))
        said["mem_used_mib"] = None if used is None else used >> 20
        if self._polls % PROCESSES_EVERY_POLLS == 0:
            self._processes = self._vote("processes", now_s, lambda: process_count(self._handle))
        elif self._supports.lacks("processes"):
            self._unsupported.append("processes")
        self._polls += 1
        said["processes"] = self._processes

    def _vote(self, metric: str, now_s: float, call: Callable[[], int]) -> int | None:
        try:
            value = self._supports.ask(metric, now_s, call)
        except MetricError:
            return None
        if value is None:
            self._unsupported.append(metric)
        return value


def opened() -> list[Gpu]:
    """Open NVML and return every GPU it lists; raises MetricError where it can't be opened or counted."""
    ask("nvmlInit")
    return [_gpu(index) for index in range(count())]


def count() -> int:
    """How many GPUs NVML lists now; raises MetricError."""
    return int(ask("nvmlDeviceGetCount"))


def _gpu(index: int) -> Gpu:
    """The GPU at `index`, or one that is known to be lost: it must be missed, not left out."""
    try:
        handle = ask("nvmlDeviceGetHandleByIndex", index)
        return Gpu(handle, str(ask("nvmlDeviceGetUUID", handle)), str(ask("nvmlDeviceGetName", handle)))
    except MetricError as error:
        return Gpu(None, f"index {index}", "", lost=str(error))
