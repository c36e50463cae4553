"""
Recorded readings as signals: a developer's GPU over 2.7 hours, and a host on which nothing runs.

The host's readings go through the real judge of the host signal.
"""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files

from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.host import HostSignal

TRACE = "plato_dev_session.csv.gz"
_ACTIVE_ABOVE_PCT = 5.0


class RecordedGpu:
    """Recorded utilization, one instant read every 5 s; quiet after the recording's end."""

    name = "gpu"
    refines = False

    def __init__(self, rows: list[tuple[float, float]]) -> None:
        """`rows`: (seconds since the start, utilization in per cent), in order."""
        self._rows = rows
        self._next = 0
        self._read_s = 0.0

    @property
    def ends_s(self) -> float:
        """When the recording ends."""
        return self._rows[-1][0]

    def read(self, now_s: float) -> Reading:
        """The largest utilization recorded since the last read."""
        since = self._next
        while self._next < len(self._rows) and self._rows[self._next][0] <= now_s:
            self._next += 1
        most = max((pct for _, pct in self._rows[since : self._next]), default=0.0)
        covers_s, self._read_s = now_s - self._read_s, now_s
        return Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts={"util_max_pct": most})

    def judge(self, reading: Reading) -> Finding:
        """Active above 5 %."""
        pct = float(str(reading.facts["util_max_pct"]))
        busy = pct > _ACTIVE_ABOVE_PCT
        sign = ">" if busy else "<="
        return Finding(
            signal=self.name,
            activity=Activity.ACTIVE if busy else Activity.QUIET,
            reason=f"utilization {pct:.0f} % {sign} {_ACTIVE_ABOVE_PCT:.0f} %",
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=reading.at_s if busy else None,
        )

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


def recorded_rows() -> list[tuple[float, float]]:
    """The recording that ships with idlewatch; source and licence in `traces/NOTICE.md`."""
    packed = files("idlewatch.demo").joinpath("traces", TRACE).read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return [(float(row["t_s"]), float(row["util_pct"])) for row in csv.DictReader(lines)]
