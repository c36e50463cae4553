"""
What a Pod's snapshots consist of: `ID.tar.zst`, `ID.txt` for people, and `ID.json`, which makes it count. Beside them
lie the names of the images that they were saved over, `image-FINGERPRINT.names`.

They lie in `VOLUME/.idlewatch/POD_ID/snapshots/`, or in object storage below `URL/POD_ID/` (`shelf.py`,
`object_shelf.py`).
Each is written whole or not at all; the manifest last. So whatever a crash leaves behind, what is listed is whole. The
rest is removed by the next save, which alone holds the lock.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from idlewatch.errors import IdlewatchError, SnapshotError
from idlewatch.snapshot.age import Key, seal, unseal
from idlewatch.snapshot.image import image_bytes, image_of
from idlewatch.snapshot.manifest import Snapshot, from_manifest, to_manifest
from idlewatch.snapshot.object_shelf import object_shelf
from idlewatch.snapshot.objects import Objects
from idlewatch.snapshot.shelf import FolderShelf, SaveUnderWay, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from idlewatch.snapshot.image import Image
    from idlewatch.snapshot.shelf import Item

ARCHIVE: Final = ".tar.zst"
MANIFEST: Final = ".json"
NOTES: Final = ".txt"
SEALED: Final = ".age"
"""What an encrypted file is called: the end that the `age` tool gives it."""
_IMAGE: Final = ("image-", ".names")
_POD_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_UNLOCKED_LEFTOVER_S: Final = 24 * 3600.0
Place: TypeAlias = Path | Objects
"""Where all Pods' snapshots go: a volume, or an address in object storage."""


