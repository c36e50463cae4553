"""A scenario's stretches written out: which reading each signal gave at which instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idlewatch.durations import parse_duration
from idlewatch.model import Reading
from idlewatch.replay.facts import Pen, Table

EVERY_S = 15.0
_NO_FACTS = ("error", "absent", "silent")
"""In the place of facts: it could not be read; the Pod has no such thing; nothing new comes."""
_COVERS = "covers"
"""The longest time that one reading can cover: the GPU's ring holds so much."""
_STRETCH_KEYS = ("lasts", "every", "asleep", "restarted", "pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch, or one turn of its pattern."""

    lasts_s: float
    every_s: float = EVERY_S
    asleep: bool = False
    """No daemon looks."""
    restarted: bool = False
    """It was started again at the end of an `asleep` stretch."""
    signals: Mapping[str, Table] = field(default_factory=dict)


@dataclass(slots=True)
class Written:
    """All of it."""

    ends_s: float
    readings: list[Reading] = field(default_factory=list)
    asleep: list[tuple[float, float]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)


def pieces(stretch: Table, base: Mapping[str, Table], signals: Sequence[str]) -> Iterator[Piece]:
    """A stretch as pieces. Raises KeyError, TypeError or ValueError where it makes no sense."""
    lasts_s, asleep = _positive(stretch, "lasts"), bool(stretch.get("asleep", False))
    every_s = _positive(stretch, "every") if "every" in stretch else EVERY_S
    own = _merged(base, _of_signals(stretch, signals))
    if stretch.get("restarted") and not asleep:
        raise ValueError("restarted: only an `asleep` stretch can end with a new daemon")
    if "pattern" not in stretch:
        restarted = bool(stretch.get("restarted", False))
        yield Piece(lasts_s=lasts_s, every_s=every_s, asleep=asleep, restarted=restarted, signals=own)
        return
    left_s, turns = lasts_s, [(_positive(part, "lasts"), _of_signals(part, signals)) for part in stretch["pattern"]]
    while left_s > 0:
        for turn_s, facts in turns:
            yield Piece(lasts_s=min(left_s, turn_s), every_s=every_s, signals=_merged(own, facts))
            left_s -= turn_s
            if left_s <= 0:
                break


def span(table: Table, key: str) -> float:
    """A duration in seconds. Raises KeyError where it is missing, ValueError where it is none."""
    text = table[key]
    if not isinstance(text, str):
        raise TypeError(f'{key}: {text!r} is no duration; write it like "30m"')
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _positive(table: Table, key: str) -> float:
    seconds = span(table, key)
    if not seconds:
        raise ValueError(f"{key}: it must last some time")
    return seconds


def _of_signals(table: Table, signals: Sequence[str]) -> dict[str, Table]:
    found = {key: value for key, value in table.items() if key not in _STRETCH_KEYS}
    for name, facts in found.items():
        checked(name, facts, signals)
    return found


def checked(name: str, facts: Any, signals: Sequence[str]) -> None:
    """Raise ValueError or TypeError where that is no signal with a table of facts."""
    if name not in signals:
        raise ValueError(f"{name}: there is no such signal or key; signals: {', '.join(signals)}")
    if not isinstance(facts, dict):
        raise TypeError(f"{name}: it must be a table of facts, such as [stretch.{name}]")


def _merged(base: Mapping[str, Table], own: Mapping[str, Table]) -> dict[str, Table]:
    return {name: over(base.get(name, {}), own.get(name, {})) for name in {**base, **own}}


def over(base: Table, own: Table) -> Table:
    """What a signal's table says over what it is based on; what stands in the place of facts leaves none of them."""
    if not own:
        return base
    if any(key in own for key in _NO_FACTS):
        return own
    return {**{key: value for key, value in base.items() if key not in _NO_FACTS}, **own}


def written_out(told: Sequence[Piece], started_s: float) -> Written:
    """The readings of these pieces, one after the other. Raises ValueError or TypeError where a fact is none."""
    written, scribe, at_s, begins = Written(ends_s=started_s), _Scribe(started_s), started_s, True
    for piece in told:
        end_s = at_s + piece.lasts_s
        if piece.asleep:
            written.asleep.append((at_s, end_s))
            begins = piece.restarted
            if piece.restarted:
                written.restarts.append(end_s)
                scribe.forget()
        else:
            for now_s in _instants(at_s, end_s, piece.every_s, begins=begins):
                written.readings += scribe.readings(piece, now_s)
            begins = False
        at_s = written.ends_s = end_s
    return written


def _instants(from_s: float, to_s: float, every_s: float, *, begins: bool) -> Iterator[float]:
    if begins:
        yield from_s
    step = 1
    while from_s + step * every_s < to_s:
        yield from_s + step * every_s
        step += 1
    yield to_s


class _Scribe:
    """Writes one reading after the other; the first of each signal covers nothing, as in a Pod."""

    def __init__(self, started_s: float) -> None:
        self._pen = Pen(started_s)
        self._read_s: dict[str, float] = {}

    def forget(self) -> None:
        """Another daemon begins."""
        self._read_s.clear()

    def readings(self, piece: Piece, now_s: float) -> Iterator[Reading]:
        for name, facts in piece.signals.items():
            if not facts.get("silent"):
                yield self._reading(name, facts, now_s)

    def _reading(self, name: str, facts: Table, now_s: float) -> Reading:
        own = {key: value for key, value in facts.items() if key not in (*_NO_FACTS, _COVERS)}
        if "error" in facts or "absent" in facts:
            told = self._pen.written(name, own, now_s, 0.0)
            return Reading(signal=name, at_s=now_s, facts=told, error=facts.get("error"), absent=facts.get("absent"))
        covers_s = now_s - self._read_s.get(name, now_s)
        if _COVERS in facts:
            covers_s = min(covers_s, parse_duration(facts[_COVERS]))
        self._read_s[name] = now_s
        return Reading(signal=name, at_s=now_s, covers_s=covers_s, facts=self._pen.written(name, own, now_s, covers_s))
