"""
What a GPU did, as series of driver samples: recorded ones, and seeded ones in the shapes that were measured.

A seeded series is made of spans in which kernels run, down to 20 ms; a sample is the share of its period that they
fill, as the driver reckons it. So a short burst may end up as a sample of 8 %, or as 3 % in each of two.
"""

from __future__ import annotations

import csv
import gzip
import random
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parent / "data"
TRACES = (
    "qwen3asr_server_burst_1",
    "qwen3asr_server_burst_2",
    "qwen3asr_server_burst_3",
    "8gpu_nanogpt_train",
    "miris_v100s_light_load",
)
"""Recordings that sample at 1 s or finer and may be passed on; `data/NOTICE.md` has their sources."""
PERIOD_S = 0.2
"""The sample period of an H100: changes in readings taken every 0.1 s are 0.2 s apart."""
BUSY_ABOVE_PCT = 5
LEAD_S = 80.0
"""The first row is held for so long before a series begins: 30 s after the opening of NVML don't count."""
SHORTEST_S = 70.0
"""A shorter recording is followed by its last row, so that it holds a window of 60 s whenever the polls fall."""

Spans = list[tuple[float, float]]
"""Seconds from and to which kernels run, in order."""


class Sample(NamedTuple):
    """One row of a series; what was not recorded is None."""

    at_s: float
    """End of the sample period, seconds from the beginning of the series."""
    pct: int
    watts: float | None = None
    mib: int | None = None


class Series:
    """
    Samples of one GPU in order of time, held before the beginning and after a short end.

    `nothing_runs`: whatever the samples say, no program uses this GPU.
    """

    def __init__(self, name: str, samples: list[Sample], *, nothing_runs: bool = False) -> None:
        self.name = name
        self.ends_s = max(samples[-1].at_s, SHORTEST_S)
        self.samples = [*_held(samples[0], -LEAD_S, 0.0), *samples, *_held(samples[-1], samples[-1].at_s, self.ends_s)]
        self._times = [sample.at_s for sample in self.samples]
        busy = (sample.pct > BUSY_ABOVE_PCT and not nothing_runs for sample in self.samples)
        self._busy = list(accumulate(busy, initial=0))
        self._joules = list(accumulate(_joules(self.samples)))

    def newest(self, at_s: float) -> Sample:
        """The sample that stands at an instant: what an instant reading gives."""
        return self.samples[bisect_right(self._times, at_s) - 1]

    def between(self, from_s: float, to_s: float) -> list[Sample]:
        """The samples after `from_s`, up to and with `to_s`."""
        return self.samples[bisect_right(self._times, from_s) : bisect_right(self._times, to_s)]

    def works(self, from_s: float, to_s: float) -> bool:
        """Whether a program was at work: a sample after `from_s`, up to and with `to_s`, is above 5 %."""
        return self._busy[bisect_right(self._times, to_s)] > self._busy[bisect_right(self._times, from_s)]

    def joules(self, at_s: float) -> float:
        """What the energy counter stands at."""
        return self._joules[bisect_right(self._times, at_s) - 1]


def _held(sample: Sample, from_s: float, to_s: float) -> list[Sample]:
    """The same sample after `from_s` and before `to_s`."""
    count = int((to_s - from_s) / PERIOD_S - 1e-9)
    return [sample._replace(at_s=round(from_s + (index + 1) * PERIOD_S, 6)) for index in range(count)]


def _joules(samples: list[Sample]) -> Iterator[float]:
    before_s = samples[0].at_s
    for sample in samples:
        yield (sample.watts or 0.0) * (sample.at_s - before_s)
        before_s = sample.at_s


