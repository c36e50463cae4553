"""
A scenario: a Pod's life written by hand, with what must come of it. One TOML file each; docs/scenarios.md has it all.

    scenario = 1                    the format
    id, title, source               which, what, where it happened
    begins = 2026-11-20T09:00:00Z   wall time of the container's start, for working hours
    save_takes = "6m"               how long a save takes; else none
    known_wrong = "why"             it is judged wrong, and that is known
    include = ["quiet.toml"]        files with more [settings], [base.*] and [like.*]

    [settings]                      IDLEWATCH_ and RUNPOD_ variables, as in a Pod
    [base.SIGNAL]                   facts that hold where a stretch says nothing else
    [like.NAME]                     a table that others can be like
    [[stretch]]                     `stretches.py`
    [[hold]]                        at, for, who, reason
    [[expect]]                      what must come of it: `expected.py`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from idlewatch.errors import SettingsError
from idlewatch.model import Activity, Hold
from idlewatch.replay.expected import HAPPENINGS, Expectation
from idlewatch.replay.facts import with_likes
from idlewatch.replay.life import POD_STATES, Life
from idlewatch.replay.plausible import refuse_facts
from idlewatch.replay.story import Story, foreign_variables
from idlewatch.replay.stretches import Piece, Written, checked, over, pieces, span, written_out
from idlewatch.replay.toml_file import Table, TomlFile
from idlewatch.settings import Source, load

FORMAT = 1
STARTED_S = 1000.0
"""The container's start: not 0, so that a missing instant is never a plausible one."""
_BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
_TEXTS = {"id", "title", "source"}
_INCLUDED = {"settings", "base", "like"}
_TOP = {
    "scenario",
    *_TEXTS,
    "begins",
    "save_takes",
    "known_wrong",
    "include",
    *_INCLUDED,
    "stretch",
    "hold",
    "expect",
}
_HOLD = {"at", "for", "who", "reason"}
_SPAN = {"from", "to"}
_EXPECT = {*_SPAN, "pod", "verdict", "alarm", "no_alarm", "reason", *HAPPENINGS}


def read_scenario(path: Path, signals: Sequence[str]) -> Story:
    """Read a scenario file; `signals` are the names that there are. Raises BadFile naming file and line."""
    file = TomlFile(path)
    if file.tables.get("scenario") != FORMAT:
        raise file.wrong(f"a scenario begins with `scenario = {FORMAT}`", key="scenario")
    file.only(file.tables, _TOP)
    files = [*_included(file), file]
    written = _written(files, signals)
    there = {reading.signal for reading in written.readings}
    return Story(
        path=path,
        id=file.text_of("id"),
        title=file.text_of("title"),
        source=file.text_of("source"),
        variables=_variables(files),
        life=_life(file, written),
        signals=tuple(name for name in signals if name in there),
        expectations=tuple(_expectations(file, signals)),
        known_wrong=file.text_of("known_wrong") if "known_wrong" in file.tables else None,
    )


def _variables(files: Sequence[TomlFile]) -> dict[str, str]:
    """What [settings] says, also in the included files; the last of `files` goes before."""
    variables: dict[str, str] = {}
    for file in files:
        told = file.tables.get("settings", {})
        if not isinstance(told, dict):
            raise file.wrong("settings: write it as [settings]", key="settings")
        for name in foreign_variables(told):
            raise file.wrong(f"{name}: neither a setting nor a variable of the platform", "settings", key=name)
        variables |= {name: str(value) for name, value in told.items()}
        try:
            load([Source(name=str(file.path), variables=variables)])
        except SettingsError as error:
            named = next((name for name in told if error.problems[0].startswith(name)), None)
            raise file.wrong(error.problems[0], "settings", key=named) from None
    return variables


# ---------------------------------------------------------------- what was seen


def _written(files: Sequence[TomlFile], signals: Sequence[str]) -> Written:
    file, (base, likes) = files[-1], _background(files, signals)
    told: list[Piece] = []
    for place, stretch in enumerate(file.several("stretch")):
        told += file.understood(partial(_piece_list, stretch, base, likes, signals), "stretch", place)
    if not told:
        raise file.wrong("it has no [[stretch]]: nothing was seen")
    return file.understood(partial(written_out, told, STARTED_S), "stretch")


def _piece_list(
    stretch: Table, base: Mapping[str, Table], likes: Mapping[str, Table], signals: Sequence[str]
) -> list[Piece]:
    told = list(pieces(with_likes(stretch, likes), base, signals))
    for piece in told:
        refuse_facts(piece.signals.get("gpu"))
    return told


