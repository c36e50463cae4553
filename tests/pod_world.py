"""
The world of a `pod_story.Story`: what is real in it is the daemon (`Daemon`, policy, `PodActions`, record, SQLite).

Around it stand hand-written edges: the clock, signals over the truth, tasks that succeed, fail or hang.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Protocol

from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.deciding.moment import Moment, StopRequest
from idlewatch.deciding.tick import Tick
from idlewatch.effects.actions import PodActions
from idlewatch.errors import ProviderRefused, ProviderUnavailable, SignalError, SnapshotError, TaskError
from idlewatch.history.store import History
from idlewatch.model import (
    Action,
    Activity,
    Cause,
    Decision,
    Finding,
    Hold,
    Json,
    Limits,
    Outcome,
    PodIdentity,
    Reading,
)
from idlewatch.notify.words import PodNow, Words
from idlewatch.pod.saving import SavePlan
from idlewatch.settings import Source, load
from idlewatch.telling.announcing import Announcer
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord
from tests.pod_story import BORN_S, SIGNALS, Span, Story, touch, within

TICK_S = 10.0
LONGEST_TICK_S = 12.0
LIMITS = Limits(
    idle_after_s=1200.0,
    warn_for_s=300.0,
    blind_limit_s=300.0,
    connected_for_s=3600.0,
    boot_grace_s=600.0,
    interval_s=TICK_S,
    max_uptime_s=0.0,
    budget_usd=0.0,
    stop_without_save=False,
    confirm_within_s=180.0,
)
REQUEST_WARN_S = 60.0
_MEMORY = Path("/dev/shm")
STATE_FOLDERS = _MEMORY if os.access(_MEMORY, os.W_OK) else None
"""Where thousands of ticks are written to: in memory where there is one."""
_WALL = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class WorldClock:
    """The injected clock."""

    at_s: float = BORN_S
    wall_off_s: float = 0.0

    def now_s(self) -> float:
        return self.at_s

    def wall(self) -> datetime:
        return _WALL + timedelta(seconds=self.at_s - BORN_S + self.wall_off_s)

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds


@dataclass
class WorldSignal:
    """A signal over the truth, like a counter: a reading covers all since the one before it."""

    name: str
    refines: bool
    used: Sequence[Span]
    faults: Sequence[Span]
    stuck: Sequence[Span]
    last: Reading | None = None

    def read(self, now_s: float) -> Reading:
        if within(self.faults, now_s):
            raise SignalError("can't be read: injected")
        if self.last is not None and (within(self.stuck, now_s) or now_s <= self.last.at_s):
            return self.last
        from_s = self.last.at_s if self.last else now_s
        used = touch(self.used, from_s, now_s)
        self.last = Reading(signal=self.name, at_s=now_s, covers_s=now_s - from_s, facts={"used": used})
        return self.last

    def judge(self, reading: Reading) -> Finding:
        used = bool(reading.facts["used"])
        return Finding(
            signal=self.name,
            activity=Activity.ACTIVE if used else Activity.QUIET,
            reason="in use" if used else "not in use",
            evidence_s=reading.at_s if used else None,
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
        )

    def close(self) -> None:
        """Nothing was started."""


class WorldTask(Task):
    """A save or a stop that ends as the seed wants; one without an end hangs until it is silent for too long."""

    def __init__(self, ends_s: float, end: TaskEnd | None, silent_to_s: float) -> None:
        # no process is started, so the base's own beginning is left out
        self.progress: Json = None
        self.cancelled = False
        self._ends_s, self._ended, self._silent_to_s = ends_s, end, silent_to_s

    def poll(self, now_s: float) -> TaskEnd | None:
        if self.cancelled:
            return TaskEnd(error=TaskError("ended"))
        if self._ended is not None and now_s >= self._ends_s:
            return self._ended
        return TaskEnd(error=TaskError("silent for too long")) if now_s > self._silent_to_s else None

    def under_way(self, now_s: float) -> bool:
        return self.poll(now_s) is None

    def cancel(self, now_s: float, because: str) -> None:
        del now_s, because
        self.cancelled = True

    def end(self, within_s: float = 0.0) -> None:
        del within_s
        self.cancelled = True

    def take_events(self) -> list[Json]:
        return []


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of one task."""

    takes_s: float = 10.0
    end: TaskEnd | None = None
    """None: it hangs."""
    unstartable: bool = False
    ends_pod_after_s: float | None = None
    """Of a stop that is accepted: when the machine ends; None: it lives on."""


