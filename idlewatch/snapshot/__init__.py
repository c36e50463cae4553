"""
What a stop would destroy, saving it, bringing it back.

`measure_loss` tells what is at stake, `save` writes it to the volume or to object storage and proves it, `snapshots`
and `find` list what counts as saved, `verify` proves one again and `restore` brings it back. All of them block and are
meant for a child process or the command line. Importing this is light: zstd is loaded where bytes are packed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import Key, new_key, require_library
from idlewatch.snapshot.excludes import Excludes, excludes_of
from idlewatch.snapshot.image import known_image, note_image
from idlewatch.snapshot.loss import Loss, measure_loss
from idlewatch.snapshot.manifest import Snapshot
from idlewatch.snapshot.mounts import container_birth_ns, read_mounts
from idlewatch.snapshot.objects import Objects
from idlewatch.snapshot.reader import DamagedArchive, prove
from idlewatch.snapshot.report import RestoreReport
from idlewatch.snapshot.request import SaveRequest
from idlewatch.snapshot.restore import restore
from idlewatch.snapshot.save import save
from idlewatch.snapshot.shelf import SaveUnderWay
from idlewatch.snapshot.steps import Progress, SaveCancelled, Steps
from idlewatch.snapshot.store import Kept, Place, Store, chain, unusable_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DamagedArchive",
    "Excludes",
    "Kept",
    "Key",
    "Loss",
    "Objects",
    "Place",
    "Progress",
    "RestoreReport",
    "SaveCancelled",
    "SaveRequest",
    "SaveUnderWay",
    "Snapshot",
    "be_gentle",
    "container_birth_ns",
    "excludes_of",
    "find",
    "is_busy",
    "kept",
    "known_image",
    "measure_loss",
    "new_key",
    "note_image",
    "read_mounts",
    "require_library",
    "restore",
    "save",
    "snapshots",
    "unusable_text",
    "verify",
]


def snapshots(place: Place, pod_id: str) -> list[Snapshot]:
    """Return the whole snapshots of a Pod, the newest first. Raises SnapshotError where the place can't be read."""
    return Store(place, pod_id).snapshots()


def kept(place: Place, pod_id: str) -> Kept:
    """Return the same, and beside them those that bring nothing back, and why. Raises SnapshotError."""
    return Store(place, pod_id).kept()


def is_busy(place: Place, pod_id: str) -> bool:
    """Tell whether a save of a Pod is under way."""
    return Store(place, pod_id).is_busy()


def find(place: Place, pod_id: str, snapshot_id: str | None = None) -> Snapshot:
    """Return one by its id or the beginning of it, without an id the newest. Raises SnapshotError."""
    listed = snapshots(place, pod_id)
    if snapshot_id is None and listed:
        return listed[0]
    fitting = [snapshot for snapshot in listed if snapshot_id is not None and snapshot.id.startswith(snapshot_id)]
    if len(fitting) == 1:
        return fitting[0]
    which = "none" if not fitting else f"{len(fitting)} of them"
    raise SnapshotError(f"{snapshot_id or 'the newest snapshot'} of Pod {pod_id} on {place}: {which} found")


def verify(
    snapshot: Snapshot,
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    key: Key | None = None,
) -> None:
    """Read all of a snapshot again and compare it with its checksums. Raises SnapshotError unless it is whole."""
    steps, parts = Steps(progress, cancelled), chain(snapshot)
    steps.stage("verify", sum(part.archive_bytes for part in parts))
    for part in parts:
        prove(part, steps.add, key)


def be_gentle() -> None:
    """Give this process the lowest CPU and disk priority that still advances; for the entry of a child process."""
    import psutil

    process = psutil.Process()
    process.nice(10)
    process.ionice(psutil.IOPRIO_CLASS_BE, value=7)
