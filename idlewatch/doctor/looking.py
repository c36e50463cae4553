"""
Looks at everything at once, each thing in a child process with its own deadline.

A child tells what it saw so far while it looks, so that one that hangs still says how far it came. One that passes its
deadline is asked to end, then ended hard, and never waited for: what hangs in the kernel can't be ended at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from idlewatch.children.interpreter import ours
from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.errors import TaskError
from idlewatch.model import Json

StartLook: TypeAlias = Callable[[str, Json, float, float], Task]
"""Name, request, instant, and for how many seconds it may be silent."""

_LISTEN_EVERY_S = 0.05
_BUSY = "this machine is very busy, or what Python is loaded from hangs"
_LAST_WORDS_S = 0.5
"""How long those that are asked to end may take before they are ended hard."""
_GONE_WITHIN_S = 2.0
"""How long one that was ended hard may take to be gone, before it counts as stuck in the kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One thing to look at."""

    name: str
    within_s: float
    request: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look saw."""

    said: Mapping[str, Json] = field(default_factory=dict)
    """What it saw; of one that did not end, what it saw until then."""
    missing: str | None = None
    """Why this is not all, in words; None where it is."""
    hung: bool = False
    """It passed its deadline."""
    began: bool = True
    """False: it had not even come to its first step by then, which says nothing of what it was to look at."""


def looker(environment: Mapping[str, str]) -> StartLook:
    """What starts a look as a child process that has this environment."""

    def start(name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        command = ours("idlewatch.doctor.child", name)
        return Task(command, request, now_s=now_s, silent_limit_s=silent_limit_s, environment=environment)

    return start


def look_at(looks: list[Look], start: StartLook, told: Callable[[str], None] = lambda _: None) -> dict[str, Seen]:
    """Look at all of it at once; `told` hears the name of each that has ended. Takes no longer than the longest."""
    began_s = time.monotonic()
    seen: dict[str, Seen] = {}
    tasks: dict[str, Task] = {}
    for look in looks:
        try:
            tasks[look.name] = start(look.name, look.request, began_s, math.inf)
        except TaskError as error:
            seen[look.name] = Seen(missing=str(error))
    within_s = {look.name: look.within_s for look in looks}
    hung: list[Task] = []
    while len(seen) < len(looks):
        for name in [name for name in tasks if name not in seen]:
            now_s = time.monotonic()
            ended = tasks[name].poll(now_s)
            if ended is None and now_s - began_s <= within_s[name]:
                continue
            seen[name] = _seen(tasks[name], ended, within_s[name])
            told(name)
            if ended is None:
                tasks[name].cancel(now_s, "out of time")
                hung.append(tasks[name])
        time.sleep(_LISTEN_EVERY_S)
    _end(hung)
    return seen


def _seen(task: Task, end: TaskEnd | None, within_s: float) -> Seen:
    partial = task.progress if isinstance(task.progress, dict) else {}
    if end is None:
        at = f" ({partial['at']})" if partial.get("at") else ""
        missing = f"no answer within {within_s:g} s{at}" if partial else f"not begun within {within_s:g} s: {_BUSY}"
        return Seen(said=partial, missing=missing, hung=True, began=bool(partial))
    if end.error:
        return Seen(said=partial, missing=str(end.error))
    return Seen(said=end.result if isinstance(end.result, dict) else {})


def _end(hung: list[Task]) -> None:
    """Those that were asked to end are ended hard a moment later; one that can't be ended at all is left."""
    hung = _left_after(_LAST_WORDS_S, hung, time.monotonic)
    _left_after(_GONE_WITHIN_S, hung, lambda: math.inf)


def _left_after(seconds: float, tasks: list[Task], now_s: Callable[[], float]) -> list[Task]:
    ends_s = time.monotonic() + seconds
    while tasks and time.monotonic() < ends_s:
        tasks = [task for task in tasks if task.poll(now_s()) is None]
        time.sleep(_LISTEN_EVERY_S)
    return tasks
