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
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from idlewatch.errors import IdlewatchError, SnapshotError
from idlewatch.snapshot.age import Key, seal, unseal
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.image import image_bytes, image_of
from idlewatch.snapshot.manifest import Snapshot, from_manifest, to_manifest
from idlewatch.snapshot.object_shelf import object_shelf
from idlewatch.snapshot.objects import Objects
from idlewatch.snapshot.shelf import FolderShelf, SaveUnderWay, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from idlewatch.snapshot.image import Image
    from idlewatch.snapshot.shelf import Item

ARCHIVE: Final = ".tar.zst"
MANIFEST: Final = ".json"
NOTES: Final = ".txt"
DAMAGED: Final = ".damaged"
SEALED: Final = ".age"
"""What an encrypted file is called: the end that the `age` tool gives it."""
_IMAGE: Final = ("image-", ".names")
_ABSENT: Final = "not there"
_ODD: Final = "no regular file"
_NAMED: Final = 3
_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
"""What a save calls a snapshot: only of files with such a name can it be said that they are what is left of one."""
_SECOND: Final = len("20261124T000000Z")
_POD_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_UNLOCKED_LEFTOVER_S: Final = 24 * 3600.0
Place: TypeAlias = Path | Objects
"""Where all Pods' snapshots go: a volume, or an address in object storage."""


class Kept(NamedTuple):
    """What a Pod has kept in a place, for who wants it back."""

    whole: list[Snapshot]
    """The newest first."""
    unusable: Mapping[str, str]
    """Ids of those that are there and bring nothing back, the newest first, and why."""

    @property
    def newer_unusable(self) -> Mapping[str, str]:
        """Those that may be newer than the newest whole one; an id begins with its second."""
        newest = self.whole[0].id[:_SECOND] if self.whole else ""
        return {one: why for one, why in self.unusable.items() if one[:_SECOND] >= newest}


def unusable_text(unusable: Mapping[str, str]) -> str | None:
    """What to tell people of those that bring nothing back; None: there are none."""
    if not unusable:
        return None
    many = "1 snapshot here can't be used" if len(unusable) == 1 else f"{len(unusable)} snapshots here can't be used"
    named = [f"{shown(one)}: {shown(why)}" for one, why in unusable.items()]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"{many}: {'; '.join(named[:_NAMED])}{more}"


class Listing(NamedTuple):
    """What lay in a place at one instant."""

    items: Mapping[str, Item]
    snapshots: list[Snapshot]
    """Those with a manifest that is right and an archive, the newest first; how long it is was not looked at."""
    leftovers: Mapping[str, Item]
    """What was begun and not committed."""
    damaged: Mapping[str, str]
    """Ids of those whose archive was read again and was not right, and why."""
    broken: Mapping[str, str]
    """Ids of those whose manifest or archive is not there or no such thing, and why."""

    def is_whole(self, snapshot: Snapshot) -> bool:
        """Look at the archives."""
        return self.why_not(snapshot) is None

    def why_not(self, snapshot: Snapshot) -> str | None:
        """Return why one brings nothing back, as far as a look at the archives tells; None: it does."""
        if snapshot.id in self.damaged:
            return self.damaged[snapshot.id]
        item = self.items.get(snapshot.archive)
        if item is None or not item.regular:
            return f"{snapshot.archive} is {_ABSENT if item is None else _ODD}"
        if item.size_bytes != snapshot.archive_bytes:
            return f"{snapshot.archive} has {item.size_bytes} bytes, and {snapshot.archive_bytes} were written"
        if snapshot.base is None:
            return None
        base = next((one for one in self.snapshots if one.id == snapshot.base and one.base is None), None)
        why = self.broken.get(snapshot.base, f"that is {_ABSENT}") if base is None else self.why_not(base)
        return why and f"it builds upon {snapshot.base}: {why}"

    def kept(self) -> Kept:
        """Return what is whole, and what is there and is not."""
        unusable = {one.id: why for one in self.snapshots if (why := self.why_not(one))}
        found = {**self.broken, **unusable}
        whole = [one for one in self.snapshots if one.id not in unusable]
        return Kept(whole, {one: found[one] for one in sorted(found, reverse=True)})

    def is_untouched(self, snapshot: Snapshot) -> bool:
        """Tell whether nobody has touched the archive since it was proven, when its manifest was written."""
        archive, manifest = self.items.get(snapshot.archive), self.items.get(f"{snapshot.id}{MANIFEST}")
        return archive is not None and manifest is not None and archive.touched_s <= manifest.touched_s


