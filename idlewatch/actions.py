"""
Carries out one decision: tells people, saves, stops. Slow ones run as tasks; nothing here blocks a tick.

`PodActions` acts; `ObservedActions` answers at once that it only observes. That is the whole of `observe`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from idlewatch.errors import ProviderRefused, ProviderUnavailable, TaskError
from idlewatch.model import Action, Decision, Json, Outcome
from idlewatch.tasks import Task, TaskEnd

SAVE_SILENT_S = 600.0
"""A save that says nothing for so long hangs: on a network volume one file can take minutes, not ten."""
STOP_SILENT_S = 120.0
"""Above the provider's own deadline for the whole ladder of calls."""


class Tells(Protocol):
    """Whoever passes a text on to people; best effort, never raises, never blocks."""

    def tell(self, text: str) -> object:
        """Pass it on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SavePlan:
    """What a save has to do here: a request for the task, a reason why none is needed, or why none is possible.

    The task begins in each of these cases: the owner's hooks run also where there is nothing to save.
    """

    request: Json = None
    needless: str | None = None
    impossible: str | None = None


class PodActions:
    """Acts on this Pod."""

    def __init__(
        self,
        *,
        start_task: Callable[[str, Json, float, float], Task],
        save: SavePlan,
        people: Tells,
        warning: Callable[[Decision, float], str],
        drill: bool = False,
    ) -> None:
        """
        `start_task(name, request, now_s, silent_limit_s)` starts one; `warning` words the notice before a stop.

        In a `drill` hooks are told so, and no program is asked or ended.
        """
        self._start_task, self._save, self._people, self._warning = start_task, save, people, warning
        self._task: tuple[Action, Task] | None = None
        self._ending: list[Task] = []
        self._ready: Outcome | None = None
        self._drill, self._asked = drill, False
        self._began_s = 0.0
        self._events: list[Json] = []
        self._saved: dict[str, Json] = {}

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Begin what `decision` asks for; CANCEL ends what is under way."""
        match decision.action:
            case Action.WARN:
                self._asked = False
                self._people.tell(self._warning(decision, now_s))
            case Action.CANCEL:
                self._call_off(decision, now_s)
            case Action.SAVE:
                self._saved, wanted = {}, self._wanted(decision)
                self._ready = self._begin(Action.SAVE, "save", wanted, now_s)
            case Action.STOP:
                self._ready = self._begin(Action.STOP, "stop", self._why(decision), now_s)

    def poll(self, now_s: float) -> Outcome | None:
        """Return the outcome of what was begun, once."""
        self._ending = [task for task in self._ending if self._end_of(task, now_s) is None]
        ready, self._ready = self._ready, None
        if ready or not self._task:
            return ready
        action, task = self._task
        end = self._end_of(task, now_s)
        if end is None:
            return None
        self._task = None
        if action is Action.SAVE and isinstance(end.result, dict):
            self._saved = end.result
        return _outcome(action, end, self._began_s)

    def told(self) -> list[Json]:
        """What the tasks have to say for the timeline since the last call: `kind`, `text` and `facts` each."""
        told, self._events = self._events, []
        return told

    def _end_of(self, task: Task, now_s: float) -> TaskEnd | None:
        end = task.poll(now_s)
        self._events += task.take_events()
        return end

    def close(self) -> None:
        """End what is under way: a save without its manifest is none, a stop call that was made stays made."""
        for task in [*self._ending, *([self._task[1]] if self._task else [])]:
            task.end()
            self._events += task.take_events()
        self._task, self._ending = None, []

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return self._task is not None

    def progress(self) -> Json:
        """What the task under way last said of itself; None where there is none."""
        return self._task[1].progress if self._task else None

    def _why(self, decision: Decision) -> Json:
        """What the note on the volume says of this stop."""
        snapshot, done = self._saved.get("snapshot"), self._saved.get("done")
        return {"reason": decision.reason, "idle_for_s": decision.idle_for_s, "snapshot": snapshot, "done": done}

    def _wanted(self, decision: Decision) -> Json:
        """What the task that saves is asked for; programs are asked for a checkpoint once an end sequence."""
        ask, self._asked = not self._asked, True
        plan, cause = self._save, decision.cause.value if decision.cause else None
        return {
            "save": plan.request,
            "needless": plan.needless,
            "impossible": plan.impossible,
            "reason": decision.reason,
            "cause": cause,
            "ask": ask,
            "drill": self._drill,
        }

    def _begin(self, action: Action, name: str, request: Json, now_s: float) -> Outcome | None:
        self._began_s = now_s
        silent_s = SAVE_SILENT_S if action is Action.SAVE else STOP_SILENT_S
        try:
            self._task = (action, self._start_task(name, request, now_s, silent_s))
        except TaskError as error:
            return Outcome(action=action, ok=False, reason=str(error))
        return None

    def _call_off(self, decision: Decision, now_s: float) -> None:
        if self._task:
            self._task[1].cancel(now_s, "called off")
            self._ending.append(self._task[1])
        self._task = self._ready = None
        self._people.tell(f"idlewatch: the stop is off: {decision.reason}")


def _outcome(action: Action, end: TaskEnd, began_s: float) -> Outcome:
    error = end.error
    if error is not None:
        retry_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        permanent = isinstance(error, ProviderRefused)
        return Outcome(action=action, ok=False, reason=str(error), permanent=permanent, retry_after_s=retry_s)
    said = end.result if isinstance(end.result, dict) else {}
    snapshot, after_s = said.get("snapshot"), said.get("save_began_after_s")
    return Outcome(
        action=action,
        ok=True,
        reason=str(said.get("text", "done")),
        snapshot=None if snapshot is None else str(snapshot),
        save_began_s=began_s + after_s if isinstance(after_s, int | float) else None,
    )


class ObservedActions:
    """Acts on nothing."""

    def __init__(self) -> None:
        """Nothing under way."""
        self._ready: Outcome | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Answer a save and a stop as observed; tell nobody anything."""
        del now_s
        if decision.action in (Action.SAVE, Action.STOP):
            reason = f"only observing: no {decision.action.value} was made"
            self._ready = Outcome(action=decision.action, ok=True, reason=reason, observed=True)

    def poll(self, now_s: float) -> Outcome | None:
        """The answer, once."""
        del now_s
        ready, self._ready = self._ready, None
        return ready

    def told(self) -> list[Json]:
        """Nothing happens."""
        return []

    def close(self) -> None:
        """Nothing is under way."""
