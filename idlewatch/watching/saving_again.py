"""
Saves while the Pod is in use (IDLEWATCH_SAVE_EVERY): an eviction or an empty balance then loses minutes, not days.

Only while nothing is being stopped: the end sequence makes its own save, and two at once are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from idlewatch.children.tasks import Task
from idlewatch.deciding.tick import Tick
from idlewatch.errors import TaskError
from idlewatch.model import Activity, Json, Phase

log = structlog.get_logger()

TASK = "save_again"
SILENT_S = 600.0
"""As for the save of the end sequence."""


class PeriodicSaves:
    """Begins a save when one is due and the Pod was used since the last; ends it when the end sequence begins."""

    def __init__(self, start_task: Callable[[str, Json, float, float], Task], every_s: float) -> None:
        """`start_task(name, request, now_s, silent_limit_s)`; `every_s`: from the end of one to the next."""
        self._start_task, self._every_s = start_task, every_s
        self._task: Task | None = None
        self._due_s: float | None = None
        self._used = False
        self._events: list[Json] = []
        self.error: str | None = None
        """Why the last one failed; None: it did not."""

    def tick(self, report: Tick) -> None:
        """After each tick. Never blocks."""
        now_s = report.moment.now_s
        self._due_s = now_s + self._every_s if self._due_s is None else self._due_s
        self._used = self._used or any(one.activity is Activity.ACTIVE for one in report.findings)
        if self._task:
            self._look_at(self._task, report.state.phase, now_s)
        elif self._used and now_s >= self._due_s and report.state.phase is Phase.WATCHING:
            self._begin(now_s)

    def told(self) -> list[Json]:
        """What is to be said of it for the timeline, once."""
        told, self._events = self._events, []
        return told

    def ask_to_end(self, now_s: float) -> None:
        """Ask a save that is under way to end; never blocks."""
        if self._task:
            self._task.cancel(now_s, "ended with the daemon")

    def close(self, within_s: float = 5.0) -> None:
        """End it, hard after `within_s` seconds: a save without its manifest is none."""
        if self._task:
            self._task.end(within_s)

    def _begin(self, now_s: float) -> None:
        self._used = False
        try:
            self._task = self._start_task(TASK, None, now_s, SILENT_S)
        except TaskError as error:
            self._over(now_s, str(error))

    def _look_at(self, task: Task, phase: Phase, now_s: float) -> None:
        if phase is not Phase.WATCHING:
            task.cancel(now_s, "a stop is being prepared, which saves for itself")
        end = task.poll(now_s)
        if end is None:
            return
        self._task = None
        if phase is not Phase.WATCHING:
            self._due_s = now_s + self._every_s
            return
        said = end.result if isinstance(end.result, dict) else {}
        self._over(now_s, str(end.error) if end.error else None, str(said.get("text")))

    def _over(self, now_s: float, error: str | None, text: str = "") -> None:
        self._due_s, self.error = now_s + self._every_s, error
        kind = "saved while in use" if error is None else "save while in use failed"
        self._events.append({"kind": kind, "text": error or text, "facts": {}})
        log.info("saved_again", ok=error is None, text=error or text)
