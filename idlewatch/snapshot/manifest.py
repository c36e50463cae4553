"""
The manifest: the small file beside an archive that makes it a snapshot.

It is written last, after the archive has been read back and proven, so an archive without one does not count. Its
own digest (`seal`) tells a damaged manifest from a true one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from idlewatch.amounts import amount
from idlewatch.errors import SnapshotError
from idlewatch.snapshot.given import is_instant, is_path, json_of
from idlewatch.snapshot.shelf import FolderShelf, Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idlewatch.model import Json

FORMAT: Final = 4
"""1 knew no deletions and no base, 2 no targets of hard links in the index, 3 hashed with BLAKE2b."""
_SEAL: Final = "seal"
_TOO_MUCH: Final = 1 << 63
"""No size, count or instant in nanoseconds is so large: the kernel's own are signed numbers of 64 bits."""
_FOLDER: Final = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One saved copy, whole and verified. Paths in its lists are relative to `root`, as in the archive."""

    id: str
    pod_id: str
    boot_key: str
    created_at: str
    """Wall time of the manifest, ISO 8601, UTC."""
    began_at: str
    """Wall time from which changes may be missing."""
    began_s: float | None
    """The same instant on CLOCK_BOOTTIME, where the caller gave one; it means nothing in another boot."""
    root: str
    since_ns: int | None
    """Wall clock nanoseconds from which changes were saved; None: everything under the root."""
    files: int
    folders: int
    total_bytes: int
    """What the loss weighed at the beginning."""
    members: int
    tar_bytes: int
    """Length of the unpacked stream."""
    archive: str
    """File name in `folder`; `zstd -dc FILE | tar -x` unpacks it, after that of its base."""
    archive_bytes: int
    archive_digest: str
    """Of the file, see `digests.py`."""
    index_at: int
    """Where in the file the index begins."""
    excluded: tuple[dict[str, Json], ...]
    """Rule, bytes and entries of what was left out on purpose."""
    mounts: tuple[str, ...]
    skipped: tuple[str, ...]
    sockets: tuple[str, ...]
    changing: tuple[str, ...]
    """Files that changed while they were read, at the last try, too: saved as a prefix or a mixture."""
    changed_after: tuple[str, ...]
    """The first thousand of the files that changed after they had been read."""
    changed_after_files: int
    changed_after_bytes: int
    gone: tuple[str, ...]
    """In the archive, but removed or renamed before the save ended; a restore leaves them out."""
    image: str | None
    """Fingerprint of the image that it was saved over, whose names lie beside it; None: not known."""
    deleted: tuple[str, ...]
    """What the image held and was gone, the topmost paths only."""
    base: str | None
    """The snapshot that holds what is not in this archive; None: this one holds everything."""
    notes: tuple[str, ...]
    locked: str | None
    """Base64 of what only the key of an encrypted snapshot opens, see `locked.py`; None: it is not encrypted."""
    version: str
    """Of idlewatch."""
    folder: str
    """Where the archive and the manifest lie now; not part of the manifest."""
    format: int = FORMAT
    complete: bool = True
    shelf: Shelf | None = field(default=None, compare=False, repr=False)
    """How to get at `folder`, where the store that found it knows; no value, and never written anywhere."""
    distrusted: str | None = field(default=None, compare=False)
    """The snapshot that it would have built upon, where that is damaged; for who has it made, and not written."""

    @property
    def words(self) -> str:
        """What was saved, for people."""
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"{files} as {self.id}, {amount(self.archive_bytes)}{self.caveat}"

    @property
    def caveat(self) -> str:
        """What more is to be said of it: that another one turned out to be damaged."""
        return f"; everything anew, because {self.distrusted} is damaged" if self.distrusted else ""

    @property
    def archive_path(self) -> Path:
        """The archive, where it lies on a volume."""
        return Path(self.folder) / self.archive

    @property
    def kept_on(self) -> Shelf:
        """Where its archive, its manifest and those of its base lie."""
        return FolderShelf(Path(self.folder)) if self.shelf is None else self.shelf

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        values = ((name, getattr(self, name)) for name in _TYPES)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @classmethod
    def from_json(cls, raw: Mapping[str, Json]) -> Snapshot:
        """Return the snapshot of `as_json`. Raises SnapshotError for anything else."""
        values: dict[str, Any] = {}
        for name, types in _TYPES.items():
            value = raw.get(name, _NOT_IN_FORMAT_1.get(name))
            if type(value) not in types or (type(value) is int and not 0 <= value < _TOO_MUCH):
                raise SnapshotError(f"not a manifest of a snapshot: {name} is missing or of the wrong type")
            values[name] = tuple(value) if isinstance(value, list) else value
        snapshot = cls(**values)
        if not 1 <= snapshot.format <= FORMAT or not snapshot.complete or "/" in snapshot.archive:
            raise SnapshotError(f"snapshot {snapshot.id} has format {snapshot.format}, unknown to this version")
        names = (snapshot.id, snapshot.image or "", snapshot.base or "", snapshot.archive)
        if any("/" in name or not is_path(name) for name in names):
            raise SnapshotError("not a manifest of a snapshot: a name leads out of its folder")
        paths = (*snapshot.gone, *snapshot.deleted, *snapshot.changing, *snapshot.changed_after)
        if not all(map(is_path, (*paths, snapshot.root))):
            raise SnapshotError("not a manifest of a snapshot: a list of paths holds something else")
        if not (is_instant(snapshot.began_at) and is_instant(snapshot.created_at)):
            raise SnapshotError("not a manifest of a snapshot: it does not tell when it was made")
        return snapshot


_NOT_IN_FORMAT_1: Final[dict[str, Json]] = {"image": None, "deleted": [], "base": None, "locked": None}
_ANNOTATED: Final = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
    "tuple[str, ...]": (list, tuple),
    "tuple[dict[str, Json], ...]": (list, tuple),
}
_TYPES: Final = {
    name: _ANNOTATED[kind] for name, kind in Snapshot.__annotations__.items() if name not in {"shelf", "distrusted"}
}


def to_manifest(snapshot: Snapshot) -> bytes:
    """Return the text of a manifest."""
    values = {key: value for key, value in snapshot.as_json().items() if key != _FOLDER}
    return json.dumps({**values, _SEAL: _seal(values)}, indent=1).encode() + b"\n"


def from_manifest(text: bytes, folder: Path | str) -> Snapshot:
    """Return the snapshot of a manifest that lies in `folder`. Raises SnapshotError for damage."""
    try:
        raw = json_of(text)
    except ValueError as error:
        raise SnapshotError("not a manifest of a snapshot: no JSON") from error
    if not isinstance(raw, dict):
        raise SnapshotError("not a manifest of a snapshot: no JSON object")
    values = {key: value for key, value in raw.items() if key != _SEAL}
    if raw.get(_SEAL) != _seal(values):
        raise SnapshotError("the manifest of a snapshot is damaged")
    return Snapshot.from_json(cast("dict[str, Json]", {**values, _FOLDER: str(folder)}))


def _seal(values: Mapping[str, Json]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=16).hexdigest()
