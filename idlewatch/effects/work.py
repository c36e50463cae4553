"""
What each task does, in its child process: all that may hang on the volume or on the provider's API.

A request is what the daemon handed over; everything else is looked up anew in this process.
"""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from idlewatch import assembly
from idlewatch.amounts import amount
from idlewatch.children.tasks import Task, task_starter
from idlewatch.deciding.patience import Gap
from idlewatch.doctor import drilled
from idlewatch.effects.questions import ask_prometheus, run_command
from idlewatch.errors import ProviderError, ProviderRefused, TaskError
from idlewatch.history import recording
from idlewatch.history.archive import keep_on_volume
from idlewatch.history.store import status_of
from idlewatch.hooks import refusals
from idlewatch.host import restoring
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod import losses
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.pod.identity import folder_name
from idlewatch.pod.saving import save_request, with_key
from idlewatch.report import advice_of
from idlewatch.settings import load, pod_sources, settings_record
from idlewatch.snapshot import be_gentle
from idlewatch.snapshot import save as save_now
from idlewatch.stopping import notes, pod_hooks, stop_note
from idlewatch.stopping.note_page import page
from idlewatch.stopping.notes import Answer
from idlewatch.stopping.sequence import EndSequence, wanted_of
from idlewatch.telling import heartbeat
from idlewatch.telling import passing_on as telling
from idlewatch.watching import gaps
from idlewatch.watching.gaps import GAPS_FILE

Progress: TypeAlias = Callable[[Json], None]

_NOTE_WITHIN_S = 20.0
"""How long a volume may keep the stop waiting for its note."""


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
    """Leave the note on the volume, best effort, ask the provider for the stop, and add its answer to the note."""
    here, call = _here(), uuid.uuid4().hex
    said = request if isinstance(request, dict) else {}
    if here.volume:
        leave_note({**said, "call": call}, progress, task_starter())
    try:
        answer = assembly.provider(here).stop()
    except ProviderError as error:
        refused = isinstance(error, ProviderRefused)
        stop_note.answered(here, call, Answer.REFUSED if refused else Answer.FAILED, str(error))
        raise
    text = f"accepted by {answer.accepted_by}"
    stop_note.answered(here, call, Answer.ACCEPTED, text)
    return {"text": text}


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
    written = stop_note.of(here, here.volume, said)
    try:
        stop_note.write(here, here.volume, written)
    except OSError as error:
        raise TaskError(f"the note on {here.volume} could not be written: {error.strerror}") from None
    with contextlib.suppress(OSError):  # for eyes only: what counts is written
        stop_note.show_in_jupyter(here, here.volume, page(written))
    try:
        _keep_history(here, here.volume)
    except TaskError as error:
        sys.stderr.write(f"{error}\n")
    return None


def misconfigured(request: Json, _progress: Progress) -> Json:
    """Write on the volume that nothing guards this Pod: the settings are wrong, so what is needed is handed over."""
    said = request if isinstance(request, dict) else {}
    note, volume = said.get("note"), Path(str(said.get("volume")))
    try:
        notes.write_note(
            volume, folder_name(str(said.get("pod_id"))), notes.MISCONFIGURED, note if isinstance(note, dict) else {}
        )
    except OSError as error:
        raise TaskError(str(error.strerror)) from None
    return None


def look_for_volume(_request: Json, _progress: Progress) -> Json:
    """Look whether the folder that the owner named for saves is there."""
    named = _here().named_volume
    return {"missing": None if named is None or named.is_dir() else f"IDLEWATCH_VOLUME={named} is not there"}


def look_back(_request: Json, _progress: Progress) -> Json:
    """Read what the volume says of the stop before this start, and bring back what it says of the last drill."""
    here = _here()
    said = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    if here.volume:
        with contextlib.suppress(OSError):  # a drill's date is worth less than why this Pod was stopped
            drilled.bring_back(here.volume, here.pod_name, here.loaded.settings.state_dir)
    return {
        "text": notes.previous_stop(said, here.pod.boot_key),
        "brought_back": notes.previous_stop(said, here.pod.boot_key, offers=False),
        "offer": restoring.offer(here, said.get("snapshot") if said else None),
        "gpus": said.get("gpus") if said else None,
        "gaps": [asdict(gap) for gap in _gaps_on_volume(here, said)],
    }


def _gaps_on_volume(here: Assembly, note: Mapping[str, Json] | None) -> list[Gap]:
    """The gaps that earlier starts have left, and the one over the stop before this start."""
    if here.volume is None:
        return []
    clock = MachineClock()
    started = clock.wall() - timedelta(seconds=clock.now_s() - here.pod.started_s)
    last = gaps.over_a_stop(note, here.pod.boot_key, started)
    return gaps.merged(gaps.read(here.volume / ".idlewatch" / here.pod_name / GAPS_FILE), [last] if last else [])


