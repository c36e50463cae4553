"""
The verdict on one GPU, by itself: never a mean over GPUs.

Stronger evidence is looked for first: a busy sample, a busy engine, memory that grows, energy that nothing else
explains. Only then does an error make it UNKNOWN, and only what was read as idle is QUIET.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from idlewatch.gpu import UTILIZATION
from idlewatch.gpu.floor import CONTEXT_MIB, Floors
from idlewatch.gpu.suspicion import Suspicion
from idlewatch.gpu.unseen import Facts, of_gpu
from idlewatch.model import Activity

GROWTH_MIB = 200
GROWTH_WINDOW_S = 600.0
UNCOVERED_S = 4.0
"""Seconds without samples from which energy votes: below it, the counter's own steps are as large as the margin."""
AFTERGLOW_S = 60.0
"""After activity, clocks and power stay up for a while (19 s seen): energy proves nothing then."""
INSTANT_ABOVE_PCT = 3.0
"""The limit where single looks are all there is: they miss most of a bursty load, so less is enough."""
INSTANCE_ABOVE_PCT = 1.0
"""The limit of a MIG instance's mean over a whole poll, in which 0.2 s of work are 4 %."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one GPU; `pauses` and `notice` as in Finding."""

    activity: Activity
    reason: str
    pauses: bool = False
    notice: str | None = None


class GpuJudge:
    """Judges the facts of one GPU, one reading after the other; the same readings give the same verdicts."""

    def __init__(self, *, active_above_pct: float) -> None:
        self._limit_pct = active_above_pct
        self.floors = Floors()
        self._suspicion = Suspicion()
        self._memory: deque[tuple[float, float]] = deque()
        self._active_s: float | None = None

    def verdict(self, gpu: Facts, at_s: float) -> Verdict:
        """The verdict on the facts of this GPU at `at_s`."""
        self.floors.follow(gpu)
        grown, lone = self._grown(gpu, at_s), self._lone_sample(gpu)
        busy = None if lone else self._busy(gpu)
        active = busy or self._busy_engine(gpu) or self._busy_instance(gpu) or grown or self._energy_vote(gpu, at_s)
        suspicion = self._suspicion.look(gpu, at_s, self.floors.idle)
        if active:
            self._active_s = at_s
            return Verdict(Activity.ACTIVE, active, notice=suspicion)
        self._learn(gpu, at_s)
        unseen = of_gpu(gpu)
        if unseen:
            return Verdict(Activity.UNKNOWN, unseen)
        return Verdict(Activity.QUIET, lone or "", pauses=lone is not None)

    def limit_pct(self, gpu: Facts) -> float:
        """The utilization above which this GPU is active."""
        return min(self._limit_pct, INSTANT_ABOVE_PCT) if gpu.get("instant") else self._limit_pct

    def _busy(self, gpu: Facts) -> str | None:
        pct = gpu.get("util_max_pct")
        return _above("utilization", pct, self.limit_pct(gpu)) if pct is not None else None

    def _busy_engine(self, gpu: Facts) -> str | None:
        limit_pct = self.limit_pct(gpu)
        busy = (_above(name, pct, limit_pct) for name, pct in gpu.get("engines_max_pct", {}).items())
        return next((reason for reason in busy if reason), None)

    @staticmethod
    def _busy_instance(gpu: Facts) -> str | None:
        """An instance's share is a mean over the whole poll, not a highest sample."""
        for part in gpu.get("instances", []):
            pct = part.get("util_mean_pct")
            if pct is not None and pct > INSTANCE_ABOVE_PCT:
                return f"{part['uuid'][:12]} worked {pct:.1f} % of the time > {INSTANCE_ABOVE_PCT:g} %"
        return None

    def _lone_sample(self, gpu: Facts) -> str | None:
        """
        Why one busy sample is no proof of work: nothing holds the GPU, and it drew no more power.

        All three must be known; where one is not, the sample counts. Opening the driver reads as up to 100 % on a
        GPU that nobody uses.
        """
        highest, second = gpu.get("util_max_pct"), gpu.get("util_second_pct")
        mib, watts = gpu.get("mem_used_mib"), gpu.get("power_mean_w")
        limit_pct = self.limit_pct(gpu)
        if highest is None or second is None or not second <= limit_pct < highest:
            return None
        if mib is None or watts is None or gpu.get("processes") or mib >= CONTEXT_MIB:
            return None
        limit_w = self.floors.limit_w()
        if limit_w is None or watts > limit_w:
            return None
        return (
            f"one sample of {highest:.0f} % > {limit_pct:g} % with {mib:.0f} MiB < {CONTEXT_MIB} MiB in use and "
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

    def _energy_vote(self, gpu: Facts, at_s: float) -> str | None:
        """
        Power above the floor over seconds without samples; never soon after activity, never without a floor.

        Nor with MIG: the power of the whole GPU is also that of its other tenants.
        """
        span_s, watts = gpu.get("energy_span_s"), gpu.get("power_mean_w")
        if span_s is None or watts is None or gpu.get("mig"):
            return None
        unseen_s = span_s - gpu.get("covered_s", 0.0)
        if unseen_s < UNCOVERED_S and not _unsupported(gpu):
            return None
        if self._active_s is not None and at_s - self._active_s < AFTERGLOW_S:
            return None
        limit_w = self.floors.limit_w()
        if limit_w is None or watts <= limit_w:
            return None
        return f"drew {watts:.0f} W > {limit_w:.0f} W in {span_s:.0f} s, {unseen_s:.0f} s of them without samples"

    def _learn(self, gpu: Facts, at_s: float) -> None:
        """Take a stretch at utilization 0 into the floor; where utilization can't be read, any without a vote."""
        watts, covered_s = gpu.get("power_mean_w"), gpu.get("covered_s", 0.0)
        span_s = gpu.get("energy_span_s") or covered_s
        if not span_s or watts is None or gpu.get("error"):
            return
        seen = gpu.get("util_max_pct") == 0 and span_s - covered_s < UNCOVERED_S
        if _unsupported(gpu) or (seen and not any(gpu.get("engines_max_pct", {}).values())):
            self.floors.note(at_s, span_s, watts)


def _above(name: str, pct: float, limit_pct: float) -> str | None:
    return f"{name} {pct:.0f} % > {limit_pct:g} %" if pct > limit_pct else None


def _unsupported(gpu: Facts) -> bool:
    return UTILIZATION in gpu.get("unsupported", [])
