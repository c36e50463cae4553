"""
A series replayed to the GPU signal: C stub of NVML, real pynvml, the reader's own child, its lines, the verdicts.

`replayed` moves the child's clock, so that an hour takes seconds. `in_real_time` runs a series through everything,
the child's own timer and the pipe with its reader included; `benchmarks.gpu_fidelity` holds one against the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from benchmarks.gpu_stepped_child import READY
from idlewatch.gpu.line import Poll, parsed
from idlewatch.gpu.reader import GpuReader, Taken
from idlewatch.signals.gpu import GpuSignal
from tests.nvml_stub import NvmlScript, child_argv, environment, now_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.gpu_series import Series
    from idlewatch.model import Finding, Reading

RING_S = 16.6
"""Depth of the sample ring: 100 samples of 1/6 s, or 83 of 0.2 s."""
ORIGIN_S = 1000.0
"""Where a series begins on the child's clock and in the ring: a time stamp of 0 would be an empty row."""
PATIENCE_S = 60.0
NOT_SUPPORTED = 3
RING = ("util_samples",)
UTILIZATION = ("util_samples", "util")
MEMORY = ("mem", "mem2", "processes", "graphics")
ENERGY = ("energy",)
"""The stub's names of the calls behind one thing that a GPU may not tell."""


class Seen(NamedTuple):
    """What the signal made of one poll."""

    at_s: float
    """Where the series stood."""
    reading: Reading
    finding: Finding


class Disturbed(Exception):
    """The machine was too busy: the script was not written between two polls."""


class Tape(NvmlScript):
    """The stub's script at an instant of a series: the ring and the readings that a driver would have then."""

    def __init__(self, path: Path, *, without: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self._without = without

    def _add(self, line: str) -> None:
        """Kept until `show` is done: the file is written once."""
        self._lines.append(line)

    def show(self, series: Series, at_s: float) -> None:
        """Let the driver stand at `at_s` of the series. Engines are at 0; what was not recorded is unsupported."""
        sample = series.newest(at_s)
        missing = [*self._without]
        self.reset()
        self.ring(depth=1)  # of the engines; utilization's rows are given one by one
        self.samples(0, [(row.at_s + ORIGIN_S, row.pct) for row in series.between(at_s - RING_S, at_s)])
        self.instant(0, sample.pct)
        if sample.mib is None:
            missing += MEMORY
        else:
            self.mem(0, sample.mib)
            self.processes(0, int(sample.mib > 200))
        if sample.watts is None:
            missing += ENERGY
        else:
            self._add(f"energy 0 0 0 {series.joules(at_s)}")
        for call in missing:
            self.error(call, NOT_SUPPORTED)
        super()._add("count * 1")


class SteppedReader:
    """The child on a moved clock, as a reader; `variables` let it find its NVML."""

    def __init__(self, variables: dict[str, str], *, poll_s: float) -> None:
        self._variables = {**os.environ, **variables}
        self._poll_s = poll_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[bytes] = []

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process else None

    def step(self, at_s: float) -> None:
        """Move the child's clock (the first time: start it there) and wait until the child waits again."""
        if self._process is None:
            self._process = self._started(at_s)
        else:
            pipe = _there(self._process.stdin)
            pipe.write(f"{at_s!r}\n".encode())
            pipe.flush()
        while (line := _there(self._process.stdout).readline()) != READY:
            if not line:
                raise RuntimeError("the stepped child ended")
            self._lines.append(line)

    def take(self, now_s: float) -> Taken:  # noqa: ARG002 - a reader is told the time
        """What was polled since the last call."""
        lines, self._lines = self._lines, []
        return Taken(polls=tuple(parsed(line) for line in lines))

    def close(self) -> None:
        """Let the child leave."""
        if self._process is not None:
            _there(self._process.stdin).close()
            self._process.wait(PATIENCE_S)
            _there(self._process.stdout).close()

    def _started(self, at_s: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_stepped_child", str(self._poll_s), repr(at_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._variables,
            cwd=Path(__file__).parent.parent,
        )


class HeardReader:
    """The daemon's own reader of the child that `argv` starts; keeps every poll that it hands over."""

    def __init__(self, argv: list[str], *, poll_s: float) -> None:
        self.polls: list[Poll] = []
        self._reader = GpuReader(argv=argv, poll_s=poll_s)

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._reader.pid

    def take(self, now_s: float) -> Taken:
        """What the reader says."""
        taken = self._reader.take(now_s)
        self.polls.extend(taken.polls)
        return taken

    def close(self) -> None:
        """End the reader."""
        self._reader.close()


def replayed(
    library: Path,
    script: Path,
    series: Series,
    steps: Iterable[tuple[float, float]],
    *,
    poll_s: float = 5.0,
    without: tuple[str, ...] = (),
) -> list[Seen]:
    """
    What the signal sees at each step: (where the series stands, the child's clock), seconds.

    `library` is the folder of the built stub, `script` the file that it follows, `without` the stub's names of calls
    that this GPU does not support.
    """
    tape = Tape(script, without=without)
    reader = SteppedReader(environment(library, tape), poll_s=poll_s)
    signal = GpuSignal(reader=reader, gpu_count=1)
    seen = []
    try:
        for shown_s, clock_s in steps:
            tape.show(series, shown_s)
            reader.step(clock_s)
            reading = signal.read(clock_s)
            seen.append(Seen(shown_s, reading, signal.judge(reading)))
    finally:
        signal.close()
    return seen


def in_real_time(
    library: Path, script: Path, series: Series, shown: list[float], *, poll_s: float
) -> tuple[list[Seen], list[float]]:
    """
    What the signal sees on the real clock while the series stands at each of `shown` for one poll; and the instants.

    The script is written when a poll has come, so that no poll ever meets a change. Raises Disturbed where that took
    until the next poll, TimeoutError where no poll comes.
    """
    tape = Tape(script)
    tape.show(series, shown[0])
    reader = HeardReader(child_argv(library, tape, poll_s=poll_s), poll_s=poll_s)
    signal = GpuSignal(reader=reader, gpu_count=1)
    seen: list[Seen] = []
    written_s = 0.0
    try:
        for count, at_s in enumerate(shown, start=1):
            reading = next_reading(signal, reader, count)
            if len(reader.polls) > count or reader.polls[-1].at_s < written_s:
                raise Disturbed(f"poll {count} came before its script")
            seen.append(Seen(at_s, reading, signal.judge(reading)))
            tape.show(series, shown[min(count, len(shown) - 1)])
            written_s = now_s()
    finally:
        signal.close()
    return seen, [poll.at_s for poll in reader.polls[: len(shown)]]


def next_reading(signal: GpuSignal, reader: HeardReader, count: int) -> Reading:
    """The reading with the poll of that number; raises TimeoutError where it does not come."""
    until_s = now_s() + PATIENCE_S
    while now_s() < until_s:
        reading = signal.read(now_s())
        if len(reader.polls) >= count:
            return reading
        time.sleep(0.01)
    raise TimeoutError(f"poll {count} did not come within {PATIENCE_S:.0f} s")


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the stepped child has no pipe")
    return pipe
