"""What carries decisions out on this Pod, and what it will do, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from idlewatch.assembly.people import channels, words
from idlewatch.children.tasks import task_starter
from idlewatch.durations import format_duration
from idlewatch.effects.actions import PodActions
from idlewatch.effects.observed import ObservedActions
from idlewatch.errors import SettingsError, SnapshotError
from idlewatch.notify import Terminals
from idlewatch.pod import key_place
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import own_files, save_plan
from idlewatch.settings import Mode
from idlewatch.snapshot import read_mounts, require_library
from idlewatch.telling.announcing import Announcer, Tells


def actions(here: Assembly) -> PodActions | ObservedActions:
    """What carries decisions out: nothing at all where it only observes. Raises SettingsError for a misplaced key."""
    refuse_misplaced_key(here)
    if here.loaded.settings.mode is Mode.OBSERVE:
        return ObservedActions()
    _require_library(here)
    return pod_actions(here, Terminals(), None, tmux=True)


def refuse_misplaced_key(here: Assembly) -> None:
    """
    A file with the key of snapshots must not lie where they lie, nor where they are made of.

    Raises SettingsError.
    """
    file = key_place.key_file(here.loaded.sources)
    if file is None:
        return
    name, path = file
    settings, kept = here.loaded.settings, here.volume if here.objects is None else None
    skip = () if here.save_root is None else own_files(here, here.save_root)
    why = key_place.misplaced(path, kept, here.save_root, read_mounts(), settings.excludes(), skip)
    if why:
        raise SettingsError([f"{name}={path}: {why}"])


def _require_library(here: Assembly) -> None:
    """At the start, not at the first save. Raises SettingsError."""
    if here.objects is not None and (why := here.objects.missing()):
        raise SettingsError([f"IDLEWATCH_SAVE_TO: {why}"])
    if here.loaded.settings.snapshot_key is not None:
        try:
            require_library()
        except SnapshotError as error:
            raise SettingsError([f"IDLEWATCH_SNAPSHOT_KEY: {error}"]) from None


def pod_actions(
    here: Assembly,
    people: Tells,
    environment: Mapping[str, str] | None,
    *,
    tmux: bool = False,
    wall: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> PodActions:
    """Real actions on this Pod; their child processes get `environment`, or this process's own.

    `people` are those in the Pod, `tmux` whether its tmux clients are told, too; `wall` the clock that they go by.
    Where IDLEWATCH_DRILL is set in `environment` they are a drill: no program is asked for anything, no channel told.
    """
    plan, drill = save_plan(here), bool(environment and environment.get("IDLEWATCH_DRILL"))
    start_task = task_starter(environment)
    ways = [] if drill else channels(here, start_task, tmux=tmux)
    announcer = Announcer(words=words(here, wall), people=people, channels=ways)
    return PodActions(start_task=start_task, save=plan, announcer=announcer, drill=drill)


def started_text(here: Assembly) -> str:
    """What the daemon will do here, in one sentence."""
    settings, plan = here.loaded.settings, save_plan(here)
    saved = (
        plan.needless
        or plan.impossible
        or f"{'saves' if here.acts else 'would save'} {here.save_root} to {here.place} first"
    )
    after = f"after {format_duration(settings.idle_limit.total_seconds())} of quiet" if settings.idle_limit else "never"
    quiet = "after a learned time of quiet" if settings.learns else after
    return f"{settings.mode.value}: {quiet}; {saved}"
