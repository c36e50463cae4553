"""
Passes over the tree into one archive, until what it holds is what is there.

A program may change a file while it is read, or just after. So the tree is walked again, and what is not as the
archive holds it is written once more as a later member, which wins on unpacking; what is gone again is named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.scan import Scan
from idlewatch.snapshot.writer import TICK_NS, TreeWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idlewatch.snapshot.differential import Base
    from idlewatch.snapshot.scan import Entry
    from idlewatch.snapshot.sink import Sink
    from idlewatch.snapshot.steps import Steps

PASSES: Final = 3
ENOUGH_BYTES: Final = 1024 * 1024
"""A pass that finds less than this changed is the last."""
_NAMED_IN_ERROR: Final = 5


@dataclass(slots=True)
class Changes:
    """What a later look found against what the archive holds."""

    found: list[Entry]
    files: list[str]
    disk_bytes: int
    gone: list[str]
    deleted: list[str]


class Passes:
    """Brings a tree into an archive; `first` is the scan that has walked it."""

    def __init__(self, first: Scan, base: Base | None, sink: Sink, steps: Steps) -> None:
        """`base`: what another archive holds, which is not written again."""
        self._first = first
        self._steps = steps
        self._sink = sink
        self._writer = TreeWriter(first.root, sink, steps.add)
        self._writer.saved.update({} if base is None else base.states)
        self._parents: set[str] = set() if base is None else set(base.ways)
        self._gone_before = () if base is None else base.snapshot.gone

    @property
    def torn(self) -> Sequence[str]:
        """What changed while it was read, at the last try, too."""
        return sorted(self._writer.torn)

    def run(self, found: list[Entry]) -> None:
        """Write what was found, and what changed meanwhile. Raises SnapshotError where something can't be read."""
        self._steps.stage("write", sum(entry.disk_bytes for entry in found))
        for left in reversed(range(PASSES)):
            self._write(found)
            changes = self.look_again()
            if not left or (not self._writer.torn and changes.disk_bytes < ENOUGH_BYTES):
                break
            time.sleep(TICK_NS / 1e9)
            found = changes.found
        self._sink.put(pax.END)

    def _write(self, found: list[Entry]) -> None:
        self._writer.begin_pass()
        for entry in found:
            path = entry.path
            for parent in _parents(path):
                if parent not in self._writer.saved and parent not in self._parents:
                    self._parents.add(parent)
                    self._writer.add(parent, FOLDER)
            self._writer.add(path, entry.kind)
            self._steps.add(0)
        refuse_unreadable(self._writer.errors)

    def look_again(self) -> Changes:
        """Scan once more and compare with what the archive holds: by state, so that no clock has to be trusted."""
        saved = self._writer.saved
        unseen = saved.keys() - self._parents
        changes = Changes([], [], 0, [], [])
        scan = _fresh(self._first)
        for entry in scan.entries(self._steps.pause):
            unseen.discard(entry.path)
            if entry.path in self._writer.torn or saved.get(entry.path) != entry.ctime_ns:
                changes.found.append(entry)
                changes.disk_bytes += entry.disk_bytes
                if entry.kind != FOLDER:
                    changes.files.append(entry.path)
        refuse_unreadable(scan.errors)
        changes.deleted = sorted(scan.deleted)
        changes.gone = sorted(unseen.union(path for path in self._gone_before if path not in saved))
        return changes


def _fresh(scan: Scan) -> Scan:
    """Return one that looks for the same and has not walked yet; links on the way to the volume are not asked again."""
    return Scan(
        root=scan.root,
        since_ns=scan.since_ns,
        excludes=scan.excludes,
        mount_points=scan.mount_points,
        skipped=scan.skipped,
        image=scan.image,
    )


def refuse_unreadable(errors: dict[str, str]) -> None:
    """Raise SnapshotError with the first paths that can't be read, where there are any."""
    if not errors:
        return
    named = [f"{shown(path)} ({error})" for path, error in sorted(errors.items())[:_NAMED_IN_ERROR]]
    more = f" and {len(errors) - len(named)} more" if len(errors) > len(named) else ""
    raise SnapshotError(f"not everything could be read, so nothing counts as saved: {', '.join(named)}{more}")


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above, the outermost first: a restore must make them with the right owner and mode."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
