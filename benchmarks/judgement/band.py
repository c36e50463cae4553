"""
What lies between a GPU limit of 3 % and one of 5 %, in what others published and recorded: what the choice is about.

A sample in between decides only where no busier one is near: else the GPU is in use with either limit. `REACH_S` is far
less than any quiet time.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from benchmarks.gpu_series import DATA
from benchmarks.judgement.published import distribution

LOW_PCT, HIGH_PCT = 3.0, 5.0
REACH_S = 300.0
CLUSTERS = ("util_gpu_kalos_full", "util_gpu_seren", "util_gpu_philly")


@dataclass(frozen=True, slots=True)
class Band:
    """One recording's samples."""

    name: str
    samples: int
    between: int
    """Above 3 and at most 5 %."""
    alone: int
    """Of those, with none above 5 % within five minutes: the limit decides."""


def share_between(cluster: str) -> float:
    """Of the GPU time of a published cluster, the share between the two limits."""
    below = dict.fromkeys((LOW_PCT, HIGH_PCT), 0.0)
    for value, cdf_pct in distribution(cluster):
        below |= {limit: max(below[limit], cdf_pct) for limit in below if value <= limit}
    return (below[HIGH_PCT] - below[LOW_PCT]) / 100


def recorded() -> Iterator[Band]:
    """Every recording that the benchmarks have."""
    for path in sorted(DATA.glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            rows = [row for row in csv.DictReader(file) if "util_pct" in row]
        if rows:
            yield _band(path.name.removesuffix(".csv.gz"), rows)


def _band(name: str, rows: list[dict[str, str]]) -> Band:
    between = alone = 0
    for _, of_one in groupby(sorted(rows, key=_gpu), key=_gpu):
        samples = [(float(row["t_s"]), float(row["util_pct"])) for row in of_one]
        busy_s = [at_s for at_s, percent in samples if percent > HIGH_PCT]
        inside = [at_s for at_s, percent in samples if LOW_PCT < percent <= HIGH_PCT]
        between += len(inside)
        alone += sum(all(abs(at_s - one) > REACH_S for one in busy_s) for at_s in inside)
    return Band(name, len(rows), between, alone)


def _gpu(row: dict[str, str]) -> str:
    return row.get("gpu", "0")


def lines() -> Iterator[str]:
    """Both, in Markdown."""
    yield "| published GPU time | above 3 and at most 5 % |"
    yield "| --- | --- |"
    for cluster in CLUSTERS:
        yield f"| {cluster.removeprefix('util_gpu_').removesuffix('_full')} | {share_between(cluster):.1%} |"
    told = list(recorded())
    samples, between, alone = (sum(getattr(one, name) for one in told) for name in ("samples", "between", "alone"))
    yield ""
    near = f"with none above 5 % within {REACH_S / 60:.0f} min"
    yield f"{len(told)} recordings: {between} of {samples} samples in between, {alone} of them {near}."
