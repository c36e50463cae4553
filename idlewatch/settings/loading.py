"""Reading the settings out of their sources, and refusing what is wrong in words that name the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from idlewatch.errors import SettingsError
from idlewatch.redact import shown_address
from idlewatch.settings.fields import PREFIX, Settings, is_secret, variable
from idlewatch.settings.files import SUFFIX, file_variables, with_files
from idlewatch.settings.kinds import shown, written
from idlewatch.settings.sources import Source, first

_NOT_SETTINGS = frozenset(
    f"IDLEWATCH_{name}" for name in ("DRILL", "STAGE", "REASON", "CAUSE", "SNAPSHOT", "DEADLINE_S")
)
"""Variables with our prefix that idlewatch sets for the programs it starts."""
_VARIABLE = re.compile(rf"\b{PREFIX}[A-Z0-9_]+")
_STATE_DIR = variable("state_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings, where each came from, and what the Pod's own variables say."""

    settings: Settings
    origins: Mapping[str, str]
    """Field -> name of the source, of a secret out of a file with the name of that; or `default`."""
    sources: Sequence[Source]
    warnings: Sequence[str] = ()
    """What is wrong and was let pass, for a verb that must go on all the same: misspelt names, unfit values."""

    def shown(self, field: str) -> str:
        """A setting's value for people; that a secret is set is known also where its value is not."""
        value = getattr(self.settings, field)
        withheld = is_secret(field) and not value and self.origins[field] != "default"
        return "set (hidden)" if withheld else shown(value)

    def pod_variable(self, name: str) -> tuple[str, str] | None:
        """Value and source of one of the platform's own variables; None where no source has it."""
        found = first(self.sources, name)
        return (found[1], found[0]) if found else None

    def pod_variables(self) -> dict[str, str]:
        """All `RUNPOD_` variables, the nearest source first."""
        merged: dict[str, str] = {}
        for source in reversed(self.sources):
            merged |= {name: value for name, value in source.variables.items() if name.startswith("RUNPOD_")}
        return merged


def load(sources: Sequence[Source], *, unknown_names_ok: bool = False) -> Loaded:
    """
    Settings from the first source that has each variable. Raises SettingsError with every problem at once.

    With `unknown_names_ok` a variable that is no setting is a warning, and so is a secret's file that can't be read: a
    misspelt name must not keep anybody from placing a hold, nor what only root may read.
    """
    found_files = with_files(sources)
    sources = found_files.sources
    unknown = [*_unknown_names(sources), *found_files.problems]
    settings, wrong = _judged(sources)
    problems = ([] if unknown_names_ok else unknown) + [one.text for one in wrong]
    if settings is None or problems:
        raise SettingsError(problems)
    return _loaded(settings, sources, unknown)


def load_what_fits(sources: Sequence[Source]) -> Loaded:
    """
    As `load` with `unknown_names_ok`, and a value that does not fit is a warning, too: the next source's counts.

    For whoever only asks or holds. Raises SettingsError for a wrong IDLEWATCH_STATE_DIR alone: there is no telling
    then whom to ask.
    """
    found_files = with_files(sources)
    sources = found_files.sources
    warnings = [*_unknown_names(sources), *found_files.problems]
    while True:
        settings, wrong = _judged(sources)
        if settings is not None and not wrong:
            return _loaded(settings, sources, warnings)
        warnings += [one.text for one in wrong if one.text not in warnings]
        sources = _without(sources, wrong)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """What does not fit, in words, and the settings that it is about."""

    text: str
    fields: Sequence[str]


def _judged(sources: Sequence[Source]) -> tuple[Settings | None, list[_Wrong]]:
    """The settings and what is wrong with them together; None where a value by itself is wrong."""
    found = {field: first(sources, variable(field)) for field in Settings.model_fields}
    values = {field: one[1] for field, one in found.items() if one}
    try:
        settings = Settings(**values)  # type: ignore[arg-type]  # strings are what a validator is for
    except ValidationError as error:
        return None, [_Wrong(_sentence(problem), [str(problem["loc"][0])]) for problem in error.errors()]
    texts = _impossible_pairs(settings)
    if settings.insists_on_key and _origin(sources, variable("snapshot_key")) == "default":
        texts.append(_no_key(settings))
    return settings, [_Wrong(text, _named_in(text)) for text in texts]


def _named_in(text: str) -> list[str]:
    names = set(_VARIABLE.findall(text))
    return [field for field in Settings.model_fields if variable(field) in names]


def _without(sources: Sequence[Source], wrong: Sequence[_Wrong]) -> tuple[Source, ...]:
    """Each of those settings is taken out of the nearest source that has one of them: that one is to blame."""
    left = [dict(source.variables) for source in sources]
    for one in wrong:
        names = {variable(field) for field in one.fields}
        blamed = next((source for source in left if any(source.get(name) for name in names)), None)
        if blamed is None or (_STATE_DIR in names and blamed.get(_STATE_DIR)):
            raise SettingsError([one.text])
        for name in names:
            blamed.pop(name, None)
            blamed.pop(f"{name}{SUFFIX}", None)
    return tuple(replace(source, variables=variables) for source, variables in zip(sources, left, strict=True))


