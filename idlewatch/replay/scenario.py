"""
A scenario: a Pod's life written by hand, with what must come of it. One TOML file each.

    scenario = 1
    id = "F11"
    title = "8 GPUs, one of them at 30 %"
    source = "where it happened"

    [settings]                      IDLEWATCH_ variables, as in a Pod
    [base.host]                     facts that hold where a stretch says nothing else
    [[stretch]]                     lasts, every (default 15s), and one table a signal
    [[hold]]                        at, for, who, reason
    [[expect]]                      what must come of it

A fact may be written as `now`, `now-40s` (an instant before the reading), or `1000+200/s` (a counter: its value at the
beginning of the stretch's scenario plus a rate). Under a signal `error` or `absent` stand for a reading that could not
be had, `silent = true` for one that does not come. `pattern` repeats shorter pieces until the stretch is over.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idlewatch.durations import format_duration, parse_duration
from idlewatch.errors import IdlewatchError, SettingsError
from idlewatch.model import Action, Hold, Json, Reading
from idlewatch.replay.engine import Life, Lived, Look
from idlewatch.settings import Loaded, Source, load

STARTED_S = 1000.0
"""The container's start: not 0, so that a missing instant is never a plausible one."""
_EVERY_S = 15.0
_SPECIAL = {"error", "absent", "silent"}
_STRETCH_KEYS = {"lasts", "every", "asleep", "pattern"}
_INSTANT = re.compile(r"now(?:([+-])(\d+(?:\.\d+)?[smhd]))?")
_COUNTER = re.compile(r"(\d+(?:\.\d+)?)\+(\d+(?:\.\d+)?)/s")


