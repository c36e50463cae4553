"""
GPU samples in a table: `nvidia-smi --query-gpu=… --format=csv -l N`, or any CSV with a line of names.

Of nvidia-smi's columns `utilization.gpu` is needed and `timestamp`; `index`, `uuid` or `pci.bus_id` tell several GPUs
apart, `power.draw` and `memory.used` are used where they are there. A table of one's own names them as in `_NAMES`; its
times are seconds (`t_s`), seconds or milliseconds since 1970, or dates in ISO 8601 (without a zone: UTC). What is no
number (`[N/A]`, `[Unknown Error]`) is not known, never 0.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from math import nan
from pathlib import Path

from idlewatch.replay.gpu_log import Packer, Samples, period, tick_for
from idlewatch.replay.text_file import TextFile

_NAMES: Mapping[str, tuple[str, ...]] = {
    "time": ("timestamp", "time", "t_s", "t", "ts", "datetime", "date", "at", "at_s", "epoch", "unix_time"),
    "gpu": ("uuid", "index", "gpu", "gpu_index", "gpu_id", "device", "pci.bus_id", "gpu_uuid"),
    "percent": ("utilization.gpu", "util_pct", "util", "utilization", "gpu_util", "gpu_utilization", "utilization_gpu"),
    "watts": ("power.draw", "power.draw.instant", "power.draw.average", "power_w", "power", "power_draw", "watts"),
    "mib": ("memory.used", "mem_used_mib", "memory_used", "mem_used", "memory_used_mib", "fb_used"),
}
"""What a column is -> its names, the best first."""
_UNIT = re.compile(r"\s*[\[(].*[\])]$")
_AHEAD = 2000
"""Rows that are looked at before the ticks' length is chosen."""
_MILLISECONDS_FROM = 1e11
"""A number of seconds since 1970 would be the year 5138."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where each is; -1: nowhere."""

    time: int
    gpu: int
    percent: int
    watts: int
    mib: int


def columns_of(header: Sequence[str]) -> _Columns | None:
    """Where the columns are by their names; None where there is no time or no utilization."""
    names = [_UNIT.sub("", name.strip().strip('"').lower()) for name in header]
    places = {what: next((names.index(name) for name in known if name in names), -1) for what, known in _NAMES.items()}
    return None if places["time"] < 0 or places["percent"] < 0 else _Columns(**places)


def delimiter_of(line: str) -> str:
    """What stands between the columns: the most frequent of comma, semicolon and tab."""
    return max(",;\t", key=line.count)


def read_table(path: Path) -> Samples:
    """Read a table. Raises BadFile naming file and line."""
    with TextFile(path) as file:
        first = next(iter(file), "")
        if not first.strip():
            raise file.wrong("it is empty")
        columns = columns_of(next(csv.reader([first], delimiter=delimiter_of(first))))
        if columns is None:
            raise file.wrong(_NO_NAMES)
        rows = csv.reader(file, delimiter=delimiter_of(first))
        try:
            return _packed(path, rows, columns, first, file.size / max(1, len(first)))
        except _BadRow as error:
            raise file.wrong(str(error), error.line) from None
        except csv.Error as error:
            raise file.wrong(str(error)) from None


_NO_NAMES = (
    "a table of GPU samples begins with a line of names, a time and utilization.gpu (or util_pct) among them; "
    "nvidia-smi writes it unless `noheader` is said"
)
_A_SHARE = "no utilization above 1, and some below: they were read as percent; if they are shares, multiply them by 100"
_TORN = "the last line is torn, and was left out"


class _BadRow(Exception):
    """A row that is none, and its line."""

    def __init__(self, line: int, said: str) -> None:
        super().__init__(said)
        self.line = line


