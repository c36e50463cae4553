"""
What was seen and decided: kept so that `why`, `history` and `replay` have the facts that the decision had.

The daemon is the only writer. In the state folder: `history.db` (SQLite: readings, events, the policy's state) and
`status.json` (what is true now, replaced in one rename). The state belongs to one start of one Pod: another boot,
or another Pod, never inherits a countdown.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from idlewatch.model import Json, Reading
from idlewatch.policy import State

STATUS_FILE = "status.json"
DATABASE_FILE = "history.db"
FORMAT = 1
"""Of the database; another format is put aside, never guessed at."""
_FULL_DETAIL_S = 3 * 86400.0
_STATE = TypeAdapter(State)
_TABLES = """
CREATE TABLE IF NOT EXISTS readings (at_s REAL, wall TEXT, signal TEXT, reading TEXT);
CREATE INDEX IF NOT EXISTS readings_at ON readings (at_s);
CREATE TABLE IF NOT EXISTS events (at_s REAL, wall TEXT, kind TEXT, text TEXT, facts TEXT);
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), boot_key TEXT, settings TEXT, state TEXT);
"""


class History:
    """The daemon's side: writes."""

    def __init__(self, state_dir: Path) -> None:
        """Open or make the history; a damaged or foreign database is put aside as `history.db.bad`."""
        self._state_dir = state_dir
        self._database = _opened(state_dir / DATABASE_FILE)

    def remembered(self, boot_key: str, settings: str) -> State | None:
        """The state of this very start of the container, if the same settings wrote it; else None."""
        row = self._database.execute("SELECT boot_key, settings, state FROM state").fetchone()
        if not row or row[:2] != (boot_key, settings):
            return None
        try:
            return _STATE.validate_json(row[2])
        except ValidationError:
            return None

    def remember(self, boot_key: str, settings: str, state: State) -> None:
        """Keep `state`; called before what it stands for is begun."""
        values = (boot_key, settings, _STATE.dump_json(state).decode())
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?)", values)

    def saw(self, readings: Iterable[Reading], wall: datetime) -> None:
        """Keep what was read; what is older than three days goes."""
        rows = [(r.at_s, wall.isoformat(), r.signal, json.dumps(reading_to_json(r))) for r in readings]
        with self._database:
            self._database.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
            if rows:
                self._database.execute("DELETE FROM readings WHERE at_s < ?", (rows[0][0] - _FULL_DETAIL_S,))

    def happened(self, kind: str, text: str, *, at_s: float, wall: datetime, facts: Mapping[str, Json]) -> None:
        """Keep one event of the timeline."""
        row = (at_s, wall.isoformat(), kind, text, json.dumps(dict(facts)))
        with self._database:
            self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)

    def readings_since(self, at_s: float) -> list[Reading]:
        """The readings from `at_s` on, oldest first, for judges that need what came before a restart."""
        query = "SELECT reading FROM readings WHERE at_s >= ? ORDER BY rowid"
        return [reading_from_json(json.loads(row[0])) for row in self._database.execute(query, (at_s,))]

    def show(self, status: Mapping[str, Json]) -> None:
        """Replace `status.json`."""
        write_atomically(self._state_dir / STATUS_FILE, json.dumps(dict(status)))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _with_tables(path)
    except sqlite3.DatabaseError:
        path.replace(path.with_suffix(".db.bad"))
        return _with_tables(path)


def _with_tables(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        written = database.execute("PRAGMA user_version").fetchone()[0]
        if written not in (0, FORMAT):
            raise sqlite3.DatabaseError(f"format {written}")
        database.executescript(_TABLES)
        database.execute(f"PRAGMA user_version = {FORMAT}")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` in one rename, so that a reader sees the old text or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)


def reading_to_json(reading: Reading) -> dict[str, Json]:
    """A reading as it is kept, recorded and replayed."""
    return {
        "signal": reading.signal,
        "at_s": reading.at_s,
        "covers_s": reading.covers_s,
        "facts": dict(reading.facts),
        "error": reading.error,
        "absent": reading.absent,
    }


def reading_from_json(said: Mapping[str, Json]) -> Reading:
    """The reading that `reading_to_json` made. Raises ValueError where it is none."""
    try:
        facts, error, absent = said["facts"], said.get("error"), said.get("absent")
        at_s, covers_s = float(str(said["at_s"])), float(str(said["covers_s"]))
        signal = str(said["signal"])
    except KeyError as missing:
        raise ValueError(f"not a reading: it has no {missing}") from None
    if not isinstance(facts, dict):
        raise TypeError("not a reading: its facts are no object")
    return Reading(
        signal=signal,
        at_s=at_s,
        covers_s=covers_s,
        facts=facts,
        error=None if error is None else str(error),
        absent=None if absent is None else str(absent),
    )


def status_of(state_dir: Path) -> dict[str, Json] | None:
    """What the daemon last showed; None where there is nothing or it can't be read."""
    try:
        said = json.loads((state_dir / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def events_of(state_dir: Path) -> list[dict[str, Json]]:
    """The timeline of this boot, oldest first; empty where there is none."""
    path = state_dir / DATABASE_FILE
    if not path.exists():
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT at_s, wall, kind, text, facts FROM events ORDER BY rowid").fetchall()
    except sqlite3.DatabaseError:
        return []
    finally:
        database.close()
    return [{"at_s": r[0], "at": r[1], "kind": r[2], "text": r[3], "facts": json.loads(r[4])} for r in rows]
