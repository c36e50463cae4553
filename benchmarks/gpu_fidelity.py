"""
Is work seen, and is idleness believed? `python -m benchmarks.gpu_fidelity [--json] [--trace FILE.csv.gz ...]`.

Series of driver samples are replayed to the GPU signal through the C stub of NVML and the reader's own child, which
polls every 5 s on a moved clock. Table 1: of all 60 s windows that hold a sample above 5 %, how many have an ACTIVE
verdict; beside it, how many an instant reading every 5, 10, 30 and 60 s would find, over all ways that its polls can
fall. Table 2: of all stretches between two polls that hold no such sample, how many are called ACTIVE. At the end one
series goes through on the real clock, pipe and all, and must give the same readings. `--trace` adds a recording of
yours: gzip CSV with t_s, gpu, util_pct, power_w and mem_used_mib.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import gpu_series
from benchmarks.gpu_replay import ORIGIN_S, RING, UTILIZATION, Disturbed, in_real_time, replayed
from idlewatch.model import Activity
from tests.nvml_stub import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.gpu_replay import Seen
    from benchmarks.gpu_series import Series

POLL_S = 5.0
WINDOW_S = 60.0
INSTANT_EVERY_S = (5, 10, 30, 60)
PHASES_S = (0.0, 1.6, 3.2)
"""Where the signal's polls fall between the series' samples; each is a replay of its own."""
SEEDS = (1, 2)
STARTS_S = -60.0
LATE_S = 30.0
"""Polls of a starved machine: the ring holds half of the time between them, energy votes on the rest."""


@dataclass
class Share:
    """How many of how many."""

    hit: int = 0
    of: int = 0

    def add(self, *, hit: bool) -> None:
        """Count one."""
        self.hit, self.of = self.hit + hit, self.of + 1

    def __add__(self, other: Share) -> Share:
        return Share(self.hit + other.hit, self.of + other.of)

    def __str__(self) -> str:
        """In per cent; 100 and 0 only where it is all and none."""
        if not self.of:
            return "-"
        pct = 100 * self.hit / self.of
        return f"{pct:.0f} %" if self.hit in {0, self.of} else f"{min(max(pct, 0.1), 99.9):.1f} %"


@dataclass
class WorkRow:
    """Of the windows with work: how many each way of looking finds."""

    name: str
    signal: Share = field(default_factory=Share)
    without_ring: Share = field(default_factory=Share)
    instant: dict[int, Share] = field(default_factory=lambda: {every_s: Share() for every_s in INSTANT_EVERY_S})


@dataclass
class IdleRow:
    """Of the stretches without work: how many are called active, and why."""

    name: str
    readings: Share = field(default_factory=Share)
    windows: Share = field(default_factory=Share)
    late: Share = field(default_factory=Share)
    energy_alone: Share = field(default_factory=Share)
    reasons: dict[str, int] = field(default_factory=dict)
    """How often each reason was given between two polls."""


def polled(series: Series, phase_s: float, every_s: float = POLL_S) -> list[tuple[float, float]]:
    """Steps for `replayed`: a poll every `every_s`, from 60 s before the series on, shifted by `phase_s`."""
    count = int((series.ends_s - STARTS_S - phase_s) / every_s) + 1
    times = [STARTS_S + phase_s + every_s * index for index in range(count)]
    return [(at_s, at_s + ORIGIN_S) for at_s in times]


def tapped(series: Series, phase_s: float) -> list[tuple[float, float]]:
    """Steps of 1 s: without a ring the child takes an instant reading at each."""
    return polled(series, phase_s, 1.0)


def called(series: Series, seen: list[Seen]) -> Share:
    """Of the 60 s windows with work that end at a poll: how many have an ACTIVE verdict."""
    active = [one.at_s for one in seen if one.finding.activity is Activity.ACTIVE]
    share = Share()
    for end_s in _window_ends(one.at_s for one in seen):
        if series.works(end_s - WINDOW_S, end_s):
            share.add(hit=any(_within(at_s, end_s, WINDOW_S) for at_s in active))
    return share


def found_by_instant(series: Series, every_s: int) -> Share:
    """Of the same windows, for every way to fall in steps of 0.2 s: how many hold a busy instant reading."""
    step_s = gpu_series.PERIOD_S
    share = Share()
    for end_s in _window_ends(at_s for at_s, _ in polled(series, 0.0)):
        if not series.works(end_s - WINDOW_S, end_s):
            continue
        instants = [end_s - WINDOW_S + step_s * (index + 1) for index in range(round(WINDOW_S / step_s))]
        busy = [series.newest(at_s + 1e-6).pct > gpu_series.BUSY_ABOVE_PCT for at_s in instants]
        between = round(every_s / step_s)
        for first in range(between):
            share.add(hit=any(busy[first::between]))
    return share


def _within(at_s: float, end_s: float, span_s: float) -> bool:
    """In the span up to and with `end_s`, and not at its beginning (give or take a microsecond)."""
    return end_s - span_s + 1e-6 < at_s <= end_s


def _window_ends(polls_s: Iterable[float]) -> list[float]:
    return [at_s for at_s in polls_s if at_s - WINDOW_S >= 0]


def falsely(series: Series, seen: list[Seen], span_s: float, reasons: dict[str, int] | None = None) -> Share:
    """Of the spans of `span_s` up to a poll of this series that hold no work: how many have an ACTIVE verdict."""
    active = {one.at_s: one.finding.reason for one in seen if one.finding.activity is Activity.ACTIVE}
    share = Share()
    for at_s in (one.at_s for one in seen if one.at_s - span_s >= 0):
        if series.works(at_s - span_s, at_s):
            continue
        hits = [reason for then_s, reason in active.items() if _within(then_s, at_s, span_s)]
        share.add(hit=bool(hits))
        if reasons is not None:
            reasons.update({reason: reasons.get(reason, 0) + hits.count(reason) for reason in hits})
    return share


class Runs:
    """Replays on one built stub."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = build(folder)

    def replayed(self, series: Series, steps: list[tuple[float, float]], without: tuple[str, ...] = ()) -> list[Seen]:
        """What the signal sees."""
        return replayed(self._library, self._folder / "script", series, steps, without=without)

    def work(self, row: WorkRow, series: Series) -> None:
        """Add a series to its row of table 1."""
        for phase_s in PHASES_S:
            row.signal += called(series, self.replayed(series, polled(series, phase_s)))
        row.without_ring += called(series, self.replayed(series, tapped(series, 0.0), RING))
        for every_s in INSTANT_EVERY_S:
            row.instant[every_s] += found_by_instant(series, every_s)

    def idle(self, row: IdleRow, series: Series) -> None:
        """Add a series to its row of table 2."""
        for phase_s in PHASES_S:
            seen = self.replayed(series, polled(series, phase_s))
            row.readings += falsely(series, seen, POLL_S, row.reasons)
            row.windows += falsely(series, seen, WINDOW_S)
        late = self.replayed(series, polled(series, 0.0, LATE_S))
        row.late += falsely(series, late, LATE_S)
        alone = self.replayed(series, polled(series, 0.0), UTILIZATION)
        row.energy_alone += falsely(series, alone, POLL_S)

    def same_in_real_time(self, *, polls: int = 24, attempts: int = 3) -> int:
        """
        Show that the moved clock changes nothing; returns how many polls were compared.

        Raises AssertionError with the first difference, Disturbed where the machine was too busy each time.
        """
        series = gpu_series.offload_training(seed=7, minutes=2)
        shown = [float(index) for index in range(polls)]
        for attempt in range(attempts):
            try:
                real, at_s = in_real_time(self._library, self._folder / "script", series, shown, poll_s=1.0)
                break
            except Disturbed:
                if attempt == attempts - 1:
                    raise
        clock_s = [at_s[0] - 0.005, *at_s[1:]]  # opened no later than then, so that no later poll is early
        steps = list(zip(shown, clock_s, strict=True))
        moved = replayed(self._library, self._folder / "script", series, steps, poll_s=1.0)
        return _compared(real, moved)


