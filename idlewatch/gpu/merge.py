"""
The polls of one tick as one set of facts, and the span that they really cover.

What any poll saw counts (a busy sample is never averaged away); covered is only the newest span without a hole. A
poll that could not be read leaves a hole unless a later one still had its samples in the ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idlewatch.gpu.numbers import Numbers
from idlewatch.gpu.samples import two_highest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idlewatch.gpu.line import GpuPoll, Poll
    from idlewatch.model import Json

HOLE_S = 2.0
"""Seconds between two covered spans that still count as one."""

Seen = tuple[float, "GpuPoll"]
"""The instant of a poll and what it saw of one GPU."""


@dataclass(frozen=True, slots=True)
class _Counter:
    at_s: float
    total_mj: int


class Merger:
    """Makes facts of polls; remembers each GPU's number and energy counter, and how many GPUs there have been."""

    def __init__(self, gpu_count: int | None) -> None:
        self._gpu_count = gpu_count
        self._most = 1
        self._energy: dict[str, _Counter] = {}
        self._numbers = Numbers()

    def facts(self, polls: Sequence[Poll]) -> tuple[dict[str, Json], float]:
        """The facts of these polls (one or more, oldest first), and the seconds up to the newest that they cover."""
        newest = polls[-1]
        self._most = max(self._most, *(poll.expected for poll in polls))
        seen: dict[str, list[Seen]] = {}
        for poll in polls:
            for gpu in poll.gpus:
                seen.setdefault(gpu.uuid, []).append((poll.at_s, gpu))
        numbers = self._numbers.of([of_one[-1][1] for of_one in seen.values()])
        gpus = [
            {"index": number, **self._gpu(of_one, newest.at_s)}
            for number, of_one in zip(numbers, seen.values(), strict=True)
        ]
        covers_s = min((_covered_s(of_one, newest.at_s) for of_one in seen.values()), default=0.0)
        return {"gpus": [*gpus], **self._whole(newest)}, covers_s

    @property
    def expected(self) -> int:
        """How many GPUs there must be."""
        return self._most if self._gpu_count is None else self._gpu_count

    def _whole(self, newest: Poll) -> dict[str, Json]:
        return {
            "expected": self.expected,
            "found": newest.found,
            "found_error": newest.found_error,
            "gone": [*self._numbers.gone(newest.gpus)],
            "driver": newest.driver,
            "poll_s": newest.poll_s,
        }

    def _gpu(self, seen: list[Seen], newest_s: float) -> dict[str, Json]:
        at_s, last = seen[-1]
        polls = [gpu for _, gpu in seen]
        return {
            "uuid": last.uuid,
            "name": last.name,
            "kind": last.kind,
            "mig": last.mig,
            "virtual": last.virtual,
            "instances": _instances(polls),
            **_utilization(polls),
            "instant": last.instant,
            "covered_s": _covered_s(seen, newest_s),
            "ring_span_s": last.ring_span_s,
            "ring_period_s": last.ring_period_s,
            "engines_max_pct": _engines(polls),
            **self._drawn(at_s, polls),
            "power_limit_w": last.power_limit_w,
            "mem_used_mib": last.mem_used_mib,
            "mem_total_mib": last.mem_total_mib,
            "processes": last.processes,
            "not_readable": {**last.not_readable},
            "unsupported": [*last.unsupported],
            "error": last.error if at_s == newest_s else "not in the newest reading",
        }

    def _drawn(self, at_s: float, polls: list[GpuPoll]) -> dict[str, Json]:
        """Energy since the last reading and mean power; without a counter, the mean of what it drew at looks."""
        energy_mj, span_s = self._energy_since(at_s, polls[-1])
        looks_w = [poll.power_w for poll in polls if poll.power_w is not None]
        mean_w = energy_mj / 1000 / span_s if energy_mj is not None and span_s else None
        if mean_w is None and looks_w and polls[-1].energy_total_mj is None:
            mean_w = sum(looks_w) / len(looks_w)
        power_w = None if mean_w is None else round(mean_w, 2)
        return {"energy_mj": energy_mj, "energy_span_s": span_s, "power_mean_w": power_w}

    def _energy_since(self, at_s: float, gpu: GpuPoll) -> tuple[int | None, float | None]:
        """Energy in mJ and seconds since the counter was last read; unknown where it went back (driver loaded anew)."""
        if gpu.energy_total_mj is None:
            return None, None
        before, now = self._energy.get(gpu.uuid), _Counter(at_s, gpu.energy_total_mj)
        self._energy[gpu.uuid] = now
        if before is None or now.total_mj < before.total_mj or now.at_s <= before.at_s:
            return None, None
        return now.total_mj - before.total_mj, round(now.at_s - before.at_s, 3)


def _utilization(polls: list[GpuPoll]) -> dict[str, Json]:
    """Highest, second highest and mean of every sample that any poll saw; unknown where none read any."""
    read = [poll for poll in polls if poll.util_max_pct is not None]
    samples = sum(poll.samples for poll in read)
    if not read:
        return {"util_max_pct": None, "util_second_pct": None, "util_mean_pct": None, "samples": 0}
    tops = [pct for poll in read for pct in (poll.util_max_pct, poll.util_second_pct) if pct is not None]
    highest, second = two_highest(tops)
    told = all(poll.util_second_pct is not None for poll in read)
    mean = sum((poll.util_mean_pct or 0.0) * poll.samples for poll in read) / samples if samples else None
    return {
        "util_max_pct": highest,
        "util_second_pct": second if told else None,
        "util_mean_pct": None if mean is None else round(mean, 2),
        "samples": samples,
    }


def _engines(polls: list[GpuPoll]) -> dict[str, Json]:
    highest: dict[str, float] = {}
    for poll in polls:
        for engine, pct in poll.engines_max_pct.items():
            highest[engine] = max(pct, highest.get(engine, 0.0))
    return {**highest}


def _instances(polls: list[GpuPoll]) -> list[Json]:
    """The newest list of a GPU's instances, each with its highest busy share of these polls."""
    busy: dict[str, float] = {}
    for poll in polls:
        for part in poll.instances:
            if part.util_mean_pct is not None:
                busy[part.uuid] = max(part.util_mean_pct, busy.get(part.uuid, 0.0))
    return [
        {"uuid": part.uuid, "mem_used_mib": part.mem_used_mib, "util_mean_pct": busy.get(part.uuid)}
        for part in polls[-1].instances
    ]


def _covered_s(seen: list[Seen], newest_s: float) -> float:
    """Seconds up to the newest poll that samples of this GPU cover without a hole; a poll that failed covers none."""
    from_s = newest_s
    for at_s, gpu in reversed(seen):
        if at_s < from_s - HOLE_S:
            break
        if gpu.error is None:
            from_s = min(from_s, at_s - gpu.covered_s)
    return round(newest_s - from_s, 3)