def restore(_request: Json, progress: Progress) -> Json:
    """Bring back what the last stop has wiped, once a container."""
    return restoring.bring_back(_here(), progress).as_json()


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
    folder = notes.folder_of(volume, here.pod_name)
    began = clock.wall() - timedelta(seconds=clock.now_s() - here.pod.started_s)
    name = recording.name_of(began, here.pod.boot_key)
    try:
        notes.made_folder(volume, here.pod_name)
        known = gaps.read(state_dir / GAPS_FILE)
        if known:
            gaps.keep(folder / GAPS_FILE, gaps.merged(gaps.read(folder / GAPS_FILE), known))
        return keep_on_volume(folder, state_dir, name, _head(here))
    except OSError as error:
        raise TaskError(f"this boot's history could not be written to {folder}: {error.strerror}") from None


def note_image(_request: Json, _progress: Progress) -> Json:
    """Note the names of the container's image, so that what is deleted later is known."""
    be_gentle()
    image = losses.noted_image(_here())
    return {} if image is None else {"image": image.fingerprint, "late_s": image.late_s}


def advise(_request: Json, _progress: Progress) -> Json:
    """Look for waste that is not idleness in this start's history."""
    be_gentle()
    state_dir, now_s = _here().loaded.settings.state_dir, MachineClock().now_s()
    price = (status_of(state_dir) or {}).get("usd_per_hour")
    found = advice_of(state_dir, now_s, float(price) if isinstance(price, int | float) and price else None)
    return {"advice": [one.as_json() for one in found]}


def save_again(_request: Json, progress: Progress) -> Json:
    """Save while the Pod is in use: no hook runs and nobody is asked for anything. What changes meanwhile is left."""
    here = _here()
    if here.save_root is None or here.place is None:
        raise TaskError(here.no_volume_because)
    be_gentle()
    request = with_key(here, save_request(here, here.save_root))
    made = save_now(request, progress=lambda p: progress(p.as_json()))
    if made is None:
        return {"snapshot": None, "text": "nothing that a stop would wipe"}
    files = "1 file" if made.files == 1 else f"{made.files} files"
    return {"snapshot": made.id, "text": f"saved {files} as {made.id}, {amount(made.archive_bytes)}"}


def command(request: Json, _progress: Progress) -> Json:
    """Ask the owner's command."""
    asked = request if isinstance(request, dict) else {}
    return run_command(str(asked.get("command")), float(str(asked.get("within_s"))))


def promql(request: Json, _progress: Progress) -> Json:
    """Ask the owner's Prometheus."""
    asked = request if isinstance(request, dict) else {}
    return ask_prometheus(str(asked.get("url")), str(asked.get("query")), float(str(asked.get("within_s"))))


def send(request: Json, _progress: Progress) -> Json:
    """Pass one notice on to one address of IDLEWATCH_NOTIFY."""
    telling.hush()
    return telling.send(assembly.addresses_of(_here()), request)


def tmux(request: Json, _progress: Progress) -> Json:
    """Show one notice in tmux."""
    return telling.show_in_tmux(request)


def beat(_request: Json, _progress: Progress) -> Json:
    """Leave a sign of life on the volume."""
    here = _here()
    return heartbeat.write(here, here.loaded.settings.heartbeat_every.total_seconds())


def ping(_request: Json, _progress: Progress) -> Json:
    """Give a sign of life to the address that is set."""
    telling.hush()
    here = _here()
    return heartbeat.ping(here, here.loaded.settings.heartbeat_url.get_secret_value())


def _head(here: Assembly) -> Mapping[str, Json]:
    pod = here.pod
    variables: Json = dict(settings_record(here.loaded)["variables"])
    return {"pod_id": pod.pod_id, "boot_key": pod.boot_key, "started_s": pod.started_s, "settings": variables}


def _here() -> Assembly:
    return assembled(load(pod_sources()))


TASKS: Mapping[str, Callable[[Json, Progress], Json]] = {
    "save": save,
    "after_start": after_start,
    "shutdown": shutdown,
    "hooks": hooks,
    "stop": stop,
    "note": note,
    "misconfigured": misconfigured,
    "look_for_volume": look_for_volume,
    "look_back": look_back,
    "restore": restore,
    "describe": describe,
    "archive": archive,
    "note_image": note_image,
    "save_again": save_again,
    "advise": advise,
    "command": command,
    "promql": promql,
    "send": send,
    "tmux": tmux,
    "heartbeat": beat,
    "ping": ping,
}
"""What `idlewatch _task NAME` can be asked for."""
