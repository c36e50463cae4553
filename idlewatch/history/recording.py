"""
A recording: what a Pod's daemon saw, in a form that outlives the Pod and that `replay` reads.

JSON lines, gzip where the name ends in `.gz`. The first line is the head: `{"recording": 1, "pod_id", "boot_key",
"started_s", "settings"}` (variables as they were set, no secrets). Then one object a line: `{"reading": …, "at": wall
time}` as `history.reading_to_json` writes it, `{"verdict": …}` one span of one signal's verdict (of two with the same
name and `from_s` the later one counts, the span became longer), `{"event": …}` one line of the timeline. Instants are
CLOCK_BOOTTIME seconds of that machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from idlewatch.history.store import DATABASE_FILE, SPAN_FIELDS, Kept
from idlewatch.history.verdicts import Span
from idlewatch.model import Json

FORMAT = 1
_NEWEST = """
SELECT (SELECT coalesce(max(rowid), 0) FROM readings), (SELECT coalesce(max(rowid), 0) FROM events),
    (SELECT coalesce(max(to_s), 0) FROM verdicts), (SELECT coalesce(max(at_s), 0) FROM readings)
"""
_AT = """
SELECT (SELECT coalesce(max(rowid), 0) FROM readings WHERE at_s <= ?),
    (SELECT coalesce(max(rowid), 0) FROM events WHERE at_s <= ?)
"""
_READINGS = "SELECT wall, reading FROM readings WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
_SPANS = f"SELECT {SPAN_FIELDS} FROM verdicts WHERE to_s >= ? AND to_s < ? ORDER BY from_s, name"  # noqa: S608  (ours)
_EVENTS = "SELECT at_s, wall, kind, text, facts FROM events WHERE rowid > ? AND rowid <= ? ORDER BY rowid"


def head_line(head: Mapping[str, Json]) -> str:
    """The first line of a recording."""
    return json.dumps({"recording": FORMAT, **head})


def name_of(began: datetime, boot_key: str) -> str:
    """The name of a boot's recording: when the container started (UTC), and a mark of this boot."""
    return f"{began:%Y%m%dT%H%M%SZ}-{hashlib.sha256(boot_key.encode()).hexdigest()[:8]}"


class Picture:
    """A history as it is at one instant, however long it takes to read it; empty where there is none."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        """`database` is in a transaction."""
        self._database = database
        newest = next(self._rows(_NEWEST), (0, 0, 0.0, 0.0))
        self.newest = Kept(*newest[:3])
        """Up to where it reaches."""
        self.newest_s: float = newest[3]
        """The instant of its newest reading."""

    def at(self, reading_s: float, event_s: float, verdict_s: float) -> Kept:
        """Up to where it reached when these were the newest instants."""
        reading, event = next(self._rows(_AT, reading_s, event_s), (0, 0))
        return Kept(reading, event, verdict_s)

    def lines(self, since: Kept, up_to: Kept | None = None) -> Iterator[str]:
        """What came after `since`, line by line, without the head; `up_to`: and before that."""
        reading, event = (up_to or self.newest).reading, (up_to or self.newest).event
        for wall, packed in self._rows(_READINGS, since.reading, reading):
            with suppress(zlib.error, UnicodeDecodeError):  # a damaged one is no reason to keep none
                yield f'{{"reading": {zlib.decompress(packed).decode()}, "at": {json.dumps(wall)}}}'
        for row in self._rows(_SPANS, since.verdict_s, up_to.verdict_s if up_to else math.inf):
            name, from_s, to_s, verdict, bars, pauses, refines, reason = row
            span = Span(name, from_s, to_s, verdict, bool(bars), bool(pauses), bool(refines), reason)
            yield json.dumps({"verdict": asdict(span)})
        for at_s, at, kind, text, facts in self._rows(_EVENTS, since.event, event):
            with suppress(ValueError):
                said = {"at_s": at_s, "at": at, "kind": kind, "text": text, "facts": json.loads(facts)}
                yield json.dumps({"event": said})

    def _rows(self, query: str, *values: float) -> Iterator[tuple[Any, ...]]:
        """Up to where the file is damaged."""
        if self._database is not None:
            with suppress(sqlite3.DatabaseError):
                yield from self._database.execute(query, values)


@contextmanager
def picture_of(state_dir: Path) -> Iterator[Picture]:
    """What a state folder's history is now, while the daemon writes on."""
    path = state_dir / DATABASE_FILE
    if not path.exists():
        yield Picture(None)
        return
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")
        yield Picture(database)


def lines_of(state_dir: Path, since: Kept) -> Iterator[str]:
    """What lies in a state folder and came after `since`, line by line, without the head."""
    with picture_of(state_dir) as picture:
        yield from picture.lines(since)
