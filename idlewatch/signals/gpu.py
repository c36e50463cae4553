"""
The GPU signal: what every GPU of this Pod did, from the driver's own sample ring.

Utilization is the percent of a sample period (1/6 to 1 s) in which a kernel ran; encoder, decoder, JPEG and OFA are
engines of their own and not in it. An instant reading misses most of a bursty load (83 % of instants of a training
with CPU offload read 0 %), so the reader keeps every sample since the last poll. An error, a missing library or a
lost GPU is UNKNOWN; only RUNPOD_GPU_COUNT=0, or no such device file, proves that there is no GPU.

Facts of a reading (None: not known, never 0):

    gpus          list, one object a GPU, see below
    expected      how many GPUs there must be; found: how many the driver lists now (found_error: why it can't say);
                  gone: those that were there once and are not listed, `gpu1 NVIDIA H100`
    driver        version of the driver; poll_s: seconds between two polls of the reader
    lost          only where `gpus` is empty: why nothing could be read
    unseen_s      since how long not every GPU could be read; 0 where all can
    holders       processes but ours that have a GPU device open, `python3 (pid 812)`; looked at only when unseen for
                  long. [] proves idleness. None: not looked, or not everybody's files can be seen (holders_error: why)

Facts of one GPU:

    index         its number in reasons (`gpu0`), kept by UUID; uuid; name; kind: `nvidia` or `amd`
    mig           MIG is on; instances: list of {uuid, mem_used_mib, util_mean_pct}; virtual: `vGPU` and the like
    util_max_pct, util_second_pct, util_mean_pct    highest, next and mean of the `samples` readings since the last tick
    instant       True: single looks, one a second (no ring); False: every sample of the driver's ring
    ring_span_s, ring_period_s    depth of that ring and seconds between its samples
    covered_s     seconds up to `at_s` that the samples describe
    engines_max_pct    {encoder, decoder, jpeg, ofa} as far as the card has them; an AMD card's is called video
    energy_mj, energy_span_s, power_mean_w    energy since it was last read, over how long, and their quotient
    power_limit_w      what the card may draw
    mem_used_mib, mem_total_mib, processes    memory, and how many processes hold a context
    not_readable  {metric: why, in words}, of utilization, encoder, decoder, jpeg, ofa, energy, power, memory, processes
    unsupported   those of them that this card, driver or permission will never give
    error         why this GPU counts as not seen in this reading; None where it was

After `judge`, `GpuSignal.looks` has each GPU's own verdict with its reason, floor and limit in watts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from idlewatch.errors import SignalError
from idlewatch.gpu import unseen
from idlewatch.gpu.holders import Holders
from idlewatch.gpu.judge import GpuJudge, Verdict
from idlewatch.gpu.merge import Merger
from idlewatch.gpu.reader import GpuReader
from idlewatch.gpu.waste import Waste
from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.gpu_proof import OpenFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from idlewatch.gpu.reader import Taken
    from idlewatch.model import Json

DEVICES = ("nvidia", "kfd", "dxg")
"""How device files of GPUs begin: NVIDIA's, AMD's, and those that Windows hands to WSL."""


class Reader(Protocol):
    """Where polls come from: `gpu.reader.GpuReader`, or a recording."""

    def take(self, now_s: float) -> Taken:
        """Everything since the last call, and how the reader is; never waits."""
        ...

    def close(self) -> None:
        """End what `take` started, gently."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    """The verdict on one GPU by itself, for people."""

    label: str
    """`gpu0`."""
    uuid: str
    activity: Activity
    reason: str
    """Empty where it is quiet and nothing needs a word."""
    idle_w: float | None
    """What it draws when idle, learned in this Pod; None before that is known."""
    limit_w: float | None
    """The mean power above which it worked."""


class GpuSignal:
    """
    Utilization, engines, memory and energy of every GPU, each judged by itself.

    `gpu_count` is RUNPOD_GPU_COUNT: 0 proves that there is none, another number is how many there must be. Without it
    the device files in `device_dir` tell, and the most that were ever listed is how many there must be. `gpus_before`
    tells how many this Pod had before its last stop, so that one that came back without any is told so. `open_files`
    looks who has a GPU open once one can't be read for long. Without a `reader` its own starts a child process at the
    first `read`.
    """

    name = "gpu"
    refines = False

    def __init__(
        self,
        *,
        reader: Reader | None = None,
        gpu_count: int | None = None,
        gpus_before: Callable[[], int | None] = lambda: None,
        device_dir: Path = Path("/dev"),
        open_files: OpenFiles | None = None,
        active_above_pct: float = 5.0,
    ) -> None:
        self._reader = reader or GpuReader()
        self._gpu_count = gpu_count
        self._gpus_before = gpus_before
        self._device_dir = device_dir
        self._open_files = open_files or OpenFiles()
        self._active_above_pct = active_above_pct
        self._merger = Merger(gpu_count)
        self._had_devices = False
        self._newest: Reading | None = None
        self._judges: dict[str, GpuJudge] = {}
        self._judged: tuple[float, Finding] | None = None
        self._busy_s: float | None = None
        self._waste = Waste()
        self._said: tuple[list[Any], list[tuple[str, Verdict]]] = ([], [])
        """What the last `judge` was told of each GPU, and its verdict."""

    def read(self, now_s: float) -> Reading:
        """All polls since the last call as one reading; the same reading again where there is no new poll yet."""
        absent = self._absent()
        if absent:
            before = self._gpus_before()
            facts: dict[str, Json] = {"gpus_before": before} if before else {}
            return Reading(signal=self.name, at_s=now_s, absent=absent, facts=facts)
        taken = self._reader.take(now_s)
        fresh = self._fresh(taken, now_s)
        if fresh is not None:
            self._newest = self._with_proof(fresh, now_s, taken.pid)
        return self._newest or self._failed("GPU reader has said nothing yet", now_s)

    def judge(self, reading: Reading) -> Finding:
        """ACTIVE where any GPU worked, else UNKNOWN where any is missing or unread, else QUIET."""
        if reading.absent:
            return self._without_gpu(reading)
        if reading.error:
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reading.error)
        if self._judged is None or self._judged[0] != reading.at_s:
            self._judged = (reading.at_s, self._finding(reading))
        return self._judged[1]

    @property
    def looks(self) -> tuple[GpuLook, ...]:
        """What the last `judge` said of each GPU."""
        gpus, verdicts = self._said
        return tuple(self._look(gpu, place, *verdicts[place]) for place, gpu in enumerate(gpus))

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    # ---------------------------------------------------------------- reading

    def _fresh(self, taken: Taken, now_s: float) -> Reading | None:
        """The reading in what the reader said; None where it said nothing new."""
        counted = [poll for poll in taken.polls if not poll.settles_in_s]
        if counted:  # before an error that came after them: it is told at the next call
            facts, covers_s = self._merger.facts(counted)
            return Reading(signal=self.name, at_s=counted[-1].at_s, covers_s=covers_s, facts=facts)
        if taken.error:
            return self._failed(taken.error + self._no_device(taken.error), now_s)
        if taken.polls:
            left_s = taken.polls[-1].settles_in_s
            return self._failed(f"NVML was just opened: readings count in {left_s:.0f} s", now_s)
        return None

    def _with_proof(self, reading: Reading, now_s: float, reader_pid: int | None) -> Reading:
        """The reading with what is known of who has a GPU open; an error that is proven harmless becomes a fact."""
        blind = bool(reading.error or unseen.of_pod(reading.facts))
        looked = self._open_files.look(now_s, unseen=blind, reader_pid=reader_pid)
        found = self._open_files.found
        if found is None:
            return reading if reading.error else replace(reading, facts={**reading.facts, **looked})
        if reading.error and not found.none:
            return replace(reading, error=f"{reading.error}; {found}")
        lost: dict[str, Json] = {"gpus": [], "expected": self._merger.expected, "lost": reading.error}
        facts = {**(lost if reading.error else reading.facts), **looked}
        covers_s = self._open_files.covers_s if found.none else reading.covers_s
        return replace(reading, facts=facts, error=None, covers_s=covers_s)

    def _failed(self, error: str, now_s: float) -> Reading:
        return Reading(signal=self.name, at_s=now_s, error=error)

    def _devices(self) -> list[str]:
        try:
            return [path.name for path in self._device_dir.iterdir() if path.name.startswith(DEVICES)]
        except OSError as error:
            raise SignalError(f"{self._device_dir} can't be listed: {error.strerror}") from error

    def _absent(self) -> str | None:
        """The proof that this Pod has no GPU; devices that were there once disprove it for good."""
        if self._gpu_count is not None:
            return None if self._gpu_count else "RUNPOD_GPU_COUNT=0"
        self._had_devices = self._had_devices or bool(self._devices())
        where = self._device_dir
        return None if self._had_devices else f"no {where}/nvidia* and no {where}/kfd"

    def _no_device(self, error: str) -> str:
        """More to an NVML that can't be opened: whether there is anything that it could open."""
        if not error.startswith("NVML can't be opened"):
            return ""
        try:
            return "" if self._devices() else f"; there is no GPU in {self._device_dir}"
        except SignalError:
            return ""

    # ---------------------------------------------------------------- judging

    def _without_gpu(self, reading: Reading) -> Finding:
        before = reading.facts.get("gpus_before")
        notice = None
        if before:
            notice = (
                f"this Pod had {before} GPU{'s' if before != 1 else ''} before its last stop and came back without any"
            )
        return Finding(signal=self.name, activity=Activity.ABSENT, reason=reading.absent or "", notice=notice)

    def _finding(self, reading: Reading) -> Finding:
        gpus: Any = reading.facts.get("gpus", [])
        verdicts = [self._verdict(gpu, place, reading.at_s) for place, gpu in enumerate(gpus)]
        self._said = gpus, verdicts
        activity, reason = self._strongest(verdicts, reading.facts)
        notice = _notice(verdicts, self._waste.look(gpus, reading.at_s))
        if activity is Activity.UNKNOWN:
            return Finding(signal=self.name, activity=activity, reason=reason, notice=notice)
        active = activity is Activity.ACTIVE
        reason = reason or self._quiet(gpus, reading.at_s)
        self._busy_s = reading.at_s if active else self._busy_s
        return Finding(
            signal=self.name,
            activity=activity,
            reason=reason,
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=reading.at_s if active else None,
            pauses=not active and any(verdict.pauses for _, verdict in verdicts),
            notice=notice,
        )

    def _verdict(self, gpu: Mapping[str, Any], place: int, at_s: float) -> tuple[str, Verdict]:
        return unseen.label(gpu, place), self._judge_of(gpu, place).verdict(gpu, at_s)

    def _look(self, gpu: Mapping[str, Any], place: int, label: str, verdict: Verdict) -> GpuLook:
        idle = self._judge_of(gpu, place).floors.idle()
        return GpuLook(
            label=label,
            uuid=str(gpu.get("uuid", "")),
            activity=verdict.activity,
            reason=verdict.reason,
            idle_w=idle.watts if idle else None,
            limit_w=idle.limit_w if idle else None,
        )

    def _judge_of(self, gpu: Mapping[str, Any], place: int) -> GpuJudge:
        key = str(gpu.get("uuid", place))
        if key not in self._judges:
            self._judges[key] = GpuJudge(active_above_pct=self._active_above_pct)
        return self._judges[key]

    @staticmethod
    def _strongest(verdicts: list[tuple[str, Verdict]], facts: Mapping[str, Any]) -> tuple[Activity, str]:
        """The strongest verdict with its reason: ACTIVE, then a GPU that was not seen, then a pause."""
        active = [f"{label} {verdict.reason}" for label, verdict in verdicts if verdict.activity is Activity.ACTIVE]
        if active:
            return Activity.ACTIVE, active[0]
        blind = "; ".join(unseen.of_pod(facts))
        if blind:
            return _proven(facts, blind)
        return Activity.QUIET, next((f"{label} {verdict.reason}" for label, verdict in verdicts if verdict.pauses), "")

    def _quiet(self, gpus: list[Mapping[str, Any]], at_s: float) -> str:
        highest = max((pct for gpu in gpus for pct in _percents(gpu)), default=0.0)
        limit = min((self._judge_of(gpu, place).limit_pct(gpu) for place, gpu in enumerate(gpus)), default=0.0)
        count = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
        looks = ", by one look a second" if any(gpu.get("instant") for gpu in gpus) else ""
        busy = "no busy reading yet" if self._busy_s is None else f"last busy reading {_ago(at_s - self._busy_s)}"
        return f"{count} at {highest:.0f} % <= {limit:g} %{looks}, {busy}"


def _percents(gpu: Mapping[str, Any]) -> list[float]:
    parts = [part.get("util_mean_pct") for part in gpu.get("instances", [])]
    told = [gpu.get("util_max_pct"), *gpu.get("engines_max_pct", {}).values(), *parts]
    return [pct for pct in told if pct is not None]


def _proven(facts: Mapping[str, Any], blind: str) -> tuple[Activity, str]:
    """What who has a GPU open says of GPUs that can't be read."""
    names, error = facts.get("holders"), facts.get("holders_error")
    if names == []:
        for_min = facts.get("unseen_s", 0.0) / 60
        return Activity.QUIET, f"no process but idlewatch has a GPU open; unreadable for {for_min:.0f} min: {blind}"
    if names or error:
        return Activity.UNKNOWN, f"{blind}; {Holders(tuple(names or ()), error)}"
    return Activity.UNKNOWN, blind


def _notice(verdicts: list[tuple[str, Verdict]], waste: str | None) -> str | None:
    suspicions = [f"{label} {verdict.notice}" for label, verdict in verdicts if verdict.notice]
    return "; ".join([waste, *suspicions] if waste else suspicions) or None


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"
