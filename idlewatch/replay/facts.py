"""
Facts as a scenario writes them, turned into what a signal would have read at an instant.

    "now", "now-40s"         an instant before (or after) the reading
    "at 10m", "at -2h"       an instant after (or before) the container's start
    "since 10m"              seconds from that instant to the reading
    "0.02/s"                 an amount: so much a second over what the reading covers; null where it covers nothing
    "+200/s", "1000+200/s"   a counter: it begins at 0 or 1000 and goes on over all stretches
    "none"                   not known (null)

Everything else is the fact itself. A table with `like = "NAME"` is [like.NAME] with what it says beside that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from idlewatch.durations import parse_duration
from idlewatch.model import Json

Table: TypeAlias = Mapping[str, Any]
_Where: TypeAlias = tuple[str | int, ...]

_NUMBER = r"\d+(?:\.\d+)?"
_NOW = re.compile(r"now(?:([+-])(\S+))?")
_AT = re.compile(r"(at|since) (-?)(\S+)")
_RATE = re.compile(rf"({_NUMBER})/s")
_COUNTER = re.compile(rf"({_NUMBER})?\+({_NUMBER})/s")
_LIKE = "like"
_DEEPEST = 20
"""Levels of `like`, so that a ring of them is told and not followed."""


@dataclass(frozen=True, slots=True)
class _Now:
    offset_s: float


@dataclass(frozen=True, slots=True)
class _At:
    after_s: float
    since: bool


@dataclass(frozen=True, slots=True)
class _Rate:
    each_s: float


@dataclass(frozen=True, slots=True)
class _Counter:
    begins: float
    each_s: float


@lru_cache(maxsize=4096)
def _meant(text: str) -> _Now | _At | _Rate | _Counter | str | None:
    if text == "none":
        return None
    if found := _NOW.fullmatch(text):
        return _Now((-1 if found[1] == "-" else 1) * parse_duration(found[2] or "0"))
    if found := _AT.fullmatch(text):
        return _At((-1 if found[2] else 1) * parse_duration(found[3]), found[1] == "since")
    if found := _RATE.fullmatch(text):
        return _Rate(float(found[1]))
    if found := _COUNTER.fullmatch(text):
        return _Counter(float(found[1] or 0), float(found[2]))
    return text


class Pen:
    """Writes facts; remembers how far each counter has come."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._counters: dict[_Where, tuple[float, float]] = {}
        """Where it stands -> the instant at which it was written last, and its value then."""
        self._now_s = self._covers_s = 0.0
        self._plain: dict[int, tuple[Any, bool]] = {}
        """Tables and lists that were met (by identity), and whether all in them is as it is written."""

    def written(self, signal: str, facts: Table, now_s: float, covers_s: float) -> dict[str, Json]:
        """The facts of a reading. Raises ValueError where a duration is none."""
        self._now_s, self._covers_s = now_s, covers_s
        return {key: self._fact(value, (signal, key)) for key, value in facts.items()}

    def _fact(self, value: Any, where: _Where) -> Json:
        if isinstance(value, str):
            return self._of_text(value, where)
        if isinstance(value, dict | list) and self._is_plain(value):
            return value
        if isinstance(value, dict):
            return {key: self._fact(inner, (*where, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._fact(inner, (*where, _name(inner, place))) for place, inner in enumerate(value)]
        if isinstance(value, bool | int | float):
            return value
        raise TypeError(f"{'.'.join(map(str, where))}: {value!r} is no fact; write a text, a number, a list or a table")

    def _is_plain(self, value: dict[str, Any] | list[Any]) -> bool:
        known = self._plain.get(id(value))
        if known is None:
            inner = value.values() if isinstance(value, dict) else value
            known = self._plain[id(value)] = value, all(self._stays(each) for each in inner)
        return known[1]

    def _stays(self, value: Any) -> bool:
        if isinstance(value, str):
            return _meant(value) == value
        return self._is_plain(value) if isinstance(value, dict | list) else isinstance(value, bool | int | float)

    def _of_text(self, text: str, where: _Where) -> Json:
        match _meant(text):
            case _Now(offset_s):
                return self._now_s + offset_s
            case _At(after_s, since):
                at_s = self._started_s + after_s
                return self._now_s - at_s if since else at_s
            case _Rate(each_s):
                return each_s * self._covers_s if self._covers_s else None
            case _Counter(begins, each_s):
                before_s, value = self._counters.get(where, (self._now_s, begins))
                value += each_s * (self._now_s - before_s)
                self._counters[where] = self._now_s, value
                return value
            case plain:
                return plain


def _name(value: Any, place: int) -> str | int:
    """What tells an object of a list from the others, wherever it stands."""
    named = next((value[key] for key in ("id", "uuid") if key in value), None) if isinstance(value, dict) else None
    return place if named is None else str(named)


def with_likes(value: Any, likes: Mapping[str, Table], depth: int = 0) -> Any:
    """The value with every `like` replaced by what it names. Raises ValueError where there is no such table."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [with_likes(inner, likes, depth) for inner in value]
    if not isinstance(value, Mapping):
        return value
    own = {key: with_likes(inner, likes, depth) for key, inner in value.items() if key != _LIKE}
    if _LIKE not in value:
        return own
    name = value[_LIKE]
    if name not in likes or depth >= _DEEPEST:
        raise ValueError(
            f"like = {name!r}: there is no [like.{name}]" if depth < _DEEPEST else f"{name} is like itself"
        )
    return {**with_likes(likes[name], likes, depth + 1), **own}
