"""
The notes on the volume: why this Pod was stopped, or why nothing guards it, for whoever comes next.

The note of a stop is written before the stop is asked for, so it says *asked for*, and what the provider answered is
added once that is known. Only an accepted one that another start of the container followed is a proven stop. It is
written twice: for programs, and as a page for people (`note_page`).
Runs in a child process: a volume can hang for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from idlewatch.files import write_atomically
from idlewatch.model import Json

LAST_STOP = "last-stop.json"
LAST_STOP_PAGE = "last-stop.txt"
MISCONFIGURED = "misconfigured.json"
"""Left when the daemon refused to start for its settings: nothing guards the Pod."""


class Answer(StrEnum):
    """What the provider answered to the stop that a note tells of."""

    UNKNOWN = "unknown"
    """Not come yet, or whoever asked has ended before it came."""
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    """No way of asking gave an answer that accepts it, and one may pass."""


def write_note(volume: Path, pod_id: str, name: str, note: Mapping[str, Json]) -> Path:
    """Replace one of the Pod's notes and sync it. Raises OSError, also where there is no such volume."""
    return write_page(made_folder(volume, pod_id) / name, json.dumps(dict(note), indent=2) + "\n", mode=0o600)


def write_page(path: Path, text: str, mode: int = 0o644) -> Path:
    """Replace one file for those who come later, and sync it. Raises OSError."""
    write_atomically(path, text, mode=mode)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def folder_of(volume: Path, pod_id: str) -> Path:
    """Where the Pod's own things lie on the volume."""
    return volume / ".idlewatch" / pod_id


def made_folder(volume: Path, pod_id: str) -> Path:
    """
    The same, made where it is missing: both levels for their owner only. The volume itself is never made.

    Raises OSError; FileNotFoundError where there is no such volume: a name that was mistyped must not become a folder
    on the disk that a stop wipes.
    """
    folder = folder_of(volume, pod_id)
    for one in (folder.parent, folder):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=0o700)
    return folder


def stop_note(volume: Path, pod_id: str) -> dict[str, Json] | None:
    """The note of the last stop that was asked for; None where there is none or it can't be read."""
    try:
        said = json.loads((folder_of(volume, pod_id) / LAST_STOP).read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def answer_in(note: Mapping[str, Json]) -> Answer:
    """What the provider answered; of a note that does not say so it is not known."""
    return next((answer for answer in Answer if answer == note.get("answer")), Answer.UNKNOWN)


def at_words(note: Mapping[str, Json]) -> str:
    """When a note was written, to the minute: `2026-11-24 19:36 UTC`."""
    said = str(note.get("at"))
    try:
        return f"{datetime.fromisoformat(said).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return said


def was_turned_down(note: Mapping[str, Json]) -> bool:
    """Whether the stop was asked for and not accepted."""
    return answer_in(note) in (Answer.REFUSED, Answer.FAILED)


def previous_stop(note: Mapping[str, Json] | None, boot_key: str, *, offers: bool = True) -> str | None:
    """
    What the note proves now: the stop happened if it was accepted and this is another start than the one that asked.

    `offers`: also say how to bring back what it wiped.
    """
    if not note:
        return None
    more = f"; all of it: {note['page']}" if note.get("page") else ""
    if note.get("from_outside"):
        told = f"this Pod was ended from outside, not by idlewatch, at {at_words(note)}: {note.get('reason')}{more}"
        return None if note.get("boot_key") == boot_key else told
    asked = f"a stop was asked for at {at_words(note)}: {note.get('reason')}"
    turned_down = _turned_down(note)
    if note.get("boot_key") == boot_key:
        return turned_down or f"STOP NOT CONFIRMED: {asked}, but this is still the same start"
    snapshot = note.get("snapshot")
    back = f"; `idlewatch restore {snapshot}` brings back what it wiped" if snapshot and offers else ""
    if turned_down:
        likely = "" if answer_in(note) is Answer.REFUSED else "most likely "
        return f"{turned_down}; this Pod {likely}ended in some other way{back}{more}"
    if answer_in(note) is Answer.UNKNOWN:
        return f"{asked}; RunPod's answer is not known, but this later start followed it{back}{more}"
    return f"confirmed by this start: {asked}{back}{more}"


def _turned_down(note: Mapping[str, Json]) -> str | None:
    if not was_turned_down(note):
        return None
    how = "was refused" if answer_in(note) is Answer.REFUSED else "failed"
    return f"the stop of {at_words(note)} ({note.get('reason')}) {how}: {note.get('answer_text')}"
