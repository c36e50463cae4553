"""The same recording gives the same verdicts: a daemon that lives, keeps what it read, and is lived again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from idlewatch.deciding.moment import Moment
from idlewatch.deciding.tick import Tick
from idlewatch.gpu.reader import Taken
from idlewatch.history import recording
from idlewatch.history.archive import keep_on_volume
from idlewatch.history.store import History
from idlewatch.model import Action, Hold, Json
from idlewatch.replay import Lived, read_story
from idlewatch.replay.life import Witness
from idlewatch.settings import Source, load
from idlewatch.signals import SIGNALS
from idlewatch.signals.gpu import GpuSignal
from idlewatch.watching.daemon import Daemon
from tests.fakes import FastClock, Rehearsed
from tests.gpu_polls import gpu, poll
from tests.test_signal_host import OWN, V2_MOUNT, Machine

INTERVAL_S = 15.0
SETTINGS = {"IDLEWATCH_INTERVAL": "15s", "IDLEWATCH_IDLE_AFTER": "20m", "RUNPOD_GPU_COUNT": "1"}
LASTS_S = 5700.0
WORKS, COMPILES, LOST = (0.0, 900.0), (2250.0, 2700.0), (3000.0, 3240.0)
"""The GPU works; then the CPU does, within the warning; then the GPU can't be read for a while."""
HELD_BY = Hold(id="1", who="sam", reason="eats: lunch", until_s=4810.0)
HELD_FROM_S = 4210.0
"""Held while the second warning's time runs: called off, and warned again at its end."""


def within(at_s: float, span: tuple[float, float]) -> bool:
    return span[0] <= at_s < span[1]


@dataclass
class FakePod(FastClock):
    """A machine whose kernel and GPU change while the clock of the daemon runs; also the GPU's reader."""

    machine: Machine
    cpu_s: float = 0.0
    joules: float = 0.0

    def __post_init__(self) -> None:
        super().__init__()
        self.machine.cgroups(V2_MOUNT.format(root="/"), "0::/\n")
        self.machine.process(1, 0)
        self.machine.process(OWN, 1)
        self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.cpu_s += seconds * (1.5 if within(self.now_s(), COMPILES) else 0.003)
        self.machine.v2("fs/cgroup", cpu_s=self.cpu_s)
        self.machine.network(lo=0, eth0=int(200 * self.now_s()))

    def take(self, now_s: float) -> Taken:
        if within(now_s, LOST):
            return Taken(error="NVML: GPU is lost")
        pct = 70.0 if within(now_s, WORKS) else 0.0
        self.joules += INTERVAL_S * (300.0 if pct else 118.0)
        one = gpu(
            util_max_pct=pct,
            util_second_pct=pct,
            util_mean_pct=pct / 2,
            covered_s=INTERVAL_S,
            energy_total_mj=int(self.joules * 1000),
        )
        return Taken(polls=(poll(now_s, one),))

    def close(self) -> None: ...


@dataclass
class Kept:
    """A daemon's record: its history, as in a Pod, and what it decided."""

    history: History
    clock: FastClock
    witness: Witness = field(default_factory=lambda: Witness(INTERVAL_S))

    def tick(self, report: Tick) -> None:
        self.history.saw(report.readings, self.clock.wall())
        self.witness.tick(report)
        self.history.judged(self.witness.told().spans)


def moment(now_s: float) -> Moment:
    held = HELD_FROM_S <= now_s < HELD_BY.until_s
    return Moment(now_s=now_s, uptime_s=now_s, holds=(HELD_BY,) if held else ())


def lived_live(folder: Path) -> tuple[Lived, Path]:
    """What a daemon made of this machine, and the recording that its state folder holds of it."""
    pod, limits = FakePod(Machine(folder)), load([Source(name="test", variables=SETTINGS)]).settings.limits()
    record = Kept(History(folder), pod)
    daemon = Daemon(
        clock=pod,
        signals=[GpuSignal(reader=pod, gpu_count=1), pod.machine.signal()],
        actions=Rehearsed(),
        record=record,
        moment=moment,
        limits=limits,
    )
    daemon.run(until=lambda: pod.now_s() > LASTS_S or bool(record.witness.lived.when(Action.STOP)))
    daemon.close()
    record.history.close()
    head: dict[str, Json] = {"pod_id": "p1", "boot_key": "p1@1", "started_s": 0.0, "settings": {**SETTINGS}}
    name = recording.name_of(datetime(2026, 11, 20, 17, tzinfo=UTC), "p1@1")
    return record.witness.told(), keep_on_volume(folder / "volume", folder, name, head)


def told(lived: Lived) -> Iterator[tuple[float, str, dict[str, str], str, str]]:
    for look in lived.looks:
        yield look.at_s, look.pod, dict(look.verdicts), look.decisive, look.said


@pytest.mark.slow
def test_a_replay_of_what_a_daemon_saw_gives_its_verdicts_tick_by_tick(tmp_path: Path) -> None:
    live, kept = lived_live(tmp_path)
    story = read_story(kept, tuple(SIGNALS))
    again = story.relived(story.loaded(), SIGNALS)
    stop_s = live.when(Action.STOP)[0]
    assert [decision.action for _, decision in live.decisions] == [
        Action.WARN,
        Action.CANCEL,
        Action.WARN,
        Action.CANCEL,
        Action.WARN,
        Action.SAVE,
        Action.STOP,
    ]
    assert {look.verdicts["gpu"] for look in live.looks} == {"active", "quiet", "unknown"}
    assert {look.at_s for look in live.looks if "sam" in look.decisive} == set(range(4215, 4810, 15))
    assert [one for one in told(again) if one[0] <= stop_s] == list(told(live))
    assert again.alarms == live.alarms
    assert [(at_s, str(one)) for at_s, one in again.decisions if at_s <= stop_s] == [
        (at_s, str(one)) for at_s, one in live.decisions
    ]