SAVED = TaskEnd(result={"snapshot": "s1", "text": "saved", "save_began_after_s": 0.0})
ACCEPTED = TaskEnd(result={"text": "accepted by REST v2"})
NO_SPACE = TaskEnd(error=SnapshotError("no space left: injected"))


class Fates(Protocol):
    """What becomes of the tasks."""

    def save(self, now_s: float) -> Fate: ...
    def stop(self, now_s: float) -> Fate: ...


class RandomFates:
    """Everything that may happen until the story's trouble is over; then all goes well."""

    def __init__(self, random: Random, trouble_to_s: float) -> None:
        self._random, self._trouble_to_s = random, trouble_to_s

    def save(self, now_s: float) -> Fate:
        takes_s = self._random.uniform(1.0, 240.0)
        bad = [Fate(takes_s=takes_s, end=NO_SPACE), Fate(), Fate(unstartable=True)]
        return self._one_of(now_s, Fate(takes_s=takes_s, end=SAVED), bad)

    def stop(self, now_s: float) -> Fate:
        takes_s, wait_s = self._random.uniform(0.5, 60.0), self._random.choice((None, 20.0))
        busy, refused = ProviderUnavailable("503: injected", retry_after_s=wait_s), ProviderRefused("403: injected")
        bad = [
            *(Fate(takes_s=takes_s, end=TaskEnd(error=error)) for error in (busy, refused)),
            Fate(takes_s=takes_s, end=ACCEPTED),
            Fate(),
            Fate(unstartable=True),
        ]
        well = Fate(takes_s=takes_s, end=ACCEPTED, ends_pod_after_s=self._random.uniform(1.0, 100.0))
        return self._one_of(now_s, well, bad)

    def _one_of(self, now_s: float, well: Fate, bad: list[Fate]) -> Fate:
        return self._random.choice([well, well, *bad]) if now_s < self._trouble_to_s else well


class Watches(Protocol):
    """Whoever holds the daemon to its promises."""

    def stop_called(self, cause: Cause | None, now_s: float) -> None: ...
    def save_began(self, task: WorldTask, now_s: float, ends_ok_s: float | None) -> None: ...
    def ticked(self, report: Tick, told: Sequence[str]) -> None: ...
    def daemon_died(self) -> None: ...
    def accepted(self, at_s: float) -> None: ...


class NotingActions:
    """The real actions; what they are asked for is known to the world before they do it."""

    def __init__(self, inner: PodActions) -> None:
        self._inner = inner
        self.asked: Decision | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        self.asked = decision
        self._inner.carry_out(decision, now_s)

    def poll(self, now_s: float) -> Outcome | None:
        return self._inner.poll(now_s)

    def told(self) -> list[Json]:
        return self._inner.told()

    def close(self) -> None:
        self._inner.close()


