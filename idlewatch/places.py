"""
Where things are on this machine: what a stop wipes, and what survives it.

A folder `/workspace` proves nothing, RunPod's base images make one without a volume; only a mount does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from idlewatch.snapshot.mounts import Mount

VOLUME_MOUNTS = ("/workspace", "/runpod-volume")
"""Where RunPod mounts a Pod's volume by default, and a worker's (its storage documentation)."""


def volume(told: str, mounts: Iterable[Mount]) -> Path | None:
    """What survives a stop: what the owner said, else RunPod's mount where one is really mounted."""
    if told != "auto":
        return Path(told)
    points = {mount.point for mount in mounts}
    return next((Path(point) for point in VOLUME_MOUNTS if point in points), None)


def save_root(told: str, mounts: Iterable[Mount], dockerenv: Path = Path("/.dockerenv")) -> Path | None:
    """What a stop wipes: what the owner said, else `/` in a container; None on a machine that keeps its disk."""
    if told != "auto":
        return Path(told)
    root_types = [mount.fs_type for mount in mounts if mount.point == "/"]
    in_container = dockerenv.exists() or root_types[-1:] == ["overlay"]
    return Path("/") if in_container else None
