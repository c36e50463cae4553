"""
What others logged of GPUs, as a life that can be replayed: samples packed tick by tick, and only then judged.

A tick's reading holds the highest, the next and the mean of its samples, as the daemon's own reading does of its polls,
so that no busy sample is lost however coarse the ticks are. Each sample is a single look: of bursts between two of them
nothing is known, which the GPU judge makes up for with a lower limit (`GpuJudge.limit_pct`). Where no sample was
logged for long, nobody looked.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isnan, nan
from pathlib import Path
from statistics import median

from idlewatch.durations import format_duration
from idlewatch.model import Json, Reading
from idlewatch.replay.life import Life
from idlewatch.replay.lines import BadFile
from idlewatch.replay.plausible import MOST_PCT, refuse_percent
from idlewatch.replay.story import Story

STARTED_S = 1000.0
"""Where the first sample is put on the replay's clock: not 0, so that a missing instant is never a plausible one."""
FINE_S, COARSE_S = 15.0, 60.0
"""A tick of a short log and of a long one: a year of minutes is half a million of them."""
LONG_S = 7 * 86400.0
_HOLE_PERIODS = 3.0
"""A longer time without a sample was not seen."""
_TOGETHER = 3
"""In a long log only each third tick is decided at where nothing can change: in use all the time, or at rest for hours.
Judged is every one."""
_AT_REST_S = 3 * 3600.0
_BUSY_ABOVE_PCT = 5.0
_ASLEEP_S = 60.0
_AFTER_S = 0.001
"""The last tick before a hole, and that at the end, is still one."""
_PERIODS_LOOKED_AT = 200


@dataclass(slots=True)
class _Gpu:
    """One GPU's samples, a row a tick; a tick without any has no row."""

    tick: array[int] = field(default_factory=lambda: array("l"))
    at_s: array[float] = field(default_factory=lambda: array("d"))
    highest: array[float] = field(default_factory=lambda: array("d"))
    second: array[float] = field(default_factory=lambda: array("d"))
    mean: array[float] = field(default_factory=lambda: array("d"))
    watts: array[float] = field(default_factory=lambda: array("d"))
    mib: array[float] = field(default_factory=lambda: array("d"))
    samples: array[int] = field(default_factory=lambda: array("l"))


@dataclass(slots=True)
class _Open:
    """The tick that samples still go into; NaN: not known."""

    tick: int
    ends_s: float
    at_s: float
    highest: float = nan
    second: float = 0.0
    total: float = 0.0
    samples: int = 0
    joules: float = 0.0
    looks: int = 0
    mib: float = nan


