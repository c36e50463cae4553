"""
Saves that a person asks for (`requests/save.json`, from the page).

One that begins while another save runs waits for it (`snapshot`), so what was changed up to the request is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.model import Json, Phase
from idlewatch.requests.save_requests import SaveRequests
from idlewatch.watching.saves_beside import ENDING, SavesBeside, said_by

log = structlog.get_logger()

DONE, FAILED = "saved on request", "save on request failed"
"""Kinds of events."""


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


class AskedSaves(SavesBeside):
    """Wants a save when somebody asks for one, and refuses where none can be made."""

    def __init__(
        self,
        start_task: Callable[[str, Json, float, float], Task],
        request: SaveRequests,
        *,
        impossible: str | None = None,
    ) -> None:
        """`impossible`: why nothing can be saved here at all."""
        super().__init__(start_task)
        self._request, self._impossible = request, impossible
        self._newest: Asking | None = None

    def now(self) -> Json:
        """The newest one for `status.json`; None: nobody has asked for one."""
        if self._newest is None:
            return None
        return replace(self._newest, progress=self._task.progress if self._task else None).as_json()

    def _is_wanted(self, now_s: float, phase: Phase) -> bool:
        asked = self._request.standing(now_s)
        if asked is None:
            return False
        refused = self._impossible or (None if phase is Phase.WATCHING else ENDING)
        if refused:
            self._request.refuse(refused)
            return False
        if not self._request.done():
            return False
        self._newest = Asking(who=asked.who, began_s=now_s)
        return True

    def _over(self, end: TaskEnd, now_s: float, *, called_off: bool) -> None:
        del called_off  # whoever asked is told all the same
        if self._newest is None:
            return
        text, snapshot = said_by(end)
        state, kind = ("failed", FAILED) if end.error else ("done", DONE)
        self._newest = asking = replace(self._newest, state=state, text=text, ended_s=now_s)
        facts: Json = {"who": asking.who, "snapshot": snapshot, "took_s": now_s - asking.began_s}
        self._events.append({"kind": kind, "text": f"{text} (asked for by {asking.who})", "facts": facts})
        log.info("saved_on_request", ok=end.error is None, text=text)
