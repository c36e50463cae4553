"""The hooks of this Pod: where they lie, which have begun in this start, and those that belong to no end sequence."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence

from idlewatch.children import trees
from idlewatch.files import write_atomically
from idlewatch.hooks import HookFolder, Hooks, Occasion, Stage
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import secret_variables
from idlewatch.stopping.notes import was_turned_down

_RAN_FILE = "hooks.json"


def hook_folder(here: Assembly) -> HookFolder:
    """Where this Pod's hooks lie."""
    settings = here.loaded.settings
    return HookFolder(
        path=settings.hooks,
        volume=here.volume,
        volume_allowed=settings.hooks_on_volume and here.loaded.origins["hooks"] != "default",
        own_uid=os.geteuid(),
    )


def hooks_for(here: Assembly, occasion: Occasion, progress: Callable[[Json], None]) -> Hooks:
    """Hooks for one occasion; they inherit this process's environment without idlewatch's secrets."""
    return Hooks(
        hook_folder(here),
        occasion,
        environment=here.loaded.sources[0].variables,
        secrets=secret_variables(),
        within_s=here.loaded.settings.hook_within.total_seconds(),
        progress=progress,
    )


class Ran:
    """Which hooks have begun in this start, by stage, where once is enough; a file in the state folder."""

    def __init__(self, here: Assembly) -> None:
        self._path, self._boot_key = here.loaded.settings.state_dir / _RAN_FILE, here.pod.boot_key

    def names(self, stage: Stage) -> tuple[str, ...]:
        """The hooks of a stage that have begun."""
        return tuple(self._stages().get(stage.value, ()))

    def add(self, stage: Stage, name: str) -> None:
        """Keep that a hook begins."""
        self._write({**self._stages(), stage.value: [*self.names(stage), name]})

    def clear(self, stage: Stage) -> None:
        """Forget a stage."""
        self._write({**self._stages(), stage.value: []})

    def _stages(self) -> dict[str, list[str]]:
        try:
            said = json.loads(self._path.read_text())
            stages = said["stages"] if said["boot_key"] == self._boot_key else {}
            return {str(stage): [str(name) for name in names] for stage, names in stages.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self, stages: Mapping[str, Sequence[str]]) -> None:
        with contextlib.suppress(OSError):  # a full disk must not keep a hook from running
            write_atomically(self._path, json.dumps({"boot_key": self._boot_key, "stages": stages}))


def after_start(here: Assembly, note: Mapping[str, Json] | None, progress: Callable[[Json], None]) -> dict[str, Json]:
    """Run the `after-start` hooks that have not begun in this start; `note` is that of the stop before it."""
    before = note or {}
    stopped = before.get("reason") and not was_turned_down(before)
    reason = f"started; stopped before because: {before['reason']}" if stopped else "started"
    occasion = Occasion(reason=reason, cause="start", volume=here.volume)
    hooks, ran = hooks_for(here, occasion, progress), Ran(here)
    stage, snapshot = Stage.AFTER_START, str(before.get("snapshot") or "")
    ends = hooks.run(stage, snapshot=snapshot, done=ran.names(stage), begun=lambda name: ran.add(stage, name))
    return {"ran": len(ends), "failed": [end.text for end in ends if not end.ok]}


def before_shutdown(here: Assembly, request: Json, progress: Callable[[Json], None]) -> dict[str, Json]:
    """
    Run the `before-stop` hooks because the container is being ended from outside, until `ends_s` (CLOCK_BOOTTIME).

    Where an end sequence was `under_way`, those that have begun in it are left out.
    """
    said = request if isinstance(request, dict) else {}
    occasion = Occasion(reason=str(said.get("reason", "")), cause="shutdown", volume=here.volume)
    ran = Ran(here)
    done = ran.names(Stage.BEFORE_STOP) if said.get("under_way") is True else ()
    ends_s = said.get("ends_s")
    left_s = (float(ends_s) if isinstance(ends_s, int | float) else 0.0) - time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        ends = hooks_for(here, occasion, progress).run(Stage.BEFORE_STOP, ends_s=time.monotonic() + left_s, done=done)
    finally:
        trees.end_children()
    return {"ran": len(ends), "failed": [end.text for end in ends if not end.ok]}