def _packed(path: Path, rows: Iterator[list[str]], columns: _Columns, header: str, about_rows: float) -> Samples:
    ahead = [row for _, row in zip(range(_AHEAD), rows, strict=False)]
    clock = Times()
    instants = _of_one_gpu(ahead, columns, clock)
    period_s = period(instants)
    gpus = len({_cell(row, columns.gpu) for row in ahead}) or 1
    packer = Packer(tick_for(period_s, period_s * about_rows / gpus))
    notes = [_TORN] if _pack(packer, chain(ahead, rows), columns, clock) else []
    highest = [value for rows_of_one in packer.gpus.values() for value in rows_of_one.highest]
    if max(highest, default=0.0) <= 1 and any(0 < value < 1 for value in highest):
        notes.append(_A_SHARE)
    return Samples(
        path=path,
        kind="log of nvidia-smi" if "utilization.gpu" in header else "table",
        packer=packer,
        period_s=period_s,
        zero_at=datetime.fromtimestamp(0, UTC) if clock.absolute else None,
        notes=tuple(notes),
    )


def _of_one_gpu(rows: Iterable[list[str]], columns: _Columns, clock: Times) -> list[float]:
    """The instants of the first GPU, up to a row that is none: that is told where it is packed."""
    found: list[float] = []
    one: str | None = None
    for row in rows:
        if len(row) > columns.time and columns_of(row) is None:
            one = _cell(row, columns.gpu) if one is None else one
            if _cell(row, columns.gpu) == one:
                try:
                    found.append(clock.seconds(row[columns.time]))
                except ValueError:
                    break
    return found


def _pack(packer: Packer, rows: Iterator[list[str]], columns: _Columns, clock: Times) -> bool:
    """Pack all rows; returns whether the last one was torn. Raises _BadRow where another is none."""
    time, gpu, percent, watts, mib = columns.time, columns.gpu, columns.percent, columns.watts, columns.mib
    seconds, take, number, torn, line = clock.seconds, packer.take, Numbers(), False, 1
    try:
        for line, row in enumerate(rows, 2):
            if not row:
                continue
            try:
                at_s = seconds(row[time])
                told = (
                    number[row[percent]],
                    number[row[watts]] if watts >= 0 else nan,
                    number[row[mib]] if mib >= 0 else nan,
                )
            except (ValueError, IndexError):
                if columns_of(row):  # it was started again, and wrote its names again
                    continue
                torn = line > 2 and next(rows, None) is None
                if torn:
                    break
                raise
            take(row[gpu] if gpu >= 0 else "0", at_s, *told)
    except IndexError:
        raise _BadRow(line, "it has fewer columns than the line of names") from None
    except ValueError as error:
        raise _BadRow(line, str(error)) from None
    packer.done()
    return torn


def _cell(row: Sequence[str], place: int) -> str:
    return row[place] if 0 <= place < len(row) else ""


class Numbers(dict[str, float]):
    """Texts as numbers, each understood once: `45 %` and `45,0` are 45, what is none is NaN."""

    _MOST = 100_000

    def __missing__(self, text: str) -> float:
        """Understand a text that is new."""
        try:
            value = float(text.strip().partition(" ")[0].rstrip("%").replace(",", "."))
        except ValueError:
            value = nan
        if len(self) < self._MOST:
            self[text] = value
        return value


class Times:
    """Texts as seconds; the same minute of a date is understood once."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.absolute = False
        """Whether they are times of day, not seconds since the beginning."""
        self._minute, self._minute_s = "", 0.0

    def seconds(self, text: str) -> float:
        """Raises ValueError where it is no time."""
        text = text.strip()
        try:
            if text[:16] == self._minute:
                return self._minute_s + float(text[17:])
            value = float(text.replace(",", "."))
        except ValueError:
            return self._date(text)
        self.absolute = self.absolute or value > _MILLISECONDS_FROM / 1000
        return value / 1000 if value > _MILLISECONDS_FROM else value

    def _date(self, text: str) -> float:
        try:
            moment = datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            raise ValueError(f"{text[:40]!r} is no time; write seconds, or 2026-11-24T09:00:00Z") from None
        self.absolute = True
        if moment.tzinfo is None and len(text) >= 19 and text[16] == ":":
            moment = moment.replace(tzinfo=UTC)
            self._minute, self._minute_s = text[:16], moment.replace(second=0, microsecond=0).timestamp()
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
