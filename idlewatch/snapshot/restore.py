"""
Brings a snapshot back, and never writes outside the target, never over what is newer there.

The whole archive is proven and planned before the first file is touched; afterwards what lies on the disk is
compared with the checksums of the save. A restore that was interrupted, or that met a full disk, is run again: what
is already there is not written twice. What had been deleted of the image is deleted again. Over another image, what
that image itself has changed stays and is named.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from datetime import datetime
from itertools import chain as joined
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.bringing import Restoring
from idlewatch.snapshot.crew import Crew
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.image import known_image, take_image
from idlewatch.snapshot.images import Images, new_images, remove_deleted
from idlewatch.snapshot.locked import unlocked
from idlewatch.snapshot.mounts import points_below, read_mounts, since_for
from idlewatch.snapshot.packed import opened
from idlewatch.snapshot.plan import Plan, is_wanted, make_plan
from idlewatch.snapshot.precedence import Precedence
from idlewatch.snapshot.reader import listed
from idlewatch.snapshot.report import RestoreReport
from idlewatch.snapshot.steps import Progress, Steps
from idlewatch.snapshot.store import chain, image_beside
from idlewatch.snapshot.target import Target
from idlewatch.snapshot.writer import TICK_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from idlewatch.snapshot.age import Key
    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.mounts import Mount

_LDCONFIG: Final = "/sbin/ldconfig"
_LDCONFIG_TIMEOUT_S: Final = 60.0


def restore(
    snapshot: Snapshot,
    target: Path,
    *,
    dry_run: bool = False,
    only: Sequence[str] | None = None,
    overwrite: bool = False,
    since_ns: int | None = None,
    state_dir: Path | None = None,
    key: Key | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RestoreReport:
    """
    Write a snapshot into `target` and return what was done.

    `only` are paths relative to the snapshot's root, with all below them. What differs in the target and is
    somebody's later work is left, unless `overwrite` (the rule: `Precedence.is_newer`). Where `target` is `/` (or
    `since_ns` is given, wall clock nanoseconds) the image counts, too: what it has changed itself since the save is
    left (unless `overwrite`), what had been deleted is deleted. `state_dir` is where its names were noted; otherwise
    they are read now, which takes seconds. `key` is needed where the snapshot is encrypted.

    Raises SnapshotError before anything is written where an archive is not right in every part, or `only` names
    nothing that is in it, and after an error of the target or a file that does not match its checksum; then the
    restore is run again.
    """
    snapshot = unlocked(snapshot, key)
    mounts, steps = read_mounts(), Steps(progress, cancelled)
    report = RestoreReport(snapshot=snapshot.id, target=str(target), dry_run=dry_run)
    since = since_ns if since_ns is not None else since_for(target, mounts)
    wanted = None if only is None else [path.strip("/") for path in only]
    with ExitStack() as stack:
        parts = [(part, stack.enter_context(opened(part, key))) for part in chain(snapshot)]
        size = sum(part.archive_bytes for part, _ in parts)
        steps.stage("verify", size)
        members = joined.from_iterable(listed(file, part, steps.add) for part, file in parts)
        points = points_below(os.path.realpath(target), mounts)
        plan = make_plan(members, gone=snapshot.gone, only=wanted, mount_points=points)
        _refuse_nothing(plan, snapshot, wanted)
        report.skipped.update(plan.skipped)
        place = stack.enter_context(Target(target))
        images = _images(snapshot, place, plan, mounts, since_ns=since, state_dir=state_dir, steps=steps, key=key)
        if images is not None:
            deleted = [path for path in snapshot.deleted if is_wanted(path, wanted)]
            remove_deleted(deleted, images, place, report, overwrite=overwrite)
        steps.stage("restore", size)
        crew = stack.enter_context(Crew(target))
        precedence = Precedence(
            place, report, steps, saved_ns=_moment_ns(snapshot), since_ns=since, overwrite=overwrite, images=images
        )
        restoring = Restoring(plan, place, crew, report, steps, precedence)
        try:
            for part, file in parts:
                restoring.bring(file, part)
        except BaseException:
            crew.close()  # nobody writes into a folder any more that is given its time
            restoring.leave()
            raise
        restoring.finish()
    _refresh_linker(report, target)
    return report


def _moment_ns(snapshot: Snapshot) -> int:
    """Return when the save began, by the clock that stamps files, which stands still for a tick."""
    return int(datetime.fromisoformat(snapshot.began_at).timestamp() * 1e9) - TICK_NS


def _refuse_nothing(plan: Plan, snapshot: Snapshot, wanted: Sequence[str] | None) -> None:
    for path in wanted or ():
        there = any(is_wanted(name, [path]) for step in plan.steps.values() for name in step.names)
        if not there and not any(is_wanted(name, [path]) for name in (*snapshot.deleted, *plan.skipped)):
            raise SnapshotError(f"nothing lies at {shown(str(Path(snapshot.root) / path))} in snapshot {snapshot.id}")


def _images(
    snapshot: Snapshot,
    place: Target,
    plan: Plan,
    mounts: tuple[Mount, ...],
    *,
    since_ns: int | None,
    state_dir: Path | None,
    steps: Steps,
    key: Key | None,
) -> Images | None:
    """Return the image of then and that of now; None: the target is a folder, or the save knew of no image."""
    if snapshot.image is None or since_ns is None:
        return None
    new = known_image(state_dir, since_ns) if state_dir is not None else None
    if new is None:
        root = Path(os.path.realpath(place.path))
        new = take_image(root, since_ns=since_ns, now_ns=time.time_ns(), mounts=mounts, pause=steps.pause)
    old = image_beside(snapshot.kept_on, snapshot.image, key)
    saved = {name for step in plan.steps.values() for name in step.names}
    return new_images(snapshot.image, old, new, place, accounted=saved.union(snapshot.deleted, snapshot.gone))


def _refresh_linker(report: RestoreReport, target: Path) -> None:
    """Make the linker's cache anew: it is left to the machine, and knows nothing yet of the libraries brought back."""
    if report.dry_run or os.path.realpath(target) != "/" or os.geteuid() != 0 or not Path(_LDCONFIG).exists():
        return
    try:
        subprocess.run([_LDCONFIG], check=True, capture_output=True, timeout=_LDCONFIG_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        report.notes.append(f"the linker's cache could not be made anew ({error}): run ldconfig")
