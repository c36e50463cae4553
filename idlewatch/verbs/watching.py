"""`run`: the daemon."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from idlewatch import assembly, login, logs, notes, places, run
from idlewatch.errors import SettingsError
from idlewatch.history import STATUS_FILE, write_atomically
from idlewatch.model import Json
from idlewatch.pod import POD_ID
from idlewatch.settings import Loaded, Mode, Settings, Source, load, pod_sources, variable
from idlewatch.snapshot import read_mounts
from idlewatch.watch import MachineClock, only_daemon


def run_daemon(options: argparse.Namespace) -> bool:
    """`idlewatch run`."""
    logs.set_up(least=logging.DEBUG if options.debug else logging.INFO)
    sources = pod_sources()
    try:
        loaded = load(sources)
    except SettingsError as error:
        leave_word(sources, error.problems)
        raise
    if options.observe:
        told = loaded.settings.model_copy(update={"mode": Mode.OBSERVE})
        loaded = Loaded(settings=told, origins={**loaded.origins, "mode": "--observe"}, sources=loaded.sources)
    here = assembly.assembled(loaded)
    with only_daemon(loaded.settings.state_dir):
        run.watch(here)
    return True


def leave_word(sources: Sequence[Source], problems: Sequence[str]) -> None:
    """Say in the state folder, at the next login and on the volume that nothing guards this Pod; only in a Pod."""
    told = {name: value for source in reversed(sources) for name, value in source.variables.items() if value}
    if not told.get(POD_ID):
        return
    clock, state_dir = MachineClock(), Path(_told(told, "state_dir"))
    said: dict[str, Json] = {"at": clock.wall().isoformat(), "at_s": clock.now_s(), "problems": list(problems)}
    mounts = read_mounts()
    root = places.save_root(_told(told, "save_root"), mounts, in_pod=True)
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(state_dir / STATUS_FILE, json.dumps({"format": 1, "phase": "misconfigured", **said}))
        login.say(state_dir, ["idlewatch does NOT guard this Pod, its settings are wrong:", *problems])
        login.show_at_login(root, state_dir)
    volume = places.volume(_told(told, "volume"), mounts)
    with contextlib.suppress(OSError):
        if volume:
            notes.write_note(volume, told[POD_ID], notes.MISCONFIGURED, said)


def _told(variables: dict[str, str], field: str) -> str:
    return variables.get(variable(field), str(Settings.model_fields[field].default))
