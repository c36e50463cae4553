"""
Saved copies of other Pods in the same place: a volume, or object storage.

A new Pod on a network volume has none of its own: the ones of the Pod before it lie beside. They are never brought back
by themselves, since nothing says whose work belongs into which Pod; a person is told of them, with the command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from idlewatch.amounts import amount
from idlewatch.errors import SnapshotError
from idlewatch.pod.identity import folder_name
from idlewatch.snapshot import Objects, Place, Snapshot, snapshots

_MOST = 50
"""So many of the newest folders are looked at: a volume may have seen hundreds of Pods, and each costs it calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPod:
    """What another Pod has left there."""

    pod: str
    copies: tuple[Snapshot, ...]
    """The newest first; at least one."""

    @property
    def newest(self) -> Snapshot:
        """The newest of them."""
        return self.copies[0]

    @property
    def archive_bytes(self) -> int:
        """What they take of it."""
        return sum(copy.archive_bytes for copy in self.copies)

    @property
    def command(self) -> str:
        """What brings the newest back."""
        return f"idlewatch restore --pod {self.pod}"


def others(place: Place, own: str) -> list[OtherPod]:
    """Those that have saved copies there, the one with the newest copy first; `own` is left out. Touches the place."""
    found = []
    names = _folders(place / ".idlewatch", own) if isinstance(place, Path) else _prefixes(place, own)
    for name in names:
        with contextlib.suppress(SnapshotError, OSError):
            copies = snapshots(place, name)
            if copies:
                found.append(OtherPod(pod=name, copies=tuple(copies)))
    return sorted(found, key=lambda one: one.newest.created_at, reverse=True)


def offer(found: Sequence[OtherPod], where: str) -> str | None:
    """What to tell a person of them, who lie `where`; None: there are none."""
    if not found:
        return None
    first, more = found[0], len(found) - 1
    beside = f", and of {more} more (`idlewatch snapshots` names them)" if more else ""
    made = f"of {first.pod}, {first.newest.created_at:.16} ({amount(first.newest.archive_bytes)})"
    return f"saved copies of another Pod lie {where}: {made}{beside}: `{first.command}` brings it back"


def _prefixes(objects: Objects, own: str) -> list[str]:
    """As many names as are looked at; a bucket does not say which is the newest."""
    with contextlib.suppress(SnapshotError):
        return [name for name in objects.names() if name != own and folder_name(name) == name][:_MOST]
    return []


def _folders(above: Path, own: str) -> list[str]:
    """Names of folders that a Pod can have made, the newest first."""
    dated: list[tuple[float, str]] = []
    with contextlib.suppress(OSError):
        for folder in above.iterdir():
            if folder.name != own and folder_name(folder.name) == folder.name:
                with contextlib.suppress(OSError):
                    dated.append(((folder / "snapshots").stat().st_mtime, folder.name))
    return [name for _, name in sorted(dated, reverse=True)[:_MOST]]
