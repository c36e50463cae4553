"""
Saves what a stop would destroy: all of it, proven, or not at all.

Where a whole snapshot of this container is there, only what has changed since is written (`differential.py`).
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
from typing import TYPE_CHECKING, Final

import idlewatch
from idlewatch.amounts import amount
from idlewatch.errors import SnapshotError
from idlewatch.snapshot.codec import usable_workers
from idlewatch.snapshot.differential import Base, base_upon, fitting_base
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.image import known_image
from idlewatch.snapshot.locked import locked
from idlewatch.snapshot.loss import Loss, summarize
from idlewatch.snapshot.manifest import FORMAT, Snapshot
from idlewatch.snapshot.mounts import Mount, read_mounts, since_for
from idlewatch.snapshot.notes import write_up
from idlewatch.snapshot.passes import Passes, refuse_unreadable
from idlewatch.snapshot.reader import DamagedArchive, prove
from idlewatch.snapshot.scan import Scan, new_scan
from idlewatch.snapshot.sink import Sink
from idlewatch.snapshot.steps import Steps
from idlewatch.snapshot.store import Listing, Store, archive_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idlewatch.snapshot.image import Image
    from idlewatch.snapshot.request import SaveRequest
    from idlewatch.snapshot.scan import Entry
    from idlewatch.snapshot.steps import Progress

_NAMED: Final = 1000


def save(
    request: SaveRequest,
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Snapshot | None:
    """
    Save what a stop would destroy and return the snapshot; None: nothing would be lost, so nothing was written.

    Blocks for as long as it takes: run it in a child process. Raises SaveUnderWay where another save is, else
    SnapshotError (SaveCancelled once `cancelled` says so), and then nothing counts as saved.
    """
    try:
        return _save(request, Steps(progress, cancelled))
    except OSError as error:
        where = f" ({shown(os.fsdecode(error.filename))})" if isinstance(error.filename, str | bytes) else ""
        raise SnapshotError(f"the save failed: {error.strerror or error}{where}") from error


def _save(request: SaveRequest, steps: Steps) -> Snapshot | None:
    origin = _origin(request)
    found: list[Entry] = []
    loss = summarize(scan := origin.scan(), _noting(scan.entries(steps.pause), found))
    if loss.nothing:
        return None
    refuse_unreadable(dict(loss.errors))
    _refuse_too_big(loss, request.max_bytes)
    store = Store(request.place, request.pod_id)
    new = store.make()
    with store.locked() as locked:
        listing = Listing({}, [], {}, {}, {}) if new else store.listing()
        if not new:
            store.sweep(listing, locked=locked)
        distrusted, base = _base_for(origin, store, listing, loss, found, steps)
        if base is not None:
            found = base.changed(found)
        store.require_space(sum(entry.disk_bytes for entry in found))
        snapshot = _Saving(origin, store, listing, scan, loss, base, steps).run(found)
        if not locked or distrusted:  # another one may have been saved beside this one; or one counts no more
            listing = store.listing()
        store.prune(snapshot, listing, request.keep, request.keep_bytes)
    return replace(snapshot, distrusted=distrusted)


def _origin(request: SaveRequest) -> _Origin:
    mounts = read_mounts()
    since_ns = request.since_ns if request.since_ns is not None else since_for(request.root, mounts)
    image = _noted_image(request, since_ns)
    return _Origin(request=request, mounts=mounts, since_ns=since_ns, image=image, began_ns=time.time_ns())


def _noted_image(request: SaveRequest, since_ns: int | None) -> Image | None:
    if request.state_dir is None or since_ns is None:
        return None
    return known_image(request.state_dir, since_ns)


def _base_for(
    origin: _Origin, store: Store, listing: Listing, loss: Loss, found: list[Entry], steps: Steps
) -> tuple[str | None, Base | None]:
    """Return the id of one that turned out to be damaged, and what to build upon: None where all is to be written."""
    if not origin.request.incremental:
        return None, None
    key = origin.request.key
    snapshot = fitting_base(
        [one for one in listing.snapshots if one.id not in listing.damaged],
        root=loss.root,
        since_ns=origin.since_ns,
        now_ns=origin.began_ns,
        encrypted=key is not None,
    )
    if snapshot is None:
        return None, None
    trusted = origin.request.trust_untouched and listing.is_untouched(snapshot)
    if not trusted:
        steps.stage("verify", snapshot.archive_bytes)
    try:
        return None, base_upon(snapshot, found, key, None if trusted else steps.add)
    except DamagedArchive as error:
        with suppress(OSError, SnapshotError):  # what is saved now matters more
            store.mark_damaged(snapshot.id, str(error))
        return snapshot.id, None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    request: SaveRequest
    mounts: tuple[Mount, ...]
    since_ns: int | None
    image: Image | None
    began_ns: int

    def scan(self) -> Scan:
        """Return a scan that has not walked yet; the volume itself is never part of what is saved."""
        request = self.request
        return new_scan(
            request.root,
            since_ns=self.since_ns,
            mounts=self.mounts,
            excludes=request.excludes,
            skip=request.left,
            image=self.image,
        )


def _noting(entries: Iterable[Entry], found: list[Entry]) -> Iterator[Entry]:
    for entry in entries:
        found.append(entry)
        yield entry


def _refuse_too_big(loss: Loss, max_bytes: int | None) -> None:
    if max_bytes is None or loss.total_bytes <= max_bytes:
        return
    biggest = ", ".join(f"{shown(path)} ({amount(size)})" for path, size, _ in loss.by_folder[:3])
    raise SnapshotError(
        f"{amount(loss.total_bytes)} would be lost, more than the limit of {amount(max_bytes)}; the most lies in "
        f"{biggest}; raise IDLEWATCH_SAVE_MAX_BYTES, or leave some out with IDLEWATCH_EXCLUDE"
    )


class _Saving:
    def __init__(
        self,
        origin: _Origin,
        store: Store,
        listing: Listing,
        first: Scan,
        loss: Loss,
        base: Base | None,
        steps: Steps,
    ) -> None:
        self._origin = origin
        self._base = base
        self._key = origin.request.key
        self._store = store
        self._listing = listing
        self._first = first
        self._loss = loss
        self._steps = steps
        stamp = datetime.fromtimestamp(origin.began_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
        self._id = f"{stamp}-{secrets.token_hex(3)}"

    def run(self, found: list[Entry]) -> Snapshot:
        try:
            snapshot = self._written(found)
            self._steps.stage("verify", snapshot.archive_bytes)
            prove(snapshot, self._steps.add, self._key)
            self._steps.stage("commit", 0)
            snapshot = self._finished(snapshot)
            self._add_notes(snapshot)
            stored = locked(snapshot, self._key)
            self._store.commit(stored)
        except BaseException:
            with suppress(OSError, SnapshotError):  # the first error says more; the next save sweeps
                self._store.remove(self._id)
            raise
        return replace(snapshot, locked=stored.locked)

    def _written(self, found: list[Entry]) -> Snapshot:
        """Write the archive under its own name, and return its snapshot as far as it is known."""
        name = archive_name(self._id, encrypted=self._key is not None)
        expected_bytes = sum(entry.disk_bytes for entry in found)
        digests = digests_of(FORMAT)
        with (
            self._store.shelf.writing(name, expected_bytes) as write,
            Sink(write, usable_workers(), digests, self._key) as sink,
        ):
            self._passes = Passes(self._first, self._base, sink, self._steps)
            self._passes.run(found)
            index_at = sink.finish()
        return self._snapshot(sink, index_at)

    def _finished(self, snapshot: Snapshot) -> Snapshot:
        """Look a last time, so that all that changed up to the commit is named."""
        changes = self._passes.look_again()
        return replace(
            snapshot,
            created_at=datetime.now(UTC).isoformat(),
            changed_after=tuple(sorted(changes.files)[:_NAMED]),
            changed_after_files=len(changes.files),
            changed_after_bytes=changes.disk_bytes,
            gone=tuple(changes.gone),
            deleted=tuple(changes.deleted),
        )

    def _add_notes(self, snapshot: Snapshot) -> None:
        image = self._origin.image
        if image is not None:
            trusted = self._base is not None and self._base.snapshot.image == image.fingerprint
            self._store.keep_image(image, self._key, self._listing, trusted=trusted)
        sites = sorted({part.where for part in self._loss.contents.pip})
        text = write_up(
            snapshot,
            root=self._first.root,
            sites=sites,
            repositories=self._loss.contents.repositories,
            live=not self._first.root,
            clean=self._origin.request.clean,
        )
        self._store.add_notes(snapshot.id, text, self._key)

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
            archive=archive_name(self._id, encrypted=self._key is not None),
            archive_bytes=sink.packed_bytes,
            archive_digest=sink.hexdigest(),
            index_at=index_at,
            excluded=tuple({"rule": rule, "bytes": size, "entries": count} for rule, size, count in loss.excluded),
            mounts=loss.mounts,
            skipped=loss.skipped,
            sockets=tuple(sorted(self._first.sockets)),
            changing=tuple(self._passes.torn),
            changed_after=(),
            changed_after_files=0,
            changed_after_bytes=0,
            gone=(),
            image=None if self._origin.image is None else self._origin.image.fingerprint,
            deleted=(),
            base=None if self._base is None else self._base.snapshot.id,
            notes=loss.notes,
            locked=None if self._key is None else "",
            version=idlewatch.__version__,
            folder=self._store.shelf.where,
            shelf=self._store.shelf,
        )
