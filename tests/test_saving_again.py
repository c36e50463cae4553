"""Saves while in use: due only after use, never beside the end sequence, and a failure is said until one succeeds."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding import remembered
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.tick import Tick
from idlewatch.errors import SnapshotError, TaskError
from idlewatch.model import Action, Activity, Decision, Finding, Json, Phase
from idlewatch.watching.saving_again import PeriodicSaves


class FakeTask:
    """A save that ends when it is told to."""

    def __init__(self, polls_to_end: int = 0) -> None:
        """It ends so many polls after it was asked to."""
        self.end_: TaskEnd | None = None
        self.cancelled = self.ended = False
        self._polls_to_end = polls_to_end

    def poll(self, _now_s: float) -> TaskEnd | None:
        self._polls_to_end -= self.cancelled
        return TaskEnd(error=TaskError("ended")) if self.cancelled and self._polls_to_end < 0 else self.end_

    def cancel(self, _now_s: float, _because: str) -> None:
        self.cancelled = True

    def end(self, _within_s: float) -> None:
        self.ended = True


class World:
    """Saves every ten minutes."""

    def __init__(self, *, startable: bool = True, slow_to_end: bool = False) -> None:
        self.now_s, self.startable, self.slow_to_end = 0.0, startable, slow_to_end
        self.begun: list[FakeTask] = []
        self.saves = PeriodicSaves(self._start, 600.0)

    def _start(self, name: str, _request: Json, _now_s: float, _silent_s: float) -> Task:
        assert name == "save_again"
        if not self.startable:
            raise TaskError("no more processes")
        self.begun.append(FakeTask(polls_to_end=1 if self.slow_to_end else 0))
        return cast("Task", self.begun[-1])

    def tick(self, seconds: float, activity: Activity, phase: Phase = Phase.WATCHING) -> None:
        self.now_s += seconds
        self.saves.tick(
            Tick(
                moment=Moment(now_s=self.now_s, uptime_s=self.now_s),
                readings=(),
                findings=[Finding(signal="gpu", activity=activity, reason="")],
                decision=Decision(action=Action.WAIT, reason=""),
                state=replace(remembered.started(0.0), phase=phase),
                outcome=None,
                alarms=(),
            )
        )

    def told(self) -> list[Json]:
        return [event["text"] for event in self.saves.told() if isinstance(event, dict)]


def test_a_pod_in_use_is_saved_when_one_is_due_and_again_after_that_one_ended() -> None:
    world = World()
    world.tick(5, Activity.ACTIVE)
    world.tick(599, Activity.ACTIVE)
    assert world.begun == []
    world.tick(2, Activity.QUIET)
    world.tick(5, Activity.ACTIVE)
    assert len(world.begun) == 1
    world.begun[0].end_ = TaskEnd(result={"text": "saved 3 files"})
    world.tick(300, Activity.QUIET)
    assert (world.told(), world.saves.error) == (["saved 3 files"], None)
    world.tick(599, Activity.QUIET)
    assert len(world.begun) == 1
    world.tick(2, Activity.QUIET)
    assert len(world.begun) == 2, "what was used while the first one ran is not in it"


def test_what_nobody_used_since_is_not_saved_again() -> None:
    world = World()
    for _ in range(10):
        world.tick(600, Activity.QUIET)
    assert world.begun == []


def test_the_end_sequence_ends_it_without_a_word_and_none_begins_beside_it() -> None:
    world = World()
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.ACTIVE)
    world.tick(5, Activity.QUIET, Phase.WARNED)
    assert (world.begun[0].cancelled, world.told(), world.saves.error) == (True, [], None)
    for phase in (Phase.SAVING, Phase.LAST_LOOK, Phase.STOPPING):
        world.tick(1200, Activity.ACTIVE, phase)
    assert len(world.begun) == 1


def test_one_that_was_called_off_for_a_warning_that_is_cancelled_at_once_has_not_failed() -> None:
    world = World(slow_to_end=True)
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.QUIET)
    world.tick(5, Activity.QUIET, Phase.WARNED)
    world.tick(5, Activity.QUIET, Phase.WATCHING)
    assert (world.begun[0].cancelled, world.told(), world.saves.error) == (True, [], None)
    world.tick(601, Activity.QUIET)
    assert len(world.begun) == 2, "what it would have saved is still unsaved"


def test_what_a_failed_one_would_have_saved_is_saved_by_the_next_though_nobody_used_it_since() -> None:
    world = World()
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.QUIET)
    world.begun[0].end_ = TaskEnd(error=SnapshotError("the volume is full"))
    world.tick(5, Activity.QUIET)
    world.tick(601, Activity.QUIET)
    assert len(world.begun) == 2


def test_a_failure_is_said_until_one_succeeds() -> None:
    world = World()
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.ACTIVE)
    world.begun[0].end_ = TaskEnd(error=SnapshotError("the volume is full"))
    world.tick(5, Activity.ACTIVE)
    assert (world.told(), world.saves.error) == (["the volume is full"], "the volume is full")
    world.tick(601, Activity.QUIET)
    world.begun[1].end_ = TaskEnd(result={"text": "saved"})
    world.tick(5, Activity.QUIET)
    assert world.saves.error is None


def test_a_task_that_can_not_be_started_is_a_failure_and_close_ends_what_runs() -> None:
    world = World(startable=False)
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.ACTIVE)
    assert world.saves.error == "no more processes"
    world = World()
    world.tick(5, Activity.ACTIVE)
    world.tick(601, Activity.ACTIVE)
    world.saves.close()
    assert world.begun[0].ended
