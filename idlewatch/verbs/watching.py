"""`run`: the daemon."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from idlewatch import logs
from idlewatch.children.tasks import task_starter
from idlewatch.errors import SettingsError, TaskError
from idlewatch.files import write_atomically
from idlewatch.history.store import STATUS_FILE
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod.assembled import assembled
from idlewatch.pod.identity import POD_ID
from idlewatch.settings import Loaded, Mode, Settings, Source, load, pod_sources, variable
from idlewatch.snapshot import places, read_mounts
from idlewatch.state_folder import only_daemon
from idlewatch.telling import login
from idlewatch.verbs.words import warn
from idlewatch.watching import run

_NOTE_WITHIN_S = 5.0


def run_daemon(options: argparse.Namespace) -> bool:
    """`idlewatch run`."""
    logs.set_up(least=logging.DEBUG if options.debug else logging.INFO)
    sources = pod_sources()
    try:
        loaded = load(sources)
        _require_root(loaded)
    except SettingsError as error:
        for problem in error.problems:
            warn(problem)
        leave_word(sources, error.problems)
        raise SettingsError([]) from None  # said above: before a volume that hangs was asked for anything
    if options.observe:
        told = loaded.settings.model_copy(update={"mode": Mode.OBSERVE})
        loaded = Loaded(settings=told, origins={**loaded.origins, "mode": "--observe"}, sources=loaded.sources)
    here = assembled(loaded)
    with only_daemon(loaded.settings.state_dir):
        run.watch(here)
    return True


def _require_root(loaded: Loaded) -> None:
    """What a stop wipes is on this machine's own disk, so it is looked for at once. Raises SettingsError."""
    told = loaded.settings.save_root
    if told != "auto" and not Path(told).is_dir():
        raise SettingsError([f"IDLEWATCH_SAVE_ROOT={told} is not there; name a folder that is, or unset it for /"])


def leave_word(sources: Sequence[Source], problems: Sequence[str]) -> None:
    """Say in the state folder, at the next login and on the volume that nothing guards this Pod; only in a Pod."""
    told = {name: value for source in reversed(sources) for name, value in source.variables.items() if value}
    if not told.get(POD_ID):
        return
    clock, state_dir = MachineClock(), Path(_told(told, "state_dir"))
    said: dict[str, Json] = {"at": clock.wall().isoformat(), "at_s": clock.now_s(), "problems": list(problems)}
    mounts = read_mounts()
    root = places.save_root(_told(told, "save_root"), mounts, in_pod=True)
    volume = places.volume(_told(told, "volume"), mounts)
    if state_dir.is_absolute() and not (volume and state_dir.is_relative_to(volume)):
        _leave_here(state_dir, root, said, problems)
    if volume:
        _note_on(volume, {"volume": str(volume), "pod_id": told[POD_ID], "note": said}, clock)


def _leave_here(state_dir: Path, root: Path | None, said: dict[str, Json], problems: Sequence[str]) -> None:
    """Never on the volume: another Pod would read it there as its own."""
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(state_dir / STATUS_FILE, json.dumps({"format": 1, "phase": "misconfigured", **said}))
        login.say(state_dir, ["idlewatch does NOT guard this Pod, its settings are wrong:", *problems])
        login.show_at_login(root, state_dir)


def _note_on(volume: Path, request: Json, clock: MachineClock) -> None:
    """In a process of its own, for a few seconds: a volume may hang for good."""
    began_s = clock.now_s()
    try:
        task = task_starter()("misconfigured", request, began_s, _NOTE_WITHIN_S)
    except TaskError as error:
        warn(f"no note on {volume}: {error}")
        return
    while not (end := task.poll(clock.now_s())) and clock.now_s() - began_s < _NOTE_WITHIN_S:
        clock.rest(0.05)
    task.end(0.0)
    if not end or end.error:
        warn(f"no note on {volume}: {end.error if end else 'it does not answer'}")


def _told(variables: dict[str, str], field: str) -> str:
    return variables.get(variable(field), str(Settings.model_fields[field].default))