class World:
    """Lives a story."""

    def __init__(self, story: Story, state_dir: Path, watcher: Watches, fates: Fates | None = None) -> None:
        """`fates`: what becomes of saves and stops; None: by the story's seed."""
        self.story, self.clock, self.watcher = story, WorldClock(), watcher
        self.limits = replace(LIMITS, max_uptime_s=story.ceiling_s and max(story.ceiling_s, 900.0))
        self.ended_s: float | None = None
        """When the Pod was really stopped."""
        self._random = Random(story.seed + 1)
        self._fates = fates or RandomFates(self._random, story.trouble_to_s)
        self._state_dir = state_dir
        self._actions: NotingActions | None = None
        self._ends_at_s: float | None = None
        self._born_s = BORN_S
        self._told: list[str] = []
        variables = {"RUNPOD_POD_ID": "abc", "IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_INTERVAL": "10s"}
        self._loaded = load([Source(name="environment", variables=variables)])
        self._pod = PodIdentity(pod_id="abc", source="environment", started_s=BORN_S, boot_key="abc@1")

    def live(self) -> None:
        """From the Pod's start to its stop, or to the story's end."""
        while self._lives():
            self._one_daemon()
            self._pass_to(max((to_s for from_s, to_s in self.story.deaths if from_s <= self.clock.at_s), default=0.0))

    def _lives(self) -> bool:
        return self.ended_s is None and self.clock.at_s < self.story.ends_s

    def _dies(self) -> bool:
        return any(self._born_s < from_s <= self.clock.at_s for from_s, _ in self.story.deaths)

    def _one_daemon(self) -> None:
        self._born_s = self.clock.at_s
        history = History(self._state_dir)
        record = DaemonRecord(history, self.clock, self._loaded, self._pod)
        plan = SavePlan(request={"to": "the volume"})
        self._actions = NotingActions(
            PodActions(start_task=self._start, save=plan, announcer=Announcer(words=self._words(), people=self))
        )
        told = self.story
        daemon = Daemon(
            clock=self.clock,
            signals=[
                WorldSignal(name, refines, told.used[name], told.faults[name], told.stuck[name])
                for name, refines in SIGNALS.items()
            ],
            actions=self._actions,
            record=record,
            moment=self._moment,
            limits=self.limits,
            state=history.remembered(self._pod.boot_key, record.settings_key),
        )
        while self._lives() and not self._dies():
            self._told = []
            report = daemon.tick()
            self.watcher.ticked(report, self._told)
            if report.decision.action in (Action.WARN, Action.SAVE, Action.STOP):
                self.story.provoke(self._random, self.clock.at_s)
            self._pass_to(self.clock.at_s + self._random.choice((TICK_S, TICK_S, TICK_S, LONGEST_TICK_S)))
        history.close()
        self.watcher.daemon_died()

    def _pass_to(self, at_s: float) -> None:
        for from_s, to_s in self.story.suspensions:
            if self.clock.at_s < from_s <= at_s:
                at_s = max(at_s, to_s)
        for jump_s, by_s in self.story.wall_jumps_s:
            if self.clock.at_s < jump_s <= at_s:
                self.clock.wall_off_s += by_s
        self.clock.at_s = max(self.clock.at_s, at_s)
        if self._ends_at_s is not None and self.clock.at_s >= self._ends_at_s:
            self.ended_s = self._ends_at_s

    def _moment(self, now_s: float) -> Moment:
        standing = [to_s for from_s, to_s in self.story.holds if from_s <= now_s < to_s]
        asked = within(self.story.requests, now_s)
        return Moment(
            now_s=now_s,
            uptime_s=now_s - BORN_S,
            holds=[Hold(id=f"h{i}", who="ada", reason="work", until_s=to_s) for i, to_s in enumerate(standing)],
            request=StopRequest(who="ada", warn_for_s=REQUEST_WARN_S) if asked else None,
        )

    def _words(self) -> Words:
        return Words(
            pod_id="abc",
            saved_to="/workspace",
            lost=None,
            storage=None,
            stops_unsaved=False,
            wall=self.clock.wall,
            now=PodNow(),
        )

    def tell(self, text: str) -> object:
        """The Pod's terminals."""
        self._told.append(text)
        return None

    # ---------------------------------------------------------------- tasks

    def _start(self, name: str, request: Json, now_s: float, silent_s: float) -> WorldTask:
        del request
        if name not in ("save", "stop"):
            return WorldTask(now_s, TaskEnd(), now_s + silent_s)
        fate = (self._fates.save if name == "save" else self._fates.stop)(now_s)
        if name == "stop":
            asked = self._actions.asked if self._actions else None
            self.watcher.stop_called(asked.cause if asked else None, now_s)
        if fate.unstartable:
            raise TaskError("can't be started: injected")
        ends_s, well = now_s + fate.takes_s, fate.end is not None and fate.end.error is None
        task = WorldTask(ends_s, fate.end, now_s + silent_s)
        if name == "save":
            self.watcher.save_began(task, now_s, ends_s if well else None)
        elif well:
            self.watcher.accepted(ends_s)
            self._ends_at_s = None if fate.ends_pod_after_s is None else ends_s + fate.ends_pod_after_s
        return task
