"""
Events that other processes of idlewatch leave for the daemon's timeline: a restore, a save by hand.

The daemon is the history's only writer. Each is a small file in `requests/`, which it takes away and keeps; one that
nobody takes lies there until a daemon begins, and is told with the time at which it happened.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from idlewatch.files import small_file, write_atomically
from idlewatch.model import Json
from idlewatch.printable import printable

RESTORED, RESTORE_FAILED, SAVED_BY_HAND = "restored", "restore failed", "saved by hand"
KINDS = (RESTORED, RESTORE_FAILED, SAVED_BY_HAND)
"""Nothing else is taken: what idlewatch itself decides is told by the daemon alone."""
_PREFIX = "event-"
_TEXT_MAX = 400
_MOST = 20
"""So many are taken at once; the rest with the next tick."""


def leave(state_dir: Path, kind: str, text: str, at: datetime, facts: Mapping[str, Json] | None = None) -> None:
    """Leave one event of the instant `at`; best effort: what it tells of is done, whether it is told or not."""
    folder = state_dir / "requests"
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        said = {"kind": kind, "text": text, "at": at.isoformat(), "facts": dict(facts or {})}
        write_atomically(folder / f"{_PREFIX}{uuid.uuid4().hex}.json", json.dumps(said))


def taken(state_dir: Path) -> list[Json]:
    """
    The events that were left, each once: `kind`, `text`, `at` (ISO 8601), `facts`.

    One whose file can't be taken away is not told.
    """
    return [event for path in _left(state_dir / "requests") if (event := _taken(path)) is not None]


def _left(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.name.startswith(_PREFIX)]
    except OSError:
        return []
    return sorted(found, key=_age)[:_MOST]


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return 0.0


def _taken(path: Path) -> Json:
    event: Json = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        said = json.loads(small_file(path))
        if said["kind"] in KINDS:
            facts = said.get("facts")
            text = printable(str(said["text"]))[:_TEXT_MAX]
            facts = facts if isinstance(facts, dict) else {}
            event = {"kind": said["kind"], "text": text, "at": _instant(said["at"]).isoformat(), "facts": facts}
    try:
        path.unlink()
    except OSError:
        return None
    return event


def _instant(written: str) -> datetime:
    """Raises ValueError or TypeError where it is none, or one without its zone."""
    at = datetime.fromisoformat(written)
    if at.tzinfo is None:
        raise ValueError(f"{at} has no zone")
    return at
