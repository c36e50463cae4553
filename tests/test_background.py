"""Errands beside the watch: when they run, what they leave, and what a failing one does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.errors import TaskError
from idlewatch.model import Json
from idlewatch.watching.background import Background, Errand
from tests.fakes import FastClock


class FakeTask(Task):
    """A task that ends when the test says so."""

    def __init__(self, name: str, request: Json) -> None:
        self.name, self.request, self.end_now, self.ended = name, request, None, False
        self.progress: Json = None
        self.events: list[Json] = []
        self.deaf = False

    end_now: TaskEnd | None

    def cancel(self, now_s: float, because: str) -> None:
        self.end_now = None if self.deaf else TaskEnd(error=TaskError(because))

    def poll(self, now_s: float) -> TaskEnd | None:
        return self.end_now

    def end_hard(self) -> float:
        return 0.0

    def end(self, within_s: float = 0.0) -> None:
        self.ended = True

    def take_events(self) -> list[Json]:
        taken, self.events = self.events, []
        return taken


class Starter:
    def __init__(self) -> None:
        self.tasks: list[FakeTask] = []
        self.refuses = False

    def __call__(self, name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        if self.refuses:
            raise TaskError("no more processes")
        self.tasks.append(FakeTask(name, request))
        return self.tasks[-1]


def test_an_errand_runs_when_due_and_again_after_its_time() -> None:
    starter = Starter()
    background = Background([Errand(name="describe", every_s=100, first_after_s=10)], starter)
    for now_s in (0, 9):
        background.poll(now_s)
    assert starter.tasks == []
    background.poll(10)
    background.poll(50)
    assert len(starter.tasks) == 1
    starter.tasks[0].end_now = TaskEnd(result={"usd_per_hour": 2})
    background.poll(60)
    assert background.results == {"describe": {"usd_per_hour": 2}}
    background.poll(159)
    assert len(starter.tasks) == 1
    background.poll(160)
    assert len(starter.tasks) == 2


def test_one_that_is_wanted_once_is_done_once() -> None:
    starter = Starter()
    background = Background([Errand(name="look_back")], starter)
    background.poll(0)
    starter.tasks[0].end_now = TaskEnd(result={"text": None})
    for now_s in range(1, 100_000, 1000):
        background.poll(now_s)
    assert len(starter.tasks) == 1


def test_a_failing_one_is_tried_again_ever_more_rarely_and_its_error_stands_until_it_succeeds() -> None:
    starter = Starter()
    background = Background([Errand(name="describe", every_s=100)], starter)
    began: list[int] = []
    for now_s in range(0, 200_000, 50):
        background.poll(now_s)
        if len(starter.tasks) > len(began):
            began.append(now_s)
            starter.tasks[-1].end_now = TaskEnd(error=TaskError("HTTP 503"))
    waits = [b - a for a, b in pairwise(began)]
    assert waits == sorted(waits)
    assert 300 <= waits[0] <= 400
    assert 21_600 <= waits[-1] <= 21_700
    assert str(background.errors["describe"]) == "HTTP 503"
    starter.refuses = True
    background.poll(300_000)
    assert str(background.errors["describe"]) == "no more processes"
    starter.refuses = False
    background.poll(400_000)
    starter.tasks[-1].end_now = TaskEnd(result=1)
    background.poll(400_001)
    assert background.errors == {}
    assert background.results == {"describe": 1}


def test_at_the_end_what_is_under_way_is_ended_and_the_last_errands_are_done_and_not_waited_for_too_long() -> None:
    starter, clock = Starter(), FastClock()
    background = Background([Errand(name="describe"), Errand(name="archive", first_after_s=3600, at_end=True)], starter)
    background.poll(0)
    background.close(clock.now_s, clock.sleep, within_s=5)
    assert [(task.name, task.ended) for task in starter.tasks] == [("describe", True), ("archive", True)]
    assert 5 <= clock.now_s() < 6


def test_those_that_do_not_hear_take_no_longer_together_than_one_of_them() -> None:
    starter, clock = Starter(), FastClock()
    names = ["describe", "look_back", "hooks", "note_image"]
    errands = [*(Errand(name=name) for name in names), Errand(name="archive", first_after_s=3600, at_end=True)]
    background = Background(errands, starter)
    background.poll(0)
    for task in starter.tasks:
        task.deaf = True
    background.close(clock.now_s, clock.sleep, within_s=4)
    assert [task.name for task in starter.tasks] == [*names, "archive"]
    assert all(task.ended for task in starter.tasks)
    assert clock.now_s() < 4.2


def until_it_ends(tasks: list[Task]) -> Callable[[float], None]:
    """A sleep that waits for the child and not for time."""

    def sleep(_seconds: float) -> None:
        tasks[0]._process.wait(20)

    return sleep


def test_a_real_child_process_does_the_last_errand() -> None:
    command = [sys.executable, "-c", "import sys; print('{\"result\": %d}' % len(sys.stdin.readline()))"]
    clock = FastClock()
    tasks: list[Task] = []

    def start(name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        tasks.append(Task(command, request, now_s=now_s, silent_limit_s=silent_limit_s))
        return tasks[-1]

    background = Background([Errand(name="archive", request="abc", at_end=True)], start)
    background.close(clock.now_s, until_it_ends(tasks), within_s=5)
    ended = tasks[0].poll(0)
    assert ended is not None
    assert ended.result == 6


def test_what_errands_tell_for_the_timeline_is_handed_over_once() -> None:
    starter = Starter()
    background = Background([Errand(name="one")], starter)
    background.poll(0.0)
    starter.tasks[0].events = [{"kind": "hook done"}]
    background.poll(1.0)
    assert background.told() == [{"kind": "hook done"}]
    assert background.told() == []
