"""Which request to stop counts: one that was asked of this very daemon, and that makes sense."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.model import Json
from idlewatch.requests.stop_requests import Requests, request_file
from tests.whole_path import POD_ID, simulated

BEGAN_S, NOW_S = 1000.0, 1100.0
BEGAN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOUND: dict[str, Json] = {"who": "ann", "warn_for_s": 30, "boot_key": "pod1@1", "asked_s": 1050.0}


def asked(state_dir: Path, said: object, mtime_s: float = 0.0) -> Path:
    path = request_file(state_dir)
    path.parent.mkdir(exist_ok=True)
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    os.utime(path, (BEGAN.timestamp() + mtime_s, BEGAN.timestamp() + mtime_s))
    return path


def requests(state_dir: Path, refused: list[str]) -> Requests:
    return Requests(state_dir, "pod1@1", began_s=BEGAN_S, began=BEGAN, refused=refused.append)


def test_a_request_of_now_stands_until_it_is_taken_back(tmp_path: Path) -> None:
    refused: list[str] = []
    reading = requests(tmp_path, refused)
    assert reading.standing(NOW_S) is None
    path = asked(tmp_path, SOUND)
    request = reading.standing(NOW_S)
    assert request is not None
    assert (request.who, request.warn_for_s, request.asked_s) == ("ann", 30.0, 1050.0)
    assert reading.standing(NOW_S + 5) == request
    path.unlink()
    assert reading.standing(NOW_S + 10) is None
    assert refused == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"asked_s": 999.0}, "before this daemon began"),
        ({"asked_s": 9999.0}, "in the future"),
        ({"asked_s": "soon"}, "makes no sense"),
        ({"asked_s": None}, "before this daemon began"),
        ({"boot_key": "pod1@0"}, "another start"),
        ({"warn_for_s": -1}, "less than nothing"),
        ({"warn_for_s": 90000}, "more than 1d"),
        ({"warn_for_s": float("inf")}, "makes no sense"),
        ({"warn_for_s": float("nan")}, "makes no sense"),
        ({"warn_for_s": True}, "makes no sense"),
        ({"warn_for_s": 10**400}, "makes no sense"),
    ],
)
def test_what_does_not_count_is_taken_away_and_told_once(tmp_path: Path, change: dict[str, Json], why: str) -> None:
    refused: list[str] = []
    reading = requests(tmp_path, refused)
    path = asked(tmp_path, {**SOUND, **change}, mtime_s=-1.0)
    assert reading.standing(NOW_S) is None
    assert reading.standing(NOW_S) is None
    assert not path.exists()
    assert len(refused) == 1
    assert why in refused[0]


NONSENSE = {
    "empty": "",
    "a list": "[]",
    "deep": "[" * 60_000,
    "half": '{"who": "ann"}',
    "no JSON": "\ud800".encode("utf-8", "replace").decode(),
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_a_file_that_makes_no_sense_stops_nothing(tmp_path: Path, content: str) -> None:
    refused: list[str] = []
    path = asked(tmp_path, content)
    assert requests(tmp_path, refused).standing(NOW_S) is None
    assert not path.exists()
    assert refused == ["a request to stop does not count: it makes no sense"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    refused: list[str] = []
    asked(tmp_path, " " * (64 * 1024) + json.dumps(SOUND))
    assert requests(tmp_path, refused).standing(NOW_S) is None
    assert refused == ["a request to stop does not count: it is larger than 64 KiB"]


def test_a_request_without_its_instant_counts_by_the_time_of_its_file(tmp_path: Path) -> None:
    said = {name: value for name, value in SOUND.items() if name != "asked_s"}
    asked(tmp_path, said, mtime_s=2.0)
    assert requests(tmp_path, []).standing(NOW_S) is not None


def test_what_is_no_file_stops_nothing_and_hangs_nobody(tmp_path: Path) -> None:
    refused: list[str] = []
    reading = requests(tmp_path, refused)
    path = request_file(tmp_path)
    path.mkdir(parents=True)
    for _ in range(3):
        assert reading.standing(NOW_S) is None
    assert len(refused) == 1, "it can't be taken away, and is told once"
    path.rmdir()
    os.mkfifo(path)
    assert reading.standing(NOW_S) is None
    assert not path.exists()


def test_who_asked_cannot_steer_a_terminal(tmp_path: Path) -> None:
    asked(tmp_path, {**SOUND, "who": "\x1b[31mann" + "x" * 500})
    request = requests(tmp_path, []).standing(NOW_S)
    assert request is not None
    assert request.who.startswith("[31mann")
    assert len(request.who) == 80


@pytest.mark.slow
def test_a_request_that_a_daemon_left_behind_is_not_carried_out_by_the_next(tmp_path: Path) -> None:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as pod:
        pod.settings = {"IDLEWATCH_IDLE_AFTER": "1h"}
        daemon = pod.start()
        pod.until(lambda: pod.phase() == "watching")
        said = {"who": "ann", "warn_for_s": 60, "boot_key": pod.status()["boot_key"], "asked_s": pod.status()["at_s"]}
        request_file(pod.state_dir).parent.mkdir(exist_ok=True)
        request_file(pod.state_dir).write_text(json.dumps(said))
        pod.until(lambda: pod.phase() == "warned")
        daemon.kill()
        daemon.wait()
        pod.start()
        pod.until(lambda: "request refused" in pod.kinds())
        pod.until(lambda: pod.phase() == "watching")
        assert not request_file(pod.state_dir).exists()
        assert pod.kinds().count("warn") == 1