class Store:
    """The snapshots of one Pod in one place."""

    def __init__(self, place: Place, pod_id: str) -> None:
        """Raises SnapshotError for a Pod id that can't be the name of a folder."""
        if not _POD_ID.fullmatch(pod_id):
            raise SnapshotError("no Pod id, or one that can't be the name of a folder: nowhere to keep a snapshot")
        self.shelf: Shelf = _shelf(place, pod_id)

    def make(self) -> bool:
        """Get the place ready, and return whether it is new. Raises SnapshotError where it can't be written to."""
        return self.shelf.make()

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

    def listing(self) -> Listing:
        """Return what lies there. Raises SnapshotError."""
        items, leftovers = self.shelf.contents()
        broken = dict.fromkeys(_without_manifest(items), _NO_MANIFEST)
        known: list[Snapshot] = []
        for name in [name for name in items if name.endswith(MANIFEST)]:
            snapshot_id = name.removesuffix(MANIFEST)
            try:
                snapshot = self._read(name)
            except FileNotFoundError:
                continue  # it has been removed since
            except (OSError, _NoManifestError) as error:
                if _ID.fullmatch(snapshot_id):
                    broken[snapshot_id] = _why_no_manifest(name, items.get(name), error)
                continue
            if snapshot.archive in items:
                known.append(snapshot)
            else:
                broken[snapshot.id] = f"{snapshot.archive} is {_ABSENT}"
        damaged = {name.removesuffix(DAMAGED): self._why(name) for name in items if name.endswith(DAMAGED)}
        newest_first = sorted(known, key=lambda one: (one.created_at, one.id), reverse=True)
        return Listing(items, newest_first, leftovers, damaged, broken)

    def _why(self, name: str) -> str:
        try:
            return self.shelf.read(name).decode("utf-8", "replace").strip()
        except (OSError, SnapshotError):
            return "it was found damaged"

    def sweep(self, listing: Listing, *, locked: bool) -> None:
        """
        Remove what earlier saves left that did not end: parts, and archives that never got a manifest.

        An archive whose manifest is there but can't be read stays: that may be the volume's fault, for now. Without
        the lock a leftover may belong to a live save and goes only once it is old.
        """
        orphans = {name: listing.items for name in listing.items if _is_orphan(name, listing.items)}
        found = orphans | dict.fromkeys(listing.leftovers, listing.leftovers)
        self.shelf.remove(name for name, items in found.items() if locked or _is_old(items.get(name)))

    def require_space(self, loss_bytes: int) -> None:
        """Raise SnapshotError where the place can't hold the packed loss."""
        self.shelf.require_space(loss_bytes)

    def kept(self) -> Kept:
        """Return the whole ones (manifest valid, archive and that of its base there and as long), and the others."""
        return self.listing().kept()

    def snapshots(self) -> list[Snapshot]:
        """Return the whole ones, the newest first."""
        return self.kept().whole

    def commit(self, snapshot: Snapshot) -> None:
        """Write the manifest: from here on the snapshot counts."""
        self.shelf.put(f"{snapshot.id}{MANIFEST}", to_manifest(snapshot))
        self.shelf.sync()

    def mark_damaged(self, snapshot_id: str, why: str) -> None:
        """Have one not counted any more, nor what builds upon it; without that file it counts again."""
        self.shelf.put(f"{snapshot_id}{DAMAGED}", why.encode("utf-8", "backslashreplace"), direct=True)

    def add_notes(self, snapshot_id: str, text: str, key: Key | None = None) -> None:
        """Write the text for people; before the commit."""
        self._put(f"{snapshot_id}{NOTES}", text.encode("utf-8", "backslashreplace"), key)

    def keep_image(self, image: Image, key: Key | None, listing: Listing, *, trusted: bool) -> None:
        """
        Write the names of an image, where they aren't there; before the commit of the first snapshot over it.

        Those that are there are read, and written anew where they are damaged, unless they are `trusted`.
        """
        sealed = key is not None
        there = _image_name(image.fingerprint) + (SEALED if sealed else "") in listing.items
        if there and (trusted or image_beside(self.shelf, image.fingerprint, key, sealed=sealed) is not None):
            return
        self._put(_image_name(image.fingerprint), image_bytes(image), key)

    def _put(self, name: str, content: bytes, key: Key | None) -> None:
        """Write what counts only with a manifest; with a key, encrypted."""
        if key is None:
            self.shelf.put(name, content, direct=True)
        else:
            self.shelf.put(name + SEALED, seal(key, content), direct=True)

    def prune(self, made: Snapshot, listing: Listing, keep: int, keep_bytes: int | None = None) -> None:
        """
        Remove all but the newest `keep` whole ones and what they build upon, manifest first: half removed is none.

        `made` is the newest, `listing` what lay there before it. While those weigh more than `keep_bytes` together the
        oldest go, too, never the newest.
        """
        listed = [made, *(one for one in listing.snapshots if one.id != made.id)]
        removed = _too_many(listed, listing, keep, keep_bytes)
        for snapshot_id in removed:
            self._remove(snapshot_id, listing.items)
        images = {_image_name(one.image) for one in listed if one.image and one.id not in removed}
        self.shelf.remove(name for name in listing.items if _is_image(name) and _plain(name) not in images)

    def remove(self, snapshot_id: str) -> None:
        """Remove all that lies under one id; what isn't there is no error."""
        self._remove(snapshot_id, [name for names in self.shelf.contents() for name in names])

    def _remove(self, snapshot_id: str, there: Iterable[str]) -> None:
        names = [name for name in there if name.startswith(f"{snapshot_id}.")]
        self.shelf.remove(sorted(names, key=lambda name: not name.startswith(snapshot_id + MANIFEST)))

    def _read(self, name: str) -> Snapshot:
        """Raises OSError, _NoManifestError; SnapshotError where the place can't be had."""
        raw = self.shelf.read(name)
        try:
            snapshot = replace(from_manifest(raw, self.shelf.where), shelf=self.shelf)
        except IdlewatchError as error:
            raise _NoManifestError(str(error)) from error
        fits = name == f"{snapshot.id}{MANIFEST}" and snapshot.archive == archive_name(
            snapshot.id, encrypted=snapshot.locked is not None
        )
        if not fits:
            raise _NoManifestError("it is another snapshot's")
        return snapshot