def read_trace(path: Path) -> list[Series]:
    """The series in a gzip CSV with the columns t_s, gpu, util_pct and, where known, power_w and mem_used_mib."""
    rows: dict[str, list[Sample]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            watts, mib = row.get("power_w"), row.get("mem_used_mib")
            sample = Sample(
                float(row["t_s"]),
                round(float(row["util_pct"])),
                float(watts) if watts else None,
                int(float(mib)) if mib else None,
            )
            rows.setdefault(row.get("gpu") or "0", []).append(sample)
    name = path.name.removesuffix(".csv.gz")
    return [Series(name, samples) for samples in rows.values()]


def shipped_traces() -> list[Series]:
    """Every series of the recordings in `data/`."""
    return [series for name in TRACES for series in read_trace(DATA / f"{name}.csv.gz")]


def offload_training(seed: int, minutes: float = 20) -> Series:
    """
    A training that keeps its weights on the host: 0 % in 82 to 83 % of the samples, gaps to 3.0 s, full bursts.

    Measured on an H100 (FSDP with CPU offload): 83 %, 3.0 s, 123 W between the bursts and 187 W in the mean.
    """
    spans = _spans(random.Random(seed), minutes * 60, gap_s=(2.5, 3.1), busy_s=(0.3, 0.42))
    return Series("CPU-offload training", _sampled(spans, minutes * 60, lambda pct: (123 + 5.6 * pct, 33_000)))


def server_bursts(seed: int, minutes: float = 20) -> Series:
    """A model at rest that answers a request of 0.2 to 2 s every 10 to 90 s; 120 W at rest."""
    spans = _spans(random.Random(seed), minutes * 60, gap_s=(10, 90), busy_s=(0.2, 2.0))
    return Series("server bursts", _sampled(spans, minutes * 60, lambda pct: (120 + 3 * pct, 16_800)))


def short_kernels(seed: int, minutes: float = 20) -> Series:
    """A model at rest with a kernel of 20 to 60 ms every 5 to 40 s: lone samples of 5 to 30 %, hardly any power."""
    spans = _spans(random.Random(seed), minutes * 60, gap_s=(5, 40), busy_s=(0.02, 0.06))
    return Series("short kernels", _sampled(spans, minutes * 60, lambda pct: (120 + pct / 10, 16_800)))


def streaming(seed: int, minutes: float = 20) -> Series:
    """Live streaming inference on an H100, as measured: median 6 %, the most in 10 s mostly 6 to 10 %, 130 W."""
    source = random.Random(seed)
    samples = []
    for at_s in _periods(minutes):
        pct = min(max(round(source.gauss(6, 1.3)), 0), 12)
        samples.append(Sample(at_s, pct, source.uniform(128, 133), 23_000))
    return Series("streaming inference", samples)


def idle_h100(seed: int, minutes: float = 20, *, memory_tells: bool = True) -> Series:
    """
    An H100 that nobody uses: empty (69 to 73 W, rarely 1 or 2 %), then, from the middle on, with a context held.

    A context draws 117 to 123 W, takes 530 MiB and does nothing. Without `memory_tells` no memory can be read.
    """
    source = random.Random(seed)
    samples = []
    for at_s, level in zip(_periods(minutes), _wander(source), strict=False):
        if at_s < minutes * 30:
            pct = source.choice((1, 2)) if source.random() < 0.01 else 0
            samples.append(Sample(at_s, pct, 69 + 4 * level, 3 if memory_tells else None))
        else:
            samples.append(Sample(at_s, 0, 117 + 6 * level, 530 if memory_tells else None))
    name = "H100: empty, then a context held"
    return Series(name if memory_tells else "the same, memory unreadable", samples, nothing_runs=True)


def woken_h100(seed: int, minutes: float = 20) -> Series:
    """An empty H100 on which the driver wakes up every 2 to 5 min: one sample of 30 to 100 %, and no more power."""
    source = random.Random(seed)
    samples = []
    wakes_s = 120.0
    for at_s, level in zip(_periods(minutes), _wander(source), strict=False):
        woken = at_s >= wakes_s
        samples.append(Sample(at_s, source.randint(30, 100) if woken else 0, 69 + 4 * level, 3))
        wakes_s = at_s + source.uniform(120, 300) if woken else wakes_s
    return Series("H100: empty, its driver wakes up", samples, nothing_runs=True)


def cooling_card(seed: int, minutes: float = 30) -> Series:
    """
    A consumer card with a speech model: 2 to 5 s of work every 3 to 6 min, and slow to come to rest.

    As recorded: 51 to 167 W for 18.7 s after the last busy reading, then 25 W, then 22 W.
    """
    source = random.Random(seed)
    spans = _spans(source, minutes * 60, gap_s=(180, 360), busy_s=(2, 5))
    samples = []
    rested_s = 0.0
    for sample in _sampled(spans, minutes * 60, lambda _: (0, 19_700)):
        rested_s = 0.0 if sample.pct else rested_s + PERIOD_S
        samples.append(sample._replace(watts=_cooling_w(source, rested_s)))
    return Series("consumer card cooling after work", samples)


def _cooling_w(source: random.Random, rested_s: float) -> float:
    if rested_s < 18.7:
        return source.triangular(51, 167, 110)
    return source.uniform(24, 26) if rested_s < 25 else source.uniform(21.8, 22.3)


def _spans(source: random.Random, length_s: float, *, gap_s: tuple[float, float], busy_s: tuple[float, float]) -> Spans:
    spans: Spans = []
    now_s = source.uniform(0, gap_s[1])
    while now_s < length_s:
        ends_s = now_s + source.uniform(*busy_s)
        spans.append((now_s, ends_s))
        now_s = ends_s + source.uniform(*gap_s)
    return spans


def _sampled(spans: Spans, length_s: float, rest: Callable[[int], tuple[float, int]]) -> list[Sample]:
    """A sample a period: the share of it that the spans fill; `rest` gives the watts and MiB at a percentage."""
    busy = [0.0] * int(length_s / PERIOD_S)
    for from_s, to_s in spans:
        for k in range(int(from_s / PERIOD_S), min(int(to_s / PERIOD_S) + 1, len(busy))):
            busy[k] += max(min(to_s, (k + 1) * PERIOD_S) - max(from_s, k * PERIOD_S), 0.0)
    percents = [min(round(100 * busy_s / PERIOD_S), 100) for busy_s in busy]
    return [Sample(at_s, pct, *rest(pct)) for at_s, pct in zip(_periods(length_s / 60), percents, strict=True)]


def _periods(minutes: float) -> Iterator[float]:
    """The ends of the sample periods."""
    return (round((k + 1) * PERIOD_S, 6) for k in range(int(minutes * 60 / PERIOD_S)))


def _wander(source: random.Random) -> Iterator[float]:
    """Values from 0 to 1 that drift slowly and flicker: power at rest."""
    level = 0.5
    while True:
        level = min(max(level + source.gauss(0, 0.01), 0.0), 1.0)
        yield min(max(level + source.gauss(0, 0.15), 0.0), 1.0)
