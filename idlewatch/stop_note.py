"""What the note of a stop says: what the daemon asked for, and what is to be seen in the Pod at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from idlewatch import assembly, keys, notes
from idlewatch.assembly import Assembly
from idlewatch.history import newest_of, readings_of, status_of
from idlewatch.in_memory import open_notebooks
from idlewatch.model import Json
from idlewatch.signals import gpu_count

_READINGS_LOOKED_AT = 300
"""The newest so many of the history hold one of every signal."""


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
        "unsaved": said.get("unsaved") or assembly.save_plan(here).impossible,
        "done": said.get("done"),
        "from_outside": said.get("from_outside"),
        "notebooks": [*open_notebooks(_newest_of_jupyter(here))],
        "keys": [*keys.marks(here.loaded)],
        "gpus": gpu_count(here.loaded.pod_variables()),
        "spent_usd": seen.get("spent_usd"),
        "usd_per_hour": seen.get("usd_per_hour"),
        "storage": assembly.storage(here),
        "folder": str(folder),
        "page": str(folder / notes.LAST_STOP_PAGE),
    }


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
    shown = volume / f"idlewatch-stopped-{here.pod_name}.txt"
    if _newest_of_jupyter(here).get("servers") or shown.exists():
        notes.write_page(shown, text)
