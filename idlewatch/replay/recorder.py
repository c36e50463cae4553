"""
Writes a recording while it sees: every reading of this machine, and who holds it. It judges nothing and does nothing.

Each tick's lines are written in one call (packed: as a gzip member of their own), so that the file is whole lines at
any time, also after a sudden end.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from idlewatch.deciding.tick import longest_gap_s
from idlewatch.history.recording import FORMAT
from idlewatch.history.store import reading_to_json
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Hold, Json, Reading, Signal
from idlewatch.watching.daemon import read


class Clock(Protocol):
    """`model.Clock`, and whether a shutdown request came."""

    def now_s(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def wall(self) -> datetime:
        """The wall clock, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; may return early on a shutdown request."""
        ...

    def ended(self) -> bool:
        """Whether a shutdown request came."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What was recorded."""

    readings: int
    lasted_s: float


def new_file(path: Path) -> BinaryIO:
    """A new file that only its owner can read. Raises OSError where it can't be, or is there already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")


class Recorder:
    """Appends lines to a file, those of one call together."""

    def __init__(self, file: BinaryIO, head: Mapping[str, Json], *, packed: bool) -> None:
        """`head` as `recording` documents it; `packed`: gzip."""
        self._file, self._packed = file, packed
        self._newest: dict[str, float] = {}
        self._held: dict[str, Span] = {}
        self.readings = 0
        self._append([{"recording": FORMAT, "whole": True, **head}])

    def saw(self, readings: Iterable[Reading], wall: datetime) -> None:
        """Keep what was not kept before."""
        fresh = [one for one in readings if self._newest.get(one.signal) != one.at_s]
        self._newest |= {one.signal: one.at_s for one in fresh}
        self.readings += len(fresh)
        self._append([{"reading": reading_to_json(one), "at": wall.isoformat()} for one in fresh])

    def held(self, holds: Sequence[Hold], now_s: float, interval_s: float) -> None:
        """Keep who holds it now: the span of the holds, longer by this look."""
        self._held = extended(self._held, (), holds, now_s, longest_gap_s=longest_gap_s(interval_s))
        self._append([{"verdict": asdict(span)} for span in self._held.values()])

    def _append(self, lines: Sequence[Mapping[str, Json]]) -> None:
        text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        if text:
            self._file.write(gzip.compress(text) if self._packed else text)
            self._file.flush()


def record(
    recorder: Recorder,
    signals: Sequence[Signal],
    clock: Clock,
    interval_s: float,
    for_s: float,
    holds: Callable[[float], Sequence[Hold]] = lambda _now_s: (),
) -> Seen:
    """
    Read every signal once an interval, for `for_s` or until a shutdown request; then end them. Raises OSError.

    `holds` tells those of an instant.
    """
    began_s = clock.now_s()
    try:
        while not clock.ended() and clock.now_s() - began_s <= for_s:
            now_s = clock.now_s()
            recorder.saw([read(signal, now_s) for signal in signals], clock.wall())
            recorder.held(holds(now_s), now_s, interval_s)
            clock.sleep(max(0.0, now_s + interval_s - clock.now_s()))
    finally:
        for signal in signals:
            signal.close()
    return Seen(recorder.readings, clock.now_s() - began_s)
