"""
What was seen and decided: kept so that `why`, `history` and `replay` have the facts that the decision had.

The daemon is the only writer. In the state folder: `history.db` (SQLite: readings, verdicts, events, the policy's
state) and `status.json` (what is true now, replaced in one rename). The state belongs to one start of one Pod:
another boot, or another Pod, never inherits a countdown.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from idlewatch.deciding.remembered import State
from idlewatch.files import write_atomically
from idlewatch.history import formats
from idlewatch.history.database import Database, Mark, StateFolderError
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Reading

STATUS_FILE = "status.json"
DATABASE_FILE = "history.db"
STATE_MARK = "state.newest"
FULL_DETAIL_S = 3 * 86400.0
_THIN_S = 60.0
"""Of what is older, one reading a signal in so long is kept; verdicts and events stay whole."""
_STATE = TypeAdapter(State)
_THIN = """
DELETE FROM readings WHERE at_s >= :from AND at_s < :old AND rowid NOT IN (
    SELECT max(rowid) FROM readings WHERE at_s >= :from AND at_s < :old GROUP BY signal, CAST(at_s / :thin AS INTEGER))
"""
SPAN_FIELDS = ", ".join(field.name for field in fields(Span))


class History:
    """
    The daemon's side: writes. Each call is kept at once, or all of a `together` block in one go.

    Each raises StateFolderError where it can't be kept now; the next one tries anew.
    """

    def __init__(self, state_dir: Path) -> None:
        """Touches nothing yet; a damaged, foreign or newer database is put aside as `history.db.bad`."""
        self._state_dir = state_dir
        self._database = Database(state_dir / DATABASE_FILE, formats.LAYOUT)
        self._under_way: sqlite3.Connection | None = None
        self._state_is_newest = False
        self._thinned_s = 0.0
        self._mark = Mark(state_dir / STATE_MARK)

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is kept in the block, or nothing of it."""
        self._state_is_newest = False
        try:
            with self._database.transaction() as self._under_way:
                yield
        except StateFolderError:
            self._mark.remove()
            raise
        finally:
            self._under_way = None
        if self._state_is_newest:
            self._mark.put()

    def remembered(self, boot_key: str, settings: str) -> State | None:
        """
        The state of this very start of the container, if the same settings wrote it; else None.

        None also where the newest state could not be written: of what came after an older one nothing is known.
        """
        rows = self._found("SELECT boot_key, settings, state FROM state") if self._mark.is_there() else []
        if not rows or rows[0][:2] != (boot_key, settings):
            return None
        try:
            return _STATE.validate_json(rows[0][2])
        except ValidationError:
            return None

    def remember(self, boot_key: str, settings: str, state: State) -> None:
        """Keep `state`; called before what it stands for is begun."""
        values = (boot_key, settings, _STATE.dump_json(state).decode())
        self._write("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?)", [values], of_state=True)

    def saw(self, readings: Iterable[Reading], wall: datetime) -> None:
        """Keep what was read."""
        rows = [(r.at_s, wall.isoformat(), r.signal, formats.packed(json.dumps(reading_to_json(r)))) for r in readings]
        self._write("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)

    def judged(self, spans: Iterable[Span]) -> None:
        """Keep the verdicts that stand now; a span that was kept before is made longer."""
        marks = ", ".join("?" * len(fields(Span)))
        query = f"INSERT OR REPLACE INTO verdicts ({SPAN_FIELDS}) VALUES ({marks})"  # noqa: S608  (our own names)
        self._write(query, [astuple(span) for span in spans])

    def happened(self, kind: str, text: str, *, at_s: float, wall: datetime, facts: Mapping[str, Json]) -> None:
        """Keep one event of the timeline."""
        row = (at_s, wall.isoformat(), kind, text, json.dumps(dict(facts)))
        self._write("INSERT INTO events VALUES (?, ?, ?, ?, ?)", [row])

    def thin(self, now_s: float) -> None:
        """Of readings older than three days keep one a minute of each signal; only what became so old is looked at."""
        old_s = now_s - FULL_DETAIL_S
        self._write(_THIN, [{"from": self._thinned_s // _THIN_S * _THIN_S, "old": old_s, "thin": _THIN_S}])
        self._thinned_s = old_s

    def readings_since(self, at_s: float) -> list[Reading]:
        """The readings from `at_s` on, oldest first, for judges that need what came before a restart; none where they
        can't be read.
        """
        found = self._found("SELECT reading FROM readings WHERE at_s >= ? ORDER BY rowid", at_s)
        return [reading for row in found if (reading := _unpacked_or_none(row[0]))]

    def show(self, status: Mapping[str, Json]) -> None:
        """Replace `status.json`. Raises OSError."""
        write_atomically(self._state_dir / STATUS_FILE, json.dumps(dict(status)))

    def put_aside(self) -> str | None:
        """What became of an older database that could not be used, once; None: nothing."""
        told, self._database.put_aside = self._database.put_aside, None
        return told

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _write(self, query: str, rows: Sequence[Any], *, of_state: bool = False) -> None:
        if self._under_way is None:
            with self.together():
                self._write(query, rows, of_state=of_state)
            return
        self._under_way.executemany(query, rows)
        self._state_is_newest |= of_state

    def _found(self, query: str, *values: float) -> list[tuple[Any, ...]]:
        with suppress(StateFolderError):
            return self._database.rows(query, values)
        return []


def _unpacked(packed: bytes) -> Reading:
    return reading_from_json(json.loads(zlib.decompress(packed)))


def _unpacked_or_none(packed: bytes) -> Reading | None:
    """None where it is damaged: a daemon does without."""
    with suppress(zlib.error, ValueError, TypeError):
        return _unpacked(packed)
    return None


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
        return read_status(state_dir)
    except StateFolderError:
        return None


def read_status(state_dir: Path) -> dict[str, Json] | None:
    """What the daemon last showed; None where there is nothing. Raises StateFolderError where it can't be read."""
    path = state_dir / STATUS_FILE
    try:
        said = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateFolderError(f"{path} can't be read: {error.strerror}", error.errno) from error
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise StateFolderError(f"{path} is damaged; a daemon that watches writes it anew with its next look")
    return said


@dataclass(frozen=True, slots=True)
class Kept:
    """Up to where a history has been taken somewhere else."""

    reading: int = 0
    event: int = 0
    verdict_s: float = 0.0


def events_of(state_dir: Path, after: int = 0) -> list[dict[str, Json]]:
    """The timeline of this boot, oldest first; empty where there is none. `after`: without so many of the first."""
    query = "SELECT at_s, wall, kind, text, facts FROM events WHERE rowid > ? ORDER BY rowid"
    return [_event(row) for row in _rows_if_any(state_dir, query, after)]


def facts_of(state_dir: Path, kinds: Sequence[str]) -> Iterator[tuple[str, dict[str, Json]]]:
    """Kind and facts of the events of these kinds, oldest first; empty where there are none."""
    marks = ", ".join("?" * len(kinds))
    query = f"SELECT kind, facts FROM events WHERE kind IN ({marks}) ORDER BY rowid"  # noqa: S608  (only marks)
    for kind, facts in _rows_if_any(state_dir, query, *kinds):
        with suppress(ValueError):
            yield kind, json.loads(facts)


def read_events(state_dir: Path) -> list[dict[str, Json]]:
    """As `events_of`. Raises StateFolderError where there is a timeline that can't be read."""
    path = state_dir / DATABASE_FILE
    query = "SELECT at_s, wall, kind, text, facts FROM events ORDER BY rowid"
    try:
        path.stat()
        with closing(_connected(path)) as database:
            return [_event(row) for row in database.execute(query)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StateFolderError(f"{path} can't be read: {error.strerror}", error.errno) from error
    except (sqlite3.Error, ValueError) as error:
        if "no such table" in str(error):  # a daemon whose folder was full from the start
            return []
        raise StateFolderError(f"{path} can't be read: {error}") from error


def _event(row: tuple[Any, ...]) -> dict[str, Json]:
    return {"at_s": row[0], "at": row[1], "kind": row[2], "text": row[3], "facts": json.loads(row[4])}


def spans_of(state_dir: Path, since_s: float = 0.0) -> list[Span]:
    """The verdicts that stood at `since_s` or later, by their beginning; empty where there are none."""
    query = f"SELECT {SPAN_FIELDS} FROM verdicts WHERE to_s >= ? ORDER BY from_s, name"  # noqa: S608  (our own names)
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


def _rows(state_dir: Path, query: str, *values: float | str) -> Iterator[tuple[Any, ...]]:
    """What others read while the daemon writes. Raises sqlite3.OperationalError where the file can't be opened."""
    path = state_dir / DATABASE_FILE
    if not path.exists():
        return
    with closing(_connected(path)) as database, suppress(sqlite3.DatabaseError):
        yield from database.execute(query, values)


def _rows_if_any(state_dir: Path, query: str, *values: float | str) -> Iterator[tuple[Any, ...]]:
    """As `_rows`, and nothing where the file can't even be opened."""
    with suppress(sqlite3.DatabaseError):
        yield from _rows(state_dir, query, *values)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
