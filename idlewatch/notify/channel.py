"""
One way out of the Pod, as the daemon sees it: notices wait in line, each is sent by a child process.

Nothing here waits: a channel that hangs is ended by its task's own limit, tried again later and ever more seldom, and
said once to be broken. What has waited for too long to be of use, or does not fit into the line, is left out and
counted; the next notice that is delivered tells how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.errors import TaskError
from idlewatch.model import Json
from idlewatch.notify.notice import Kind, Notice

WITHIN_S = 30.0
"""How long one try may take in all, its process's start included."""
LONGEST_LINE = 20
BROKEN_AFTER = 2
"""So many failures in a row are no hiccup."""
_RETRY_S = (15.0, 60.0, 300.0, 900.0, 3600.0)
_ASKED_TO_WAIT_S = 3600.0
"""A longer wait than this that a server asks for is not believed."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    notice: Notice
    until_s: float


class Channel:
    """Delivers notices one after the other, in their order."""

    def __init__(self, label: str, start: Callable[[dict[str, Json], float, float], Task]) -> None:
        """
        `label`: what may be shown of its address. `start(notice, now_s, within_s)` starts the task that sends one.

        The task's result is an object: `why`, in words without a secret, where it was not delivered; else without it;
        and `retry_after_s`, where the other side has asked for time.
        """
        self.label, self._start = label, start
        self.trouble: str | None = None
        """Why nothing gets through; None where it does, or nothing was sent yet."""
        self._line: deque[_Waiting] = deque()
        self._task: Task | None = None
        self._failures = 0
        self._due_s = 0.0
        self._left_out = self._left_out_told = 0
        self._events: list[Json] = []

    @property
    def name(self) -> str:
        """The name of its trouble."""
        return f"notices to {self.label}"

    @property
    def waiting(self) -> bool:
        """Whether something is under way that a moment more may deliver; what failed is not waited for."""
        return self._task is not None or (bool(self._line) and not self._failures)

    def post(self, notice: Notice, now_s: float) -> None:
        """Put it into the line. A channel is not told of its own trouble."""
        if notice.alarm == self.name:
            return
        self._line.append(_Waiting(notice, now_s + notice.useful_for_s))
        if len(self._line) > LONGEST_LINE:
            free = list(self._line)[1 if self._task else 0 :]
            self._leave_out(next((each for each in free if each.notice.kind is Kind.ALARM), free[0]))

    def poll(self, now_s: float) -> None:
        """Let it get on. Never blocks."""
        if self._task:
            end = self._task.poll(now_s)
            if end is None:
                return
            self._task = None
            self._ended(end, now_s)
        for old in [each for each in self._line if now_s > each.until_s]:
            self._leave_out(old)
        if self._line and now_s >= self._due_s:
            self._begin(now_s)

    def told(self) -> list[Json]:
        """What the timeline should know since the last call: that it works again, and what was left out."""
        told, self._events = self._events, []
        return told

    def end(self) -> None:
        """End what is under way."""
        if self._task:
            self._task.end(0.0)  # it was waited for before
        self._task = None

    def _leave_out(self, waiting: _Waiting) -> None:
        self._line.remove(waiting)
        self._left_out += 1

    def _begin(self, now_s: float) -> None:
        self._left_out_told = self._left_out
        wanted = {**self._line[0].notice.as_json(), "left_out": self._left_out}
        try:
            self._task = self._start(wanted, now_s, WITHIN_S)
        except TaskError as error:
            self._failed(str(error), None, now_s)

    def _ended(self, end: TaskEnd, now_s: float) -> None:
        result = end.result if isinstance(end.result, dict) else {}
        why = result.get("why") if end.error is None else f"it did not answer ({end.error})"
        if why is None:
            self._delivered()
        else:
            asked = result.get("retry_after_s")
            self._failed(str(why), float(asked) if isinstance(asked, int | float) else None, now_s)

    def _delivered(self) -> None:
        self._line.popleft()
        if self.trouble:
            lost = f"; {self._left_out} were left out" if self._left_out else ""
            self._events.append({"kind": "notices", "text": f"{self.label} takes notices again{lost}", "facts": {}})
        self.trouble, self._failures, self._due_s = None, 0, 0.0
        self._left_out -= self._left_out_told

    def _failed(self, why: str, asked_s: float | None, now_s: float) -> None:
        wait_s = max(_RETRY_S[min(self._failures, len(_RETRY_S) - 1)], min(asked_s or 0.0, _ASKED_TO_WAIT_S))
        self._failures, self._due_s = self._failures + 1, now_s + wait_s
        if self._failures >= BROKEN_AFTER and self.trouble is None:
            self.trouble = f"{self.label} takes no notices: {why}"
