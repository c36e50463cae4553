"""Writing this boot's history to the volume: now and then, and with the note of a stop."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from idlewatch.errors import TaskError
from idlewatch.history import recording
from idlewatch.history.archive import keep_on_volume
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import settings_record
from idlewatch.stopping import notes
from idlewatch.watching import gaps
from idlewatch.watching.gaps import GAPS_FILE


def keep_history(here: Assembly, volume: Path) -> Path:
    """Write what is not there yet, and the gaps that were learned from; returns the file. Raises TaskError."""
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


def _head(here: Assembly) -> Mapping[str, Json]:
    pod = here.pod
    variables: Json = dict(settings_record(here.loaded)["variables"])
    return {"pod_id": pod.pod_id, "boot_key": pod.boot_key, "started_s": pod.started_s, "settings": variables}
