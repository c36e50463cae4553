"""
The SQLite file of the history as its one writer has it: a file that may fail at any time without ending the watch.

It is opened when it is needed, put aside where it is damaged, and opened anew after a failure and where somebody has
removed it; so writing starts again by itself once it can. A failure is a `StateFolderError`, never sqlite's own.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from idlewatch.errors import IdlewatchError

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


class StateFolderError(IdlewatchError):
    """Something in the state folder can't be written or read now; `number` is the errno, where there is one."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


class _ForeignError(Exception):
    """A database of another format."""


class Database:
    """The writer's connection."""

    def __init__(self, path: Path, tables: str, written_format: int) -> None:
        """Touches nothing yet. `tables` makes what is missing; a file of another format is put aside."""
        self._path, self._tables, self._format = path, tables, written_format
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
        if self._connection is not None and self._file == _file(self._path):
            return self._connection
        self.close()
        try:
            if self._damaged:
                self._put_aside(_WAS_DAMAGED)
            self._connection = self._with_tables_or_anew()
        except OSError as error:
            raise StateFolderError(f"{self._path}: {error.strerror}", error.errno) from error
        self._file = _file(self._path)
        return self._connection

    def _with_tables_or_anew(self) -> sqlite3.Connection:
        try:
            return self._with_tables()
        except _ForeignError:
            why = "was written by another version of idlewatch"
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
            written = database.execute("PRAGMA user_version").fetchone()[0]
            if written not in (0, self._format):
                raise _ForeignError
            database.executescript(self._tables)
            database.execute(f"PRAGMA user_version = {self._format}")
        except BaseException:
            with suppress(sqlite3.Error):
                database.close()
            raise
        return database


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
        return _file(self._path) is not None


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: what it adds in the higher bits says more of the same."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _file(path: Path) -> tuple[int, int] | None:
    """Which file has this name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
