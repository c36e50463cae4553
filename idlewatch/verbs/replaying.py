"""`replay` and `record`: what was seen, judged again under any settings; and how to see it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from idlewatch import assembly, logs
from idlewatch.durations import format_duration
from idlewatch.errors import IdlewatchError, Refused, SettingsError
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Hold, Json, Signal
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.redact import Redactor
from idlewatch.replay import Factories, read_story, recorder
from idlewatch.replay.comparison import Compared, outcome, total
from idlewatch.replay.story import Story, foreign_variables
from idlewatch.requests.holds import read_holds
from idlewatch.settings import known_secrets, settings_record
from idlewatch.show.replayed import Replayed, as_json, table
from idlewatch.signals import SIGNALS
from idlewatch.verbs.faults import meaning
from idlewatch.verbs.words import loaded, say


def replay(options: argparse.Namespace) -> bool:
    """`idlewatch replay`: done only where all is as expected."""
    logs.set_up(least=logging.CRITICAL)
    overrides = variables_of(options.set)
    stories = [read_story(Path(name), tuple(SIGNALS)) for name in options.file]
    if options.compare:
        told = compared(stories, options.compare, overrides, options.usd_per_hour)
        say([json.dumps(told.as_json())] if options.json else told.lines())
        return True
    replayed = []
    for story in stories:
        replayed.append(replayed_story(story, overrides, SIGNALS))
        if not options.json:
            say([*replayed[-1].lines(), ""])
    if options.json:
        say([json.dumps(as_json(replayed))])
    elif len(replayed) > 1:
        say(table(replayed))
    return all(each.ok for each in replayed)


def replayed_story(story: Story, overrides: Mapping[str, str], factories: Factories) -> Replayed:
    """One story lived again under these settings. Raises SettingsError where they make no sense together."""
    told = story.loaded(overrides)
    return Replayed(
        story=story,
        settings={**story.variables, **overrides},
        interval_s=told.settings.interval.total_seconds(),
        lived=story.relived(told, factories),
    )


def compared(
    stories: Sequence[Story], files: Sequence[str], overrides: Mapping[str, str], usd_per_hour: float | None
) -> Compared:
    """Every story under the settings of two files. Raises SettingsError where a file or a setting makes no sense."""
    price, outcomes = usd_per_hour or 0.0, []
    for name in files:
        variables = variables_in(name)
        try:
            replayed = [
                replayed_story(replace(story, recorded=True), {**variables, **overrides}, SIGNALS) for story in stories
            ]
        except SettingsError as error:
            raise SettingsError([f"with {name}: {problem}" for problem in error.problems]) from None
        outcomes.append(total([outcome(each.lived, each.story.life.ends_s) for each in replayed]))
        price = price or stories[0].loaded({**variables, **overrides}).settings.usd_per_hour
    lasted_s = sum(story.life.ends_s - story.life.started_s for story in stories)
    return Compared((files[0], files[1]), (outcomes[0], outcomes[1]), lasted_s, price)


def variables_in(name: str) -> dict[str, str]:
    """The settings in a file of NAME=VALUE lines; `#` begins a comment. Raises SettingsError."""
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SettingsError([f"{name}: it is no text in UTF-8"]) from None
    except OSError as error:
        raise SettingsError([f"{name}: {error.strerror or error}"]) from None
    told = [line.strip().removeprefix("export ") for line in lines]
    try:
        variables = variables_of([line for line in told if line and not line.startswith("#")])
    except SettingsError as error:
        raise SettingsError([f"{name}: {problem.removeprefix('--set ')}" for problem in error.problems]) from None
    return {setting: value.strip("\"'") for setting, value in variables.items()}


def variables_of(words: Sequence[str]) -> dict[str, str]:
    """What `--set NAME=VALUE` says, each time it is said. Raises SettingsError."""
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (_, equals, _) in zip(words, pairs, strict=True) if not equals]
    if wrong:
        raise SettingsError([f"--set {wrong[0]}: write NAME=VALUE, such as IDLEWATCH_IDLE_AFTER=20m"])
    variables = {name.strip(): value.strip() for name, _, value in pairs}
    for name in foreign_variables(variables):
        raise SettingsError([f"--set {name}: there is no such setting; `idlewatch settings` lists them all"])
    return variables


def record(options: argparse.Namespace) -> bool:
    """`idlewatch record`: every reading of this machine, until a shutdown request or its time."""
    told, clock = loaded(), MachineClock()
    here = assembled(told)
    signals = assembly.signals(here)
    file = _new_file(options.file)
    clock.end_on_shutdown_request()
    say([f"Recording {', '.join(signal.name for signal in signals)} into {options.file}; Ctrl-C ends it."])
    sys.stdout.flush()
    with file:
        seen = _recorded(file, here, signals, clock, options)
    say([f"{seen.readings} readings in {format_duration(seen.lasted_s)}. What would have come of them says:"])
    say([f"  idlewatch replay {options.file}"])
    return True


def _recorded(
    file: BinaryIO, here: Assembly, signals: Sequence[Signal], clock: MachineClock, options: argparse.Namespace
) -> recorder.Seen:
    interval_s = here.loaded.settings.interval.total_seconds()
    for_s = float("inf") if options.for_s is None else options.for_s
    try:
        into = recorder.Recorder(file, _head(here), packed=options.file.endswith(".gz"))
        return recorder.record(into, signals, clock, interval_s, for_s, _holds(here))
    except OSError as error:
        raise IdlewatchError(f"the recording can't be written: {meaning(error, options.file)}") from error


def _holds(here: Assembly) -> Callable[[float], Sequence[Hold]]:
    """The holds of an instant as a daemon here would know them, without secrets; nothing is taken away."""
    settings, clean = here.loaded.settings, Redactor(known_secrets(here.loaded.sources)).clean

    def holds(now_s: float) -> Sequence[Hold]:
        found = read_holds(settings.state_dir, now_s, hold_max_s=settings.hold_max.total_seconds())
        return [replace(hold, who=clean(hold.who), reason=clean(hold.reason)) for hold in found.active]

    return holds


def _new_file(name: str) -> BinaryIO:
    try:
        return recorder.new_file(Path(name))
    except FileExistsError:
        raise Refused(f"{name} is there already; nothing is overwritten") from None
    except FileNotFoundError:
        raise Refused(f"there is no folder {Path(name).parent} for the recording; make it first") from None
    except OSError as error:
        raise Refused(f"the recording can't be written: {meaning(error, name)}") from error


def _head(here: Assembly) -> dict[str, Json]:
    variables: Json = dict(settings_record(here.loaded)["variables"])
    return {
        "pod_id": here.pod.pod_id,
        "boot_key": here.pod.boot_key,
        "started_s": here.pod.started_s,
        "settings": variables,
    }
