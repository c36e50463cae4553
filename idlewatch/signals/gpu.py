"""
The GPU signal: what every GPU of this Pod did, from the driver's own sample ring.

Utilization is the percent of a sample period (1/6 to 1 s) in which a kernel ran; encoder, decoder, JPEG and OFA are
engines of their own and not in it. An instant reading misses most of a bursty load (83 % of instants of a training
with CPU offload read 0 %), so the reader keeps every sample since the last poll. An error, a missing library or a
lost GPU is UNKNOWN; only RUNPOD_GPU_COUNT=0, or no such device file, proves that there is no GPU.

Facts of a reading (None: not known, never 0):

    gpus          list, one object a GPU, see below
    expected      how many GPUs there must be; found: how many the driver lists now (found_error: why it can't say)
    driver        version of the driver; poll_s: seconds between two polls of the reader
    lost          only where `gpus` is empty: why nothing could be read
    unseen_s      since how long not every GPU could be read; 0 where all can
    holders       how many processes but ours have a GPU device open, looked at only when unseen for long; None: not
                  looked, or not everybody's files could be seen (holders_error says why)

Facts of one GPU:

    index         its number in reasons (`gpu0`), kept by UUID; uuid; name; kind: `nvidia` or `amd`
    mig           MIG is on; instances: list of {uuid, mem_used_mib, util_mean_pct}; virtual: `vGPU` and the like, or None
    util_max_pct, util_second_pct, util_mean_pct    highest, next and mean of the `samples` readings since the last tick
    instant       True: single looks, one a second (no ring); False: every sample of the driver's ring
    ring_span_s, ring_period_s    depth of that ring and seconds between its samples
    covered_s     seconds up to `at_s` that the samples describe
    engines_max_pct    {encoder, decoder, jpeg, ofa} as far as the card has them
    energy_mj, energy_span_s, power_mean_w    energy since it was last read, over how long, and their quotient
    power_limit_w      what the card may draw
    mem_used_mib, mem_total_mib, processes    memory, and how many processes hold a context
    not_readable  {metric: why, in words}, of utilization, encoder, decoder, jpeg, ofa, energy, power, memory, processes
    unsupported   those of them that this card, driver or permission will never give
    error         why this GPU counts as not seen in this reading; None where it was

After `judge`, `GpuSignal.looks` has each GPU's own verdict with its reason, floor and limit in watts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from idlewatch.errors import SignalError
from idlewatch.gpu.judge import GpuJudge, Verdict
from idlewatch.gpu.merge import Merger
from idlewatch.gpu.reader import GpuReader
from idlewatch.model import Activity, Finding, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idlewatch.gpu.reader import Taken


class Reader(Protocol):
    """Where polls come from: `gpu.reader.GpuReader`, or a recording."""

    def take(self, now_s: float) -> Taken:
        """Everything since the last call, and how the reader is; never waits."""
        ...

    def close(self) -> None:
        """End what `take` started, gently."""
        ...


class GpuSignal:
    """
    Utilization, engines, memory and energy of every GPU, each judged by itself.

    `gpu_count` is RUNPOD_GPU_COUNT: 0 proves that there is none, another number is how many there must be. Without it
    the device files in `device_dir` tell, and the most that were ever listed is how many there must be. Without a
    `reader` its own starts a child process at the first `read`.
    """

    name = "gpu"
    refines = False

    def __init__(
        self,
        *,
        reader: Reader | None = None,
        gpu_count: int | None = None,
        device_dir: Path = Path("/dev"),
        active_above_pct: float = 5.0,
    ) -> None:
        self._reader = reader or GpuReader()
        self._gpu_count = gpu_count
        self._device_dir = device_dir
        self._active_above_pct = active_above_pct
        self._merger = Merger(gpu_count)
        self._had_devices = False
        self._newest: Reading | None = None
        self._judges: dict[str, GpuJudge] = {}
        self._judged: tuple[float, Finding] | None = None
        self._busy_s: float | None = None

    def read(self, now_s: float) -> Reading:
        """All polls since the last call as one reading; the same reading again where there is no new poll yet."""
        absent = self._absent()
        if absent:
            return Reading(signal=self.name, at_s=now_s, absent=absent)
        taken = self._reader.take(now_s)
        counted = [poll for poll in taken.polls if not poll.settles_in_s]
        if counted:  # before an error that came after them: it is told at the next call
            facts, covers_s = self._merger.facts(counted)
            self._newest = Reading(signal=self.name, at_s=counted[-1].at_s, covers_s=covers_s, facts=facts)
        elif taken.error:
            self._newest = self._failed(taken.error, now_s)
        elif taken.polls:
            left_s = taken.polls[-1].settles_in_s
            self._newest = self._failed(f"NVML was just opened: readings count in {left_s:.0f} s", now_s)
        return self._newest or self._failed("GPU reader has said nothing yet", now_s)

    def judge(self, reading: Reading) -> Finding:
        """ACTIVE where any GPU worked, else UNKNOWN where any is missing or unread, else QUIET."""
        if reading.absent:
            return Finding(signal=self.name, activity=Activity.ABSENT, reason=reading.absent)
        if reading.error:
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reading.error)
        if self._judged is None or self._judged[0] != reading.at_s:
            self._judged = (reading.at_s, self._finding(reading))
        return self._judged[1]

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    def _failed(self, error: str, now_s: float) -> Reading:
        return Reading(signal=self.name, at_s=now_s, error=error)

    def _absent(self) -> str | None:
        """The proof that this Pod has no GPU; devices that were there once disprove it for good."""
        if self._gpu_count is not None:
            return None if self._gpu_count else "RUNPOD_GPU_COUNT=0"
        try:
            names = [path.name for path in self._device_dir.iterdir()]
        except OSError as error:
            raise SignalError(f"{self._device_dir} can't be listed: {error.strerror}") from error
        devices = [name for name in names if name.startswith("nvidia") or name == "kfd"]
        self._had_devices = self._had_devices or bool(devices)
        where = self._device_dir
        return None if self._had_devices else f"no {where}/nvidia* and no {where}/kfd"

    def _finding(self, reading: Reading) -> Finding:
        gpus: Any = reading.facts.get("gpus", [])
        verdicts = [
            self._judge_of(gpu, index).verdict(f"gpu{index}", gpu, reading.at_s) for index, gpu in enumerate(gpus)
        ]
        activity, reason = self._strongest(verdicts, reading.facts, len(gpus))
        if activity is Activity.UNKNOWN:
            return Finding(signal=self.name, activity=activity, reason=reason)
        active = activity is Activity.ACTIVE
        finding = Finding(
            signal=self.name,
            activity=activity,
            reason=reason or self._quiet(gpus, reading.at_s),
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=reading.at_s if active else None,
            pauses=not active and any(verdict.pauses for verdict in verdicts),
        )
        self._busy_s = reading.at_s if active else self._busy_s
        return finding

    def _judge_of(self, gpu: Mapping[str, Any], index: int) -> GpuJudge:
        key = str(gpu.get("uuid", index))
        return self._judges.setdefault(key, GpuJudge(active_above_pct=self._active_above_pct))

    @staticmethod
    def _strongest(verdicts: list[Verdict], facts: Mapping[str, Any], listed: int) -> tuple[Activity, str]:
        """The strongest verdict with its reason: ACTIVE, then a GPU that is missing, then UNKNOWN, then a pause."""
        active = [verdict for verdict in verdicts if verdict.activity is Activity.ACTIVE]
        if active:
            return Activity.ACTIVE, active[0].reason
        missing = _missing(facts, listed)
        unknown = [verdict.reason for verdict in verdicts if verdict.activity is Activity.UNKNOWN]
        if missing or unknown:
            return Activity.UNKNOWN, missing or unknown[0]
        return Activity.QUIET, next((verdict.reason for verdict in verdicts if verdict.pauses), "")

    def _quiet(self, gpus: list[Mapping[str, Any]], at_s: float) -> str:
        highest = max(max(gpu["util_max_pct"], *gpu.get("engines_max_pct", {}).values(), 0) for gpu in gpus)
        count = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
        busy = "no busy reading yet" if self._busy_s is None else f"last busy reading {_ago(at_s - self._busy_s)}"
        return f"{count} at {highest:.0f} % <= {self._active_above_pct:g} %, {busy}"


def _missing(facts: Mapping[str, Any], listed: int) -> str | None:
    """Why not every GPU that must be there was seen; None where all were."""
    if facts.get("found_error"):
        return f"GPUs can't be counted: {facts['found_error']}"
    found, expected = facts.get("found", listed), facts.get("expected", listed)
    found = listed if found is None else min(found, listed)
    if not found:
        return f"NVML lists no GPU of {expected} expected"
    return f"{found} of {expected} GPUs found" if found < expected else None


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"
