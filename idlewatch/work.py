"""
What each task does, in its child process: all that may hang on the volume or on the provider's API.

A request is what the daemon handed over; everything else is looked up anew in this process.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from idlewatch import assembly, notes, pod_hooks, recording
from idlewatch.assembly import Assembly
from idlewatch.doctor import drilled, keys
from idlewatch.errors import TaskError
from idlewatch.history import newest_of, readings_of
from idlewatch.hooks import refusals
from idlewatch.model import Json
from idlewatch.questions import ask_prometheus, run_command
from idlewatch.sequence import EndSequence, wanted_of
from idlewatch.settings import load, pod_sources, settings_record
from idlewatch.signals import gpu_count
from idlewatch.tasks import Task
from idlewatch.watch import MachineClock

Progress: TypeAlias = Callable[[Json], None]

_NOTE_WITHIN_S = 20.0
"""How long a volume may keep the stop waiting for its note."""
_READINGS_LOOKED_AT = 300
"""The newest so many of the history hold one of every signal."""


def save(request: Json, progress: Progress) -> Json:
    """Do all that comes between the warning and the last look: hooks, checkpoints, the save."""
    return EndSequence(_here(), wanted_of(request), progress).run()


def after_start(_request: Json, progress: Progress) -> Json:
    """Run the owner's `after-start` hooks, once a start."""
    here = _here()
    note = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    return pod_hooks.after_start(here, note, progress)


def shutdown(request: Json, progress: Progress) -> Json:
    """Run the owner's `before-stop` hooks because the container is being ended from outside."""
    return pod_hooks.before_shutdown(_here(), request, progress)


def hooks(_request: Json, _progress: Progress) -> Json:
    """Look at the hook folder: what lies there and would not run."""
    return {"refused": [*refusals(pod_hooks.hook_folder(_here()))]}


def stop(request: Json, progress: Progress) -> Json:
    """Leave the note on the volume, best effort, then ask the provider for the stop."""
    here = _here()
    if here.volume:
        leave_note(request, progress, assembly.task_starter())
    answer = assembly.provider(here).stop()
    return {"text": f"accepted by {answer.accepted_by}"}


def leave_note(
    request: Json,
    progress: Progress,
    start_task: Callable[[str, Json, float, float], Task],
    within_s: float = _NOTE_WITHIN_S,
) -> bool:
    """
    Have the note written in a process of its own, and wait for it no longer than `within_s` seconds.

    A volume that hangs or is full must not keep a Pod running that has nothing left to save. Returns whether it is
    written.
    """
    began_s = time.monotonic()
    task = start_task("note", request, began_s, within_s)
    while time.monotonic() - began_s < within_s:
        end = task.poll(time.monotonic())
        if end:
            if end.error:
                sys.stderr.write(f"{end.error}\n")
            return end.error is None
        progress("leaving the note on the volume")
        time.sleep(0.05)
    task.cancel(time.monotonic(), "the volume does not answer")
    return False


def note(request: Json, _progress: Progress) -> Json:
    """Write on the volume why the stop is asked for, and this boot's history."""
    here, said = _here(), request if isinstance(request, dict) else {}
    if here.volume is None:
        raise TaskError(here.no_volume_because)
    written: dict[str, Json] = {
        "at": datetime.now(UTC).isoformat(),
        "pod_id": here.pod.pod_id,
        "boot_key": here.pod.boot_key,
        "reason": said.get("reason"),
        "idle_for_s": said.get("idle_for_s"),
        "snapshot": said.get("snapshot"),
        "done": said.get("done"),
        "from_outside": said.get("from_outside"),
        "notebooks": _open_notebooks(here),
        "keys": [*keys.marks(here.loaded)],
        "gpus": gpu_count(here.loaded.pod_variables()),
    }
    try:
        notes.write_note(here.volume, here.pod_name, notes.LAST_STOP, written)
    except OSError as error:
        raise TaskError(f"the note on {here.volume} could not be written: {error.strerror}") from None
    try:
        _keep_history(here, here.volume)
    except TaskError as error:
        sys.stderr.write(f"{error}\n")
    return None


def _open_notebooks(here: Assembly) -> list[Json]:
    """The notebooks that had a kernel when Jupyter was last looked at; their unsaved edits lie in browsers."""
    newest, state_dir = None, here.loaded.settings.state_dir
    for _, reading in readings_of(state_dir, after=max(0, newest_of(state_dir).reading - _READINGS_LOOKED_AT)):
        newest = reading if reading.signal == "jupyter" else newest
    servers = newest.facts.get("servers") if newest else None
    found = set()
    for server in servers if isinstance(servers, list) else []:
        kernels = server.get("kernels") if isinstance(server, dict) else None
        for kernel in kernels if isinstance(kernels, list) else []:
            if isinstance(kernel, dict) and kernel.get("path"):
                found.add(str(kernel["path"]))
    return [*sorted(found)]


def look_back(_request: Json, _progress: Progress) -> Json:
    """Read what the volume says of the stop before this start, and bring back what it says of the last drill."""
    here = _here()
    said = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    if here.volume:
        with contextlib.suppress(OSError):  # a drill's date is worth less than why this Pod was stopped
            drilled.bring_back(here.volume, here.pod_name, here.loaded.settings.state_dir)
    return {"text": notes.previous_stop(said, here.pod.boot_key), "gpus": said.get("gpus") if said else None}


def describe(_request: Json, _progress: Progress) -> Json:
    """Read the Pod at its provider: price, and whether it may be stopped at all."""
    provider = assembly.provider(_here())
    facts = provider.describe()
    return {**asdict(facts), "forbids": provider.forbids(facts)}


def archive(_request: Json, _progress: Progress) -> Json:
    """Write this boot's history to the volume."""
    here = _here()
    if here.volume is None:
        raise TaskError(here.no_volume_because)
    return {"path": str(_keep_history(here, here.volume))}


def _keep_history(here: Assembly, volume: Path) -> Path:
    clock, state_dir = MachineClock(), here.loaded.settings.state_dir
    folder = volume / ".idlewatch" / here.pod_name
    began = clock.wall() - timedelta(seconds=clock.now_s() - here.pod.started_s)
    name = recording.name_of(began, here.pod.boot_key)
    try:
        return recording.keep_on_volume(folder, state_dir, name, _head(here))
    except OSError as error:
        raise TaskError(f"this boot's history could not be written to {folder}: {error.strerror}") from None


def command(request: Json, _progress: Progress) -> Json:
    """Ask the owner's command."""
    asked = request if isinstance(request, dict) else {}
    return run_command(str(asked.get("command")), float(str(asked.get("within_s"))))


def promql(request: Json, _progress: Progress) -> Json:
    """Ask the owner's Prometheus."""
    asked = request if isinstance(request, dict) else {}
    return ask_prometheus(str(asked.get("url")), str(asked.get("query")), float(str(asked.get("within_s"))))


def _head(here: Assembly) -> Mapping[str, Json]:
    pod = here.pod
    variables: Json = dict(settings_record(here.loaded)["variables"])
    return {"pod_id": pod.pod_id, "boot_key": pod.boot_key, "started_s": pod.started_s, "settings": variables}


def _here() -> Assembly:
    return assembly.assembled(load(pod_sources()))


TASKS: Mapping[str, Callable[[Json, Progress], Json]] = {
    "save": save,
    "after_start": after_start,
    "shutdown": shutdown,
    "hooks": hooks,
    "stop": stop,
    "note": note,
    "look_back": look_back,
    "describe": describe,
    "archive": archive,
    "command": command,
    "promql": promql,
}
"""What `idlewatch _task NAME` can be asked for."""
