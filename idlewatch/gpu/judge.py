"""
The verdict on one GPU, by itself: never a mean over GPUs.

Stronger evidence is looked for first: a busy sample, a busy engine, memory that grows, energy that nothing else
explains. Only then does an error make it UNKNOWN, and only what was read as idle is QUIET.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from idlewatch.gpu.floor import PowerFloor
from idlewatch.model import Activity

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTEXT_MIB = 200
"""A bare CUDA context takes 250 to 530 MiB; an empty GPU reads up to 3 MiB, or its reserve with old libraries."""
GROWTH_MIB = 200
GROWTH_WINDOW_S = 600.0
UNCOVERED_S = 4.0
"""Seconds without samples from which energy votes: below it, the counter's own steps are as large as the margin."""
AFTERGLOW_S = 60.0
"""After activity, clocks and power stay up for a while (19 s seen): energy proves nothing then."""


Facts: TypeAlias = "Mapping[str, Any]"
"""What `Reading.facts["gpus"]` has of one GPU."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one GPU; `pauses` as in Finding."""

    activity: Activity
    reason: str
    pauses: bool = False


class GpuJudge:
    """Judges the facts of one GPU, one reading after the other; the same readings give the same verdicts."""

    def __init__(self, *, active_above_pct: float) -> None:
        self._limit_pct = active_above_pct
        self._floor = PowerFloor()
        self._memory: deque[tuple[float, float]] = deque()
        self._processes: int | None = None
        self._held_mib: float | None = None
        self._active_s: float | None = None

    def verdict(self, label: str, gpu: Facts, at_s: float) -> Verdict:
        """The verdict on the facts of this GPU at `at_s`; `label` (`gpu0`) begins the reason."""
        self._follow_context(gpu)
        grown, lone = self._grown(gpu, at_s), self._lone_sample(gpu)
        busy = None if lone else self._busy(gpu)
        active = busy or self._busy_engine(gpu) or grown or self._energy_vote(gpu, at_s)
        if active:
            self._active_s = at_s
            return Verdict(Activity.ACTIVE, f"{label} {active}")
        self._learn(gpu, at_s)
        unknown = _unknown(gpu)
        if unknown:
            return Verdict(Activity.UNKNOWN, f"{label} {unknown}")
        return Verdict(Activity.QUIET, f"{label} {lone}" if lone else "", pauses=lone is not None)

    def _busy(self, gpu: Facts) -> str | None:
        pct = gpu.get("util_max_pct")
        return self._above("utilization", pct) if pct is not None else None

    def _busy_engine(self, gpu: Facts) -> str | None:
        busy = (self._above(name, pct) for name, pct in gpu.get("engines_max_pct", {}).items())
        return next((reason for reason in busy if reason), None)

    def _above(self, name: str, pct: float) -> str | None:
        return f"{name} {pct:.0f} % > {self._limit_pct:g} %" if pct > self._limit_pct else None

    def _lone_sample(self, gpu: Facts) -> str | None:
        """
        Why one busy sample is no proof of work: nothing holds the GPU, and it drew no more power.

        All three must be known; where one is not, the sample counts. Opening the driver reads as up to 100 % on a
        GPU that nobody uses.
        """
        highest, second = gpu.get("util_max_pct"), gpu.get("util_second_pct")
        mib, watts = gpu.get("mem_used_mib"), gpu.get("power_mean_w")
        if highest is None or second is None or not second <= self._limit_pct < highest:
            return None
        if mib is None or watts is None or gpu.get("processes") or mib >= CONTEXT_MIB:
            return None
        limit_w = self._floor.limit_w()
        if limit_w is None or watts > limit_w:
            return None
        return (
            f"one sample of {highest:.0f} % > {self._limit_pct:g} % with {mib:.0f} MiB < {CONTEXT_MIB} MiB in use and "
            f"{watts:.0f} W <= {limit_w:.0f} W: no proof of work, the clock pauses"
        )

    def _grown(self, gpu: Facts, at_s: float) -> str | None:
        """Memory that rose above its low of 10 min: a model is being loaded, from a slow volume too."""
        mib = gpu.get("mem_used_mib")
        if mib is None:
            return None
        while len(self._memory) > 1 and self._memory[0][0] < at_s - GROWTH_WINDOW_S:
            self._memory.popleft()
        low_mib = min((before for _, before in self._memory), default=mib)
        if mib - low_mib > GROWTH_MIB:
            self._memory.clear()
        self._memory.append((at_s, mib))
        grown_mib = mib - low_mib
        return f"memory grew by {grown_mib:.0f} MiB > {GROWTH_MIB} MiB" if grown_mib > GROWTH_MIB else None

    def _follow_context(self, gpu: Facts) -> None:
        """A context alone adds up to 66 W: with another process or another 200 MiB the floor is learned anew."""
        processes, mib = gpu.get("processes"), gpu.get("mem_used_mib")
        if processes is not None:
            changed, self._processes = processes != self._processes, processes
            if changed:
                self._floor.forget()
        if mib is not None and (self._held_mib is None or abs(mib - self._held_mib) > CONTEXT_MIB):
            self._held_mib = mib
            self._floor.forget()

    def _energy_vote(self, gpu: Facts, at_s: float) -> str | None:
        """Power above the floor over seconds without samples; never soon after activity, never without a floor."""
        span_s, watts = gpu.get("energy_span_s"), gpu.get("power_mean_w")
        if span_s is None or watts is None:
            return None
        unseen_s = span_s - gpu.get("covered_s", 0.0)
        if unseen_s < UNCOVERED_S and not _unsupported(gpu):
            return None
        if self._active_s is not None and at_s - self._active_s < AFTERGLOW_S:
            return None
        limit_w = self._floor.limit_w()
        if limit_w is None or watts <= limit_w:
            return None
        return f"drew {watts:.0f} W > {limit_w:.0f} W in {span_s:.0f} s, {unseen_s:.0f} s of them without samples"

    def _learn(self, gpu: Facts, at_s: float) -> None:
        """Take a stretch at utilization 0 into the floor; where utilization can't be read, any without a vote."""
        span_s, watts = gpu.get("energy_span_s"), gpu.get("power_mean_w")
        if span_s is None or watts is None or gpu.get("error"):
            return
        seen = gpu.get("util_max_pct") == 0 and span_s - gpu.get("covered_s", 0.0) < UNCOVERED_S
        if _unsupported(gpu) or (seen and not any(gpu.get("engines_max_pct", {}).values())):
            self._floor.note(at_s, span_s, watts)


def _unsupported(gpu: Facts) -> bool:
    return "utilization" in gpu.get("unsupported", [])


def _unknown(gpu: Facts) -> str | None:
    """Why it can't be said that this GPU was idle; None where it can."""
    if gpu.get("error"):
        return str(gpu["error"])
    if gpu.get("mig"):
        return "utilization can't be read: MIG is on"
    if _unsupported(gpu):
        return "utilization can't be read: not supported or not permitted here"
    return "has no utilization reading" if gpu.get("util_max_pct") is None else None
