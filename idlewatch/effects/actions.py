"""Carries out one decision: has people told, saves, stops. Slow ones run as tasks; nothing here blocks a tick."""

from __future__ import annotations

from collections.abc import Callable

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.tick import Tick
from idlewatch.errors import ProviderRefused, ProviderUnavailable, TaskError
from idlewatch.model import Action, Decision, Json, Outcome
from idlewatch.pod.saving import SavePlan
from idlewatch.telling.announcing import Announcer

SAVE_SILENT_S = 600.0
"""A save that says nothing for so long hangs: on a network volume one file can take minutes, not ten."""
STOP_SILENT_S = 120.0
"""Above the provider's own deadline for the whole ladder of calls."""


class PodActions:
    """Acts on this Pod."""

    def __init__(
        self,
        *,
        start_task: Callable[[str, Json, float, float], Task],
        save: SavePlan,
        announcer: Announcer,
        drill: bool = False,
    ) -> None:
        """
        `start_task(name, request, now_s, silent_limit_s)` starts one; the `announcer` tells people.

        In a `drill` hooks are told so, and no program is asked or ended.
        """
        self._start_task, self._save, self._announcer = start_task, save, announcer
        self._task: tuple[Action, Task] | None = None
        self._ending: list[Task] = []
        self._ready: Outcome | None = None
        self._drill, self._asked = drill, False
        self._began_s = 0.0
        self._events: list[Json] = []
        self._saved: dict[str, Json] = {}
        self._unsaved: str | None = None

    def hear(self, report: Tick, pod_name: str | None = None) -> None:
        """
        Have people told what a tick raised; to be called before its decision is carried out.

        `pod_name`: what its owner calls the Pod; None: not known, or not yet.
        """
        self._announcer.hear(report, pod_name)

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Begin what `decision` asks for; CANCEL ends what is under way."""
        self._announcer.decided(decision, now_s, self._snapshot, self._unsaved)
        match decision.action:
            case Action.WARN:
                self._asked, self._saved, self._unsaved = False, {}, None
            case Action.CANCEL:
                self._call_off(now_s)
            case Action.SAVE:
                self._saved, self._unsaved, wanted = {}, None, self._wanted(decision)
                self._ready = self._begin(Action.SAVE, "save", wanted, now_s)
            case Action.STOP:
                self._ready = self._begin(Action.STOP, "stop", self._why(decision), now_s)

    def poll(self, now_s: float) -> Outcome | None:
        """Return the outcome of what was begun, once."""
        self._announcer.poll(now_s)
        outcome = self._outcome(now_s)
        if outcome and outcome.action is Action.SAVE and not outcome.ok:
            self._unsaved = outcome.reason
        if outcome and not self._drill:
            self._announcer.came(outcome, now_s)
        return outcome

    def _outcome(self, now_s: float) -> Outcome | None:
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
        told, self._events = [*self._events, *self._announcer.told()], []
        return told

    def troubles(self) -> dict[str, str | None]:
        """Ways to tell people that don't work, by the name of the trouble; None: it does."""
        return self._announcer.troubles()

    def ended(self, why: str, now_s: float) -> None:
        """Have people told that the daemon ends; not where the Pod ends by its own stop."""
        self._announcer.ended(why, now_s)

    def finish(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Wait for notices that are under way, for `within_s` seconds at the most."""
        self._announcer.close(now_s, sleep, within_s)

    def _end_of(self, task: Task, now_s: float) -> TaskEnd | None:
        end = task.poll(now_s)
        self._events += task.take_events()
        return end

    def ask_to_end(self, now_s: float) -> None:
        """Ask what is under way to end, at the daemon's own end; never blocks."""
        for task in self._under_way():
            task.cancel(now_s, "ended with the daemon")

    def close(self, within_s: float = 5.0) -> None:
        """
        End what is under way, each hard after `within_s` seconds.

        A save without its manifest is none, a stop call that was made stays made.
        """
        for task in self._under_way():
            task.end(within_s)
            self._events += task.take_events()
        self._task, self._ending = None, []

    def _under_way(self) -> list[Task]:
        return [*self._ending, *([self._task[1]] if self._task else [])]

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return self._task is not None

    def progress(self) -> Json:
        """What the task under way last said of itself; None where there is none."""
        return self._task[1].progress if self._task else None

    @property
    def _snapshot(self) -> str | None:
        snapshot = self._saved.get("snapshot")
        return None if snapshot is None else str(snapshot)

    def _why(self, decision: Decision) -> Json:
        """What the note on the volume says of this stop."""
        return {
            "reason": decision.reason,
            "cause": decision.cause.value if decision.cause else None,
            "idle_for_s": decision.idle_for_s,
            "snapshot": self._snapshot,
            "unsaved": self._unsaved,
            "done": self._saved.get("done"),
        }

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

    def _call_off(self, now_s: float) -> None:
        if self._task:
            self._task[1].cancel(now_s, "called off")
            self._ending.append(self._task[1])
        self._task = self._ready = None


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
