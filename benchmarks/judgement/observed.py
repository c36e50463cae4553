"""
What can be measured of a life, look by look: the same figures for every rule, and nothing of the truth.

A look describes the seconds since the one before. What a GPU did is told as the driver tells it: the highest and the
mean of its samples over the look, and the newest sample, which is all that somebody who asks now and then gets to see.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.judgement.doing import ALWAYS, Connection, Doing, PodLife, Stretch

_UNREAD_S = 180.0
"""How long a GPU that can't be read stays so, in the mean."""


class Gpu(NamedTuple):
    """One GPU over a look, in percent."""

    highest: float
    mean: float
    newest: float


class Seen(NamedTuple):
    """One look; rates are per second, amounts are those of the look."""

    at_s: float
    gpus: tuple[Gpu, ...]
    watts: float
    """Mean of a working GPU."""
    mib: float
    cpu_cores: float
    """Without the hum."""
    hum_cores: float
    job: str | None
    network: float
    disk: float
    moved: float
    talks: float
    keys: int
    cells: int
    commands: int
    asked: int
    busy_kernel: bool
    grown_mib: float
    """Of the Pod's own memory, over the look."""
    late: bool
    """The GPU's samples describe its second half only."""
    unread: bool
    """The GPU could not be read."""
    connected: Connection | None
    needed: bool
    """The truth: for measuring only."""


def observed(life: PodLife, step_s: float) -> list[Seen]:
    """Every look at a life, `step_s` apart; the first describes its first step."""
    return list(_looks(life, step_s))


def _looks(life: PodLife, step_s: float) -> Iterator[Seen]:
    source, place, unread = random.Random(f"{life.kind} {life.seed} {step_s}"), 0, False
    for index in range(1, int(life.ends_s / step_s) + 1):
        at_s = index * step_s
        first = place
        while life.stretches[place].to_s < at_s:
            place += 1
        stretch = life.stretches[place]
        doing = stretch.doing
        if place > first:
            doing = replace(doing, cpu_cores=_mean_cores(life.stretches[first : place + 1], at_s - step_s, at_s))
        if doing.gpu_mib_per_min:
            doing = replace(doing, mib=doing.mib + doing.gpu_mib_per_min * (at_s - stretch.from_s) / 60)
        unread = _is_unread(doing, step_s, source, before=unread)
        seen = _look(life, doing, at_s, step_s, source, needed=stretch.needed)
        yield seen._replace(unread=True) if unread else seen


def _mean_cores(stretches: Sequence[Stretch], from_s: float, to_s: float) -> float:
    """CPU is counted, so a burst that is shorter than a look is told by its share of it."""
    told = (one.doing.cpu_cores * (min(one.to_s, to_s) - max(one.from_s, from_s)) for one in stretches)
    return sum(told) / (to_s - from_s)


def _is_unread(doing: Doing, step_s: float, source: random.Random, *, before: bool) -> bool:
    """Whether the GPU can't be read at this look: for some minutes in a row, and `doing.unread` of the time in all."""
    if not doing.unread:
        return False
    ends = step_s / _UNREAD_S
    return source.random() >= ends if before else source.random() < ends * doing.unread / (1 - doing.unread)


def _look(life: PodLife, doing: Doing, at_s: float, step_s: float, source: random.Random, *, needed: bool) -> Seen:
    busy = doing.bursts_per_min == ALWAYS or _happens(doing.bursts_per_min, step_s, source)
    late = _happens(doing.late_per_min, step_s, source)
    return Seen(
        at_s=at_s,
        gpus=tuple(_gpus(life, doing, source, busy=busy)),
        watts=(doing.watts * source.uniform(0.985, 1.015) if busy or not doing.bursts_per_min else 110.0)
        + (doing.late_watts if late else 0.0),
        mib=doing.mib,
        cpu_cores=doing.cpu_cores * source.uniform(0.7, 1.3),
        hum_cores=life.hum_cores * source.uniform(0.8, 1.2),
        job=doing.job,
        network=doing.network * source.uniform(0.5, 1.5),
        disk=doing.disk,
        moved=doing.moved,
        talks=doing.talks,
        keys=_count(doing.keys_per_min, step_s, source),
        cells=_count(doing.cells_per_min, step_s, source),
        commands=_count(doing.commands_per_min, step_s, source),
        asked=max(1, _count(doing.asked_per_min, step_s, source)) if busy and doing.asked_per_min else 0,
        busy_kernel=doing.busy_kernel,
        grown_mib=doing.mib_per_min * step_s / 60,
        late=late,
        unread=False,
        connected=next((one for one in life.connections if one.from_s <= at_s < one.to_s), None),
        needed=needed,
    )


def _gpus(life: PodLife, doing: Doing, source: random.Random, *, busy: bool) -> Iterator[Gpu]:
    working = life.gpus if doing.gpus is None else doing.gpus
    for place in range(life.gpus):
        if not busy or place >= working:
            yield Gpu(1.0, 0.0, 0.0) if source.random() < 0.01 else Gpu(0.0, 0.0, 0.0)
            continue
        peak, mean = doing.peak_pct, doing.share * 100 * source.uniform(0.9, 1.1)
        mean = min(mean, peak)
        at_work = source.random() < mean / peak
        yield Gpu(round(peak), mean, round(peak) if at_work else 0.0)


def _happens(per_min: float, step_s: float, source: random.Random) -> bool:
    return per_min > 0 and source.random() < 1 - math.exp(-per_min * step_s / 60)


def _count(per_min: float, step_s: float, source: random.Random) -> int:
    """How many of a Poisson process, by its mean and chance: enough for counters."""
    if not per_min:
        return 0
    mean = per_min * step_s / 60
    return int(mean) + (source.random() < mean - int(mean)) if mean >= 3 else int(_happens(per_min, step_s, source))
