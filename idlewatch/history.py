"""
What was seen and decided: kept so that `why`, `history` and `replay` have the facts that the decision had.

The daemon is the only writer. In the state folder: `history.db` (SQLite: readings, verdicts, events, the policy's
state) and `status.json` (what is true now, replaced in one rename). The state belongs to one start of one Pod:
another boot, or another Pod, never inherits a countdown.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from idlewatch.model import Json, Reading
from idlewatch.policy import State
from idlewatch.verdicts import Span

STATUS_FILE = "status.json"
DATABASE_FILE = "history.db"
FORMAT = 3
"""Of the database; another format is put aside, never guessed at."""
_FULL_DETAIL_S = 3 * 86400.0
_THIN_S = 60.0
"""Of what is older, one reading a signal in so long is kept; verdicts and events stay whole."""
_STATE = TypeAdapter(State)
_TABLES = """
CREATE TABLE IF NOT EXISTS readings (at_s REAL, wall TEXT, signal TEXT, reading BLOB);
CREATE INDEX IF NOT EXISTS readings_at ON readings (at_s);
CREATE TABLE IF NOT EXISTS verdicts (name TEXT, from_s REAL, to_s REAL, verdict TEXT, bars INTEGER, pauses INTEGER,
    refines INTEGER, reason TEXT, PRIMARY KEY (name, from_s));
CREATE TABLE IF NOT EXISTS events (at_s REAL, wall TEXT, kind TEXT, text TEXT, facts TEXT);
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), boot_key TEXT, settings TEXT, state TEXT);
"""
_SPAN_FIELDS = ", ".join(field.name for field in fields(Span))


class History:
    """The daemon's side: writes. Each call is kept at once, or all of a `together` block in one go."""

    def __init__(self, state_dir: Path) -> None:
        """Open or make the history; a damaged or foreign database is put aside as `history.db.bad`."""
        self._state_dir = state_dir
        self._database = _opened(state_dir / DATABASE_FILE)

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is kept in the block, or nothing of it."""
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

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
        self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?)", values)

    def saw(self, readings: Iterable[Reading], wall: datetime) -> None:
        """Keep what was read."""
        rows = [(r.at_s, wall.isoformat(), r.signal, _packed(r)) for r in readings]
        self._database.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)

    def judged(self, spans: Iterable[Span]) -> None:
        """Keep the verdicts that stand now; a span that was kept before is made longer."""
        marks = ", ".join("?" * len(fields(Span)))
        query = f"INSERT OR REPLACE INTO verdicts ({_SPAN_FIELDS}) VALUES ({marks})"  # noqa: S608  (our own names)
        self._database.executemany(query, [astuple(span) for span in spans])

    def happened(self, kind: str, text: str, *, at_s: float, wall: datetime, facts: Mapping[str, Json]) -> None:
        """Keep one event of the timeline."""
        row = (at_s, wall.isoformat(), kind, text, json.dumps(dict(facts)))
        self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)

    def thin(self, now_s: float) -> None:
        """Of readings older than three days keep one a minute of each signal."""
        self._database.execute(
            "DELETE FROM readings WHERE at_s < :old AND rowid NOT IN "
            "(SELECT max(rowid) FROM readings WHERE at_s < :old GROUP BY signal, CAST(at_s / :thin AS INTEGER))",
            {"old": now_s - _FULL_DETAIL_S, "thin": _THIN_S},
        )

    def readings_since(self, at_s: float) -> list[Reading]:
        """The readings from `at_s` on, oldest first, for judges that need what came before a restart."""
        query = "SELECT reading FROM readings WHERE at_s >= ? ORDER BY rowid"
        return [_unpacked(row[0]) for row in self._database.execute(query, (at_s,))]

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
    database = sqlite3.connect(path, isolation_level=None)
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


def _packed(reading: Reading) -> bytes:
    """A reading of eight GPUs is 8 KB of text, most of it the same as the one before: packed it is a tenth."""
    return zlib.compress(json.dumps(reading_to_json(reading)).encode(), 1)


def _unpacked(packed: bytes) -> Reading:
    return reading_from_json(json.loads(zlib.decompress(packed)))


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


@dataclass(frozen=True, slots=True)
class Kept:
    """Up to where a history has been taken somewhere else."""

    reading: int = 0
    event: int = 0
    verdict_s: float = 0.0


def events_of(state_dir: Path, after: int = 0) -> list[dict[str, Json]]:
    """The timeline of this boot, oldest first; empty where there is none. `after`: without so many of the first."""
    rows = _rows_if_any(
        state_dir, "SELECT at_s, wall, kind, text, facts FROM events WHERE rowid > ? ORDER BY rowid", after
    )
    return [{"at_s": r[0], "at": r[1], "kind": r[2], "text": r[3], "facts": json.loads(r[4])} for r in rows]


def spans_of(state_dir: Path, since_s: float = 0.0) -> list[Span]:
    """The verdicts that stood at `since_s` or later, by their beginning; empty where there are none."""
    query = f"SELECT {_SPAN_FIELDS} FROM verdicts WHERE to_s >= ? ORDER BY from_s, name"  # noqa: S608  (our own names)
    return [
        Span(name, from_s, to_s, verdict, bool(bars), bool(pauses), bool(refines), reason)
        for name, from_s, to_s, verdict, bars, pauses, refines, reason in _rows_if_any(state_dir, query, since_s)
    ]


def readings_of(state_dir: Path, after: int = 0) -> Iterator[tuple[str, Reading]]:
    """Wall time and reading, oldest first; `after` as a `Kept` has it."""
    for wall, packed in _rows(state_dir, "SELECT wall, reading FROM readings WHERE rowid > ? ORDER BY rowid", after):
        yield wall, _unpacked(packed)


def newest_of(state_dir: Path) -> Kept:
    """Up to where the history reaches now."""
    query = (
        "SELECT (SELECT coalesce(max(rowid), 0) FROM readings), (SELECT coalesce(max(rowid), 0) FROM events),"
        " (SELECT coalesce(max(to_s), 0) FROM verdicts)"
    )
    return next((Kept(*row) for row in _rows(state_dir, query)), Kept())


def _rows(state_dir: Path, query: str, *values: float) -> Iterator[tuple[Any, ...]]:
    """What others read while the daemon writes. Raises sqlite3.OperationalError where the file can't be opened."""
    path = state_dir / DATABASE_FILE
    if not path.exists():
        return
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, suppress(sqlite3.DatabaseError):
        yield from database.execute(query, values)


def _rows_if_any(state_dir: Path, query: str, *values: float) -> Iterator[tuple[Any, ...]]:
    """As `_rows`, and nothing where the file can't even be opened."""
    with suppress(sqlite3.DatabaseError):
        yield from _rows(state_dir, query, *values)