class Store:
    """The snapshots of one Pod in one place."""

    def __init__(self, place: Place, pod_id: str) -> None:
        """Raises SnapshotError for a Pod id that can't be the name of a folder."""
        if not _POD_ID.fullmatch(pod_id):
            raise SnapshotError("no Pod id, or one that can't be the name of a folder: nowhere to keep a snapshot")
        self.shelf: Shelf = _shelf(place, pod_id)

    def make(self) -> None:
        """Get the place ready. Raises SnapshotError where it isn't there or can't be written."""
        self.shelf.make()

    def locked(self) -> AbstractContextManager[bool]:
        """
        Hold the lock of saves; False where there are none here.

        Raises SaveUnderWay where another save holds it. The lock goes with its process, however that ends.
        """
        return self.shelf.locked()

    def is_busy(self) -> bool:
        """Tell whether a save of this Pod is under way."""
        try:
            with self.locked():
                return False
        except SaveUnderWay:
            return True
        except FileNotFoundError:
            return False

    def sweep(self, *, locked: bool) -> None:
        """
        Remove what earlier saves left that did not end: parts, and archives that never got a manifest.

        An archive whose manifest is there but can't be read stays: that may be the volume's fault, for now. Without
        the lock a leftover may belong to a live save and goes only once it is old.
        """
        items = self.shelf.items()
        found = {name: item for name, item in items.items() if _is_orphan(name, items)} | self.shelf.leftovers()
        self.shelf.remove(name for name, item in found.items() if locked or item.age_s > _UNLOCKED_LEFTOVER_S)

    def require_space(self, loss_bytes: int) -> None:
        """Raise SnapshotError where the place can't hold the packed loss."""
        self.shelf.require_space(loss_bytes)

    def snapshots(self) -> list[Snapshot]:
        """Return the whole ones, the newest first: manifest valid, archive and that of its base there and as long."""
        items = self.shelf.items()
        found = [self._read(name, items) for name in items if name.endswith(MANIFEST)]
        alone = {snapshot.id for snapshot in found if snapshot is not None and snapshot.base is None}
        whole = [snapshot for snapshot in found if snapshot is not None and (snapshot.base or snapshot.id) in alone]
        return sorted(whole, key=lambda snapshot: (snapshot.created_at, snapshot.id), reverse=True)

    def commit(self, snapshot: Snapshot) -> None:
        """Write the manifest: from here on the snapshot counts."""
        self.shelf.put(f"{snapshot.id}{MANIFEST}", to_manifest(snapshot))

    def add_notes(self, snapshot_id: str, text: str, key: Key | None = None) -> None:
        """Write the text for people; before the commit."""
        self._put(f"{snapshot_id}{NOTES}", text.encode("utf-8", "backslashreplace"), key)

    def keep_image(self, image: Image, key: Key | None = None) -> None:
        """Write the names of an image, where they aren't there; before the commit of the first snapshot over it."""
        if image_beside(self.shelf, image.fingerprint, key, sealed=key is not None) is None:
            self._put(_image_name(image.fingerprint), image_bytes(image), key)

    def _put(self, name: str, content: bytes, key: Key | None) -> None:
        """Write a small thing; with a key, encrypted."""
        if key is None:
            self.shelf.put(name, content)
        else:
            self.shelf.put(name + SEALED, seal(key, content))

    def prune(self, keep: int, keep_bytes: int | None = None) -> None:
        """
        Remove all but the newest `keep` whole ones and what they build upon, manifest first: half removed is none.

        While those weigh more than `keep_bytes` together the oldest go, too, never the newest.
        """
        listed = self.snapshots()
        kept = listed[: max(1, keep)]
        while len(kept) > 1 and keep_bytes is not None and _weight(_needed(kept, listed)) > keep_bytes:
            kept.pop()
        needed = {snapshot.id for snapshot in _needed(kept, listed)}
        self._remove([snapshot.id for snapshot in listed if snapshot.id not in needed])
        images = {_image_name(one.image) for one in listed if one.image and one.id in needed}
        self.shelf.remove(name for name in self.shelf.items() if _is_image(name) and _plain(name) not in images)

    def remove(self, snapshot_id: str) -> None:
        """Remove all that lies under one id; what isn't there is no error."""
        self._remove([snapshot_id])

    def _remove(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        there = [*self.shelf.items(), *self.shelf.leftovers()]
        for snapshot_id in ids:
            names = [name for name in there if name.startswith(f"{snapshot_id}.")]
            self.shelf.remove(sorted(names, key=lambda name: not name.startswith(snapshot_id + MANIFEST)))

    def _read(self, name: str, items: Mapping[str, Item]) -> Snapshot | None:
        try:
            raw = self.shelf.read(name)
        except OSError:
            return None
        try:
            snapshot = replace(from_manifest(raw, self.shelf.where), shelf=self.shelf)
        except IdlewatchError:
            return None
        archive = items.get(snapshot.archive)
        fits = name == f"{snapshot.id}{MANIFEST}" and snapshot.archive == archive_name(
            snapshot.id, encrypted=snapshot.locked is not None
        )
        return snapshot if fits and archive is not None and archive.size_bytes == snapshot.archive_bytes else None


def _shelf(place: Place, pod_id: str) -> Shelf:
    if isinstance(place, Objects):
        return object_shelf(place, pod_id)
    return FolderShelf(place / ".idlewatch" / pod_id / "snapshots", place)


def archive_name(snapshot_id: str, *, encrypted: bool) -> str:
    """Return the file name of an archive."""
    return f"{snapshot_id}{ARCHIVE}{SEALED if encrypted else ''}"


def image_beside(shelf: Shelf, fingerprint: str, key: Key | None, *, sealed: bool | None = None) -> Image | None:
    """
    Return the names of an image that a snapshot on `shelf` was saved over; None: not there, damaged, another key.

    `sealed` tells whether only an encrypted list counts, or only a plain one; None: either.
    """
    for content in _image_contents(shelf, fingerprint, key, sealed=sealed):
        with suppress(SnapshotError):
            found = image_of(content)
            if found.fingerprint == fingerprint:
                return found
    return None


def _image_contents(shelf: Shelf, fingerprint: str, key: Key | None, *, sealed: bool | None) -> Iterator[bytes]:
    name = _image_name(fingerprint)
    if key is not None and sealed is not False:
        with suppress(OSError):
            content = shelf.read(name + SEALED)
            with suppress(SnapshotError):
                yield unseal(key, content)
    if not sealed:
        with suppress(OSError):
            yield shelf.read(name)


def _image_name(fingerprint: str) -> str:
    return fingerprint.join(_IMAGE)


def _is_image(name: str) -> bool:
    return _plain(name).startswith(_IMAGE[0]) and _plain(name).endswith(_IMAGE[1])


def _is_orphan(name: str, items: Mapping[str, Item]) -> bool:
    end = next((end for end in (ARCHIVE, NOTES) if _plain(name).endswith(end)), None)
    return end is not None and _plain(name).removesuffix(end) + MANIFEST not in items


def _plain(name: str) -> str:
    return name.removesuffix(SEALED)


def chain(snapshot: Snapshot) -> tuple[Snapshot, ...]:
    """Return the snapshots whose archives bring this one back, in order. Raises SnapshotError without its base."""
    if snapshot.base is None:
        return (snapshot,)
    try:
        raw = snapshot.kept_on.read(f"{snapshot.base}{MANIFEST}")
    except OSError as error:
        raise SnapshotError(f"{snapshot.id} builds upon {snapshot.base}, which can't be read: {error}") from error
    base = replace(from_manifest(raw, snapshot.folder), shelf=snapshot.shelf)
    if base.base is not None or base.id != snapshot.base:
        raise SnapshotError(f"{snapshot.id} builds upon {snapshot.base}, which is no whole snapshot")
    return (base, snapshot)


def _needed(kept: Sequence[Snapshot], listed: Sequence[Snapshot]) -> list[Snapshot]:
    ids = {snapshot.id for snapshot in kept} | {snapshot.base for snapshot in kept}
    return [snapshot for snapshot in listed if snapshot.id in ids]


def _weight(snapshots: Sequence[Snapshot]) -> int:
    return sum(snapshot.archive_bytes for snapshot in snapshots)
