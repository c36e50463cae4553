"""
Saves what a stop would destroy: all of it, proven, or not at all.

Passes go on over the tree into the same archive until one finds less than 1 MiB changed since it was read; what
changes after that is named. Then the file is synced, renamed, read back from the disk and compared, and only then
the manifest is written. Every failure leaves the older snapshots as they were and removes what it wrote.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import idlewatch
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.codec import Sink, usable_workers
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.loss import Loss, summarize
from idlewatch.snapshot.manifest import Snapshot
from idlewatch.snapshot.mounts import Mount, read_mounts, since_for
from idlewatch.snapshot.reader import prove, shown
from idlewatch.snapshot.scan import Scan, new_scan
from idlewatch.snapshot.steps import Steps
from idlewatch.snapshot.store import ARCHIVE, PART, Store
from idlewatch.snapshot.writer import TICK_NS, TreeWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idlewatch.snapshot.request import SaveRequest
    from idlewatch.snapshot.scan import Entry
    from idlewatch.snapshot.steps import Progress

PASSES: Final = 3
ENOUGH_BYTES: Final = 1024 * 1024
"""A pass that finds less than this changed is the last."""
Found: TypeAlias = tuple[str, str]
"""Path and kind, as a scan found it."""
_NAMED: Final = 1000
_NAMED_IN_ERROR: Final = 5


def save(
    request: SaveRequest,
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Snapshot | None:
    """
    Save what a stop would destroy and return the snapshot; None: nothing would be lost, so nothing was written.

    Blocks for as long as it takes: run it in a child process. Raises Refused where another save is under way, else
    SnapshotError (SaveCancelled once `cancelled` says so), and then nothing counts as saved.
    """
    try:
        return _save(request, Steps(progress, cancelled))
    except OSError as error:
        where = f" ({shown(os.fsdecode(error.filename))})" if isinstance(error.filename, str | bytes) else ""
        raise SnapshotError(f"the save failed: {error.strerror or error}{where}") from error


def _save(request: SaveRequest, steps: Steps) -> Snapshot | None:
    mounts = read_mounts()
    since_ns = request.since_ns if request.since_ns is not None else since_for(request.root, mounts)
    origin = _Origin(request=request, mounts=mounts, since_ns=since_ns, began_ns=time.time_ns())
    found: list[Found] = []
    loss = summarize(scan := origin.scan(), _noting(scan.entries(steps.pause), found))
    if loss.nothing:
        return None
    _refuse_unreadable(dict(loss.errors))
    _refuse_too_big(loss, request.max_bytes)
    store = Store(request.volume, request.pod_id)
    store.make()
    with store.locked() as locked:
        store.sweep(locked=locked)
        store.require_space(loss.total_bytes)
        snapshot = _Saving(origin, store, scan, loss, steps).run(found)
        store.prune(request.keep)
    return snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    request: SaveRequest
    mounts: tuple[Mount, ...]
    since_ns: int | None
    began_ns: int

    def scan(self) -> Scan:
        """Return a fresh scan; the volume itself is never part of what is saved."""
        request = self.request
        skip = (*request.skip, request.volume)
        return new_scan(request.root, since_ns=self.since_ns, mounts=self.mounts, excludes=request.excludes, skip=skip)


def _noting(entries: Iterable[Entry], found: list[Found]) -> Iterator[Entry]:
    for entry in entries:
        found.append((entry.path, entry.kind))
        yield entry


def _refuse_unreadable(errors: dict[str, str]) -> None:
    if not errors:
        return
    named = [f"{shown(path)} ({error})" for path, error in sorted(errors.items())[:_NAMED_IN_ERROR]]
    more = f" and {len(errors) - len(named)} more" if len(errors) > len(named) else ""
    raise SnapshotError(f"not everything could be read, so nothing counts as saved: {', '.join(named)}{more}")


def _refuse_too_big(loss: Loss, max_bytes: int | None) -> None:
    if max_bytes is None or loss.total_bytes <= max_bytes:
        return
    biggest = ", ".join(f"{shown(path)} ({size / 1e6:.0f} MB)" for path, size, _ in loss.by_folder[:3])
    raise SnapshotError(
        f"{loss.total_bytes / 1e6:.0f} MB would be lost, more than the limit of {max_bytes / 1e6:.0f} MB; "
        f"the most lies in {biggest}"
    )


@dataclass(slots=True)
class _Changes:
    """What a later look found against what the archive holds."""

    found: list[Found]
    files: list[str]
    disk_bytes: int
    gone: list[str]


class _Saving:
    def __init__(self, origin: _Origin, store: Store, first: Scan, loss: Loss, steps: Steps) -> None:
        self._origin = origin
        self._store = store
        self._first = first
        self._loss = loss
        self._steps = steps
        stamp = datetime.fromtimestamp(origin.began_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
        self._id = f"{stamp}-{secrets.token_hex(3)}"
        self._parents: set[str] = set()
        self._changes = _Changes([], [], 0, [])

    def run(self, found: list[Found]) -> Snapshot:
        try:
            snapshot = self._written(found)
            self._steps.stage("verify", snapshot.archive_bytes)
            prove(snapshot, self._steps.add)
            self._steps.stage("commit", 0)
            snapshot = self._finished(snapshot)
            self._store.commit(snapshot)
        except BaseException:
            with suppress(OSError):  # the first error says more; the next save sweeps
                self._store.remove(self._id)
            raise
        return snapshot

    def _written(self, found: list[Found]) -> Snapshot:
        """Write the archive under its own name, and return its snapshot as far as it is known."""
        path = self._store.folder / f"{self._id}{ARCHIVE}"
        part = path.with_name(path.name + PART)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sink = Sink(fd, usable_workers())
            self._writer = TreeWriter(self._first.root, sink, self._steps.add)
            self._passes(found)
            sink.put(pax.END)
            index_at = sink.finish()
            os.fsync(fd)
        finally:
            os.close(fd)
        part.rename(path)
        self._store.sync()
        return self._snapshot(sink, index_at)

    def _passes(self, found: list[Found]) -> None:
        self._steps.stage("write", self._loss.total_bytes)
        for left in reversed(range(PASSES)):
            self._write(found)
            self._changes = self._look_again()
            if not left or (not self._writer.torn and self._changes.disk_bytes < ENOUGH_BYTES):
                return
            time.sleep(TICK_NS / 1e9)
            found = self._changes.found

    def _write(self, found: list[Found]) -> None:
        self._writer.begin_pass()
        for path, kind in found:
            for parent in _parents(path):
                if parent not in self._writer.saved and parent not in self._parents:
                    self._parents.add(parent)
                    self._writer.add(parent, FOLDER)
            self._writer.add(path, kind)
            self._steps.add(0)
        _refuse_unreadable(self._writer.errors)

    def _look_again(self) -> _Changes:
        """Scan once more and compare with what the archive holds: by state, so that no clock has to be trusted."""
        saved = self._writer.saved
        unseen = saved.keys() - self._parents
        changes = _Changes([], [], 0, [])
        scan = self._origin.scan()
        for entry in scan.entries(self._steps.pause):
            unseen.discard(entry.path)
            if entry.path in self._writer.torn or saved.get(entry.path) != (entry.ctime_ns, entry.size):
                changes.found.append((entry.path, entry.kind))
                changes.disk_bytes += entry.disk_bytes
                if entry.kind != FOLDER:
                    changes.files.append(entry.path)
        _refuse_unreadable(scan.errors)
        changes.gone = sorted(unseen)
        return changes

    def _finished(self, snapshot: Snapshot) -> Snapshot:
        """Look a last time, so that all that changed up to the commit is named."""
        changes = self._look_again()
        return replace(
            snapshot,
            created_at=datetime.now(UTC).isoformat(),
            changed_after=tuple(sorted(changes.files)[:_NAMED]),
            changed_after_files=len(changes.files),
            changed_after_bytes=changes.disk_bytes,
            gone=tuple(changes.gone),
        )

    def _snapshot(self, sink: Sink, index_at: int) -> Snapshot:
        request, loss = self._origin.request, self._loss
        return Snapshot(
            id=self._id,
            pod_id=request.pod_id,
            boot_key=request.boot_key,
            created_at="",
            began_at=datetime.fromtimestamp(self._origin.began_ns / 1e9, UTC).isoformat(),
            began_s=request.began_s,
            root=loss.root,
            since_ns=loss.since_ns,
            files=loss.files,
            folders=loss.folders,
            total_bytes=loss.total_bytes,
            members=sink.members,
            tar_bytes=sink.tar_bytes,
            archive=f"{self._id}{ARCHIVE}",
            archive_bytes=sink.packed_bytes,
            archive_digest=sink.hexdigest(),
            index_at=index_at,
            excluded=tuple({"rule": rule, "bytes": size, "entries": count} for rule, size, count in loss.excluded),
            mounts=loss.mounts,
            skipped=loss.skipped,
            sockets=tuple(sorted(self._first.sockets)),
            changing=tuple(sorted(self._writer.torn)),
            changed_after=(),
            changed_after_files=0,
            changed_after_bytes=0,
            gone=(),
            notes=loss.notes,
            version=idlewatch.__version__,
            folder=str(self._store.folder),
        )


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above, the outermost first: a restore must make them with the right owner and mode."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
