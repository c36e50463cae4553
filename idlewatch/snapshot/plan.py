"""
What a restore will do, decided from all members before the first file is touched.

Of several members of one path the last counts, as with tar. A hard link brings no bytes of its own: the member that
holds them carries the names of all its links that are wanted, so that one of them gets the bytes even where the
first name is not restored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.excludes import NEVER_RESTORED
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.kinds import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from idlewatch.snapshot.index import Fields


@dataclass(slots=True, kw_only=True)
class Step:
    """One member that brings something: its names in the target, and the digest of its bytes."""

    names: list[str]
    digest: bytes | None


@dataclass(slots=True)
class Plan:
    """What to do at each member, by its place in the archive."""

    steps: dict[int, Step] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Path and reason."""
    ways: set[str] = field(default_factory=set)
    """Folders that are made only where they are missing, because something below them is wanted."""


@dataclass(slots=True)
class _Found:
    last: dict[str, int] = field(default_factory=dict)
    """Path to the place of its newest member."""
    kinds: dict[int, str] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)
    """Place of a hard link to the place of the member that has the bytes."""
    digests: dict[int, bytes | None] = field(default_factory=dict)


def make_plan(
    members: Iterable[tuple[pax.Member | Fields, bytes | None]],
    *,
    gone: Sequence[str],
    only: Sequence[str] | None,
    mount_points: frozenset[str],
) -> Plan:
    """
    Return the plan; `members` is walked to its end, so that what it raises comes before any writing.

    `only` are paths relative to the root: these and what is below them; None: all. Raises SnapshotError for a member
    whose way leads through something that the archive itself makes no folder, or a link to no earlier member.
    """
    found = _Found()
    for place, (member, digest) in enumerate(members):
        _note(found, place, member, digest)
    for path in gone:
        found.last.pop(path, None)
    _refuse_detours(found)
    return _plan(found, only, mount_points)


def _note(found: _Found, place: int, member: pax.Member | Fields, digest: bytes | None) -> None:
    if member.kind == pax.HARDLINK:
        first = found.last.get(member.target)
        source = found.links.get(first, first) if first is not None else None
        if source is None or found.kinds[source] == FOLDER:
            raise SnapshotError(f"the archive is refused: {shown(member.path)} links to no earlier member")
        found.links[place] = source
    else:
        found.kinds[place] = member.kind
        found.digests[place] = digest
    found.last[member.path] = place


def _refuse_detours(found: _Found) -> None:
    folders: dict[str, bool] = {}
    for path in found.last:
        parent = path.rpartition("/")[0]
        if parent not in folders:
            folders[parent] = all(
                found.kinds.get(found.last[above]) == FOLDER for above in _upward(parent) if above in found.last
            )
        if not folders[parent]:
            raise SnapshotError(f"the archive is refused: the way to {shown(path)} leads through no folder")


def _upward(path: str) -> Iterable[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _plan(found: _Found, only: Sequence[str] | None, mount_points: frozenset[str]) -> Plan:
    plan = Plan()
    for path, place in found.last.items():
        if not is_wanted(path, only):
            if found.kinds.get(place) != FOLDER or not _leads_to(path, only):
                continue
            plan.ways.add(path)
        if reason := _reason_to_skip(path, mount_points):
            plan.skipped[path] = reason
            continue
        source = found.links.get(place, place)
        step = plan.steps.get(source)
        if step is None:
            step = Step(names=[], digest=found.digests[source])
            plan.steps[source] = step
        step.names.append(path)
    return plan


def is_wanted(path: str, only: Sequence[str] | None) -> bool:
    """Tell whether a path is one of `only`, or below one of them; None: all are."""
    return only is None or any(path == wanted or path.startswith(wanted.rstrip("/") + "/") for wanted in only)


def _leads_to(path: str, only: Sequence[str] | None) -> bool:
    return only is not None and any(wanted.startswith(path + "/") for wanted in only)


def _reason_to_skip(path: str, mount_points: frozenset[str]) -> str | None:
    if path in NEVER_RESTORED:
        return "made anew at each start"
    if any(above in mount_points for above in _upward(path)):
        return "another file system is mounted there"
    return None