class Packer:
    """Takes samples in the order of their time, GPU by GPU or mixed, and packs each tick's into one row."""

    def __init__(self, tick_s: float) -> None:
        """A tick lasts so many seconds, counted from 0 of the samples' own clock."""
        self.tick_s = tick_s
        self.gpus: dict[str, _Gpu] = {}
        self._open: dict[str, _Open] = {}

    def take(self, gpu: str, at_s: float, percent: float, watts: float, mib: float) -> None:
        """Add a sample; NaN is what was not told. Raises ValueError where it is none, or older than the one before."""
        now = self._open.get(gpu)
        if now is None or at_s >= now.ends_s:
            now = self._opened(gpu, at_s)
        elif at_s < now.at_s:
            raise ValueError("its time goes back; sort it, or give each log a file of its own")
        now.at_s = at_s
        if percent == percent:  # noqa: PLR0124  (NaN is not itself; a call for each of millions of samples is dear)
            if percent < 0.0 or percent > MOST_PCT:
                refuse_percent(percent)
            now.total += percent
            now.samples += 1
            if not percent <= now.highest:
                now.second, now.highest = (0.0 if now.samples == 1 else now.highest), percent
            elif percent > now.second:
                now.second = percent
        if watts == watts:  # noqa: PLR0124  (as above)
            now.joules += watts
            now.looks += 1
        if mib == mib:  # noqa: PLR0124  (as above)
            now.mib = mib

    def _opened(self, gpu: str, at_s: float) -> _Open:
        before = self._open.get(gpu)
        if before is not None:
            self._close(gpu, before)
        tick = int(at_s // self.tick_s)
        now = self._open[gpu] = _Open(tick, (tick + 1) * self.tick_s, at_s)
        return now

    def _close(self, gpu: str, one: _Open) -> None:
        rows = self.gpus.setdefault(gpu, _Gpu())
        rows.tick.append(one.tick)
        rows.at_s.append(one.at_s)
        rows.highest.append(one.highest)
        rows.second.append(one.second)
        rows.mean.append(one.total / one.samples if one.samples else nan)
        rows.watts.append(one.joules / one.looks if one.looks else nan)
        rows.mib.append(one.mib)
        rows.samples.append(one.samples)

    def done(self) -> None:
        """No sample will come any more."""
        for gpu, one in self._open.items():
            self._close(gpu, one)
        self._open.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a log holds; `Packer.done` was called."""

    path: Path
    kind: str
    """What wrote it, for people."""
    packer: Packer
    period_s: float
    zero_at: datetime | None
    """Wall time of second 0 of the samples' clock; None: it has none."""
    notes: tuple[str, ...] = ()


def period(instants: list[float]) -> float:
    """Seconds between two samples, by the first ones of one GPU; a log of one sample counts as one each 15 s."""
    steps = [after - before for before, after in pairwise(instants) if after > before]
    return median(steps[:_PERIODS_LOOKED_AT]) if steps else FINE_S


def tick_for(period_s: float, lasts_s: float) -> float:
    """How long one tick is: never shorter than the samples are apart."""
    return max(COARSE_S if lasts_s > LONG_S else FINE_S, round(period_s))


def story(samples: Samples) -> Story:
    """The log as a story. Raises BadFile where it has no sample."""
    gpus = samples.packer.gpus
    if not gpus:
        raise BadFile([f"{samples.path}: it has no sample of a GPU's utilization"])
    first_s = min(rows.at_s[0] for rows in gpus.values())
    readings = _Readings(samples, first_s)
    return Story(
        path=samples.path,
        id=samples.path.name.removesuffix(".gz").rpartition(".")[0] or samples.path.name,
        title=f"{samples.kind} of {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}",
        source=str(samples.path),
        variables={"IDLEWATCH_INTERVAL": f"{samples.packer.tick_s:g}s"},
        life=_life(samples, readings, first_s),
        signals=("gpu",),
        recorded=True,
        notes=(
            f"one look each {format_duration(samples.period_s)}: a burst between two looks was not seen",
            "a daemon sees people, CPU and transfers, too, and stops less",
            *samples.notes,
        ),
    )


def _life(samples: Samples, readings: _Readings, first_s: float) -> Life:
    longest_s = max(_ASLEEP_S, _HOLE_PERIODS * max(samples.period_s, samples.packer.tick_s))
    ends = array("d", readings.instants())
    asleep = [(before + _AFTER_S, after) for before, after in pairwise(ends) if after - before > longest_s]
    zero_at = samples.zero_at or datetime(2026, 1, 1, tzinfo=UTC)
    return Life(
        started_s=STARTED_S,
        ends_s=ends[-1] + _AFTER_S,
        readings=readings,
        asleep=asleep,
        instants=readings.decisive() if samples.packer.tick_s > FINE_S else (),
        began_at=zero_at + timedelta(seconds=first_s - STARTED_S),
    )


class _Readings:
    """The readings of the GPU signal, a tick after the other; each iteration begins anew."""

    def __init__(self, samples: Samples, first_s: float) -> None:
        self._gpus, self._shift_s = samples.packer.gpus, STARTED_S - first_s
        self._period_s = samples.period_s
        self._hole_s = _HOLE_PERIODS * max(samples.period_s, samples.packer.tick_s)

    def instants(self) -> Iterator[float]:
        """When they were made."""
        for rows in self._rows():
            yield self._instant(rows)

    def decisive(self) -> array[float]:
        """Those at which a decision can change."""
        found, busy, since_s, left = array("d"), False, 0.0, 0
        for rows in self._rows():
            at_s, before = self._instant(rows), busy
            busy = any(self._gpus[gpu].highest[row] > _BUSY_ABOVE_PCT for gpu, row in rows.items())
            if busy is not before:
                since_s, left = at_s, 0
            if left == 0 or not (busy or at_s - since_s > _AT_REST_S):
                found.append(at_s)
                left = _TOGETHER
            left -= 1
        return found

    def __iter__(self) -> Iterator[Reading]:
        before_s: dict[str, float] = {}
        for rows in self._rows():
            at_s = self._instant(rows)
            gpus: list[Json] = [
                self._facts(place, gpu, rows[gpu], before_s) for place, gpu in enumerate(self._gpus) if gpu in rows
            ]
            covers_s = min(self._covered_s(gpu, row, before_s) for gpu, row in rows.items())
            before_s |= {gpu: self._gpus[gpu].at_s[row] for gpu, row in rows.items()}
            facts: dict[str, Json] = {"gpus": gpus, "expected": len(self._gpus), "found": len(gpus)}
            yield Reading(signal="gpu", at_s=at_s, covers_s=covers_s, facts=facts)

    def _rows(self) -> Iterator[Mapping[str, int]]:
        """For each tick with samples the row of each GPU that has some."""
        if len(self._gpus) == 1:
            [(gpu, one)] = self._gpus.items()
            yield from ({gpu: row} for row in range(len(one.tick)))
            return
        places = dict.fromkeys(self._gpus, 0)
        while places:
            tick = min(self._gpus[gpu].tick[place] for gpu, place in places.items())
            yield (rows := {gpu: place for gpu, place in places.items() if self._gpus[gpu].tick[place] == tick})
            for gpu, place in rows.items():
                places[gpu] = place + 1
                if places[gpu] == len(self._gpus[gpu].tick):
                    del places[gpu]

    def _instant(self, rows: Mapping[str, int]) -> float:
        return max(self._gpus[gpu].at_s[row] for gpu, row in rows.items()) + self._shift_s

    def _covered_s(self, gpu: str, row: int, before_s: Mapping[str, float]) -> float:
        at_s = self._gpus[gpu].at_s[row]
        since_s = at_s - before_s.get(gpu, at_s - self._period_s)
        return since_s if since_s <= self._hole_s else self._period_s

    def _facts(self, place: int, gpu: str, row: int, before_s: Mapping[str, float]) -> dict[str, Json]:
        rows = self._gpus[gpu]
        several = rows.samples[row] > 1
        return {
            "index": place,
            "uuid": gpu,
            "util_max_pct": _known(rows.highest[row]),
            "util_second_pct": _known(rows.second[row]) if several else None,
            "util_mean_pct": _known(rows.mean[row]),
            "samples": rows.samples[row],
            "instant": True,
            "covered_s": self._covered_s(gpu, row, before_s),
            "power_mean_w": _known(rows.watts[row]),
            "mem_used_mib": _known(rows.mib[row]),
        }


def _known(value: float) -> float | None:
    return None if isnan(value) else value
