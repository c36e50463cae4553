"""
Where things are on this machine: what a stop wipes, and what survives it.

A folder `/workspace` proves nothing, RunPod's base images make one without a volume; only a mount does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from idlewatch.snapshot.mounts import Mount

VOLUME_MOUNTS = ("/workspace", "/runpod-volume")
"""Where RunPod mounts a Pod's volume by default, and a worker's (its storage documentation)."""


_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "overlay", "proc", "sysfs"})
"""File systems that a stop wipes although they are mounts."""


def volume(told: str, mounts: Sequence[Mount]) -> Path | None:
    """What survives a stop: what the owner said, else RunPod's mount where one is really mounted."""
    if told != "auto":
        return Path(told)
    return next((Path(point) for point in VOLUME_MOUNTS if survives(Path(point), mounts)), None)


def survives(folder: Path, mounts: Sequence[Mount]) -> bool:
    """Whether `folder` lies on a mount of its own, other than `/` and not in memory; links are followed."""
    real = folder.resolve()
    above = [mount for mount in mounts if real == Path(mount.point) or Path(mount.point) in real.parents]
    nearest = max(above, key=lambda mount: len(mount.point), default=None)
    return nearest is not None and nearest.point != "/" and nearest.fs_type not in _MEMORY


def save_root(
    told: str, mounts: Sequence[Mount], *, in_pod: bool, dockerenv: Path = Path("/.dockerenv")
) -> Path | None:
    """What a stop wipes: what the owner said, else `/` in a Pod or a container; None where the disk is kept."""
    if told != "auto":
        return Path(told)
    root_types = [mount.fs_type for mount in mounts if mount.point == "/"]
    wiped = in_pod or dockerenv.exists() or root_types[-1:] == ["overlay"]
    return Path("/") if wiped else None
