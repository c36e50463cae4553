"""The daemon's own end keeps to IDLEWATCH_SHUTDOWN_WITHIN, whatever hangs: a volume that is dead hangs everything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from idlewatch.children.tasks import Task, TaskEnd, end_all
from idlewatch.deciding.remembered import State, started
from idlewatch.effects.actions import PodActions
from idlewatch.model import Action, Decision, Json, Phase
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.pod.saving import SavePlan
from idlewatch.settings import Source, load
from idlewatch.telling.announcing import Announcer
from idlewatch.watching.background import Background, Errand
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord
from idlewatch.watching.shutdown import Ending
from idlewatch.watching.winding_up import WindUp
from tests.fakes import FastClock

CONTAINER = Ending(container=True, why="this container is being ended")
SERVICE = Ending(container=False, why="somebody ended idlewatch")
DEAD_S = 0.2
"""What ending hard costs where the process waits for a dead disk."""


class RestingClock(FastClock):
    def rest(self, seconds: float) -> None:
        self.sleep(seconds)


class Hung(Task):
    """A task that waits for a dead disk: it hears nothing, and ending it costs time."""

    def __init__(self, world: World, name: str, request: Json) -> None:
        self.world, self.name, self.request = world, name, request
        self.asked_s: float | None = None
        self.ended_s: float | None = None

    def poll(self, now_s: float) -> TaskEnd | None:
        return None

    def cancel(self, now_s: float, because: str) -> None:
        self.asked_s = now_s if self.asked_s is None else self.asked_s

    def take_events(self) -> list[Json]:
        return []

    def end_hard(self) -> float:
        if self.ended_s is None:
            self.ended_s = self.world.clock.now_s()
        return self.ended_s

    def end(self, within_s: float = 5.0) -> None:
        if self.ended_s is None:
            self.world.clock.rest(within_s)
        left_s = self.end_hard() + DEAD_S - self.world.clock.now_s()
        self.world.clock.rest(max(0.0, left_s))


@dataclass
class World:
    """A daemon's end, in which every child process hangs; the record and the daemon as far as they are needed."""

    folder: Path
    within: str = "8s"
    clock: RestingClock = field(default_factory=RestingClock)
    tasks: list[Hung] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    state: State = field(default_factory=lambda: started(0.0))

    def start(self, name: str, request: Json, _now_s: float, _silent_s: float) -> Task:
        self.tasks.append(Hung(self, name, request))
        return self.tasks[-1]

    def here(self) -> Assembly:
        given = {"STATE_DIR": "state", "SAVE_ROOT": "disk", "VOLUME": "volume"}
        told = {f"IDLEWATCH_{name}": str(self.folder / place) for name, place in given.items()}
        told |= {"RUNPOD_POD_ID": "p1", "IDLEWATCH_SHUTDOWN_WITHIN": self.within}
        for place in given.values():
            (self.folder / place).mkdir(exist_ok=True)
        return assembled(load([Source(name="environment", variables=told)]))

    def ends(self, ending: Ending, *, saving: bool = False) -> float:
        """Let it end with three errands under way; how long it took."""
        look_back, beat = Errand(name="look_back"), Errand(name="heartbeat", at_end=True)
        background = Background([look_back, beat, Errand(name="hooks")], self.start)
        background.poll(self.clock.now_s())
        actions = PodActions(
            start_task=self.start, save=SavePlan(request={}), announcer=cast("Announcer", Announcing(self))
        )
        if saving:
            actions.carry_out(Decision(action=Action.SAVE, reason="quiet"), self.clock.now_s())
        began_s = self.clock.now_s()
        as_daemon, as_record = cast("Daemon", self), cast("DaemonRecord", self)
        WindUp(self.here(), self.clock, as_daemon, as_record, background, actions, self.start).run(ending, began_s)
        return self.clock.now_s() - began_s

    def begun(self, name: str) -> Hung | None:
        return next((task for task in self.tasks if task.name == name), None)

    def happened(self, _kind: str, text: str) -> None:
        self.said.append(text)

    def ended(self, why: str) -> None:
        self.said.append(f"ended: {why}")

    def take_told(self) -> None: ...

    def keep(self, events: Sequence[Json]) -> None: ...

    def close(self) -> None:
        self.closed.append("signals")


@dataclass
class Announcing:
    """A notice that no channel takes."""

    world: World

    def decided(self, *_: object) -> None: ...

    def ended(self, why: str, now_s: float) -> None:
        self.world.said.append(f"people: {why}")

    def close(self, now_s: object, sleep: object, within_s: float) -> None:
        self.world.clock.rest(within_s)


@pytest.mark.parametrize("within", ["3s", "5s", "8s", "30s"])
@pytest.mark.parametrize("saving", [False, True])
def test_whatever_hangs_the_end_keeps_its_limit(tmp_path: Path, within: str, *, saving: bool) -> None:
    world = World(tmp_path, within)
    limit_s = world.here().loaded.settings.shutdown_within.total_seconds()
    assert limit_s - 1.0 <= world.ends(CONTAINER, saving=saving) <= limit_s + 1e-6
    assert all(task.ended_s is not None for task in world.tasks)
    assert world.said[-1] == f"ended: {CONTAINER.why}"


def test_all_that_is_under_way_is_asked_to_end_before_anything_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ends(CONTAINER, saving=True)
    for name in ("look_back", "hooks", "heartbeat", "save"):
        task = world.begun(name)
        assert task is not None
        assert task.asked_s == 0.0, name


def test_the_owner_s_hooks_get_all_but_the_last_seconds(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ends(CONTAINER)
    task = world.begun("shutdown")
    assert task is not None
    assert task.request == {"reason": CONTAINER.why, "ends_s": 6.0, "under_way": False}
    assert task.ended_s == pytest.approx(7.0, abs=0.1)


def test_our_own_stop_has_run_its_hooks_and_left_its_note(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.state = replace(world.state, phase=Phase.STOPPING, accepted_s=1.0)
    world.ends(CONTAINER)
    assert not world.begun("shutdown")
    assert not world.begun("note")
    assert f"people: {CONTAINER.why}" not in world.said


def test_where_only_the_daemon_ends_there_is_no_hurry_and_nothing_is_begun(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.ends(SERVICE) > 5.0
    assert not world.begun("shutdown")
    assert not world.begun("note")
    assert world.closed == ["signals"]


def test_processes_that_hear_nothing_are_ended_together() -> None:
    deaf = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); signal.pause()"
    tasks = [Task([sys.executable, "-c", deaf], None, now_s=0.0, silent_limit_s=60.0) for _ in range(3)]
    end_all(tasks)
    ends = [task.poll(0.0) for task in tasks]
    assert [str(end.error) for end in ends if end] == ["ended with the daemon"] * 3