def _loaded(settings: Settings, sources: Sequence[Source], warnings: Sequence[str]) -> Loaded:
    origins = {field: _origin(sources, variable(field)) for field in Settings.model_fields}
    return Loaded(settings=settings, origins=origins, sources=tuple(sources), warnings=tuple(warnings))


def _no_key(settings: Settings) -> str:
    why, otherwise = "IDLEWATCH_ENCRYPT=true", ""
    if settings.encrypt is not True:
        why = f"IDLEWATCH_SAVE_TO={settings.save_to}, where snapshots are encrypted,"
        otherwise = ", or set IDLEWATCH_ENCRYPT=false, and they are saved in plain"
    return (
        f"{why} needs IDLEWATCH_SNAPSHOT_KEY, and it is not set; make one with `age-keygen` and keep a copy "
        f"elsewhere{otherwise}"
    )


def _origin(sources: Sequence[Source], name: str) -> str:
    for source in sources:
        if source.variables.get(name):
            path = source.variables.get(f"{name}{SUFFIX}")
            return f"{path} ({source.name})" if path else source.name
    return _withheld_by(sources, name) or "default"


def _withheld_by(sources: Sequence[Source], name: str) -> str | None:
    return next((source.name for source in sources if name in source.withheld), None)


def _sentence(problem: Mapping[str, Any]) -> str:
    field = str(problem["loc"][0])
    default = Settings.model_fields[field].default
    text = str(problem["msg"]).removeprefix("Value error, ")
    if not is_secret(field) and not text.startswith(repr(problem["input"])):
        given = str(problem["input"])
        text = f"{shown_address(given) if '://' in given else given!r} does not fit: {text}"
    return f"{variable(field)}: {text} (default: {shown(default)})"


def _unknown_names(sources: Sequence[Source]) -> list[str]:
    known = [*(variable(field) for field in Settings.model_fields), *sorted(file_variables())]
    problems = []
    for name in sorted({name for source in sources for name in source.variables if name.startswith(PREFIX)}):
        if name not in known and name not in _NOT_SETTINGS:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            remedy = f"did you mean {near[0]}?" if near else "`idlewatch settings` lists them all"
            problems.append(f"{name}: there is no such setting; {remedy}")
    return problems


def _impossible_pairs(settings: Settings) -> list[str]:
    s = settings
    rules = [
        (
            s.idle_limit and s.idle_limit < 2 * s.interval,
            (
                f"IDLEWATCH_IDLE_AFTER={written(s.idle_limit)} is shorter than two looks at IDLEWATCH_INTERVAL="
                f"{written(s.interval)}: nothing could be seen to be quiet; lengthen the one or shorten the other"
            ),
        ),
        (
            s.blind_limit < 2 * s.interval,
            (
                f"IDLEWATCH_BLIND_LIMIT={written(s.blind_limit)} is shorter than two looks at IDLEWATCH_INTERVAL="
                f"{written(s.interval)}: every look would forget the quiet time; lengthen it"
            ),
        ),
        (
            s.learns and s.auto_least < 2 * s.interval,
            (
                f"IDLEWATCH_AUTO_LEAST={written(s.auto_least)} is shorter than two looks at IDLEWATCH_INTERVAL="
                f"{written(s.interval)}: nothing could be seen to be quiet; lengthen the one or shorten the other"
            ),
        ),
        (
            s.auto_most < s.auto_least,
            (
                f"IDLEWATCH_AUTO_MOST={written(s.auto_most)} is shorter than IDLEWATCH_AUTO_LEAST="
                f"{written(s.auto_least)}; make it longer"
            ),
        ),
        (
            s.max_uptime and s.max_uptime <= s.warn_for,
            (
                f"IDLEWATCH_MAX_UPTIME={written(s.max_uptime)} leaves no room for IDLEWATCH_WARN_FOR="
                f"{written(s.warn_for)}; make it longer than that"
            ),
        ),
        (
            bool(s.promql) != bool(s.prometheus_url),
            "IDLEWATCH_PROMQL and IDLEWATCH_PROMETHEUS_URL go together; set both or neither",
        ),
        (
            s.volume != "auto" and _inside(Path(s.volume), s.state_dir),
            (
                f"IDLEWATCH_STATE_DIR={s.state_dir} lies on IDLEWATCH_VOLUME={s.volume}: another Pod on that "
                "volume would inherit the countdown; use a folder outside it"
            ),
        ),
        (
            s.volume != "auto" and s.save_root not in ("auto", "/") and _inside(Path(s.save_root), Path(s.volume)),
            (
                f"IDLEWATCH_VOLUME={s.volume} lies inside IDLEWATCH_SAVE_ROOT={s.save_root}, which a stop wipes; "
                "it must be storage that survives"
            ),
        ),
    ]
    return [text for broken, text in rules if broken]


def _inside(folder: Path, path: Path) -> bool:
    return path == folder or folder in path.parents
