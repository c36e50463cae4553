"""
What others published of GPUs in use, as numbers to draw from; `data/NOTICE.md` has the sources and licences.

- GPU utilization and power of two LLM clusters (Hu et al., NSDI 2024) and of Philly, as cumulative distributions.
- Pauses and runs of a developer's session (plato), as logarithms with mean and deviation.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import fmean, stdev

from benchmarks.gpu_series import DATA

BUSY_ABOVE_PCT = 5.0
LEFT_OUT = ("a40_audio_train_clean", "a40_audio_train_m5db", "a40_audio_train_10db", "rpf_train_60s")
"""Recordings that nothing is fitted to."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal distribution: of minutes, here."""

    log_mean: float
    log_deviation: float

    def draw(self, source: random.Random, least: float = 0.0, most: float = math.inf) -> float:
        """One value, cut to these bounds."""
        return min(most, max(least, source.lognormvariate(self.log_mean, self.log_deviation)))

    @property
    def median(self) -> float:
        """Half of all values are below it."""
        return math.exp(self.log_mean)


@cache
def utilization(cluster: str) -> tuple[float, ...]:
    """The published quantiles of GPU utilization where a GPU was at work, lowest first: `util_gpu_seren` and so on."""
    return tuple(value for value, _ in distribution(cluster) if value > BUSY_ABOVE_PCT)


@cache
def distribution(name: str) -> tuple[tuple[float, float], ...]:
    """A published distribution: values and the percentage that is at most that, lowest first."""
    with gzip.open(DATA / "acme_util_cdf.csv.gz", "rt") as file:
        return tuple(
            (float(row["value"]), float(row["cdf_pct"])) for row in csv.DictReader(file) if row["file"] == name
        )


def watts_at(share: float) -> float:
    """The power of Seren's GPUs at a quantile, from 0 to 1."""
    told = distribution("gpu_power_seren")
    place = bisect_left([cdf for _, cdf in told], share * 100)
    return told[min(place, len(told) - 1)][0]


@cache
def pauses() -> Spread:
    """Minutes between two runs of the recorded developer's session, where it was more than one."""
    return _spread([gap_s / 60 for gap_s in gaps_s("plato_dev_session", 60.0)])


@cache
def runs() -> Spread:
    """Minutes of one run there: at work without a pause of more than a minute."""
    lengths, began, before = [], None, 0.0
    for at_s, percent in _busiest("plato_dev_session"):
        if percent > BUSY_ABOVE_PCT:
            if began is None or at_s - before > 60.0:
                if began is not None and before > began:
                    lengths.append((before - began) / 60)
                began = at_s
            before = at_s
    return _spread([*lengths, *([(before - began) / 60] if began is not None and before > began else [])])


def gaps_s(recording: str, longer_than_s: float) -> list[float]:
    """Seconds between two samples above 5 % of a recording, where it was longer than that."""
    busy = [at_s for at_s, percent in _busiest(recording) if percent > BUSY_ABOVE_PCT]
    return [after - before for before, after in pairwise(busy) if after - before > longer_than_s]


def _busiest(recording: str) -> list[tuple[float, float]]:
    with gzip.open(DATA / f"{recording}.csv.gz", "rt") as file:
        return [(float(row["t_s"]), float(row["util_pct"])) for row in csv.DictReader(file)]


def _spread(values: list[float]) -> Spread:
    logs = [math.log(value) for value in values]
    return Spread(fmean(logs), stdev(logs))
