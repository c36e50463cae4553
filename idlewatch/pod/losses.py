"""What a stop of this very Pod would wipe, with its owner's rules and what was noted of its image."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from idlewatch import snapshot
from idlewatch.errors import Refused
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import own_files
from idlewatch.snapshot import Loss, known_image, measure_loss, read_mounts
from idlewatch.snapshot.image import Image
from idlewatch.snapshot.mounts import since_for


def measured(here: Assembly) -> Loss:
    """Return it; blocks for seconds. Raises Refused where this machine keeps its disk, else as the scan does."""
    if here.save_root is None:
        raise Refused("this machine keeps its disk over a stop; nothing would be wiped")
    since_ns = since_for(here.save_root, read_mounts())
    state_dir = here.loaded.settings.state_dir
    return measure_loss(
        here.save_root,
        skip=_skipped(here),
        since_ns=since_ns,
        image=None if since_ns is None else known_image(state_dir, since_ns),
        excludes=here.loaded.settings.excludes(),
    )


def noted_image(here: Assembly, pause: Callable[[], None] = lambda: None) -> Image | None:
    """
    Note the names of the image, once a container; None where there is none to note. Raises SnapshotError.

    `pause` is called at each folder.
    """
    mounts = read_mounts()
    since_ns = None if here.save_root is None else since_for(here.save_root, mounts)
    if here.save_root is None or since_ns is None:
        return None
    return snapshot.note_image(
        here.loaded.settings.state_dir,
        here.save_root,
        since_ns=since_ns,
        now_ns=time.time_ns(),
        mounts=mounts,
        skip=_skipped(here),
        pause=pause,
    )


def _skipped(here: Assembly) -> list[Path]:
    ours = own_files(here, here.save_root) if here.save_root else ()
    return [*ours, *([here.volume] if here.volume else [])]
