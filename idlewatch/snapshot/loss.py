"""The summary of a scan, for people and for JSON: how much a stop would destroy, and where it lies."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.snapshot.contents import Contents, Sorting
from idlewatch.snapshot.excludes import Excludes
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.mounts import read_mounts, since_for
from idlewatch.snapshot.scan import Entry, Scan, new_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from idlewatch.model import Json
    from idlewatch.snapshot.image import Image

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a stop now would destroy. Paths are absolute; bytes are what the entries weigh on disk."""

    root: str
    since_ns: int | None
    """Wall clock nanoseconds from which changes count; None: everything under the root."""
    total_bytes: int
    files: int
    """Entries that are not folders."""
    folders: int
    by_folder: tuple[tuple[str, int, int], ...]
    """Folder of at most two names, bytes, files; the heaviest first."""
    newest: tuple[tuple[str, int, int], ...]
    """Path, bytes, ctime in wall clock nanoseconds; the newest first."""
    largest: tuple[tuple[str, int, int], ...]
    excluded: tuple[tuple[str, int, int], ...]
    """Rule, bytes, entries."""
    skipped: tuple[str, ...]
    """idlewatch's own folders and the volume: they are not part of what is lost."""
    mounts: tuple[str, ...]
    """Other file systems, which a stop does not wipe or which are made anew."""
    deleted: tuple[str, ...]
    """What the image held and is gone, the topmost paths only; empty also where that is not known (see `notes`)."""
    altered: tuple[str, ...]
    """Folders that are new or have another owner or mode than in the image; known only together with `deleted`."""
    image: str | None
    """Fingerprint of the image; None: its names were not noted."""
    contents: Contents
    """What it consists of, by kind."""
    errors: tuple[tuple[str, str], ...]
    """Path and reason of what could not be read: a save would not be whole."""
    notes: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Nothing would be lost: no file changed or went, and everything could be read."""
        empty = not self.files and (self.since_ns is not None or not self.folders)
        return empty and not self.errors and not self.deleted and not self.altered

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values; the lists hold the top of each order, the totals all."""
        return {
            "root": self.root,
            "since_ns": self.since_ns,
            "nothing": self.nothing,
            "total_bytes": self.total_bytes,
            "files": self.files,
            "folders": self.folders,
            "by_folder": [{"path": p, "bytes": b, "files": n} for p, b, n in self.by_folder],
            "newest": [{"path": p, "bytes": b, "changed_ns": t} for p, b, t in self.newest],
            "largest": [{"path": p, "bytes": b, "changed_ns": t} for p, b, t in self.largest],
            "excluded": [{"rule": r, "bytes": b, "entries": n} for r, b, n in self.excluded],
            "skipped": list(self.skipped),
            "mounts": list(self.mounts),
            "deleted": list(self.deleted),
            "altered": list(self.altered),
            "image": self.image,
            "contents": self.contents.as_json(),
            "errors": [{"path": p, "error": e} for p, e in self.errors],
            "notes": list(self.notes),
        }


def measure_loss(
    root: Path,
    *,
    skip: Sequence[Path] = (),
    since_ns: int | None = None,
    excludes: Excludes | None = None,
    image: Image | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Loss:
    """
    Scan `root` and return what a stop now would destroy; seconds for hundreds of thousands of files.

    `skip` are the state folder and the volume. Without `since_ns` it is found: the birth of this container where
    `root` is `/`, else everything counts. `image` tells what was deleted (see `known_image`). `pause` is called once
    a folder and may raise to end the scan. Raises SnapshotError where the birth or the mounts can't be read; an
    unreadable file is in `errors`.
    """
    mounts = read_mounts()
    since = since_ns if since_ns is not None else since_for(root, mounts)
    scan = new_scan(root, since_ns=since, mounts=mounts, excludes=excludes, skip=skip, image=image)
    return summarize(scan, scan.entries(pause))


def summarize(scan: Scan, entries: Iterable[Entry]) -> Loss:
    """Walk `entries` (an iterator of `scan`, or the list of one that has ended) and return the summary."""
    tally, sorting = _Tally(), Sorting(scan.root)
    for entry in entries:
        tally.add(entry)
        sorting.add(entry)
    return Loss(
        root=scan.root or "/",
        since_ns=scan.since_ns,
        total_bytes=tally.total_bytes,
        files=tally.files,
        folders=tally.folders,
        by_folder=_heaviest(scan, tally.by_folder),
        newest=_shown(scan, (item[1] for item in sorted(tally.newest, reverse=True))),
        largest=_shown(scan, (item[1] for item in sorted(tally.largest, reverse=True))),
        excluded=tuple(sorted((rule, a.disk_bytes, a.entries) for rule, a in scan.excluded.items())),
        skipped=tuple(sorted(f"{scan.root}/{path}" for path in scan.skipped)),
        mounts=tuple(sorted(f"{scan.root}/{path}" for path in scan.mounts)),
        deleted=tuple(sorted(f"{scan.root}/{path}" for path in scan.deleted)),
        altered=tuple(sorted(f"{scan.root}/{path}" for path in scan.altered)),
        image=None if scan.image is None else scan.image.fingerprint,
        contents=sorting.contents(scan.deleted),
        errors=tuple((f"{scan.root}/{path}", error) for path, error in sorted(scan.errors.items())),
        notes=scan.notes,
    )


class _Tally:
    def __init__(self) -> None:
        self.total_bytes = self.files = self.folders = 0
        self.by_folder: dict[str, list[int]] = {}
        self._above: str | None = None
        self._share = [0, 0]
        self.newest: list[tuple[int, Entry]] = []
        self.largest: list[tuple[int, Entry]] = []
        self._new_from = self._large_from = -(1 << 63)

    def add(self, entry: Entry) -> None:
        """Count one entry; most are neither among the newest nor among the largest, and cost no call."""
        path, kind, _, disk_bytes, ctime_ns = entry
        if kind == FOLDER:
            self.folders += 1
            return
        self.files += 1
        self.total_bytes += disk_bytes
        above = path.rpartition("/")[0]
        if above != self._above:
            self._above, folder = above, "/".join(above.split("/", 2)[:2])
            self._share = self.by_folder.setdefault(folder, [0, 0])
        share = self._share
        share[0] += disk_bytes
        share[1] += 1
        if ctime_ns >= self._new_from:
            self._new_from = _keep_top(self.newest, (ctime_ns, entry))
        if disk_bytes >= self._large_from:
            self._large_from = _keep_top(self.largest, (disk_bytes, entry))


def _keep_top(top: list[tuple[int, Entry]], item: tuple[int, Entry]) -> int:
    """Keep the item if it is one of the greatest, and return what the next one must have at least."""
    if len(top) < _SHOWN:
        heapq.heappush(top, item)
    elif item > top[0]:
        heapq.heapreplace(top, item)
    return top[0][0] if len(top) == _SHOWN else -(1 << 63)


def _heaviest(scan: Scan, by_folder: dict[str, list[int]]) -> tuple[tuple[str, int, int], ...]:
    order = sorted(by_folder.items(), key=lambda item: item[1], reverse=True)
    return tuple((f"{scan.root}/{path}", share[0], share[1]) for path, share in order[:_SHOWN])


def _shown(scan: Scan, entries: Iterable[Entry]) -> tuple[tuple[str, int, int], ...]:
    return tuple((f"{scan.root}/{entry.path}", entry.disk_bytes, entry.ctime_ns) for entry in entries)
