"""
Which hooks there are: the executables in one folder a stage, in the order of their names, and those that are refused.

What lies there and can't run is never passed over in silence: a hook that nobody runs is found out too late.
"""

from __future__ import annotations

import difflib
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from idlewatch.hooks.trust import untrusted

REQUIRED = ".required"
"""A part of the name, after the first dot: `10-flush.required`, `10-flush.required.sh`."""


class Stage(StrEnum):
    """When a hook runs; also the name of its folder."""

    BEFORE_SAVE = "before-save"
    AFTER_SAVE = "after-save"
    BEFORE_STOP = "before-stop"
    AFTER_START = "after-start"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFolder:
    """Where hooks lie, and what makes them trusted."""

    path: Path
    volume: Path | None
    """Storage that other Pods may write, where owners and modes prove nothing."""
    volume_allowed: bool
    """The owner named a folder on the volume, and said that it may be used."""
    own_uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One hook."""

    stage: Stage
    path: Path
    refused: str | None = None
    """Why it must not or can't run; None where it may."""

    @property
    def name(self) -> str:
        """`before-save/10-flush`."""
        return f"{self.stage.value}/{self.path.name}"

    @property
    def required(self) -> bool:
        """Whether its failure is a failed save."""
        return REQUIRED in self.path.suffixes


def hooks_of(stage: Stage, folder: HookFolder) -> list[Hook]:
    """Return the hooks of a stage in the order in which they run; those that are refused say why."""
    where = folder.path / stage.value
    try:
        names = sorted(name for name in os.listdir(where) if not _is_passed_over(name))  # noqa: PTH208  (names only)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [Hook(stage=stage, path=where, refused=f"{where} can't be read: {error.strerror}")]
    return [_hook(stage, where / name, folder) for name in names]


def strange_entries(folder: HookFolder) -> list[str]:
    """Return, in words, what lies beside the stages' folders: a hook under a wrong name would never run."""
    stages = [stage.value for stage in Stage]
    try:
        names = sorted(name for name in os.listdir(folder.path) if not _is_passed_over(name))  # noqa: PTH208
    except OSError:
        return []
    found = []
    for name in names:
        if name not in stages:
            near = difflib.get_close_matches(name, stages, n=1) or stages
            found.append(f"{folder.path / name} never runs: there is no such stage; there is {', '.join(near)}")
    return found


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name.upper().startswith("README")


def _hook(stage: Stage, path: Path, folder: HookFolder) -> Hook:
    try:
        refused = _refusal(path, folder)
    except OSError as error:
        refused = f"{path} can't be looked at: {error.strerror}"
    return Hook(stage=stage, path=path, refused=refused)


def _refusal(path: Path, folder: HookFolder) -> str | None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a file"
    if not os.access(path, os.X_OK):
        return f"{path} is not executable; chmod +x it"
    if not folder.volume_allowed and _is_on_volume(path, folder.volume):
        return (
            f"{path} lies on the volume {folder.volume}, where other Pods may write; "
            "name the folder in IDLEWATCH_HOOKS and set IDLEWATCH_HOOKS_ON_VOLUME=true, or move it"
        )
    return untrusted(path, folder.own_uid)


def _is_on_volume(path: Path, volume: Path | None) -> bool:
    """Whether it lies in the volume's folder, or, by another mount or link, on its file system."""
    if volume is None or not volume.exists():
        return False
    real, root = path.resolve(), Path("/")
    if volume.resolve() in real.parents:
        return True
    device = volume.stat().st_dev
    return device != root.stat().st_dev and real.stat().st_dev == device
