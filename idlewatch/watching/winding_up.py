"""
The daemon's own end. Where the container ends with it, seconds are left: say why, run the `before-stop` hooks, once.

What is under way is dropped safely: a save without its manifest is none, and the next start saves anew. Nothing here
may take longer than IDLEWATCH_SHUTDOWN_WITHIN, whatever hangs: all is asked to end at once, and what has not heard when
the last second begins is ended hard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from idlewatch.children.tasks import Task, end_all, task_starter
from idlewatch.errors import TaskError
from idlewatch.model import Clock, Json, Phase
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import Mode
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord
from idlewatch.watching.shutdown import Ending

log = structlog.get_logger()

_REPORTING_S = 1.0
"""What ending a hook and telling of it may take."""
_LAST_S = 1.0
"""What is kept back for the end of everything else, a third of the time at the most."""
_HARD_S = 0.4
"""Of that, what ending things hard may take that wait for a dead disk."""
_CALM_S = 5.0
"""How long each part may take where there is no hurry."""
_POLL_EVERY_S = 0.05
_WITH_HOOKS = (Phase.SAVING, Phase.LAST_LOOK, Phase.STOPPING)
"""Phases in which `before-stop` hooks may have run already."""


class RestingClock(Clock, Protocol):
    """A clock that can wait although a shutdown request came."""

    def rest(self, seconds: float) -> None:
        """Wait."""
        ...


class UnderWay(Protocol):
    """Something with child processes."""

    def ask_to_end(self, now_s: float) -> None:
        """Ask them to end; never blocks."""
        ...


class Errands(UnderWay, Protocol):
    """What is done in the background, some of it once more at the end."""

    def close(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """End it all within `within_s` seconds."""
        ...


class Telling(UnderWay, Protocol):
    """What the policy had begun, and whoever tells people that the daemon ends."""

    def ended(self, why: str, now_s: float) -> None:
        """Tell them."""
        ...

    def close(self, within_s: float = 5.0) -> None:
        """End what the policy had begun, hard after `within_s` seconds."""
        ...

    def finish(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Wait until people are told, for `within_s` seconds at the most."""
        ...


@dataclass(frozen=True, slots=True)
class WindUp:
    """All that is done between the shutdown request and the end."""

    here: Assembly
    clock: RestingClock
    daemon: Daemon
    record: DaemonRecord
    errands: Errands
    telling: Telling
    start_task: Callable[[str, Json, float, float], Task] = field(default_factory=task_starter)
    _tasks: list[Task] = field(default_factory=list)

    def run(self, ending: Ending, asked_s: float) -> None:
        """Do it; `asked_s`: when the shutdown request came."""
        self.record.happened("shutdown", ending.why)
        for under_way in (self.errands, self.telling):
            under_way.ask_to_end(self.clock.now_s())
        if not self._is_our_own_stop():
            self.telling.ended(ending.why, self.clock.now_s())
        if ending.container:
            self._in_time(ending, asked_s + self.here.loaded.settings.shutdown_within.total_seconds())
        else:
            self._calmly(ending)
        log.info("ended", because=ending.why)

    def _calmly(self, ending: Ending) -> None:
        """Only the daemon ends."""
        clock = self.clock
        self.daemon.close()
        self.record.take_told()
        self.record.ended(ending.why)
        self.errands.close(clock.now_s, clock.rest, _CALM_S)
        # last: its processes have had all this time, and one that hangs must not cost this boot's history
        self.telling.finish(clock.now_s, clock.rest, _CALM_S)

    def _in_time(self, ending: Ending, ends_s: float) -> None:
        """The container ends. What the signals have started is left: it ends with us, and may be stuck in a driver."""
        clock = self.clock
        last_s = min(_LAST_S, (ends_s - clock.now_s()) / 3)
        if not self._is_our_own_stop() and self.here.loaded.settings.mode is Mode.STOP:
            self._begin(ending, ends_s - last_s)
        self._wait(ends_s - last_s)
        self.telling.close(0.0)
        self.record.take_told()
        self.record.ended(ending.why)
        self.errands.close(clock.now_s, clock.rest, max(0.0, ends_s - _HARD_S - clock.now_s()))
        self.telling.finish(clock.now_s, clock.rest, max(0.0, ends_s - clock.now_s()))

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
            self._tasks.append(self.start_task(name, request, now_s, ends_s - now_s))
        except TaskError as error:
            self.record.happened("shutdown", f"{name} could not be begun: {error}")

    def _wait(self, ends_s: float) -> None:
        left = list(self._tasks)
        while left and self.clock.now_s() < ends_s:
            left = [task for task in left if not task.poll(self.clock.now_s())]
            self._keep()
            self.clock.rest(_POLL_EVERY_S if left else 0.0)
        end_all(left)
        self._keep()

    def _keep(self) -> None:
        for task in self._tasks:
            self.record.keep(task.take_events())
