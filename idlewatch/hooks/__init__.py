"""
The owner's own programs before a stop and after a start.

`Hooks` runs one stage after another for one occasion; `refusals` tells beforehand what would not run. All of it blocks
and is meant for a child process. What hooks may rely on stands in docs/hooks.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from idlewatch.children import trees
from idlewatch.hooks.found import Hook, HookFolder, Stage, hooks_of, strange_entries
from idlewatch.hooks.running import HookEnd, run_hook
from idlewatch.hooks.words import Occasion, hook_environment, without_secrets
from idlewatch.model import Json

__all__ = ["Hook", "HookEnd", "HookFolder", "Hooks", "Occasion", "Stage", "hooks_of", "refusals"]


class Hooks:
    """Runs hooks for one occasion, and tells of each how it ended."""

    def __init__(
        self,
        folder: HookFolder,
        occasion: Occasion,
        *,
        environment: Mapping[str, str],
        secrets: Iterable[str],
        within_s: float,
        progress: Callable[[Json], None],
    ) -> None:
        """
        `environment`: what hooks inherit but for the variables named in `secrets`; `within_s`: for each hook.

        `progress` hears that one runs, and of each that ended `{"event": …}`.
        """
        self._folder, self._occasion, self._within_s = folder, occasion, within_s
        self._base, self._secrets, self._progress = environment, tuple(secrets), progress
        self.ends: list[HookEnd] = []
        """Of every stage so far."""

    def run(
        self,
        stage: Stage,
        *,
        snapshot: str | None = None,
        ends_s: float | None = None,
        done: Collection[str] = (),
        begun: Callable[[str], None] = lambda _: None,
    ) -> list[HookEnd]:
        """
        Run a stage's hooks in the order of their names, all of them, whatever one of them does.

        `ends_s` (time.monotonic) is when the whole stage must be over; hooks named in `done` are left out, and `begun`
        hears the name of each before it runs. Returns how each ended.
        """
        trees.adopt_orphans()
        ends = []
        for hook in hooks_of(stage, self._folder):
            if hook.path.name not in done:
                begun(hook.path.name)
                ends.append(self._kept(self._one(hook, snapshot, ends_s)))
        return ends

    def _one(self, hook: Hook, snapshot: str | None, ends_s: float | None) -> HookEnd:
        if hook.refused:
            return HookEnd(hook=hook, ok=False, how=f"refused: {hook.refused}")
        within_s = self._within_s if ends_s is None else min(self._within_s, ends_s - time.monotonic())
        if within_s <= 0:
            return HookEnd(hook=hook, ok=False, how="there was no time left for it")
        environment = hook_environment(
            self._base, self._occasion, hook.stage, snapshot=snapshot, within_s=within_s, secrets=self._secrets
        )
        return run_hook(hook, environment, within_s, self._progress, left=self._kept)

    def _kept(self, end: HookEnd) -> HookEnd:
        end = replace(end, output=without_secrets(end.output, self._base))
        self.ends.append(end)
        self._progress({"event": end.as_event()})
        return end


def refusals(folder: HookFolder) -> list[str]:
    """Return, in words, what lies in the hook folder and would not run."""
    refused = [
        f"{hook.name} would not run: {hook.refused}"
        for stage in Stage
        for hook in hooks_of(stage, folder)
        if hook.refused
    ]
    return refused + strange_entries(folder)
