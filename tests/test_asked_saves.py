"""A save that somebody asks for: begun once, shown while it runs, refused with a reason, ended by the end sequence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import started
from idlewatch.deciding.tick import Tick
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.errors import SnapshotError, TaskError
from idlewatch.history.status import mapping
from idlewatch.history.timeline import RESTORED, leave
from idlewatch.hold import place
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Action, Decision, Json, Phase
from idlewatch.requests.save_requests import SaveRequests, ask_for_save, save_asked_by, save_request_file
from idlewatch.watching.asked_saves import AskedSaves
from tests.whole_path import POD_ID, simulated

BEGAN_S, KEY = 1000.0, "pod1@1"
PROGRESS: Json = {"stage": "write", "done_bytes": 5, "total_bytes": 10}


class FakeTask:
    """A save that ends when it is told to."""

    def __init__(self) -> None:
        self.end_: TaskEnd | None = None
        self.progress: Json = None
        self.cancelled = self.ended = False

    def poll(self, _now_s: float) -> TaskEnd | None:
        return TaskEnd(error=TaskError("a stop is being prepared")) if self.cancelled else self.end_

    def cancel(self, _now_s: float, _because: str) -> None:
        self.cancelled = True

    def end(self, _within_s: float) -> None:
        self.ended = True


class World:
    """A daemon that looks every five seconds."""

    def __init__(self, state_dir: Path, *, impossible: str | None = None, startable: bool = True) -> None:
        self.state_dir, self.now_s, self.startable = state_dir, BEGAN_S, startable
        self.begun: list[FakeTask] = []
        self.refused: list[str] = []
        request = SaveRequests(
            state_dir, KEY, began_s=BEGAN_S, began=datetime(2026, 11, 24, tzinfo=UTC), refused=self.refused.append
        )
        self.saves = AskedSaves(self._start, request, impossible=impossible)

    def _start(self, name: str, _request: Json, _now_s: float, _silent_s: float) -> Task:
        assert name == "save_again"
        if not self.startable:
            raise TaskError("no more processes")
        self.begun.append(FakeTask())
        return cast("Task", self.begun[-1])

    def ask(self, boot_key: str = KEY, asked_s: float | None = None) -> None:
        ask_for_save(self.state_dir, "the page", boot_key, self.now_s if asked_s is None else asked_s)

    def tick(self, phase: Phase = Phase.WATCHING) -> None:
        self.now_s += 5.0
        self.saves.tick(
            Tick(
                moment=Moment(now_s=self.now_s, uptime_s=self.now_s),
                readings=(),
                findings=(),
                decision=Decision(action=Action.WAIT, reason=""),
                state=replace(started(0.0), phase=phase),
                outcome=None,
                alarms=(),
            )
        )

    def now(self, name: str) -> Json:
        said = self.saves.now()
        assert isinstance(said, dict)
        return said[name]


def test_a_request_begins_one_save_that_is_shown_until_its_end_and_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick()
    assert (world.begun, world.saves.now()) == ([], None)
    world.ask()
    assert save_asked_by(tmp_path, KEY) == "the page"
    world.tick()
    (task,) = world.begun
    assert (world.now("state"), world.now("who"), world.now("progress")) == ("running", "the page", None)
    assert not save_request_file(tmp_path).exists()
    task.progress = PROGRESS
    world.tick()
    assert world.now("progress") == PROGRESS
    task.end_ = TaskEnd(result={"text": "saved 3 files as s1, 2.0 MB", "snapshot": "s1"})
    world.tick()
    assert (world.now("state"), world.now("text")) == ("done", "saved 3 files as s1, 2.0 MB")
    (event,) = world.saves.told()
    assert event == {
        "kind": "saved on request",
        "text": "saved 3 files as s1, 2.0 MB (asked for by the page)",
        "facts": {"who": "the page", "snapshot": "s1", "took_s": 10.0},
    }
    world.tick()
    assert (len(world.begun), world.saves.told()) == (1, [])


def test_what_is_asked_for_while_one_runs_comes_after_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ask()
    world.tick()
    world.ask()
    world.tick()
    assert len(world.begun) == 1
    world.begun[0].end_ = TaskEnd(result={"text": "saved"})
    world.tick()
    world.tick()
    assert len(world.begun) == 2


def test_a_failure_is_told_and_shown(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ask()
    world.tick()
    world.begun[0].end_ = TaskEnd(error=SnapshotError("no space is left on /workspace"))
    world.tick()
    assert (world.now("state"), world.now("text")) == ("failed", "no space is left on /workspace")
    (event,) = world.saves.told()
    assert isinstance(event, dict)
    assert event["kind"] == "save on request failed"


def test_one_that_can_not_be_started_has_failed(tmp_path: Path) -> None:
    world = World(tmp_path, startable=False)
    world.ask()
    world.tick()
    assert (world.now("state"), world.now("text")) == ("failed", "no more processes")


@pytest.mark.parametrize("phase", [Phase.WARNED, Phase.SAVING, Phase.LAST_LOOK, Phase.STOPPING])
def test_the_end_sequence_saves_for_itself(tmp_path: Path, phase: Phase) -> None:
    world = World(tmp_path)
    world.ask()
    world.tick()
    world.tick(phase)
    assert world.begun[0].cancelled
    assert world.now("state") == "failed"
    world.ask()
    world.tick(phase)
    assert len(world.begun) == 1
    assert world.refused == ["a request to save does not count: a stop is being prepared, which saves for itself"]
    assert not save_request_file(tmp_path).exists()


def test_where_nothing_can_be_saved_the_request_is_refused_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path, impossible="no volume is mounted here")
    world.ask()
    world.tick()
    assert (world.begun, world.saves.now()) == ([], None)
    assert world.refused == ["a request to save does not count: no volume is mounted here"]


@pytest.mark.parametrize(("boot_key", "asked_s"), [("pod1@0", None), (KEY, BEGAN_S - 1), (KEY, 1e9)])
def test_what_was_asked_of_another_daemon_or_start_saves_nothing(
    tmp_path: Path, boot_key: str, asked_s: float | None
) -> None:
    world = World(tmp_path)
    world.ask(boot_key, asked_s)
    world.tick()
    assert world.begun == []
    assert len(world.refused) == 1


def test_a_request_that_is_none_is_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    save_request_file(tmp_path).parent.mkdir()
    save_request_file(tmp_path).write_text(json.dumps([1]))
    assert save_asked_by(tmp_path, KEY) is None
    world.tick()
    assert (world.begun, world.refused) == ([], ["a request to save does not count: it makes no sense"])


def test_at_the_daemons_end_it_is_asked_and_then_ended(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.saves.ask_to_end(0.0)
    world.saves.close()
    world.ask()
    world.tick()
    world.saves.ask_to_end(world.now_s)
    world.saves.close(1.0)
    assert (world.begun[0].cancelled, world.begun[0].ended) == (True, True)


@pytest.mark.slow
def test_a_real_daemon_saves_on_request_and_goes_on_watching(tmp_path: Path) -> None:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as pod:
        pod.settings = {"IDLEWATCH_IDLE_AFTER": "1h"}
        (pod.disk / "root").mkdir(parents=True, exist_ok=True)
        (pod.disk / "root/notes.txt").write_text("what a stop would wipe")
        pod.start()
        pod.until(lambda: bool(pod.status()))
        ask_for_save(pod.state_dir, "ann", pod.status()["boot_key"], MachineClock().now_s())
        pod.until(lambda: "saved on request" in pod.kinds())
        pod.until(lambda: mapping(pod.status()["save"]).get("state") == "done")
        assert pod.phase() == "watching"
        assert str(mapping(pod.status()["save"])["text"]).startswith("saved ")
        leave(pod.state_dir, RESTORED, "brought back 3 files", MachineClock().wall())
        place("an upload", for_s=60.0, who="ann", state_dir=pod.state_dir)
        pod.until(lambda: {"restored", "hold placed"} <= set(pod.kinds()))