def _background(files: Sequence[TomlFile], signals: Sequence[str]) -> tuple[dict[str, Table], dict[str, Table]]:
    """What [base.*] and [like.*] say, also in the included files; the last of `files` goes before."""
    bases: dict[str, Table] = {}
    likes: dict[str, Table] = {}
    for each in files:
        likes |= each.tables.get("like", {})
    for each in files:
        for name, facts in each.tables.get("base", {}).items():
            each.understood(partial(checked, name, facts, signals), "base")
            told: Table = each.understood(partial(with_likes, facts, likes), f"base.{name}")
            bases[name] = over(bases.get(name, {}), told)
    return bases, likes


def _included(file: TomlFile) -> Iterator[TomlFile]:
    names = file.tables.get("include", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise file.wrong('include: write a list of files: include = ["quiet.toml"]', key="include")
    for name in names:
        if not (file.path.parent / name).is_file():
            raise file.wrong(f"include: there is no {file.path.parent / name}", key="include")
        included = TomlFile(file.path.parent / name)
        included.only(included.tables, _INCLUDED)
        yield included


def _life(file: TomlFile, written: Written) -> Life:
    begins = file.tables.get("begins", _BEGINS)
    if not isinstance(begins, datetime) or begins.tzinfo is None:
        raise file.wrong("begins: write an instant with its zone: begins = 2026-11-20T09:00:00Z", key="begins")
    return Life(
        started_s=STARTED_S,
        ends_s=written.ends_s,
        readings=written.readings,
        holds=[_hold(file, place, said) for place, said in enumerate(file.several("hold"))],
        asleep=written.asleep,
        restarts=written.restarts,
        save_takes_s=file.understood(lambda: span({"save_takes": "0", **file.tables}, "save_takes"), ""),
        began_at=begins.astimezone(UTC) - timedelta(seconds=STARTED_S),
    )


def _hold(file: TomlFile, place: int, said: Table) -> tuple[float, Hold]:
    file.only(said, _HOLD, "hold", place)
    return file.understood(partial(_of_hold, place, said), "hold", place)


def _of_hold(place: int, said: Table) -> tuple[float, Hold]:
    at_s = STARTED_S + span(said, "at")
    until_s = at_s + span(said, "for")
    return at_s, Hold(id=str(place), who=str(said["who"]), reason=str(said.get("reason", "")), until_s=until_s)


# ---------------------------------------------------------------- what must come of it


def _expectations(file: TomlFile, signals: Sequence[str]) -> Iterator[Expectation]:
    told = file.several("expect")
    if not told:
        raise file.wrong("it expects nothing: write at least one [[expect]]")
    for place, said in enumerate(told):
        file.only(said, _EXPECT, "expect", place)
        yield file.understood(partial(_expectation, said, signals), "expect", place)


def _expectation(said: Table, signals: Sequence[str]) -> Expectation:
    if not set(said) - _SPAN:
        raise ValueError(f"it expects nothing; write one of {', '.join(sorted(_EXPECT - _SPAN))}")
    verdicts = said.get("verdict", {})
    for name in verdicts:
        checked(name, {}, signals)
    return Expectation(
        text=", ".join(f"{key} {_shown(value)}" for key, value in said.items()),
        from_s=span(said, "from") if "from" in said else 0.0,
        to_s=span(said, "to") if "to" in said else float("inf"),
        pods=_words("pod", said.get("pod", []), POD_STATES),
        verdicts={name: _words("verdict", value, tuple(Activity)) for name, value in verdicts.items()},
        happenings={key: _claim(key, wanted) for key, wanted in said.items() if key in HAPPENINGS},
        alarms=dict.fromkeys(_words("alarm", said.get("alarm", [])), True)
        | dict.fromkeys(_words("no_alarm", said.get("no_alarm", [])), False),
        reason=str(said["reason"]) if "reason" in said else None,
    )


def _words(key: str, value: object, allowed: Sequence[str] = ()) -> tuple[str, ...]:
    """One word or a list of them."""
    words = value if isinstance(value, list) else [value]
    for word in words:
        if not isinstance(word, str) or (allowed and word not in allowed):
            raise ValueError(f"{key}: {word!r} is none; write {', '.join(allowed) or 'a text'}")
    return tuple(words)


def _claim(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{key}: write true or false")
    return value


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " or ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
