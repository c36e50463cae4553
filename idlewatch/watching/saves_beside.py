"""
A save in a child process beside the watch, one at a time, whoever wants it.

Only while nothing is being stopped: the end sequence makes its own save, and one that is under way is called off for
it. At the daemon's own end it is ended, too: a save without its manifest is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.tick import Tick
from idlewatch.effects.actions import SAVE_SILENT_S
from idlewatch.errors import TaskError
from idlewatch.model import Json, Phase

TASK = "save_again"
ENDING = "a stop is being prepared, which saves for itself"


class SavesBeside(ABC):
    """Begins a save where one is wanted, and calls it off when the end sequence begins."""

    def __init__(self, start_task: Callable[[str, Json, float, float], Task]) -> None:
        """`start_task(name, request, now_s, silent_limit_s)` starts one."""
        self._start_task = start_task
        self._task: Task | None = None
        self._called_off = False
        self._events: list[Json] = []

    def tick(self, report: Tick) -> None:
        """After each tick. Never blocks."""
        now_s, phase = report.moment.now_s, report.state.phase
        if self._task:
            self._look_at(self._task, phase, now_s)
        elif self._is_wanted(now_s, phase):
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
        """End it, hard after `within_s` seconds."""
        if self._task:
            self._task.end(within_s)

    @abstractmethod
    def _is_wanted(self, now_s: float, phase: Phase) -> bool:
        """Whether to begin one now; none is under way."""

    @abstractmethod
    def _over(self, end: TaskEnd, now_s: float, *, called_off: bool) -> None:
        """One came to its end, well or not, or could not be begun; `called_off`: for the end sequence."""

    def _begin(self, now_s: float) -> None:
        self._called_off = False
        try:
            self._task = self._start_task(TASK, None, now_s, SAVE_SILENT_S)
        except TaskError as error:
            self._over(TaskEnd(error=error), now_s, called_off=False)

    def _look_at(self, task: Task, phase: Phase, now_s: float) -> None:
        if phase is not Phase.WATCHING:
            self._called_off = True
            task.cancel(now_s, ENDING)
        end = task.poll(now_s)
        if end:
            self._task = None
            self._over(end, now_s, called_off=self._called_off)


def said_by(end: TaskEnd) -> tuple[str, Json]:
    """What came of a save, in words, and the snapshot's id."""
    said = end.result if isinstance(end.result, dict) else {}
    return str(end.error or said.get("text")), said.get("snapshot")
