"""Saves while the Pod is in use (IDLEWATCH_SAVE_EVERY): an eviction, an empty balance then lose minutes, not days."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.tick import Tick
from idlewatch.model import Activity, Json, Phase
from idlewatch.watching.saves_beside import SavesBeside, said_by

log = structlog.get_logger()


class PeriodicSaves(SavesBeside):
    """Wants a save when one is due and the Pod was used since the last whole one began."""

    def __init__(self, start_task: Callable[[str, Json, float, float], Task], every_s: float) -> None:
        """`every_s`: from the end of one to the next."""
        super().__init__(start_task)
        self._every_s = every_s
        self._due_s: float | None = None
        self._used = False
        self.error: str | None = None
        """Why the last one failed; None: it did not."""

    def tick(self, report: Tick) -> None:
        """After each tick. Never blocks."""
        self._due_s = report.moment.now_s + self._every_s if self._due_s is None else self._due_s
        self._used = self._used or any(one.activity is Activity.ACTIVE for one in report.findings)
        super().tick(report)

    def _is_wanted(self, now_s: float, phase: Phase) -> bool:
        if not self._used or self._due_s is None or now_s < self._due_s or phase is not Phase.WATCHING:
            return False
        self._used = False
        return True

    def _over(self, end: TaskEnd, now_s: float, *, called_off: bool) -> None:
        self._due_s = now_s + self._every_s
        self._used = self._used or end.error is not None
        if called_off:
            return
        text, _ = said_by(end)
        self.error = text if end.error else None
        kind = "save while in use failed" if end.error else "saved while in use"
        self._events.append({"kind": kind, "text": text, "facts": {}})
        log.info("saved_again", ok=end.error is None, text=text)
