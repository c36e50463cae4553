"""
Where the file with the key of snapshots lies: not beside what it protects, and not within it.

Beside its snapshots the key is read by whoever can read them. On the disk that a stop wipes it would be saved, and
then only be found in a snapshot that does not open without it. Nothing is touched that may hang.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from idlewatch.settings import secret_file
from idlewatch.settings.files import kind_of_mount, may_hang
from idlewatch.settings.sources import Source
from idlewatch.snapshot import Excludes, places
from idlewatch.snapshot.kinds import FILE, FOLDER
from idlewatch.snapshot.mounts import Mount

_REMEDY = "hand it over as a RunPod secret in IDLEWATCH_SNAPSHOT_KEY itself"
_LARGE_BYTES = 1 << 20
"""No rule is for a file of this size, as some are for small ones."""


def key_file(sources: Sequence[Source]) -> tuple[str, Path] | None:
    """The variable and the file that the key came from; None where it did not come from a file."""
    return secret_file(sources, "snapshot_key")


def misplaced(
    path: Path,
    volume: Path | None,
    save_root: Path | None,
    mounts: Sequence[Mount],
    excludes: Excludes,
    skip: Sequence[Path],
) -> str | None:
    """
    Why the file at `path` must not hold the key; None: it may.

    `volume`: where snapshots go, `save_root`: what they are made of but for mounts, `excludes` and `skip`.
    """
    kept = None if volume is None else _real(volume, mounts, None)
    real = _real(path, mounts, kept)
    if kept is not None and (_inside(real, kept) or _inside(path, volume)):
        return f"it lies on {volume}, beside the snapshots that it protects; {_REMEDY}, or put the file elsewhere"
    if save_root is not None and _would_be_saved(real, _real(save_root, mounts, None), mounts, excludes, skip):
        return (
            f"a stop wipes {save_root}, and the snapshot that would hold this file does not open without it; "
            f"{_REMEDY}, or put the file on a mount of its own, as /run/secrets"
        )
    return None


def _real(path: Path, mounts: Sequence[Mount], kept: Path | None) -> Path:
    return places.resolved(path, lambda step: _inside(step, kept) or may_hang(kind_of_mount(step, mounts)))


def _inside(path: Path, folder: Path | None) -> bool:
    return folder is not None and (path == folder or folder in path.parents)


def _would_be_saved(path: Path, root: Path, mounts: Sequence[Mount], excludes: Excludes, skip: Sequence[Path]) -> bool:
    if not _inside(path, root) or any(_inside(path, folder) for folder in skip):
        return False
    between = [folder for folder in (path, *path.parents) if _inside(folder, root) and folder != root]
    points = {Path(mount.point) for mount in mounts}
    return not any(folder in points or _is_left_out(folder, path, root, excludes) for folder in between)


def _is_left_out(folder: Path, path: Path, root: Path, excludes: Excludes) -> bool:
    kind = FILE if folder == path else FOLDER
    return excludes.rule(str(folder.relative_to(root)), folder.name, kind, _LARGE_BYTES) is not None
