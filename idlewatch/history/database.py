"""
The SQLite file of the history as its one writer has it: a file that may fail at any time without ending the watch.

It is opened when it is needed, brought to the format of now where an older version wrote it, put aside where it is
damaged or of a newer version, and opened anew after a failure and where somebody has removed it; so writing starts
again by itself once it can. A failure is a `StateFolderError`, never sqlite's own.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from idlewatch.errors import IdlewatchError
from idlewatch.files import file_behind

log = structlog.get_logger()

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
_BUSY_S = 1.0
"""How long a tick waits for somebody who holds the file."""
_WAS_DAMAGED = "was damaged"
_IS_NEWER = "was written by a newer version of idlewatch"
_IS_FOREIGN = "does not look like one of idlewatch"


class StateFolderError(IdlewatchError):
    """Something in the state folder can't be written or read now; `number` is the errno, where there is one."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


class _ForeignError(Exception):
    """A database that can't be written by this version; the message says why, of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What is in the file, and how an older file comes to that."""

    format: int
    """Kept in the file, as SQLite's `user_version`; 0 is a file that nobody has written."""
    tables: Sequence[str]
    """Statements that make what is missing."""
    steps: Mapping[int, Callable[[sqlite3.Connection], None]]
    """By each older format: what brings it to the next one, within a transaction."""


class Database:
    """The writer's connection."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Touches nothing yet."""
        self._path, self._layout = path, layout
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._damaged = False
        self.put_aside: str | None = None
        """What became of an older file that could not be used; for people."""

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written in the block, or nothing of it. Raises StateFolderError where it can't be written."""
        with self._failing():
            connection = self._opened()
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # some failures have rolled it back already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, query: str, values: tuple[float, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query finds. Raises StateFolderError where it can't be read."""
        with self._failing():
            return self._opened().execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file; what can't be closed is left as it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            code = _code(error)
            self._damaged = code in _DAMAGED
            raise StateFolderError(f"{self._path}: {error}", _ERRNO.get(code)) from error

    def _opened(self) -> sqlite3.Connection:
        """The connection; a new one where there is none, or where its file is no longer the one of that name."""
        if self._connection is not None and self._file == file_behind(self._path):
            return self._connection
        self.close()
        try:
            if self._damaged:
                self._put_aside(_WAS_DAMAGED)
            self._connection = self._with_tables_or_anew()
        except OSError as error:
            raise StateFolderError(f"{self._path}: {error.strerror}", error.errno) from error
        self._file = file_behind(self._path)
        return self._connection

    def _with_tables_or_anew(self) -> sqlite3.Connection:
        try:
            return self._with_tables()
        except _ForeignError as foreign:
            why = str(foreign)
        except sqlite3.DatabaseError as error:  # a full disk is no damage: the file must stay where it is
            if _code(error) not in _DAMAGED:
                raise
            why = _WAS_DAMAGED
        self._put_aside(why)
        return self._with_tables()

    def _put_aside(self, why: str) -> None:
        """Out of the way, with what SQLite keeps beside it: that would be taken for part of a new file."""
        bad = self._path.with_suffix(".db.bad")
        self._path.replace(bad)
        log.warning("history_put_aside", path=str(bad))
        self.put_aside = f"the one of before {why}, and lies in {bad} now: the history begins here"
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{ending}").replace(f"{bad}{ending}")
        self._damaged = False

    def _with_tables(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # it names people and their files
        database = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            if _format_of(database) != self._layout.format:
                self._bring_up(database)
        except BaseException:
            with suppress(sqlite3.Error):
                database.close()
            raise
        return database

    def _bring_up(self, database: sqlite3.Connection) -> None:
        """Tables into an empty file, and an older one to the format of now: all of it, or the file stays as it was."""
        layout = self._layout
        database.execute("BEGIN IMMEDIATE")
        written = _format_of(database)
        if written > layout.format:
            raise _ForeignError(_IS_NEWER)
        try:
            for older in range(written, layout.format) if written else ():
                layout.steps[older](database)
            for statement in layout.tables:
                database.execute(statement)
        except KeyError:
            raise _ForeignError(_IS_FOREIGN) from None
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_ERROR:  # a step found other tables than it knows
                raise _ForeignError(_IS_FOREIGN) from error
            raise
        found = _columns(database)
        if any(found.get(name) != columns for name, columns in _columns_made_by(layout.tables).items()):
            raise _ForeignError(_IS_FOREIGN)
        database.execute(f"PRAGMA user_version = {layout.format}")
        database.execute("COMMIT")
        if written:
            log.info("history_brought_up", from_format=written, to_format=layout.format)


class Mark:
    """
    A file that lies there while the state in the database is the newest one.

    To remove a file needs no room, so it also goes where nothing can be written any more: a daemon that starts again
    then knows that what it finds is older than what was seen since, and begins with the idle clock at 0.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self) -> None:
        """From now on it is."""
        if not self.is_there():
            with suppress(OSError):
                self._path.touch(0o600)

    def remove(self) -> None:
        """From now on it is not."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Whether it is."""
        return file_behind(self._path) is not None


def _format_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _columns(database: sqlite3.Connection) -> dict[str, list[str]]:
    """The names of each table's columns, in order."""
    query = "SELECT t.name, c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    found: dict[str, list[str]] = {}
    for table, column in database.execute(f"{query} ORDER BY t.name, c.cid"):
        found.setdefault(table, []).append(column)
    return found


def _columns_made_by(tables: Sequence[str]) -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in tables:
            database.execute(statement)
        return _columns(database)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: what it adds in the higher bits says more of the same."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
