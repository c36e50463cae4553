"""Verdicts given anew: real judges, made for other settings, over the readings that were kept of a start."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from idlewatch.deciding.tick import longest_gap_s
from idlewatch.errors import SettingsError
from idlewatch.history.store import reading_from_json, readings_of
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Reading, Signal, Surroundings
from idlewatch.replay.story import judges
from idlewatch.settings import Loaded
from idlewatch.shadow.lives import Life
from idlewatch.watching.daemon import judge

Factories = Mapping[str, Callable[[Surroundings], Signal | None]]
_BETWEEN_LOOKS = 1000
"""Readings between two looks at the time that it takes."""
_KEPT_EVERY_S = 60.0
"""Of what is older than three days one reading a minute is kept: that is no hole."""


class TooLong(Exception):
    """The time that it may take is over."""


def judged_anew(
    life: Life, names: Sequence[str], loaded: Loaded, factories: Factories, state_dir: Path, over: Callable[[], bool]
) -> Life:
    """
    The life with the verdicts of these signals as these settings would have given them.

    Where a signal has no readings that can be judged its verdicts stay as they were. Raises TooLong where `over` says
    that it takes too long.
    """
    made = {signal.name: signal for signal in _judges(names, loaded, life, factories)}
    given: dict[tuple[str, float], Span] = {}
    standing: dict[str, Span] = {}
    gap_s = longest_gap_s(max(_KEPT_EVERY_S, loaded.settings.interval.total_seconds()))
    for count, reading in enumerate(_readings(life, tuple(made), state_dir)):
        if count % _BETWEEN_LOOKS == 0 and over():
            raise TooLong
        finding = judge(made[reading.signal], reading)
        if life.started_s + life.from_s <= reading.at_s:
            told = extended(standing, [finding], (), reading.at_s - life.started_s, gap_s)
            standing |= told
            given |= {(span.name, span.from_s): span for span in told.values()}
    return _with(life, list(given.values()))


def verdicts_of(life: Life) -> set[tuple[object, ...]]:
    """All that decides in a life's verdicts: the same ones come to the same."""
    return {(span.name, span.from_s, span.to_s, span.verdict, span.bars, span.pauses) for span in life.spans}


def _judges(names: Sequence[str], loaded: Loaded, life: Life, factories: Factories) -> list[Signal]:
    there = {span.name for span in life.spans}
    try:
        return judges([name for name in names if name in there], loaded, life.started_s, factories)
    except SettingsError:
        return []


def _with(life: Life, given: Sequence[Span]) -> Life:
    """The new verdicts stand up to the newest reading; what comes after it, and other signals, stay."""
    ends_s = {name: max(span.to_s for span in given if span.name == name) for name in {span.name for span in given}}
    begins_s = {name: min(span.from_s for span in given if span.name == name) for name in ends_s}
    kept = [
        part
        for span in life.spans
        for part in (_outside(span, begins_s[span.name], ends_s[span.name]) if span.name in ends_s else [span])
    ]
    return replace(life, spans=sorted([*kept, *given], key=lambda span: span.from_s))


def _outside(span: Span, from_s: float, to_s: float) -> Iterator[Span]:
    """The parts of a span that lie before and after."""
    if span.from_s < from_s:
        yield replace(span, to_s=min(span.to_s, from_s))
    if span.to_s > to_s:
        yield replace(span, from_s=max(span.from_s, to_s))


def _readings(life: Life, names: tuple[str, ...], state_dir: Path) -> Iterator[Reading]:
    if life.recording is None:
        yield from (reading for _, reading in readings_of(state_dir) if reading.signal in names)
        return
    wanted = tuple(f'{{"reading": {{"signal": "{name}"' for name in names)
    try:
        with gzip.open(life.recording, "rt", encoding="utf-8") as file:
            for line in file:
                if line.startswith(wanted):
                    yield reading_from_json(_reading(line))
    except (OSError, EOFError, ValueError, KeyError, zlib.error):
        return  # up to where the file is torn


def _reading(line: str) -> Mapping[str, Any]:
    said: Mapping[str, Any] = json.loads(line)["reading"]
    return said
