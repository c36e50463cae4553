"""
Where snapshots lie: `VOLUME/.idlewatch/POD_ID/snapshots/`, `ID.tar.zst`, `ID.txt` for people, and `ID.json`, which
makes it count. Beside them lie the names of the images that they were saved over, `image-FINGERPRINT.names`.

Every file is written under a `.part` name, synced and renamed; the manifest last. So whatever a crash leaves behind,
what is listed is whole. The rest is removed by the next save, which alone holds the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlewatch.errors import IdlewatchError, Refused, SnapshotError
from idlewatch.snapshot.age import Key, seal, unseal
from idlewatch.snapshot.amounts import amount
from idlewatch.snapshot.image import image_bytes, image_of
from idlewatch.snapshot.manifest import Snapshot, from_manifest, to_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idlewatch.snapshot.image import Image

ARCHIVE: Final = ".tar.zst"
MANIFEST: Final = ".json"
NOTES: Final = ".txt"
PART: Final = ".part"
SEALED: Final = ".age"
"""What an encrypted file is called: the end that the `age` tool gives it."""
_IMAGE: Final = ("image-", ".names")
_LOCK: Final = "save.lock"
_POD_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PACKED_SHARE: Final = 0.6
"""What is left of typical content (environments, weights, sources) after packing; a guess that only saves time."""
_UNLOCKED_LEFTOVER_S: Final = 24 * 3600.0
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES})
"""What CIFS and some FUSE file systems answer to fsync of a folder."""
_NO_LOCKS: Final = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})


class SaveUnderWay(Refused):
    """Another save of this Pod holds the lock; it will be over by itself."""


class Store:
    """The snapshots of one Pod on one volume."""

    def __init__(self, volume: Path, pod_id: str) -> None:
        """Raises SnapshotError for a Pod id that can't be the name of a folder."""
        if not _POD_ID.fullmatch(pod_id):
            raise SnapshotError("no Pod id, or one that can't be the name of a folder: nowhere to keep a snapshot")
        self.volume = volume
        self.folder = volume / ".idlewatch" / pod_id / "snapshots"

    def make(self) -> None:
        """Make the folder, closed to others. Raises SnapshotError where the volume isn't there or can't be written."""
        if not self.volume.is_dir():
            raise SnapshotError(f"no place to save to: {self.volume} is no folder")
        for folder in (self.folder.parent.parent, self.folder.parent, self.folder):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        self.folder.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """
        Hold the lock of saves; False where this file system has no locks.

        Raises SaveUnderWay where another save holds it. The lock goes with its process, however that ends.
        """
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield self._lock(fd)
        finally:
            os.close(fd)

    def _lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SaveUnderWay(f"another save into {self.folder} is under way; wait until it is over") from error
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        return True

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
        names = {path.name for path in self._names()}
        for path in self._names():
            plain = path.name.removesuffix(SEALED)
            end = next((end for end in (ARCHIVE, NOTES) if plain.endswith(end)), None)
            orphan = end is not None and plain.removesuffix(end) + MANIFEST not in names
            if (orphan or path.name.endswith(PART)) and (locked or _age_s(path) > _UNLOCKED_LEFTOVER_S):
                path.unlink(missing_ok=True)

    def require_space(self, loss_bytes: int) -> None:
        """Raise SnapshotError where the volume can't hold the packed loss; a quota may show only while writing."""
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        if free < loss_bytes * _PACKED_SHARE:
            raise SnapshotError(
                f"{self.volume} has {amount(free)} free, too little for {amount(loss_bytes)} that a stop would wipe; "
                "free some space on it, lower IDLEWATCH_KEEP_SNAPSHOTS, or leave some out with IDLEWATCH_EXCLUDE"
            )

    def snapshots(self) -> list[Snapshot]:
        """Return the whole ones, the newest first: manifest valid, archive and that of its base there and as long."""
        found = [self._read(path) for path in self._names() if path.name.endswith(MANIFEST)]
        alone = {snapshot.id for snapshot in found if snapshot is not None and snapshot.base is None}
        whole = [snapshot for snapshot in found if snapshot is not None and (snapshot.base or snapshot.id) in alone]
        return sorted(whole, key=lambda snapshot: (snapshot.created_at, snapshot.id), reverse=True)

    def commit(self, snapshot: Snapshot) -> None:
        """Write the manifest: from here on the snapshot counts."""
        self._put(f"{snapshot.id}{MANIFEST}", to_manifest(snapshot))
        self.sync()

    def add_notes(self, snapshot_id: str, text: str, key: Key | None = None) -> None:
        """Write the text for people; before the commit."""
        self._put(f"{snapshot_id}{NOTES}", text.encode("utf-8", "backslashreplace"), key)

    def keep_image(self, image: Image, key: Key | None = None) -> None:
        """Write the names of an image, where they aren't there; before the commit of the first snapshot over it."""
        if image_beside(self.folder, image.fingerprint, key, sealed=key is not None) is None:
            self._put(self._image_path(image.fingerprint).name, image_bytes(image), key)

    def _image_path(self, fingerprint: str) -> Path:
        return _image_path(self.folder, fingerprint)

    def _put(self, name: str, content: bytes, key: Key | None = None) -> None:
        """Write a small file whole; with a key, encrypted."""
        path = self.folder / (name if key is None else name + SEALED)
        content = content if key is None else seal(key, content)
        part = path.with_name(path.name + PART)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        part.rename(path)

    def sync(self) -> None:
        """Make renames last."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(fd)

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
        for snapshot in listed:
            if snapshot.id not in needed:
                self.remove(snapshot.id)
        images = {self._image_path(one.image).name for one in listed if one.image and one.id in needed}
        for path in self._names():
            plain = path.name.removesuffix(SEALED)
            if plain.startswith(_IMAGE[0]) and plain.endswith(_IMAGE[1]) and plain not in images:
                path.unlink(missing_ok=True)

    def remove(self, snapshot_id: str) -> None:
        """Remove all files of one id; those that aren't there are no error."""
        for end in (MANIFEST, ARCHIVE, NOTES, ARCHIVE + SEALED, NOTES + SEALED):
            for name in (f"{snapshot_id}{end}", f"{snapshot_id}{end}{PART}"):
                (self.folder / name).unlink(missing_ok=True)

    def _names(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SnapshotError(f"cannot read {self.folder}: {error.strerror}") from error

    def _read(self, path: Path) -> Snapshot | None:
        try:
            snapshot = from_manifest(path.read_bytes(), self.folder)
            size = snapshot.archive_path.lstat().st_size
        except (OSError, IdlewatchError):
            return None
        fits = path.name == f"{snapshot.id}{MANIFEST}" and snapshot.archive == archive_name(
            snapshot.id, encrypted=snapshot.locked is not None
        )
        return snapshot if fits and size == snapshot.archive_bytes else None


def archive_name(snapshot_id: str, *, encrypted: bool) -> str:
    """Return the file name of an archive."""
    return f"{snapshot_id}{ARCHIVE}{SEALED if encrypted else ''}"


def image_beside(folder: Path, fingerprint: str, key: Key | None, *, sealed: bool | None = None) -> Image | None:
    """
    Return the names of an image that a snapshot in `folder` was saved over; None: not there, damaged, another key.

    `sealed` tells whether only an encrypted list counts, or only a plain one; None: either.
    """
    path = _image_path(folder, fingerprint)
    ways = [] if key is None or sealed is False else [lambda: unseal(key, Path(f"{path}{SEALED}").read_bytes())]
    for read in [*ways, *([] if sealed else [path.read_bytes])]:
        with suppress(OSError, SnapshotError):
            found = image_of(read())
            if found.fingerprint == fingerprint:
                return found
    return None


def _image_path(folder: Path, fingerprint: str) -> Path:
    return folder / fingerprint.join(_IMAGE)


def chain(snapshot: Snapshot) -> tuple[Snapshot, ...]:
    """Return the snapshots whose archives bring this one back, in order. Raises SnapshotError without its base."""
    if snapshot.base is None:
        return (snapshot,)
    folder = Path(snapshot.folder)
    try:
        base = from_manifest((folder / f"{snapshot.base}{MANIFEST}").read_bytes(), folder)
    except OSError as error:
        raise SnapshotError(f"{snapshot.id} builds upon {snapshot.base}, which can't be read: {error}") from error
    if base.base is not None or base.id != snapshot.base:
        raise SnapshotError(f"{snapshot.id} builds upon {snapshot.base}, which is no whole snapshot")
    return (base, snapshot)


def _needed(kept: Sequence[Snapshot], listed: Sequence[Snapshot]) -> list[Snapshot]:
    ids = {snapshot.id for snapshot in kept} | {snapshot.base for snapshot in kept}
    return [snapshot for snapshot in listed if snapshot.id in ids]


def _weight(snapshots: Sequence[Snapshot]) -> int:
    return sum(snapshot.archive_bytes for snapshot in snapshots)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
