"""
Recorded readings as signals: a developer's GPU over 2.7 hours, and a host on which nothing runs.

Both go through the real judges.
"""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files
from typing import NamedTuple

from idlewatch.model import Finding, Json, Reading
from idlewatch.signals.gpu import GpuSignal
from idlewatch.signals.host import HostSignal

TRACE = "plato_dev_session.csv.gz"


class Row(NamedTuple):
    """One instant read."""

    at_s: float
    """Seconds since the recording's start."""
    util_pct: float
    mem_used_mib: float


class RecordedGpu:
    """Recorded utilization and memory, one instant read every 5 s; quiet after the recording's end."""

    name = "gpu"
    refines = False

    def __init__(self, rows: list[Row]) -> None:
        """Judged by the real GPU signal; `rows` in order."""
        self._judge = GpuSignal(gpu_count=1)
        self._rows = rows
        self._next = 0
        self._read_s = 0.0

    @property
    def ends_s(self) -> float:
        """When the recording ends."""
        return self._rows[-1].at_s

    def read(self, now_s: float) -> Reading:
        """The facts of all that was recorded since the last read; the last memory known, where nothing was."""
        since = self._next
        while self._next < len(self._rows) and self._rows[self._next].at_s <= now_s:
            self._next += 1
        rows = self._rows[since : self._next]
        covers_s, self._read_s = now_s - self._read_s, now_s
        gpu: dict[str, Json] = {
            "index": 0,
            "uuid": "GPU-recorded",
            "instant": True,
            "util_max_pct": max((row.util_pct for row in rows), default=0.0),
            "mem_used_mib": self._rows[max(0, self._next - 1)].mem_used_mib if rows else None,
        }
        return Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts={"gpus": [gpu], "expected": 1})

    def judge(self, reading: Reading) -> Finding:
        """The real verdict."""
        return self._judge.judge(reading)

    def close(self) -> None:
        """Nothing was opened."""


class QuietHost:
    """A host with stock noise: a JupyterLab and an sshd that nobody uses."""

    name = "host"
    refines = False

    def __init__(self) -> None:
        """Judged by the real host signal."""
        self._judge = HostSignal()
        self._read_s = 0.0

    def read(self, now_s: float) -> Reading:
        """0.7 % of a core and a few packets, as measured on an idle Jupyter server."""
        covers_s, self._read_s = now_s - self._read_s, now_s
        facts = {"cpu_busy_s": 0.007 * covers_s, "own_cpu_s": 0.0, "span_s": covers_s, "net_bytes": int(200 * covers_s)}
        return Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts=dict(facts))

    def judge(self, reading: Reading) -> Finding:
        """The real verdict."""
        return self._judge.judge(reading)

    def close(self) -> None:
        """Nothing was opened."""


def recorded_rows() -> list[Row]:
    """The recording that ships with idlewatch; source and licence in `traces/NOTICE.md`."""
    packed = files("idlewatch.demo").joinpath("traces", TRACE).read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return [Row(float(row["t_s"]), float(row["util_pct"]), float(row["mem_used_mib"])) for row in csv.DictReader(lines)]
