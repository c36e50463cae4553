"""The whole path with real processes: a daemon, its child processes, files, and RunPod's API on loopback."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod, StopEffect
from idlewatch.history.store import events_of, status_of
from idlewatch.hold import place
from idlewatch.snapshot import snapshots, verify
from idlewatch.stopping.notes import previous_stop, stop_note
from tests.whole_path import POD_ID, Place, proven, simulated

pytestmark = pytest.mark.slow


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place_:
        yield place_


def test_an_idle_pod_is_saved_and_stopped_and_the_next_start_confirms_it(pod: Place) -> None:
    pod.start()
    pod.until(pod.stopped)
    assert pod.kinds()[:4] == ["warn", "save", "save done", "stop"]
    assert pod.api.problems == []
    proven(pod)
    pod.until(lambda: (stop_note(pod.volume, POD_ID) or {}).get("answer") == "accepted")
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


def test_a_hold_keeps_the_pod_up_and_its_end_lets_it_go(pod: Place) -> None:
    (pod.state_dir / "holds").mkdir()
    path = place("demo", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.start()
    pod.until(lambda: "held by ann" in str((status_of(pod.state_dir) or {}).get("reason")))
    time.sleep(4)
    assert not pod.stopped()
    path.unlink()
    pod.until(pod.stopped)


def test_a_budget_stops_a_held_pod_but_only_after_its_save(pod: Place) -> None:
    pod.settings = {"IDLEWATCH_BUDGET_USD": "0.01", "IDLEWATCH_USD_PER_HOUR": "1000000", "IDLEWATCH_IDLE_AFTER": "1h"}
    (pod.state_dir / "holds").mkdir()
    place("demo", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.start()
    pod.until(pod.stopped)
    told = [event for event in events_of(pod.state_dir) if event["kind"] != "hold placed"]
    assert [event["kind"] for event in told[:4]] == ["warn", "save", "save done", "stop"]
    assert "budget" in str(told[0]["text"])
