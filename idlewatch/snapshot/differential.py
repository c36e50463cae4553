"""
Which snapshot a save may build upon, so that it writes only what has changed since.

A differential builds upon a whole snapshot of the same container, never upon another differential: two archives bring
everything back, and a lost one of them costs no more than itself. What has changed is told by ctime, path by path,
from the index of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.index import fields_of
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.locked import unlocked
from idlewatch.snapshot.packed import opened
from idlewatch.snapshot.reader import DamagedArchive, require_digest
from idlewatch.snapshot.source import index_lines
from idlewatch.snapshot.steps import SaveCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from idlewatch.snapshot.age import Key
    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.packed import Archive
    from idlewatch.snapshot.scan import Entry

ENTRY_WEIGHT: Final = 8 * 1024
"""Bytes whose copying takes about as long as the work around one entry."""
_WORTH_IT: Final = 0.5
"""Above this share of the whole a full save costs little more, and the next one costs less."""
_FULL_EVERY_S: Final = 24 * 3600.0
"""After that a full save proves all of it anew: a volume can lose bits of what has not been read for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A whole snapshot, and what state of each path it holds."""

    snapshot: Snapshot
    states: dict[str, int]
    """Path to ctime in nanoseconds; without what was gone, or changing while it was read."""
    ways: frozenset[str]
    """Folders that had not changed and are in it only because of what lies below them."""

    def changed(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that it does not hold as they are now."""
        return [entry for entry in entries if self.states.get(entry.path) != entry.ctime_ns]


def fitting_base(
    listed: Iterable[Snapshot], *, root: str, since_ns: int | None, now_ns: int, encrypted: bool
) -> Snapshot | None:
    """Return the newest whole snapshot of this container, where it is young enough; `listed` has the newest first."""
    for snapshot in listed:
        if snapshot.base is None and snapshot.format > 1 and (snapshot.root, snapshot.since_ns) == (root, since_ns):
            age_s = now_ns / 1e9 - datetime.fromisoformat(snapshot.began_at).timestamp()
            fits = encrypted == (snapshot.locked is not None)
            return snapshot if fits and 0 <= age_s < _FULL_EVERY_S else None
    return None


def base_upon(
    snapshot: Snapshot, found: list[Entry], key: Key | None, each_chunk: Callable[[int], None] | None
) -> Base | None:
    """
    Return what to build upon; None: that is not worth it for what was `found`, or another key opens it.

    All of its archive is read again and compared with its digest, unless `each_chunk` is None: only its index then.
    Raises DamagedArchive where it is not what was saved, or can't be read.
    """
    try:
        with opened(snapshot, key) as file:
            if file.stored.size_bytes != snapshot.archive_bytes:
                raise DamagedArchive(snapshot.id, f"{snapshot.archive} has another size than was written")
            base = _read(file, unlocked(snapshot, key))
            if not is_worth_it(base.changed(found), found):
                return None
            if each_chunk is not None:
                file.stored.forget()
                require_digest(file.stored, snapshot, each_chunk)
            return base
    except (DamagedArchive, SaveCancelled):
        raise
    except SnapshotError:
        _require_right(snapshot, (lambda _: None) if each_chunk is None else each_chunk)
        return None


def _require_right(snapshot: Snapshot, each_chunk: Callable[[int], None]) -> None:
    """Its digest tells damage from another key, and needs none."""
    try:
        with snapshot.kept_on.opened(snapshot.archive) as stored:
            require_digest(stored, snapshot, each_chunk)
    except OSError as error:
        raise DamagedArchive(snapshot.id, f"{snapshot.archive} can't be read: {error.strerror}") from error


def _read(file: Archive, snapshot: Snapshot) -> Base:
    """Read the index, which alone is little. Raises SnapshotError for damage."""
    states: dict[str, int] = {}
    ways: set[str] = set()
    for fields in fields_of(index_lines(file, index_at=snapshot.index_at)):
        if fields.ctime_ns is None:
            raise SnapshotError("the archive is damaged: its index tells no ctimes")
        states[fields.path] = fields.ctime_ns
        if fields.kind == FOLDER and snapshot.since_ns is not None and fields.ctime_ns < snapshot.since_ns:
            ways.add(fields.path)
    for path in (*snapshot.gone, *snapshot.changing):
        states.pop(path, None)
    return Base(snapshot=snapshot, states=states, ways=frozenset(ways & states.keys()))


def is_worth_it(changed: list[Entry], whole: list[Entry]) -> bool:
    """Tell whether writing only what has changed saves enough."""
    return _weight(changed) <= _WORTH_IT * _weight(whole)


def _weight(entries: list[Entry]) -> int:
    return sum(entry.disk_bytes for entry in entries) + len(entries) * ENTRY_WEIGHT
