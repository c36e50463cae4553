"""
The daemon's own end. Where the container ends with it, seconds are left: say why, run the `before-stop` hooks, once.

What is under way is dropped safely: a save without its manifest is none, and the next start saves anew. Nothing here
may take longer than IDLEWATCH_SHUTDOWN_WITHIN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from idlewatch import assembly
from idlewatch.assembly import Assembly
from idlewatch.background import Background
from idlewatch.daemon import Daemon
from idlewatch.errors import TaskError
from idlewatch.model import Clock, Json, Phase
from idlewatch.record import DaemonRecord
from idlewatch.settings import Mode
from idlewatch.shutdown import Ending
from idlewatch.tasks import Task

log = structlog.get_logger()

_REPORTING_S = 1.0
"""What ending a hook and telling of it may take."""
_LEAST_S = 0.5
_CALM_S = 5.0
"""How long the last errands may take where there is no hurry."""
_POLL_EVERY_S = 0.05
_WITH_HOOKS = (Phase.SAVING, Phase.LAST_LOOK, Phase.STOPPING)
"""Phases in which `before-stop` hooks may have run already."""


class RestingClock(Clock, Protocol):
    """A clock that can wait although a shutdown request came."""

    def rest(self, seconds: float) -> None:
        """Wait."""
        ...


class Telling(Protocol):
    """Whoever tells people that the daemon ends."""

    def ended(self, why: str, now_s: float) -> None:
        """Tell them."""
        ...

    def finish(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Wait until they are told, for `within_s` seconds at the most."""
        ...


@dataclass(frozen=True, slots=True)
class WindUp:
    """All that is done between the shutdown request and the end."""

    here: Assembly
    clock: RestingClock
    daemon: Daemon
    record: DaemonRecord
    background: Background
    telling: Telling
    _tasks: list[Task] = field(default_factory=list)

    def run(self, ending: Ending) -> None:
        """Do it."""
        clock, began_s = self.clock, self.clock.now_s()
        ends_s = began_s + self.here.loaded.settings.shutdown_within.total_seconds()
        self.record.happened("shutdown", ending.why)
        if not self._is_our_own_stop():
            self.telling.ended(ending.why, began_s)
            if ending.container and self.here.loaded.settings.mode is Mode.STOP:
                self._begin(ending, ends_s)
        self.daemon.close()
        self.record.take_told()
        self._wait(ends_s)
        self.record.ended(ending.why)
        self.background.close(clock.now_s, clock.rest, self._left_s(ending, ends_s))
        # last: its processes have had all this time, and one that hangs must not cost this boot's history
        self.telling.finish(clock.now_s, clock.rest, self._left_s(ending, ends_s))
        log.info("ended", because=ending.why)

    def _left_s(self, ending: Ending, ends_s: float) -> float:
        return max(_LEAST_S, ends_s - self.clock.now_s()) if ending.container else _CALM_S

    def _is_our_own_stop(self) -> bool:
        """Whether the provider accepted our own stop: then this is it, its note lies there and its hooks have run."""
        state = self.daemon.state
        return state.phase is Phase.STOPPING and state.accepted_s is not None

    def _begin(self, ending: Ending, ends_s: float) -> None:
        under_way = self.daemon.state.phase in _WITH_HOOKS
        wanted: Json = {"reason": ending.why, "ends_s": ends_s - _REPORTING_S, "under_way": under_way}
        self._start("shutdown", wanted, ends_s)
        if self.here.volume:
            self._start("note", {"reason": ending.why, "from_outside": True}, ends_s)

    def _start(self, name: str, request: Json, ends_s: float) -> None:
        now_s = self.clock.now_s()
        try:
            self._tasks.append(assembly.task_starter()(name, request, now_s, ends_s - now_s))
        except TaskError as error:
            self.record.happened("shutdown", f"{name} could not be begun: {error}")

    def _wait(self, ends_s: float) -> None:
        left = list(self._tasks)
        while left and self.clock.now_s() < ends_s:
            left = [task for task in left if not task.poll(self.clock.now_s())]
            self._keep()
            self.clock.rest(_POLL_EVERY_S if left else 0.0)
        for task in left:
            task.end(_LEAST_S)
        self._keep()

    def _keep(self) -> None:
        for task in self._tasks:
            self.record.keep(task.take_events())
