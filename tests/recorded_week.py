"""
A week of one Pod, made: recordings of real GPUs joined one after another, with pauses between them.

What each GPU did is real (`benchmarks/data/NOTICE.md`, `idlewatch/demo/traces/NOTICE.md`), and so are the judges. That
they follow each other on one Pod, the pauses, the three starts, the hold, the hour in which the GPU could not be read
and the hour in which nobody looked are made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.gpu_series import DATA as TRACES_FOLDER
from benchmarks.gpu_series import TRACES, read_trace
from idlewatch.demo.recorded import QuietHost, RecordedGpu, Row, recorded_rows
from idlewatch.history.archive import keep_on_volume
from idlewatch.history.recording import name_of
from idlewatch.history.store import History
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Activity, Finding, Hold, Json, Reading
from idlewatch.report.books import STOPPED

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
TICK_S = 30.0
_HOUR_S = 3600.0
_PAUSE_S = 40 * 60.0
_BOOTED_S = 5000.0
"""CLOCK_BOOTTIME at each start: no report may take it for the start's own clock."""


@dataclass(frozen=True, slots=True)
class Look:
    """One tick: what each signal was found to be."""

    at: datetime
    verdicts: dict[str, Activity]
    held: bool


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the Pod; hours since Monday, 0:00."""

    from_h: float
    to_h: float
    held: tuple[float, float] = (0.0, 0.0)
    blind: tuple[float, float] = (0.0, 0.0)
    unwatched: tuple[float, float] = (0.0, 0.0)

    @property
    def began(self) -> datetime:
        """Its wall time."""
        return MONDAY + timedelta(hours=self.from_h)


STARTS = (
    Start(8, 26),
    Start(33, 92, held=(50, 52.5)),
    Start(104, 168, blind=(130, 131), unwatched=(140, 141)),
)
"""The first two are stopped by idlewatch, the last one still runs."""


@dataclass
class Week:
    """What was written, and what was looked at, tick by tick."""

    state_dir: Path
    volume: Path
    looks: list[list[Look]] = field(default_factory=list)
    """By start."""


def made_week(folder: Path) -> Week:
    """Three starts as their daemons leave them: two recordings on the volume, and a state folder that still fills."""
    week = Week(folder / "state-2", folder / "volume")
    for number, start in enumerate(STARTS):
        state_dir = folder / f"state-{number}"
        state_dir.mkdir()
        week.looks.append(_lived(state_dir, start, last=start is STARTS[-1]))
        if start is not STARTS[-1]:
            head: dict[str, Json] = {"boot_key": f"boot {number}", "started_s": _BOOTED_S}
            keep_on_volume(week.volume, state_dir, name_of(start.began, f"boot {number}"), head)
    return week


def _lived(state_dir: Path, start: Start, *, last: bool) -> list[Look]:
    gpu, host, history = (
        RecordedGpu(list(_joined((start.to_h - start.from_h) * _HOUR_S))),
        QuietHost(),
        History(state_dir),
    )
    looks: list[Look] = []
    standing: dict[str, Span] = {}
    with history.together():
        for tick in range(1, int((start.to_h - start.from_h) * _HOUR_S / TICK_S) + 1):
            at_s = tick * TICK_S
            hour = start.from_h + at_s / _HOUR_S
            readings = [gpu.read(at_s), host.read(at_s)]
            if _within(hour, start.unwatched):
                continue
            if _within(hour, start.blind):
                readings[0] = Reading(signal="gpu", at_s=at_s, error="no reader")
            findings = [_finding(gpu, readings[0]), host.judge(readings[1])]
            held = _within(hour, start.held)
            holds = [Hold(id="1", who="ann", reason="a long upload", until_s=at_s + 60)] if held else []
            standing = extended(standing, findings, holds, _BOOTED_S + at_s, longest_gap_s=3 * TICK_S)
            history.judged(standing.values())
            wall = start.began + timedelta(seconds=at_s)
            history.saw([Reading(signal="host", at_s=_BOOTED_S + at_s, facts=readings[1].facts)], wall)
            looks.append(Look(wall, {one.signal: one.activity for one in findings}, held))
        if not last:
            history.happened(STOPPED, "accepted by REST v2", at_s=_BOOTED_S + at_s, wall=wall, facts={})
    history.close()
    return looks


def _finding(gpu: RecordedGpu, reading: Reading) -> Finding:
    if reading.error:
        return Finding(signal="gpu", activity=Activity.UNKNOWN, reason=reading.error)
    return gpu.judge(reading)


def _joined(length_s: float) -> Iterator[Row]:
    """One recording after another, over and over, 40 minutes apart, for so long."""
    at_s = 1800.0
    while True:
        for rows in _recordings():
            for row in rows:
                if at_s + row.at_s > length_s:
                    return
                yield row._replace(at_s=at_s + row.at_s)
            at_s += rows[-1].at_s + _PAUSE_S


def _recordings() -> Iterator[list[Row]]:
    yield recorded_rows()
    for name in TRACES:
        series = read_trace(TRACES_FOLDER / f"{name}.csv.gz")[0]
        yield [Row(one.at_s, float(one.pct), float(one.mib or 0)) for one in series.samples if one.at_s >= 0]


def _within(hour: float, span: tuple[float, float]) -> bool:
    return span[0] < hour <= span[1]
