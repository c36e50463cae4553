"""
The owner's own signs of use: a command, and a query to their own Prometheus.

Both can hang, so they run as tasks (child processes) at their own pace; a tick only takes what has come. What could
not be asked is UNKNOWN, with the words of what went wrong.

Facts of a reading: `asked_at_s` (when it was asked, CLOCK_BOOTTIME), `activity` and `reason`, as the command or the
query answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Json, Question, Reading

StartTask = Callable[[str, Json, float, float], Task]

_GRACE_S = 10.0
"""Beyond its own deadline: how long the task that keeps it may be silent."""
_STALE_AFTER = 3.0
"""An answer older than so many periods proves nothing about now."""


@dataclass(frozen=True, slots=True)
class _Asked:
    at_s: float
    end: TaskEnd


class AskedSignal:
    """
    One question that is asked again and again, and its newest answer: an object with `activity` and `reason`.

    `every_s` of the question lies between the end of one and the beginning of the next, `within_s` is what it may take.
    """

    refines = True

    def __init__(self, name: str, question: Question, *, start_task: StartTask) -> None:
        self.name = name
        self._question = question
        self._start_task = start_task
        self._task: Task | None = None
        self._began_s = 0.0
        self._due_s = 0.0
        self._newest: _Asked | None = None

    def read(self, now_s: float) -> Reading:
        """The newest answer. Raises SignalError where there is none, it failed, or it is too old."""
        self._move_on(now_s)
        newest = self._newest
        if newest is None:
            raise SignalError("not answered yet")
        if newest.end.error is not None:
            raise SignalError(str(newest.end.error))
        if now_s - newest.at_s > _STALE_AFTER * (self._question.every_s + self._question.within_s):
            raise SignalError(f"no answer for {now_s - newest.at_s:.0f} s")
        said = newest.end.result
        if not isinstance(said, dict):
            raise SignalError("an answer without activity and reason")
        facts: dict[str, Json] = {"asked_at_s": newest.at_s, **said}
        return Reading(signal=self.name, at_s=newest.at_s, covers_s=self._question.every_s, facts=facts)

    def judge(self, reading: Reading) -> Finding:
        """What was answered. Raises ValueError where that is no activity."""
        finding = Finding(
            signal=self.name,
            activity=Activity(str(reading.facts["activity"])),
            reason=str(reading.facts["reason"]),
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
        )
        return replace(finding, evidence_s=reading.at_s) if finding.activity is Activity.ACTIVE else finding

    def close(self) -> None:
        """End the question under way."""
        if self._task is not None:
            self._task.end()
            self._task = None

    def _move_on(self, now_s: float) -> None:
        question = self._question
        if self._task is None:
            if now_s >= self._due_s:
                self._began_s = now_s
                self._task = self._start_task(question.task, question.request, now_s, question.within_s + _GRACE_S)
            return
        end = self._task.poll(now_s)
        if end is not None:
            self._newest, self._task, self._due_s = _Asked(self._began_s, end), None, now_s + question.every_s
