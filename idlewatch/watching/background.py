"""
What the daemon wants to know or keep without waiting for it: slow effects that come back again and again.

Each runs as a task (a child process) when it is due, one of a name at a time, and is tried again later where it
fails. None of them decides anything: their newest results are there to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from idlewatch.children.tasks import Task, end_all
from idlewatch.errors import IdlewatchError, TaskError
from idlewatch.model import Json

log = structlog.get_logger()

_FIRST_RETRY_S = 300.0
_MOST_RETRY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Something to be done now and then; spans in seconds."""

    name: str
    """The task's name."""
    request: Json = None
    first_after_s: float = 0.0
    every_s: float | None = None
    """None: once is enough."""
    silent_limit_s: float = 60.0
    after: str = ""
    """Not begun before this one has come to an end, well or not."""
    at_end: bool = False
    """Done once more when the daemon ends."""


@dataclass(frozen=True, slots=True)
class _Standing:
    due_s: float | None
    failures: int = 0
    task: Task | None = None


class Background:
    """Runs errands beside the watch."""

    def __init__(self, errands: Sequence[Errand], start_task: Callable[[str, Json, float, float], Task]) -> None:
        """`start_task(name, request, now_s, silent_limit_s)` starts one."""
        self._errands = {errand.name: errand for errand in errands}
        self._start_task = start_task
        self._standing: dict[str, _Standing] | None = None
        self.results: dict[str, Json] = {}
        """Name -> the newest result."""
        self._events: list[Json] = []
        self.errors: dict[str, IdlewatchError] = {}
        """Name -> why the newest try failed; gone with the next success."""

    def poll(self, now_s: float) -> None:
        """Begin what is due, take what has come. Never blocks."""
        if self._standing is None:
            self._standing = {e.name: _Standing(now_s + e.first_after_s) for e in self._errands.values()}
        for name, errand in self._errands.items():
            if not self._waits_for(errand.after):
                self._standing[name] = self._moved_on(errand, self._standing[name], now_s)

    def failures(self, name: str) -> int:
        """How often in a row an errand has failed."""
        standing = (self._standing or {}).get(name)
        return standing.failures if standing else 0

    def is_under_way(self, name: str) -> bool:
        """Whether an errand is being done now."""
        standing = (self._standing or {}).get(name)
        return standing is not None and standing.task is not None

    def _waits_for(self, name: str) -> bool:
        return name in self._errands and name not in self.results and name not in self.errors

    def told(self) -> list[Json]:
        """What the errands have to say for the timeline since the last call."""
        told, self._events = self._events, []
        return told

    def close(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float = 5.0) -> None:
        """
        End what is under way, then do what is to be done at the end; all of it within `within_s` seconds.

        All are asked to end at once, and what does not hear costs half of the time at the most.
        """
        ends_s = now_s() + within_s
        self.ask_to_end(now_s())
        under_way = self._under_way()
        _wait(under_way, now_s, sleep, now_s() + within_s / 2)
        last = [self._begun(errand, now_s()) for errand in self._errands.values() if errand.at_end]
        _wait([standing.task for standing in last if standing.task], now_s, sleep, ends_s)

    def ask_to_end(self, now_s: float) -> None:
        """Ask what is under way to end; never blocks. `close` waits for it."""
        for task in self._under_way():
            task.cancel(now_s, "ended with the daemon")

    def _under_way(self) -> list[Task]:
        return [standing.task for standing in (self._standing or {}).values() if standing.task]

    def _moved_on(self, errand: Errand, standing: _Standing, now_s: float) -> _Standing:
        if standing.task is None:
            due = standing.due_s is not None and now_s >= standing.due_s
            return self._begun(errand, now_s, standing.failures) if due else standing
        end = standing.task.poll(now_s)
        self._events += standing.task.take_events()
        if end is None:
            return standing
        if end.error:
            return self._failed(errand, standing, end.error, now_s)
        self.results[errand.name] = end.result
        self.errors.pop(errand.name, None)
        return _Standing(None if errand.every_s is None else now_s + errand.every_s)

    def _begun(self, errand: Errand, now_s: float, failures: int = 0) -> _Standing:
        standing = _Standing(now_s, failures)
        try:
            return replace(standing, task=self._start_task(errand.name, errand.request, now_s, errand.silent_limit_s))
        except TaskError as error:
            return self._failed(errand, standing, error, now_s)

    def _failed(self, errand: Errand, standing: _Standing, error: IdlewatchError, now_s: float) -> _Standing:
        if errand.name not in self.errors:
            log.warning("errand_failed", name=errand.name, error=str(error))
        self.errors[errand.name] = error
        wait_s = min(_MOST_RETRY_S, _FIRST_RETRY_S * 2**standing.failures)
        return _Standing(now_s + wait_s, standing.failures + 1)


def _wait(tasks: Sequence[Task], now_s: Callable[[], float], sleep: Callable[[float], None], ends_s: float) -> None:
    """Until all have ended; those that have not in time are ended hard."""
    while now_s() < ends_s and not all([task.poll(now_s()) for task in tasks]):  # noqa: C419  (poll each of them)
        sleep(0.05)
    end_all(tasks)