def _shelf(place: Place, pod_id: str) -> Shelf:
    if isinstance(place, Objects):
        return object_shelf(place, pod_id)
    return FolderShelf(place / ".idlewatch" / pod_id / "snapshots", place)


_NO_MANIFEST: Final = "its manifest is not there: it was removed, or its save did not end"


def _without_manifest(items: Mapping[str, Item]) -> Iterator[str]:
    """Yield the ids of archives with their text, which is written right before the manifest, and without that."""
    texts = {_plain(name).removesuffix(NOTES) for name in items if _plain(name).endswith(NOTES)}
    for name in items:
        one = _plain(name).removesuffix(ARCHIVE)
        if _plain(name).endswith(ARCHIVE) and one in texts and f"{one}{MANIFEST}" not in items and _ID.fullmatch(one):
            yield one


class _NoManifestError(Exception):
    """What was read is none."""


def _why_no_manifest(name: str, item: Item | None, error: Exception) -> str:
    if item is not None and not item.regular:
        return f"{name} is {_ODD}"
    if item is not None and not item.size_bytes:
        return f"{name} is empty"
    return f"{name}: {(error.strerror if isinstance(error, OSError) else None) or error}"


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
    end = next((end for end in (ARCHIVE, NOTES, DAMAGED) if _plain(name).endswith(end)), None)
    return end is not None and _plain(name).removesuffix(end) + MANIFEST not in items


def _is_old(item: Item | None) -> bool:
    return item is not None and item.age_s > _UNLOCKED_LEFTOVER_S


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


def _too_many(listed: Sequence[Snapshot], listing: Listing, keep: int, keep_bytes: int | None) -> list[str]:
    """Return the ids that go; the first one listed was just proven, at the others is looked only where some may go."""
    keep, most = max(1, keep), float("inf") if keep_bytes is None else keep_bytes
    if len(listed) <= keep and _weight(listed) <= most:
        return []
    whole = (one for one in listed if one is listed[0] or listing.is_whole(one))
    kept = list(islice(whole, keep))
    full = len(kept) == keep
    while len(kept) > 1 and _weight(_needed(kept, listed)) > most:
        kept.pop()
        full = True
    needed = {snapshot.id for snapshot in _needed(kept, listed)}
    older = listed[listed.index(kept[-1]) + 1 :] if full else []
    return [snapshot.id for snapshot in older if snapshot.id not in needed]


def _needed(kept: Sequence[Snapshot], listed: Sequence[Snapshot]) -> list[Snapshot]:
    ids = {snapshot.id for snapshot in kept} | {snapshot.base for snapshot in kept}
    return [snapshot for snapshot in listed if snapshot.id in ids]


def _weight(snapshots: Sequence[Snapshot]) -> int:
    return sum(snapshot.archive_bytes for snapshot in snapshots)
