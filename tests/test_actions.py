"""One effect a decision, with real child processes; what is called off leaves nothing running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from idlewatch.children.tasks import Task
from idlewatch.effects.actions import PodActions
from idlewatch.effects.observed import ObservedActions
from idlewatch.errors import TaskError
from idlewatch.model import Action, Decision, Json, Outcome
from idlewatch.notify.words import PodNow, Words
from idlewatch.pod.saving import SavePlan
from idlewatch.telling.announcing import Announcer

PRELUDE = (
    "import sys,time\nfrom idlewatch.children.tasks import serve\nfrom idlewatch.errors import *\ndef work(r, p):\n    "
)


def decision(action: Action) -> Decision:
    return Decision(action=action, reason="quiet for 30m")


@dataclass
class Heard:
    texts: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Pod:
    save: SavePlan = field(default_factory=lambda: SavePlan(request={"root": "/"}))
    work: str = "return {'snapshot': 's1', 'text': r['save']['root'], 'save_began_after_s': 3}"
    people: Heard = field(default_factory=Heard)
    begun: list[str] = field(default_factory=list)
    asked: list[Json] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def start(self, name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        self.begun.append(name)
        self.asked.append(request)
        code = f"{PRELUDE}{self.work}\nsys.exit(serve(work))"
        self.tasks.append(Task([sys.executable, "-c", code], request, now_s=now_s, silent_limit_s=silent_limit_s))
        return self.tasks[-1]

    def actions(self, start: Callable[[str, Json, float, float], Task] | None = None) -> PodActions:
        return PodActions(start_task=start or self.start, save=self.save, announcer=self.announcer())

    def announcer(self) -> Announcer:
        words = Words(
            pod_id="p1",
            saved_to=None,
            lost=None,
            storage=None,
            stops_unsaved=False,
            wall=lambda: datetime(2026, 11, 24, 17, 0, tzinfo=UTC),
            now=PodNow(),
        )
        return Announcer(words=words, people=self.people)


def outcome(actions: PodActions) -> Outcome:
    for tick in range(2000):
        came = actions.poll(float(tick) / 100)
        if came:
            return came
        time.sleep(0.01)
    pytest.fail("no outcome")


def test_a_warning_is_told_to_people_and_gives_no_outcome() -> None:
    pod = Pod()
    actions = pod.actions()
    actions.carry_out(decision(Action.WARN), 0.0)
    assert len(pod.people.texts) == 1
    assert "Why: quiet for 30m" in pod.people.texts[0]
    assert actions.poll(1.0) is None


@pytest.mark.slow
def test_a_save_runs_as_a_task_and_its_snapshot_comes_back_once() -> None:
    pod = Pod()
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 100.0)
    assert outcome(actions) == Outcome(action=Action.SAVE, ok=True, reason="/", snapshot="s1", save_began_s=103.0)
    assert actions.poll(9.0) is None
    assert pod.begun == ["save"]


@pytest.mark.slow
@pytest.mark.parametrize("plan", [SavePlan(needless="keeps its disk"), SavePlan(impossible="no volume")])
def test_where_nothing_can_or_need_be_saved_the_task_is_told_so_for_hooks_run_all_the_same(plan: SavePlan) -> None:
    pod = Pod(save=plan, work="return {}")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    assert outcome(actions).ok
    asked = pod.asked[0]
    assert isinstance(asked, dict)
    assert (asked["save"], asked["needless"], asked["impossible"]) == (None, plan.needless, plan.impossible)


@pytest.mark.slow
def test_programs_are_asked_for_a_checkpoint_once_an_end_sequence() -> None:
    pod = Pod()
    actions = pod.actions()
    for action in (Action.WARN, Action.SAVE, Action.SAVE, Action.WARN, Action.SAVE):
        actions.carry_out(decision(action), 0.0)
        if action is Action.SAVE:
            outcome(actions)
    assert [isinstance(asked, dict) and asked["ask"] for asked in pod.asked] == [True, False, True]


@pytest.mark.slow
def test_a_drill_is_said_to_be_one_and_nothing_else_is() -> None:
    for drill in (False, True):
        pod = Pod()
        actions = PodActions(start_task=pod.start, save=pod.save, announcer=pod.announcer(), drill=drill)
        actions.carry_out(decision(Action.SAVE), 0.0)
        outcome(actions)
        assert bool(pod.people.texts) is not drill
        assert isinstance(pod.asked[0], dict)
        assert pod.asked[0]["drill"] is drill


@pytest.mark.slow
def test_what_a_task_tells_reaches_the_timeline_once_also_where_it_is_called_off() -> None:
    pod = Pod(work="p({'event': {'kind': 'hook done', 'text': 'x'}}); p('goes on'); time.sleep(600)")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    told: list[Json] = []
    for _ in range(2000):
        actions.poll(0.0)
        told += actions.told()
        if actions.progress() == "goes on":
            break
        time.sleep(0.01)
    actions.carry_out(decision(Action.CANCEL), 0.0)
    actions.poll(0.0)
    assert told + actions.told() == [{"kind": "hook done", "text": "x"}]
    actions.close()


@pytest.mark.slow
def test_the_note_of_a_stop_names_what_was_saved_and_done() -> None:
    pod = Pod(work="return {'snapshot': 's1', 'done': ['hook x']}")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    outcome(actions)
    actions.carry_out(decision(Action.STOP), 0.0)
    outcome(actions)
    note = pod.asked[1]
    assert isinstance(note, dict)
    assert (note["snapshot"], note["done"]) == ("s1", ["hook x"])


@pytest.mark.slow
def test_a_stop_that_goes_without_its_save_says_so_in_the_note_and_to_people() -> None:
    pod = Pod(work="raise SnapshotError('disk full')")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    outcome(actions)
    actions.carry_out(decision(Action.STOP), 0.0)
    outcome(actions)
    assert isinstance(pod.asked[1], dict)
    assert pod.asked[1]["unsaved"] == "disk full"
    assert "NOT SAVED: disk full" in pod.people.texts[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "permanent", "retry_s"),
    [
        ("raise ProviderRefused('403 on every rung')", True, None),
        ("raise ProviderUnavailable('HTTP 429', 40)", False, 40.0),
        ("raise SnapshotError('disk full')", False, None),
        ("raise SystemExit(3)", False, None),
    ],
)
def test_a_failed_stop_says_whether_to_try_again(work: str, permanent: bool, retry_s: float | None) -> None:  # noqa: FBT001
    actions = Pod(work=work).actions()
    actions.carry_out(decision(Action.STOP), 0.0)
    came = outcome(actions)
    assert (came.ok, came.permanent, came.retry_after_s) == (False, permanent, retry_s)
    assert came.reason


def test_a_save_that_is_called_off_is_ended_and_its_outcome_never_comes() -> None:
    pod = Pod(work="time.sleep(600)")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    actions.carry_out(decision(Action.CANCEL), 0.0)
    assert "the stop is off" in pod.people.texts[-1]
    for _ in range(1000):
        assert actions.poll(0.0) is None
        if pod.tasks[0].poll(0.0):
            return
        time.sleep(0.01)
    pytest.fail("the save went on")


def test_at_the_daemons_end_nothing_is_left_running() -> None:
    pod = Pod(work="time.sleep(600)")
    actions = pod.actions()
    actions.carry_out(decision(Action.SAVE), 0.0)
    actions.close()
    assert not actions.busy
    assert pod.tasks[0]._process.returncode is not None


def test_a_task_that_can_not_be_started_is_a_failed_outcome() -> None:
    def broken(*_: object) -> Task:
        raise TaskError("can't start python")

    actions = Pod().actions(broken)
    actions.carry_out(decision(Action.STOP), 0.0)
    assert outcome(actions) == Outcome(action=Action.STOP, ok=False, reason="can't start python")


def test_observing_answers_without_an_effect() -> None:
    actions = ObservedActions()
    for action in (Action.WARN, Action.CANCEL):
        actions.carry_out(decision(action), 0.0)
        assert actions.poll(0.0) is None
    actions.carry_out(decision(Action.STOP), 0.0)
    came = actions.poll(0.0)
    assert came
    assert came.observed
    assert actions.poll(0.0) is None
