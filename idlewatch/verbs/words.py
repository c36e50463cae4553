"""What the verbs say and how: lines, sizes, who asks, and the settings as this shell can know them."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping

from idlewatch.errors import Refused
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import Loaded, load, load_what_fits, pod_sources, verb_sources
from idlewatch.show.folding import folded
from idlewatch.snapshot import Place
from idlewatch.verbs.faults import person


def loaded(*, strict: bool = False) -> Loaded:
    """
    The settings of a verb: its own environment, then what the daemon was told, then the Pod's.

    A name that is no setting is said and let pass: somebody who wants to hold the Pod must not be kept from it by what
    a hold has no use for. Raises SettingsError where a value is wrong, and if `strict` also for such a name.
    """
    return _with_warnings(load(verb_sources(pod_sources()), unknown_names_ok=not strict))


def loaded_to_ask() -> Loaded:
    """
    As `loaded`, for a verb that only asks or holds: a value that does not fit is said and left out, too.

    During a countdown nobody must be kept from a hold by it. Raises SettingsError for a wrong IDLEWATCH_STATE_DIR.
    """
    return _with_warnings(load_what_fits(verb_sources(pod_sources())))


def _with_warnings(told: Loaded) -> Loaded:
    for text in told.warnings:
        warn(f"warning: left out here, and refused by a daemon: {text}")
    return told


def say(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def say_text(lines: Iterable[str]) -> None:
    """As `say`, for what is read by people: folded where the terminal is narrower. Not for what is to be copied."""
    wide = columns()
    say(part for line in lines for part in folded(line, wide))


JSON_FORMAT = 1
"""Of what `--json` prints, see docs/json.md: a key may come to it; none goes or changes without a new number."""


def say_json(told: Mapping[str, Json]) -> None:
    """Print one JSON object on one line, with its format's number."""
    say([json.dumps({"format": JSON_FORMAT, **told})])


def columns() -> int | None:
    """How wide the terminal is that this is read in; None: it is read in none, so lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def warn(text: str) -> None:
    """Say a sentence that is no answer, beside the answer."""
    sys.stdout.flush()
    sys.stderr.write(f"idlewatch: {text}\n")


def who() -> str:
    """The person at this terminal; the number of a user who has no name here."""
    try:
        where = os.ttyname(0).removeprefix("/dev/")
    except OSError:
        where = "no terminal"
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = person()
    return f"{name} ({where})"


def place(here: Assembly) -> Place:
    """Where snapshots go. Raises Refused where there is no such place, or it can't be opened from here."""
    if here.objects is not None:
        if why := here.objects.missing():
            raise Refused(f"{why}; run this as root, who sees the Pod's variables")
        return here.objects
    if here.volume is None:
        raise Refused(here.no_volume_because)
    if not here.volume.is_dir():
        raise Refused(f"the volume {here.volume} is not there; mount it, or name another one with IDLEWATCH_VOLUME")
    return here.volume
