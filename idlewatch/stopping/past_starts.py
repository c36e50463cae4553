"""
The starts of this Pod, noted on its volume: a container that starts again and again bills on and does nothing.

The engine restarts a container whose command has ended (RunPod does not stop its Pod), and each start is a new one to
all that is measured from its beginning. Only what outlives a start can tell. Runs in a child process: a volume can
hang for ever.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from idlewatch.files import small_file
from idlewatch.stopping.notes import folder_of, made_folder, write_page

STARTS = "starts.json"
WITHIN = timedelta(hours=1)
MANY = 4
"""So many starts within that time are no person's doing."""
_KEPT_MOST = 16


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the Pod's container."""

    boot_key: str
    at: datetime


def note_start(volume: Path, pod_id: str, this: Start) -> list[Start]:
    """Note this start where it is not yet, and return it with those before it, oldest first. Never raises."""
    before = [start for start in _noted(volume, pod_id) if start.boot_key != this.boot_key]
    starts = [*before, this][-_KEPT_MOST:]
    said = [{"boot_key": start.boot_key, "at": start.at.isoformat()} for start in starts]
    with contextlib.suppress(
        OSError
    ):  # what can't be noted on this volume can't be saved there either, and that is told
        write_page(made_folder(volume, pod_id) / STARTS, json.dumps(said) + "\n", mode=0o600)
    return starts


def too_many(starts: Sequence[Start], now: datetime) -> str | None:
    """What to say where the container starts again and again; None where it does not."""
    newest = [start for start in starts if timedelta(0) <= now - start.at <= WITHIN]
    if len(newest) < MANY:
        return None
    return (
        f"this container was started {len(newest)} times within an hour: does its command end by itself? Its log says "
        "more; each start bills on, and none of them is ever idle for long"
    )


def _noted(volume: Path, pod_id: str) -> list[Start]:
    try:
        said = json.loads(small_file(folder_of(volume, pod_id) / STARTS))
        return [Start(str(one["boot_key"]), datetime.fromisoformat(one["at"])) for one in said]
    except (OSError, ValueError, KeyError, TypeError):
        return []
