"""What a restore says when it has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlewatch.model import Json


@dataclass(slots=True, kw_only=True)
class RestoreReport:
    """What a restore did, or with `dry_run` would do. Paths are relative to the target."""

    snapshot: str
    target: str
    dry_run: bool
    files: int = 0
    """Entries written that are not folders."""
    disk_bytes: int = 0
    folders: int = 0
    unchanged: int = 0
    """Files that were there already, with the same content."""
    merged: list[str] = field(default_factory=list)
    """`authorized_keys` whose lines were joined with those of the target."""
    kept_newer: list[str] = field(default_factory=list)
    """What differs in the target and is later work than the save's copy: left as it is."""
    replaced: list[str] = field(default_factory=list)
    """What stood in the target with other content, and gave way to the save's copy."""
    conflicts: dict[str, str] = field(default_factory=dict)
    """Path and reason of what the image has changed, too: the image's own stays."""
    deleted: list[str] = field(default_factory=list)
    """What the image brings and had been deleted: removed again, the topmost paths only."""
    notes: list[str] = field(default_factory=list)
    in_the_way: dict[str, str] = field(default_factory=dict)
    """Path and reason of what could not be put in its place."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Path and reason of what is left out on purpose."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Path and reason of what was restored without one of its extended attributes."""

    @property
    def whole(self) -> bool:
        """
        All that was asked for is back: as it was saved, or newer.

        What is newer here is somebody's later work, and left by rule. What the image has changed, too, or what stands
        in the way leaves something saved that is not here, and waits for a person.
        """
        return not self.in_the_way and not self.conflicts

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return {
            "snapshot": self.snapshot,
            "target": self.target,
            "dry_run": self.dry_run,
            "whole": self.whole,
            "files": self.files,
            "disk_bytes": self.disk_bytes,
            "folders": self.folders,
            "unchanged": self.unchanged,
            "merged": [*self.merged],
            "kept_newer": [*self.kept_newer],
            "replaced": [*self.replaced],
            "conflicts": {**self.conflicts},
            "deleted": [*self.deleted],
            "notes": [*self.notes],
            "in_the_way": {**self.in_the_way},
            "skipped": {**self.skipped},
            "attributes": {**self.attributes},
        }
