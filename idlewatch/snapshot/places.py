"""
Where things are on this machine: what a stop wipes, and what survives it.

A folder `/workspace` proves nothing, RunPod's base images make one without a volume; only a mount does. A volume that
has gone makes every call on it hang for ever, also in the daemon, which nobody would then notice. So it is told by the
kernel's list of mounts, by text, and nothing on the volume is touched; `leads_away` looks closer, in a child process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from idlewatch.snapshot.mounts import Mount

VOLUME_MOUNTS = ("/workspace", "/runpod-volume")
"""Where RunPod mounts a Pod's volume by default, and a worker's (its storage documentation)."""


_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "overlay", "proc", "sysfs"})
"""File systems that a stop wipes although they are mounts."""
_LINKS_MAX = 40
"""The kernel follows no more either (path_resolution(7))."""


def volume(told: str, mounts: Sequence[Mount]) -> Path | None:
    """What survives a stop: what the owner said, else RunPod's mount where one is really mounted."""
    if told != "auto":
        return Path(told)
    return next((Path(point) for point in VOLUME_MOUNTS if survives(Path(point), mounts)), None)


def survives(folder: Path, mounts: Sequence[Mount]) -> bool:
    """
    Whether `folder`, an absolute path, lies on a mount of its own, other than `/` and not in memory.

    Links are followed up to that mount and not on it: nothing that may hang is touched.
    """
    return _lies_on_kept(resolved(folder, lambda step: _lies_on_kept(step, mounts)), mounts)


def leads_away(folder: Path, mounts: Sequence[Mount]) -> str | None:
    """Why a folder does not survive a stop although it seems to: a link on its mount leads away from it; None: it does.

    Touches the folder, so it may hang for ever: for child processes, and for people who wait.
    """
    real = folder.resolve()
    if _lies_on_kept(real, mounts) or not survives(folder, mounts):
        return None
    return f"{folder} leads to {real}, which a stop wipes; name a folder on a mounted volume"


def _lies_on_kept(path: Path, mounts: Sequence[Mount]) -> bool:
    nearest = _mount_of(path, mounts)
    return nearest is not None and nearest.point != "/" and nearest.fs_type not in _MEMORY


def _mount_of(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that a path lies on, by its text; of two on one point the later one covers the other."""
    above = [mount for mount in mounts if path == Path(mount.point) or Path(mount.point) in path.parents]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def resolved(path: Path, stops: Callable[[Path], bool]) -> Path:
    """An absolute path with its links followed up to where it `stops`, which is not touched. A loop stays as it is."""
    at, left, links = Path("/"), list(path.parts[1:]), 0
    while left:
        part = left.pop(0)
        step = at.parent if part == ".." else at / part
        if stops(step) or links > _LINKS_MAX:
            return Path(os.path.normpath(Path(step, *left)))
        target = _link(step)
        if target is None:
            at = step
            continue
        links += 1
        at = Path("/") if target.is_absolute() else at
        left = [*(part for part in target.parts if part != "/"), *left]
    return at


def _link(path: Path) -> Path | None:
    """Where a link leads; None where it is none, or nothing is there."""
    try:
        return path.readlink()
    except OSError:
        return None


def save_root(
    told: str, mounts: Sequence[Mount], *, in_pod: bool, dockerenv: Path = Path("/.dockerenv")
) -> Path | None:
    """What a stop wipes: what the owner said, else `/` in a Pod or a container; None where the disk is kept."""
    if told != "auto":
        return Path(told)
    root_types = [mount.fs_type for mount in mounts if mount.point == "/"]
    wiped = in_pod or dockerenv.exists() or root_types[-1:] == ["overlay"]
    return Path("/") if wiped else None
