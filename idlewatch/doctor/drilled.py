"""
The last drill that succeeded: a note on the volume, beside that of the last stop, and one in the state folder.

The volume's outlives a stop; the state folder's is what `status` reads, without touching a volume that may hang.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from idlewatch.files import write_atomically
from idlewatch.model import Json

LAST_DRILL = "last-drill.json"


def read_note(path: Path) -> dict[str, Json] | None:
    """The note in a file; None where there is none or it can't be read."""
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def on_volume(volume: Path, pod_id: str) -> dict[str, Json] | None:
    """The drill's note on the volume; blocks where the volume hangs."""
    return read_note(volume / ".idlewatch" / pod_id / LAST_DRILL)


def in_state_folder(state_dir: Path) -> dict[str, Json] | None:
    """The drill's note in the state folder."""
    return read_note(state_dir / LAST_DRILL)


def keep(state_dir: Path, note: Mapping[str, Json]) -> None:
    """Leave the note in the state folder. Raises OSError."""
    state_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(state_dir / LAST_DRILL, json.dumps(dict(note), indent=2) + "\n")


def bring_back(volume: Path, pod_id: str, state_dir: Path) -> None:
    """At a start: what the volume says of a drill before it, into the new state folder. Raises OSError."""
    note = on_volume(volume, pod_id)
    if note and in_state_folder(state_dir) is None:
        keep(state_dir, note)


def drill_text(note: Mapping[str, Json] | None) -> str | None:
    """`last drill 2026-11-24 17:03 UTC, saved as 20261124T170301Z-ab12`; None where there was none."""
    if not note or not note.get("at"):
        return None
    saved = f"saved as {note['snapshot']}" if note.get("snapshot") else "nothing to save"
    return f"last drill {str(note['at'])[:16].replace('T', ' ')} UTC, {saved}"