class ScenarioError(IdlewatchError):
    """A scenario file that can't be understood; names the file and the place in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing that must come of it; instants are seconds since the container's start."""

    text: str
    from_s: float = 0.0
    to_s: float = float("inf")
    pod: str | None = None
    """`active`, `held`, `unknown` or `idle` at every tick of the span."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Signal -> its verdict at every tick of the span."""
    stopped: bool | None = None
    """Whether the Pod is stopped within the span; False: not at all by its end."""
    warned: bool | None = None
    alarm: str | None = None
    """An alarm of this name within the span."""
    reason: str | None = None
    """Words in what is decisive at the end of the span."""

    def unmet(self, lived: Lived) -> str | None:
        """What is not as it must be; None where all is."""
        looks = [look for look in lived.looks if self.from_s < look.at_s - STARTED_S <= self.to_s]
        failures = [*self._happenings(lived), *self._states(looks)]
        return f"{self.text}: {failures[0]}" if failures else None

    def _happenings(self, lived: Lived) -> Iterator[str]:
        for name, wanted, at_s in (
            ("stopped", self.stopped, lived.stopped_s),
            ("warned", self.warned, lived.first(Action.WARN)),
        ):
            after_s = None if at_s is None else at_s - STARTED_S
            if wanted is False and after_s is not None and after_s <= self.to_s:
                yield f"it was {name} after {format_duration(after_s)}"
            if wanted and (after_s is None or not self.from_s <= after_s <= self.to_s):
                yield f"it was {name} {'never' if after_s is None else f'after {format_duration(after_s)}'}"
        if self.alarm is not None and not any(
            name == self.alarm and self.from_s <= at_s - STARTED_S <= self.to_s for at_s, name, _ in lived.alarms
        ):
            yield f"there was no such alarm, but {sorted({name for _, name, _ in lived.alarms})}"

    def _states(self, looks: Sequence[Look]) -> Iterator[str]:
        if not looks and (self.pod or self.verdicts or self.reason):
            yield "nothing was looked at in that span"
        for look in looks:
            at = format_duration(look.at_s - STARTED_S)
            if self.pod and look.pod != self.pod:
                yield f"after {at} it was {look.pod} ({look.decisive})"
            for signal, verdict in self.verdicts.items():
                if look.verdicts.get(signal) != verdict:
                    yield f"after {at} {signal} was {look.verdicts.get(signal)} ({look.decisive})"
        if self.reason and looks and self.reason not in looks[-1].decisive:
            yield f"at its end it was: {looks[-1].decisive}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One file, understood."""

    id: str
    title: str
    source: str
    loaded: Loaded
    life: Life
    signals: tuple[str, ...]
    """The signals that it has readings of."""
    variables: Mapping[str, str]
    expectations: tuple[Expectation, ...]

    def unmet(self, lived: Lived) -> list[str]:
        """Every expectation that is not met, in words."""
        return [failure for expected in self.expectations if (failure := expected.unmet(lived))]


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises ScenarioError naming file and place."""
    try:
        said = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    try:
        return _understood(said, path)
    except SettingsError as error:
        raise ScenarioError(f"{path}: [settings]: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise ScenarioError(f"{path}: {what}") from None


def _understood(said: Mapping[str, Any], path: Path) -> Scenario:
    if said.get("scenario") != 1:
        raise ValueError("it does not begin with `scenario = 1`")
    unknown = set(said) - {"scenario", "id", "title", "source", "settings", "base", "stretch", "hold", "expect"}
    if unknown:
        raise ValueError(f"there is no such key: {', '.join(sorted(unknown))}")
    variables = {str(name): str(value) for name, value in said.get("settings", {}).items()}
    pieces = [piece for stretch in said["stretch"] for piece in _pieces(stretch, said.get("base", {}))]
    readings, asleep, ends_s = _written_out(pieces)
    if not said.get("expect"):
        raise ValueError("it expects nothing: write at least one [[expect]]")
    return Scenario(
        id=str(said["id"]),
        title=str(said["title"]),
        source=str(said["source"]),
        loaded=load([Source(name=str(path), variables=variables)]),
        life=Life(
            started_s=STARTED_S, ends_s=ends_s, readings=readings, holds=_holds(said.get("hold", [])), asleep=asleep
        ),
        signals=tuple(sorted({reading.signal for reading in readings})),
        variables=variables,
        expectations=tuple(_expectation(one) for one in said["expect"]),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    lasts_s: float
    every_s: float
    asleep: bool
    signals: Mapping[str, Mapping[str, Any]]


def _pieces(stretch: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[_Piece]:
    lasts_s = parse_duration(stretch["lasts"])
    every_s = parse_duration(stretch["every"]) if "every" in stretch else _EVERY_S
    own = _merged(base, {key: value for key, value in stretch.items() if key not in _STRETCH_KEYS})
    pattern = stretch.get("pattern")
    if not pattern:
        yield _Piece(lasts_s, every_s, bool(stretch.get("asleep")), own)
        return
    left_s = lasts_s
    while left_s > 0:
        for part in pattern:
            span_s = min(left_s, parse_duration(part["lasts"]))
            yield _Piece(
                span_s, every_s, False, _merged(own, {k: v for k, v in part.items() if k not in _STRETCH_KEYS})
            )
            left_s -= span_s
            if left_s <= 0:
                break


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, facts in own.items():
        if not isinstance(facts, dict):
            raise TypeError(f"[[stretch]] {name}: it must be a table of facts, the name of a signal with `.fact`")
    names = {*base, *own}
    return {
        name: own[name] if _SPECIAL & set(own.get(name, {})) else {**base.get(name, {}), **own.get(name, {})}
        for name in names
    }


def _written_out(pieces: Sequence[_Piece]) -> tuple[list[Reading], list[tuple[float, float]], float]:
    readings: list[Reading] = []
    asleep: list[tuple[float, float]] = []
    at_s = newest_s = STARTED_S
    for piece in pieces:
        end_s = at_s + piece.lasts_s
        if piece.asleep:
            asleep.append((at_s, end_s))
            newest_s = end_s
        else:
            for now_s in _instants(at_s, end_s, piece.every_s):
                readings += [
                    _reading(name, facts, now_s, now_s - newest_s)
                    for name, facts in piece.signals.items()
                    if not facts.get("silent")
                ]
                newest_s = now_s
        at_s = end_s
    return readings, asleep, at_s


def _instants(from_s: float, to_s: float, every_s: float) -> Iterator[float]:
    now_s = from_s
    while now_s < to_s:
        now_s = min(to_s, now_s + every_s)
        yield now_s


def _reading(name: str, facts: Mapping[str, Any], now_s: float, covers_s: float) -> Reading:
    return Reading(
        signal=name,
        at_s=now_s,
        covers_s=covers_s,
        facts={key: _fact(value, now_s) for key, value in facts.items() if key not in _SPECIAL},
        error=facts.get("error"),
        absent=facts.get("absent"),
    )


def _fact(value: Any, now_s: float) -> Json:
    if isinstance(value, dict):
        return {key: _fact(inner, now_s) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fact(inner, now_s) for inner in value]
    if isinstance(value, str) and (instant := _INSTANT.fullmatch(value)):
        offset_s = parse_duration(instant[2]) if instant[2] else 0.0
        return now_s - offset_s if instant[1] == "-" else now_s + offset_s
    if isinstance(value, str) and (counter := _COUNTER.fullmatch(value)):
        return float(counter[1]) + float(counter[2]) * (now_s - STARTED_S)
    return None if value == "none" else value


def _holds(said: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, Hold], ...]:
    found = []
    for index, one in enumerate(said):
        at_s = STARTED_S + parse_duration(one["at"])
        hold = Hold(
            id=str(index),
            who=str(one["who"]),
            reason=str(one.get("reason", "")),
            until_s=at_s + parse_duration(one["for"]),
        )
        found.append((at_s, hold))
    return tuple(found)


_EXPECT_KEYS = {"from", "to", "pod", "verdict", "stopped", "warned", "alarm", "reason"}


def _expectation(said: Mapping[str, Any]) -> Expectation:
    unknown = set(said) - _EXPECT_KEYS
    if unknown or not set(said) & {"pod", "verdict", "stopped", "warned", "alarm", "reason"}:
        known = ", ".join(sorted(_EXPECT_KEYS))
        raise ValueError(f"[[expect]] {dict(said)}: it takes {known}, and must expect something")
    return Expectation(
        text=", ".join(f"{key} {value}" for key, value in said.items()),
        from_s=parse_duration(said["from"]) if "from" in said else 0.0,
        to_s=parse_duration(said["to"]) if "to" in said else float("inf"),
        pod=said.get("pod"),
        verdicts=said.get("verdict", {}),
        stopped=said.get("stopped"),
        warned=said.get("warned"),
        alarm=said.get("alarm"),
        reason=said.get("reason"),
    )