def _compared(real: list[Seen], moved: list[Seen]) -> int:
    """How many readings are alike; raises AssertionError with the first that is not."""
    counted = 0
    for one, other in zip(real, moved, strict=True):
        same = alike(dict(one.reading.facts), dict(other.reading.facts))
        same = same and bool(one.reading.error) == bool(other.reading.error)
        verdicts = [(seen.finding.activity, seen.finding.evidence_s) for seen in (one, other)]
        if not same or verdicts[0] != verdicts[1]:
            raise AssertionError(f"on the real clock {one}, on the moved one {other}")
        counted += one.reading.error is None
    return counted


def alike(one: Any, other: Any) -> bool:
    """Equal; seconds and watts within what rounding to 1 ms does."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 0.002 * max(1.0, abs(one))
    return bool(one == other)


def working(traces: list[Series]) -> list[Series]:
    """What goes into table 1."""
    made: tuple[Callable[[int], Series], ...] = (
        gpu_series.offload_training,
        gpu_series.server_bursts,
        gpu_series.short_kernels,
        gpu_series.streaming,
    )
    return [*traces, *(make(seed) for make in made for seed in SEEDS)]


def resting(traces: list[Series]) -> list[Series]:
    """What goes into table 2: recordings with idle stretches, and made ones."""
    idle = [series for series in traces if not series.name.startswith(("8gpu", "miris"))]
    made: tuple[Callable[[int], Series], ...] = (
        gpu_series.idle_h100,
        lambda seed: gpu_series.idle_h100(seed, memory_tells=False),
        gpu_series.woken_h100,
        gpu_series.cooling_card,
        gpu_series.server_bursts,
    )
    return [*idle, *(make(seed) for make in made for seed in SEEDS)]


def print_work(rows: list[WorkRow]) -> None:
    """Table 1."""
    print("60 s windows with work (a sample > 5 %) that are called active")
    head = "".join(f"{f'every {every_s} s':>11}" for every_s in INSTANT_EVERY_S)
    print(f"{'':36}{'':>9}{'GpuSignal':>11}{'without':>9}   an instant reading")
    print(f"{'':36}{'windows':>9}{'':>11}{'a ring':>9}{head}")
    for row in rows:
        instant = "".join(f"{row.instant[every_s]!s:>11}" for every_s in INSTANT_EVERY_S)
        print(f"{row.name:36}{row.signal.of:9}{row.signal!s:>11}{row.without_ring!s:>9}{instant}")


def print_idle(rows: list[IdleRow]) -> None:
    """Table 2."""
    print("\nstretches without work that are called active")
    print(f"{'':36}{'between two polls':>20}{'60 s windows':>16}{'polls every 30 s':>18}{'energy alone':>16}")
    for row in rows:
        shares = (f"{share!s} of {share.of}" for share in (row.readings, row.windows, row.late, row.energy_alone))
        cells = "".join(f"{cell:>{width}}" for cell, width in zip(shares, (20, 16, 18, 16), strict=True))
        print(f"{row.name:36}{cells}")
    for row in rows:
        for reason, count in row.reasons.items():
            print(f"  {row.name}: {count} times {reason}")


def main() -> int:
    """Replay everything, print both tables; exit 1 where a window with work was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_fidelity", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--trace", action="append", type=Path, default=[], help="add a recording of yours")
    options = parser.parse_args()
    traces = [*gpu_series.shipped_traces(), *(one for path in options.trace for one in gpu_series.read_trace(path))]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="idlewatch-benchmark-") as folder:
        runs = Runs(Path(folder))
        work: dict[str, WorkRow] = {}
        for series in working(traces):
            runs.work(work.setdefault(series.name, WorkRow(series.name)), series)
        idle: dict[str, IdleRow] = {}
        for series in resting(traces):
            runs.idle(idle.setdefault(series.name, IdleRow(series.name)), series)
        compared = runs.same_in_real_time()
    show(list(work.values()), list(idle.values()), compared, time.monotonic() - began_s, as_json=options.json)
    return int(any(row.signal.hit < row.signal.of for row in work.values()))


def show(work: list[WorkRow], idle: list[IdleRow], compared: int, took_s: float, *, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        answer = {"work": [asdict(row) for row in work], "idle": [asdict(row) for row in idle], "compared": compared}
        print(json.dumps(answer, indent=1))
        return
    print_work(work)
    print_idle(idle)
    print(f"\none series on the real clock, pipe and all: {compared} polls, the same readings and verdicts")
    print(f"took {took_s:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
