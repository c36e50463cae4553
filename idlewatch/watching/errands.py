"""What the daemon has done in the background, by name: each is a task of `work.TASKS`, and when it is due."""

from __future__ import annotations

from idlewatch.host import restoring
from idlewatch.pod.assembled import Assembly
from idlewatch.telling import heartbeat
from idlewatch.watching.background import Errand

DESCRIBE, LOOK_BACK, ARCHIVE, HOOKS, AFTER_START = "describe", "look_back", "archive", "hooks", "after_start"
HEARTBEAT, PING, NOTE_IMAGE, RESTORE, ADVISE = "heartbeat", "ping", "note_image", "restore", "advise"
LOOK_FOR_VOLUME = "look_for_volume"
_NOTE_IMAGE_S = 600.0
"""A walk over a disk of millions of files says nothing for minutes."""
_DESCRIBE_EVERY_S = 6 * 3600.0
_ARCHIVE_EVERY_S = 3600.0
_HOOKS_EVERY_S = 3600.0
_LOOK_FOR_VOLUME_EVERY_S = 600.0
_ADVISE_EVERY_S = 3600.0
"""Advice needs a day of history at the least, so an hour earlier or later is nothing."""
_FIRST_BEAT_S = 10.0
"""A sign of life is drawn from what the first ticks have shown."""


def errands(here: Assembly, refusal: str | None, *, restores: bool = False) -> list[Errand]:
    """
    Those that this Pod needs.

    `refusal`: why it must not be stopped at all, from the environment alone; `restores`: whether what the last stop has
    wiped is to be brought back, which notes the names of the image itself.
    """
    needed = [Errand(name=RESTORE, silent_limit_s=restoring.SILENT_S)] if restores else []
    if refusal is None:
        needed.append(Errand(name=DESCRIBE, every_s=_DESCRIBE_EVERY_S, silent_limit_s=120.0))
    if here.save_root is not None:
        needed.append(Errand(name=NOTE_IMAGE, silent_limit_s=_NOTE_IMAGE_S, after=RESTORE))
    needed.append(Errand(name=HOOKS, every_s=_HOOKS_EVERY_S))
    needed.append(Errand(name=ADVISE, first_after_s=_ADVISE_EVERY_S, every_s=_ADVISE_EVERY_S))
    if here.acts:
        needed.append(Errand(name=AFTER_START, after=RESTORE))
    if here.acts and here.named_volume:
        needed.append(Errand(name=LOOK_FOR_VOLUME, every_s=_LOOK_FOR_VOLUME_EVERY_S))
    if here.place:
        needed.append(Errand(name=LOOK_BACK))
    if here.volume:
        needed.append(Errand(name=ARCHIVE, first_after_s=_ARCHIVE_EVERY_S, every_s=_ARCHIVE_EVERY_S, at_end=True))
    return needed + (_signs_of_life(here) if here.acts else [])


def _signs_of_life(here: Assembly) -> list[Errand]:
    settings = here.loaded.settings
    every_s = settings.heartbeat_every.total_seconds()
    names = [HEARTBEAT] if here.volume else []
    names += [PING] if settings.heartbeat_url else []
    return [
        Errand(
            name=name,
            first_after_s=min(every_s, _FIRST_BEAT_S),
            every_s=every_s,
            silent_limit_s=heartbeat.WITHIN_S,
            at_end=name == HEARTBEAT,
        )
        for name in names
    ]
