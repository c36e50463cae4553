"""What ends a Pod, in child processes: the save before a stop, the call and the note, the end from outside."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from idlewatch import assembly
from idlewatch.children.tasks import Progress, Task, task_starter
from idlewatch.errors import ProviderError, ProviderRefused, TaskError
from idlewatch.model import Json
from idlewatch.pod.assembled import assembled_here
from idlewatch.pod.identity import folder_name
from idlewatch.stopping import notes, pod_hooks, stop_note
from idlewatch.stopping.note_page import page
from idlewatch.stopping.notes import Answer
from idlewatch.stopping.sequence import EndSequence, wanted_of
from idlewatch.work.boot_history import keep_history

_NOTE_WITHIN_S = 20.0
"""How long a volume may keep the stop waiting for its note."""


def save(request: Json, progress: Progress) -> Json:
    """Do all that comes between the warning and the last look: hooks, checkpoints, the save."""
    return EndSequence(assembled_here(), wanted_of(request), progress).run()


def stop(request: Json, progress: Progress) -> Json:
    """Leave the note on the volume, best effort, ask the provider for the stop, and add its answer to the note."""
    here, call = assembled_here(), uuid.uuid4().hex
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
    here, said = assembled_here(), request if isinstance(request, dict) else {}
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
        keep_history(here, here.volume)
    except TaskError as error:
        sys.stderr.write(f"{error}\n")
    return None


def shutdown(request: Json, progress: Progress) -> Json:
    """Run the owner's `before-stop` hooks because the container is being ended from outside."""
    return pod_hooks.before_shutdown(assembled_here(), request, progress)


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
