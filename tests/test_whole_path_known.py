"""The whole path with real processes: what the daemon learns beside its signals, and what it leaves for others."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.children.tasks import Task
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.history.status import number
from idlewatch.hold import place
from idlewatch.model import Json
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.settings import environment_with
from idlewatch.snapshot import find, restore
from idlewatch.stopping.notes import LAST_STOP, write_note
from idlewatch.telling.login import LOGIN_FILE
from idlewatch.work.stops import leave_note
from tests.whole_path import POD_ID, Place, simulated

pytestmark = pytest.mark.slow


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place_:
        place_.settings = {"IDLEWATCH_IDLE_AFTER": "1h"}
        (place_.disk / "etc/profile.d").mkdir(parents=True)
        yield place_


def verb(pod: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = environment_with({"IDLEWATCH_STATE_DIR": str(pod.state_dir)})
    command = [sys.executable, "-m", "idlewatch", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_locked_pod_is_never_warned_and_says_why(pod: Place) -> None:
    pod.api.pods[POD_ID].locked = True
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "2s"}
    (pod.state_dir / "holds").mkdir()
    held = place("until the API has told", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.start()
    pod.until(lambda: "cannot stop" in str(pod.status().get("troubles")))
    assert "locked" in str(pod.status()["troubles"])
    held.unlink()
    pod.until(lambda: number(pod.status().get("idle_for_s")) > 2.0 and not pod.status().get("holds"))
    seen_s = number(pod.status()["at_s"])
    pod.until(lambda: number(pod.status()["at_s"]) > seen_s + 2.0)
    assert "warn" not in pod.kinds()
    assert not pod.stopped()


def test_a_pod_without_a_volume_is_told_from_the_start_what_that_means_and_is_kept(pod: Place) -> None:
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "2s", "IDLEWATCH_VOLUME": "auto"}
    pod.start()
    pod.until(lambda: pod.phase() != "None")
    assert "a stop would lose everything" in str(pod.status()["troubles"])
    pod.until((pod.state_dir / LOGIN_FILE).exists)
    assert "IDLEWATCH_ON_SAVE_FAILURE=stop" in (pod.state_dir / LOGIN_FILE).read_text()
    pod.until(lambda: "save failed" in pod.kinds())
    assert not pod.stopped()


def test_the_price_comes_from_the_api_and_makes_the_budget_a_ceiling(pod: Place) -> None:
    pod.api.pods[POD_ID].usd_per_hour = 1_000_000.0
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_BUDGET_USD": "0.01"}
    pod.start()
    pod.until(pod.stopped)
    assert pod.status()["usd_per_hour"] == 1_000_000.0
    assert pod.api.problems == []


def test_a_key_without_any_right_is_told_before_the_stop_is_due(pod: Place) -> None:
    pod.settings = {"RUNPOD_API_KEY": "rpa_someone_elses", "IDLEWATCH_IDLE_AFTER": "1h"}
    pod.start()
    pod.until(lambda: "RunPod's API" in str(pod.status().get("troubles")))
    assert "a stop may fail" in str(pod.status()["troubles"])
    assert "rpa_someone_elses" not in "".join(path.read_text() for path in pod.state_dir.glob("*.json"))


def test_the_next_start_says_why_the_pod_was_stopped_also_at_login(pod: Place) -> None:
    note: dict[str, Json] = {
        "at": "2026-11-20T19:00",
        "reason": "nothing used it",
        "boot_key": "before",
        "snapshot": "s1",
        "answer": "accepted",
    }
    write_note(pod.volume, POD_ID, LAST_STOP, note)
    pod.start()
    pod.until(lambda: pod.status().get("previous_stop") is not None)
    assert "confirmed by this start" in verb(pod, "status").stdout
    pod.until((pod.state_dir / LOGIN_FILE).exists)
    told = subprocess.run(
        ["sh", "-i", "-c", f". {pod.disk / LOGIN_SCRIPT}"], capture_output=True, text=True, check=True
    ).stdout
    assert "nothing used it" in told
    assert "idlewatch restore s1" in told


def test_a_pod_that_comes_back_without_its_gpus_is_told_so(pod: Place) -> None:
    note: dict[str, Json] = {"at": "2026-11-20T19:00", "reason": "idle", "boot_key": "before", "gpus": 2}
    write_note(pod.volume, POD_ID, LAST_STOP, note)
    pod.settings = {"RUNPOD_GPU_COUNT": "0", "IDLEWATCH_SIGNALS": "gpu"}
    pod.command = ("-m", "idlewatch", "run", "--observe")
    pod.start()
    pod.until(lambda: "had 2 GPUs before its last stop" in str(pod.status().get("troubles")))


def test_a_gentle_end_is_seen_at_once_and_leaves_this_boots_history_on_the_volume(pod: Place) -> None:
    daemon = pod.start()
    pod.until(lambda: float(str(pod.status().get("idle_for_s", 0))) > 0)
    assert verb(pod, "status").returncode == 0
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    status = verb(pod, "status")
    assert status.returncode == 1
    assert "was asked to end" in status.stdout
    assert "nothing guards this Pod" in (pod.state_dir / LOGIN_FILE).read_text()
    (kept,) = (pod.volume / ".idlewatch" / POD_ID / "history").iterdir()
    with gzip.open(kept, "rt") as file:
        head, *others = (json.loads(line) for line in file)
    assert head["pod_id"] == POD_ID
    assert any(line.get("verdict", {}).get("verdict") == "quiet" for line in others)
    assert pod.processes() == []


def test_why_names_the_hold_that_keeps_the_pod(pod: Place) -> None:
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "2s"}
    pod.start()
    pod.until(lambda: pod.phase() != "None")
    assert verb(pod, "hold", "2h", "--reason", "demo for ann").returncode == 0
    pod.until(lambda: "demo for ann" in str(pod.status().get("reason")))
    why = verb(pod, "why")
    assert "Kept up by a hold" in why.stdout
    assert "demo for ann" in why.stdout
    said = json.loads(verb(pod, "why", "--json").stdout)
    assert said["keepers"][0]["name"] == "a hold"


def test_a_stopping_pods_history_lies_on_the_volume_with_its_last_events(pod: Place) -> None:
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "2s"}
    pod.start()
    pod.until(pod.stopped)
    (kept,) = (pod.volume / ".idlewatch" / POD_ID / "history").iterdir()
    with gzip.open(kept, "rt") as file:
        events = [line["event"]["kind"] for line in map(json.loads, file) if "event" in line]
    assert events == ["warn", "save", "save done", "stop"]
    assert (pod.disk / LOGIN_SCRIPT).exists()
    back = pod.folder / "back"
    back.mkdir()
    restore(find(pod.volume, POD_ID), back)
    assert (back / "root/work.txt").exists()
    assert not (back / LOGIN_SCRIPT).exists(), "our own script is not the user's work"


def test_a_volume_that_hangs_keeps_the_note_from_being_written_and_not_the_stop_from_being_asked_for() -> None:
    started: list[Task] = []

    def hangs(name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        started.append(Task(command, request, now_s=now_s, silent_limit_s=silent_limit_s))
        return started[-1]

    assert leave_note({"reason": "idle"}, lambda _: None, hangs, within_s=0.3) is False
    give_up = time.monotonic() + 30
    while started[0].poll(time.monotonic()) is None:
        assert time.monotonic() < give_up
        time.sleep(0.02)
