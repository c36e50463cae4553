"""
A shelf in object storage: small things are one object each, long ones pieces (`pieces.py`).

An object is there as a whole once its upload has ended, so nothing is renamed. What is uploaded is signed with its
digest, which the service compares; that it can be read back is seen by whoever proves a snapshot.
"""

from __future__ import annotations

import errno
import re
import time
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from idlewatch.errors import SnapshotError
from idlewatch.redact import Redactor
from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.pieces import MOST_PIECES, StoredPieces, Thing, piece_name, things
from idlewatch.snapshot.shelf import Contents, locked_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from idlewatch.snapshot.objects import Objects

PIECE_BYTES: Final = 16 * 1024 * 1024
_AT_ONCE: Final = 4
"""Pieces on their way; so many and one more are in memory."""
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_STATUS: Final = re.compile(r"status (\d{3})")
_MOST_SAID: Final = 200
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound")
_IN_WORDS: Final = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "the key may not do that",
    "InvalidAccessKeyId": "the service does not know the key",
    "SignatureDoesNotMatch": "the secret of the key is wrong",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "403": "the key may not do that",
}
"""Error codes of S3 (its API reference, "Error responses"), else the status."""


class ObjectShelf:
    """What lies below one name in a bucket."""

    def __init__(
        self,
        connect: Callable[[], Any],
        where: str,
        lock: Path | None = None,
        *,
        secrets: Iterable[str] = (),
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        """`connect` returns an obstore store, whose names begin there; `secrets` are masked in errors."""
        self._connect = connect
        self.where = where
        self._lock = lock
        self._clean = Redactor(secrets).clean
        self._piece_bytes = piece_bytes

    @cached_property
    def _store(self) -> Any:
        return self._connect()

    def make(self) -> bool:
        """Nothing has to be there before the first object; what is, nobody knows."""
        return False

    def locked(self) -> AbstractContextManager[bool]:
        """A lock file of this machine: a Pod's name is below no other Pod's hands."""
        if self._lock is None:
            return nullcontext(enter_result=False)
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        return locked_file(self._lock, self.where)

    def contents(self) -> Contents:
        """What is one object or has all its pieces, and pieces without the others."""
        now_s, found = time.time(), self._things().items()
        return Contents(
            {name: thing.item(now_s) for name, thing in found if thing.parts is not None},
            {name: thing.item(now_s) for name, thing in found if thing.parts is None},
        )

    def _things(self) -> dict[str, Thing]:
        import obstore

        with self._in_words("can't be listed"):
            listed = [meta for chunk in obstore.list(self._store) for meta in chunk]
        return things((meta["path"], meta["size"], meta["last_modified"].timestamp()) for meta in listed)

    def read(self, name: str) -> bytes:
        """One object."""
        import obstore

        with self._in_words(f"{name} can't be read", name):
            content: bytes = obstore.get(self._store, name).bytes().to_bytes()
        return content

    @contextmanager
    def opened(self, name: str) -> Iterator[StoredPieces]:
        """Open what is listed now."""
        thing = self._things().get(name)
        if thing is None or thing.parts is None:
            raise _not_there(name)
        stored = StoredPieces(thing.parts, self._fetch)
        try:
            yield stored
        finally:
            stored.close()

    def _fetch(self, name: str, offset: int, length: int) -> bytes:
        import obstore

        with self._in_words(f"{name} can't be read", name):
            content: bytes = obstore.get_range(self._store, name, start=offset, length=length).to_bytes()
        return content

    def put(self, name: str, content: bytes, *, direct: bool = False) -> None:
        """Write one object, in any case whole."""
        import obstore

        del direct
        with self._in_words(f"{name} can't be written"):
            obstore.put(self._store, name, content, use_multipart=False)

    @contextmanager
    def writing(self, name: str, expected_bytes: int) -> Iterator[Callable[[bytes], None]]:
        """Write pieces, some at once; the last one makes it whole."""
        piece_bytes = max(self._piece_bytes, 2 * expected_bytes // MOST_PIECES)
        try:
            with Beside[None](threads=_AT_ONCE, depth=_AT_ONCE) as beside:
                writing = _Writing(name, piece_bytes, self.put, beside)
                yield writing.write
                writing.finish()
        except BaseException:
            with suppress(OSError, SnapshotError):  # the first error says more; the next save sweeps
                self.remove([name])
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and all pieces of a name."""
        import obstore

        wanted = list(names)
        there = self._things() if wanted else {}
        for name in wanted:
            with suppress(FileNotFoundError), self._in_words(f"{name} can't be removed", name):
                obstore.delete(self._store, there.get(name, Thing()).names)

    def sync(self) -> None:
        """An object that is there lasts."""

    def require_space(self, content_bytes: int) -> None:
        """A bucket has no end."""

    @contextmanager
    def _in_words(self, what: str, absent: str | None = None) -> Iterator[None]:
        """
        Raise SnapshotError in words, without what the library adds for its makers.

        FileNotFoundError where `absent` was asked for and isn't there; what else isn't there is the bucket.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            text = str(error).partition("\n\nDebug source")[0]
            missing = isinstance(error, FileNotFoundError)
            if missing and absent is not None and not any(code in text for code in _NO_BUCKET):
                raise _not_there(absent) from None
            text = _NO_BUCKET[0] if missing else text
            raise SnapshotError(f"{self.where}: {what}: {_said(self._clean(text))}") from None


class _Writing:
    """One long thing on its way."""

    def __init__(self, name: str, piece_bytes: int, put: Callable[[str, bytes], None], beside: Beside[None]) -> None:
        self._name = name
        self._piece_bytes = piece_bytes
        self._put = put
        self._beside = beside
        self._buffer = bytearray()
        self._sent = 0

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) > self._piece_bytes:  # something is kept for the last one
            piece = bytes(memoryview(self._buffer)[: self._piece_bytes])
            del self._buffer[: self._piece_bytes]
            if self._sent >= MOST_PIECES - 1:
                raise SnapshotError(f"{self._name} has too many pieces; it is far longer than was expected")
            self._beside.give(self._put, piece_name(self._name, self._sent, last=False), piece)
            self._sent += 1

    def finish(self) -> None:
        """Once all others are there, put the last piece."""
        for _ in self._beside.rest():
            pass
        last = piece_name(self._name, self._sent, last=True) if self._sent else self._name
        self._put(last, bytes(self._buffer))


def object_shelf(objects: Objects, pod_id: str) -> ObjectShelf:
    """The shelf of one Pod."""
    return ObjectShelf(
        lambda: objects.connected(pod_id), f"{objects.url}/{pod_id}", objects.lock, secrets=objects.secrets()
    )


def _not_there(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "it is not there", name)


def _said(text: str) -> str:
    """What a service or the way to it said, for people: `Generic S3 error: … in 3ms, after 2 tries - HTTP error: …`."""
    for code in (*_CODE.findall(text), *_STATUS.findall(text), text):
        if code in _IN_WORDS:
            return _IN_WORDS[code]
    words = " ".join(text.rpartition(" - ")[2].split())
    return words if len(words) <= _MOST_SAID else f"{words[:_MOST_SAID]} …"
