"""
Saves that a person asks for (`requests/save.json`, from the page), made beside the watch in a child process.

Only while nothing is being stopped: the end sequence makes its own save. One that begins while another save runs waits
for it (`snapshot`), so what was changed up to the request is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.tick import Tick
from idlewatch.errors import TaskError
from idlewatch.model import Json, Phase
from idlewatch.requests.request_files import Asked

log = structlog.get_logger()

TASK = "save_again"
DONE, FAILED = "saved on request", "save on request failed"
"""Kinds of events."""
_SILENT_S = 600.0
"""As for the save of the end sequence."""
_ENDING = "a stop is being prepared, which saves for itself"


class Request(Protocol):
    """The request that stands; `save_requests.SaveRequests` is one."""

    def standing(self, now_s: float) -> Asked | None:
        """Who asks; None: nobody does."""
        ...

    def refuse(self, why: str) -> None:
        """Take it away and say why."""
        ...

    def done(self) -> bool:
        """Take it away."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The newest save that somebody asked for, as `status.json` tells it."""

    who: str
    began_s: float
    state: str = "running"
    """`running`, `done` or `failed`."""
    progress: Json = None
    """As `snapshot.Progress` has it; null before it said anything."""
    text: str = ""
    """What came of it."""
    ended_s: float | None = None

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return {
            "who": self.who,
            "began_s": self.began_s,
            "state": self.state,
            "progress": self.progress,
            "text": self.text,
            "ended_s": self.ended_s,
        }


class AskedSaves:
    """Begins a save when somebody asks for one, and ends it when the end sequence begins."""

    def __init__(
        self,
        start_task: Callable[[str, Json, float, float], Task],
        request: Request,
        *,
        impossible: str | None = None,
    ) -> None:
        """`start_task(name, request, now_s, silent_limit_s)`; `impossible`: why nothing can be saved here at all."""
        self._start_task, self._request, self._impossible = start_task, request, impossible
        self._task: Task | None = None
        self._newest: Asking | None = None
        self._events: list[Json] = []

    def tick(self, report: Tick) -> None:
        """After each tick. Never blocks."""
        now_s, phase = report.moment.now_s, report.state.phase
        if self._task:
            self._look_at(self._task, phase, now_s)
            return
        asked = self._request.standing(now_s)
        refused = self._impossible or (None if phase is Phase.WATCHING else _ENDING)
        if asked and refused:
            self._request.refuse(refused)
        elif asked and self._request.done():
            self._begin(asked, now_s)

    def now(self) -> Json:
        """The newest one for `status.json`; None: nobody has asked for one."""
        return self._newest.as_json() if self._newest else None

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

    def _begin(self, asked: Asked, now_s: float) -> None:
        self._newest = Asking(who=asked.who, began_s=now_s)
        try:
            self._task = self._start_task(TASK, None, now_s, _SILENT_S)
        except TaskError as error:
            self._over(self._newest, TaskEnd(error=error), now_s)

    def _look_at(self, task: Task, phase: Phase, now_s: float) -> None:
        if phase is not Phase.WATCHING:
            task.cancel(now_s, _ENDING)
        end = task.poll(now_s)
        if self._newest:
            self._newest = replace(self._newest, progress=task.progress)
            if end:
                self._over(self._newest, end, now_s)

    def _over(self, asking: Asking, end: TaskEnd, now_s: float) -> None:
        said = end.result if isinstance(end.result, dict) else {}
        text, snapshot = str(end.error or said.get("text")), said.get("snapshot")
        state, kind = ("failed", FAILED) if end.error else ("done", DONE)
        self._task = None
        self._newest = replace(asking, state=state, text=text, ended_s=now_s, progress=None)
        facts: Json = {"who": asking.who, "snapshot": snapshot, "took_s": now_s - asking.began_s}
        self._events.append({"kind": kind, "text": f"{text} (asked for by {asking.who})", "facts": facts})
        log.info("saved_on_request", ok=end.error is None, text=text)
