"""
The history's database: its tables, and how one that an older version wrote is brought to the format of now.

Another shape of a table, or another meaning of what is in it, is another FORMAT and one more step. Formats 1 and 2 were
written before the first release, by those who installed from a checkout.
"""

from __future__ import annotations

import sqlite3
import zlib

from idlewatch.history.database import Layout

FORMAT = 3
_TABLES = (
    "CREATE TABLE IF NOT EXISTS readings (at_s REAL, wall TEXT, signal TEXT, reading BLOB)",
    "CREATE INDEX IF NOT EXISTS readings_at ON readings (at_s)",
    """CREATE TABLE IF NOT EXISTS verdicts (name TEXT, from_s REAL, to_s REAL, verdict TEXT, bars INTEGER,
    pauses INTEGER, refines INTEGER, reason TEXT, PRIMARY KEY (name, from_s))""",
    "CREATE TABLE IF NOT EXISTS events (at_s REAL, wall TEXT, kind TEXT, text TEXT, facts TEXT)",
    """CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), boot_key TEXT, settings TEXT,
    state TEXT)""",
)


def packed(reading: str) -> bytes:
    """A reading of eight GPUs is 8 KB of text, most of it the same as the one before: packed it is a tenth."""
    return zlib.compress(reading.encode(), 1)


def _with_verdicts(database: sqlite3.Connection) -> None:
    """From 1 to 2: a table more, which is made where it is missing."""


def _with_packed_readings(database: sqlite3.Connection) -> None:
    """From 2 to 3."""
    database.create_function("packed", 1, packed, deterministic=True)
    database.execute("UPDATE readings SET reading = packed(reading)")


LAYOUT = Layout(format=FORMAT, tables=_TABLES, steps={1: _with_verdicts, 2: _with_packed_readings})
