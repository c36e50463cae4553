"""
What the note of a stop says: what the daemon asked for, and what is to be seen in the Pod at that moment.

And, once that is known, what the provider answered: a stop that was refused must not look like one that was made.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

from idlewatch.history.store import newest_of, readings_of, status_of
from idlewatch.model import Json
from idlewatch.pod import keys
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import save_plan
from idlewatch.pod.storage import storage_cost
from idlewatch.signals import gpu_count
from idlewatch.stopping import notes
from idlewatch.stopping.in_memory import open_notebooks
from idlewatch.stopping.note_page import page
from idlewatch.stopping.notes import Answer

_READINGS_LOOKED_AT = 300
"""The newest so many of the history hold one of every signal."""
_ANSWER_WITHIN_S = 5.0
"""How long a volume may keep an answer from being told to the daemon."""


def of(here: Assembly, volume: Path, said: Mapping[str, Json]) -> dict[str, Json]:
    """Return the note; `said` is what the daemon asked for."""
    seen = status_of(here.loaded.settings.state_dir) or {}
    folder = notes.folder_of(volume, here.pod_name)
    return {
        "at": datetime.now(UTC).isoformat(),
        "pod_id": here.pod.pod_id,
        "boot_key": here.pod.boot_key,
        "reason": said.get("reason"),
        "cause": said.get("cause"),
        "idle_for_s": said.get("idle_for_s"),
        "evidence": _evidence(seen),
        "snapshot": said.get("snapshot"),
        "unsaved": said.get("unsaved") or save_plan(here).impossible,
        "done": said.get("done"),
        "from_outside": said.get("from_outside"),
        "notebooks": [*open_notebooks(_newest_of_jupyter(here))],
        "keys": [*keys.marks(here.loaded)],
        "gpus": gpu_count(here.loaded.pod_variables()),
        "spent_usd": seen.get("spent_usd"),
        "usd_per_hour": seen.get("usd_per_hour"),
        "storage": storage_cost(here),
        "folder": str(folder),
        "page": str(folder / notes.LAST_STOP_PAGE),
        "call": said.get("call"),
        "answer": Answer.UNKNOWN.value,
        "answer_text": None,
    }


def write(here: Assembly, volume: Path, note: Mapping[str, Json]) -> None:
    """Replace the note and its page. Raises OSError."""
    notes.write_note(volume, here.pod_name, notes.LAST_STOP, note)
    notes.write_page(notes.folder_of(volume, here.pod_name) / notes.LAST_STOP_PAGE, page(note))


def answered(here: Assembly, call: str, answer: Answer, text: str, within_s: float = _ANSWER_WITHIN_S) -> None:
    """
    Add what was answered to the note of this `call`; a note of another one is left as it is. Never raises.

    It waits for the volume no longer than `within_s` seconds, and meanwhile hears no request to end: after an accepted
    stop that request comes soon, and without this the next start would not know that it was accepted.
    """
    volume = here.volume
    if volume is None:
        return
    with _deaf():
        writer = Thread(target=lambda: _add_answer(here, volume, call, answer, text), daemon=True)
        writer.start()
        writer.join(within_s)


def _add_answer(here: Assembly, volume: Path, call: str, answer: Answer, text: str) -> None:
    note = notes.stop_note(volume, here.pod_name)
    if not note or note.get("call") != call:
        return
    told: dict[str, Json] = {**note, "answer": answer.value, "answer_text": text}
    with contextlib.suppress(OSError):
        write(here, volume, told)
    shown = _shown_in_jupyter(here, volume)
    with contextlib.suppress(OSError):
        if shown.exists():
            notes.write_page(shown, page(told))


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _evidence(seen: Mapping[str, Json]) -> dict[str, Json]:
    """What each signal said in the tick that asked for the stop."""
    signals = seen.get("signals")
    rows = signals.items() if isinstance(signals, dict) else []
    return {name: f"{one.get('activity')}: {one.get('reason')}" for name, one in rows if isinstance(one, dict)}


def _newest_of_jupyter(here: Assembly) -> Mapping[str, Json]:
    """What was seen when Jupyter was last looked at."""
    newest, state_dir = None, here.loaded.settings.state_dir
    for _, reading in readings_of(state_dir, after=max(0, newest_of(state_dir).reading - _READINGS_LOOKED_AT)):
        newest = reading if reading.signal == "jupyter" else newest
    return newest.facts if newest else {}


def show_in_jupyter(here: Assembly, volume: Path, text: str) -> None:
    """Where a Jupyter server ran, put the page where its file browser opens; JupyterLab takes no notice otherwise."""
    shown = _shown_in_jupyter(here, volume)
    if _newest_of_jupyter(here).get("servers") or shown.exists():
        notes.write_page(shown, text)


def _shown_in_jupyter(here: Assembly, volume: Path) -> Path:
    return volume / f"idlewatch-stopped-{here.pod_name}.txt"
