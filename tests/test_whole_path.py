"""The whole path with real processes: a daemon, its child processes, files, and RunPod's API on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod, StopEffect
from idlewatch.history import events_of, status_of
from idlewatch.hold import place
from idlewatch.notes import previous_stop, stop_note
from idlewatch.settings import environment_with
from idlewatch.snapshot import find, restore, snapshots, verify

POD_ID = "pod123abc"
KEY = "rpa_test_key"
DAEMON = Path(__file__).parent / "quiet_daemon.py"

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """A simulated Pod: its disk, its volume, and the API that runs it."""

    folder: Path
    api: LoopbackApi
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def start(self) -> subprocess.Popen[bytes]:
        variables = {
            "RUNPOD_POD_ID": POD_ID,
            "RUNPOD_API_KEY": KEY,
            "IDLEWATCH_IDLE_AFTER": "2s",
            "IDLEWATCH_WARN_FOR": "1s",
            "IDLEWATCH_BOOT_GRACE": "0",
            "IDLEWATCH_INTERVAL": "0.1s",
            "IDLEWATCH_CONFIRM_WITHIN": "2s",
            "IDLEWATCH_SAVE_ROOT": str(self.disk),
            "IDLEWATCH_VOLUME": str(self.volume),
            "IDLEWATCH_STATE_DIR": str(self.state_dir),
            "IDLEWATCH_RUNPOD_API_URL": self.api.rest_url,
            "IDLEWATCH_RUNPOD_GRAPHQL_URL": self.api.graphql_url,
            **self.settings,
        }
        environment = environment_with({**variables, "PYTHONPATH": str(DAEMON.parent.parent)})
        daemon = subprocess.Popen([sys.executable, str(DAEMON)], env=environment, start_new_session=True)
        self.daemons.append(daemon)
        return daemon

    def phase(self) -> str:
        return str((status_of(self.state_dir) or {}).get("phase"))

    def stopped(self) -> bool:
        return self.api.pods[POD_ID].status == "EXITED"

    def kinds(self) -> list[str]:
        return [str(event["kind"]) for event in events_of(self.state_dir)]

    def until(self, what: Callable[[], bool], within_s: float = 40.0) -> None:
        give_up = time.monotonic() + within_s
        while not what():
            if time.monotonic() > give_up:
                pytest.fail(f"it did not come: {status_of(self.state_dir)} {self.kinds()}")
            time.sleep(0.02)


@contextmanager
def simulated(folder: Path, pod: LoopbackPod) -> Iterator[Place]:
    for name in ("disk/root", "volume", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "disk/root/work.txt").write_text("three days of work")
    with LoopbackApi(pods=[pod], keys=[KEY]) as api:
        place_ = Place(folder, api)
        try:
            yield place_
        finally:
            for daemon in place_.daemons:
                if daemon.poll() is None:
                    os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place_:
        yield place_


def proven(pod: Place) -> None:
    """Every listed snapshot is whole, and the newest brings the work back."""
    for snapshot in snapshots(pod.volume, POD_ID):
        verify(snapshot)
    back = pod.folder / "back"
    back.mkdir()
    restore(find(pod.volume, POD_ID), back)
    assert (back / "root/work.txt").read_text() == "three days of work"


def test_an_idle_pod_is_saved_and_stopped_and_the_next_start_confirms_it(pod: Place) -> None:
    pod.start()
    pod.until(pod.stopped)
    assert pod.kinds()[:4] == ["warn", "save", "save done", "stop"]
    assert pod.api.problems == []
    proven(pod)
    note = stop_note(pod.volume, POD_ID)
    assert str(previous_stop(note, "another start")).startswith("confirmed by this start")
    assert str(previous_stop(note, str((note or {})["boot_key"]))).startswith("STOP NOT CONFIRMED")


@pytest.mark.parametrize("phase", ["warned", "saving", "last look", "stopping"])
def test_a_daemon_killed_at_any_step_loses_neither_work_nor_the_stop(pod: Place, phase: str) -> None:
    (pod.disk / "root/data.bin").write_bytes(os.urandom(30_000_000))
    pod.api.pods[POD_ID].stop_effect = StopEffect.NOTHING
    daemon = pod.start()
    pod.until(lambda: pod.phase() == phase)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    time.sleep(1)
    for snapshot in snapshots(pod.volume, POD_ID):
        verify(snapshot)
    before = len(pod.kinds())
    pod.api.pods[POD_ID].stop_effect = StopEffect.STOPS
    pod.start()
    pod.until(pod.stopped)
    kinds = pod.kinds()[before:]
    assert kinds.index("warn") < kinds.index("save") < kinds.index("save done") < kinds.index("stop")
    proven(pod)


def test_a_stop_that_is_only_said_is_not_confirmed_and_tried_again(pod: Place) -> None:
    pod.api.pods[POD_ID].stop_effect = StopEffect.ONLY_SAID
    pod.start()
    pod.until(lambda: any("STOP NOT CONFIRMED" in str(event["text"]) for event in events_of(pod.state_dir)))
    assert "STOP NOT CONFIRMED" in str((status_of(pod.state_dir) or {})["troubles"])


def test_a_hold_keeps_the_pod_up_and_its_end_lets_it_go(pod: Place) -> None:
    (pod.state_dir / "holds").mkdir()
    path = place("demo", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.start()
    pod.until(lambda: "held by ann" in str((status_of(pod.state_dir) or {}).get("reason")))
    time.sleep(4)
    assert not pod.stopped()
    path.unlink()
    pod.until(pod.stopped)


def test_a_save_that_fails_keeps_the_pod_up_and_alarmed(pod: Place) -> None:
    (pod.volume / ".idlewatch").write_text("a file where a folder must be")
    pod.start()
    pod.until(lambda: "save failed" in pod.kinds())
    assert not pod.stopped()
    assert "save failed" in str((status_of(pod.state_dir) or {})["troubles"])


def test_a_budget_stops_a_held_pod_but_only_after_its_save(pod: Place) -> None:
    pod.settings = {"IDLEWATCH_BUDGET_USD": "0.01", "IDLEWATCH_USD_PER_HOUR": "1000000", "IDLEWATCH_IDLE_AFTER": "1h"}
    (pod.state_dir / "holds").mkdir()
    place("demo", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.start()
    pod.until(pod.stopped)
    assert pod.kinds()[:4] == ["warn", "save", "save done", "stop"]
    assert "budget" in str(events_of(pod.state_dir)[0]["text"])


def test_a_second_daemon_refuses(pod: Place) -> None:
    pod.start()
    pod.until(lambda: pod.phase() != "None")
    assert pod.start().wait(20) != 0
