"""The sign of life: a file on the volume and a GET, as the daemon's child processes give them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from idlewatch.children.tasks import Task
from idlewatch.history.store import STATUS_FILE
from idlewatch.settings import environment_with
from tests.notices import Hook, served
from tests.waiting import comes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


@pytest.fixture
def hook() -> Iterator[Hook]:
    with served() as server:
        yield server


@dataclass
class Pod:
    """A state folder with what a daemon shows, and a volume."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("disk", "volume", "state"):
            (self.folder / name).mkdir()
        self.shows()

    def shows(self, *, ago_s: float = 0.0, **other: Any) -> None:
        at_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ago_s
        usual = {
            "at": "2026-11-24T17:00:00+00:00",
            "at_s": at_s,
            "interval_s": 600.0,
            "mode": "stop",
            "pod_id": "p1",
            "boot_key": "p1@1",
            "phase": "watching",
            "reason": "quiet for 3m of 30m",
            "idle_for_s": 180.0,
            "troubles": {"hooks": "10-a is not executable"},
        }
        (self.folder / "state" / STATUS_FILE).write_text(json.dumps(usual | other))

    def does(self, task: str, silent_limit_s: float = 60.0) -> Any:
        variables = environment_with(
            {
                "RUNPOD_POD_ID": "p1",
                "IDLEWATCH_VOLUME": str(self.folder / "volume"),
                "IDLEWATCH_SAVE_ROOT": str(self.folder / "disk"),
                "IDLEWATCH_STATE_DIR": str(self.folder / "state"),
                "PYTHONPATH": str(ROOT),
                **self.settings,
            }
        )
        command = [sys.executable, "-m", "idlewatch", "_task", task]
        doing = Task(command, None, now_s=time.monotonic(), silent_limit_s=silent_limit_s, environment=variables)
        assert comes(lambda: doing.poll(time.monotonic()) is not None)
        end = doing.poll(time.monotonic())
        assert end is not None
        return end.result if end.error is None else end.error

    @property
    def path(self) -> Path:
        return self.folder / "volume/.idlewatch/p1/heartbeat.json"


def test_the_file_says_what_the_daemon_is_about(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_HEARTBEAT_EVERY": "7m"})
    assert pod.does("heartbeat") == {"failed": []}
    assert json.loads(pod.path.read_text()) == {
        "format": 1,
        "at": "2026-11-24T17:00:00+00:00",
        "pod_id": "p1",
        "boot_key": "p1@1",
        "mode": "stop",
        "phase": "watching",
        "idle_for_s": 180.0,
        "next": "quiet for 3m of 30m",
        "troubles": ["hooks"],
        "every_s": 420.0,
        "ended": False,
    }


def test_a_daemon_that_does_not_tick_gives_no_sign_of_life(tmp_path: Path, hook: Hook) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_HEARTBEAT_URL": hook.url})
    pod.shows(ago_s=3600.0)
    for task in ("heartbeat", "ping"):
        assert pod.does(task) == {"failed": []}
    assert (pod.path.exists(), hook.asked) == (False, [])


def test_one_that_has_ended_by_itself_says_so_in_the_file_and_pings_no_more(tmp_path: Path, hook: Hook) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_HEARTBEAT_URL": hook.url})
    pod.shows(ended=True)
    pod.does("heartbeat")
    assert json.loads(pod.path.read_text())["ended"] is True
    pod.does("ping")
    assert hook.asked == []


def test_a_volume_that_takes_no_file_is_told_in_words_and_is_no_error(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    (tmp_path / "volume/.idlewatch").write_text("a file where a folder must be")
    assert "could not be written" in pod.does("heartbeat")["failed"][0]


def test_the_address_is_asked_for_and_what_it_answers_is_told_without_it(tmp_path: Path, hook: Hook) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_HEARTBEAT_URL": hook.url})
    assert pod.does("ping") == {"failed": []}
    assert hook.asked == [("GET", "/hooks/SECRETTOKEN")]
    hook.status = 404
    failed = pod.does("ping")["failed"]
    assert "HTTP 404" in failed[0]
    assert "SECRETTOKEN" not in failed[0]


def test_one_that_drips_is_no_error_for_errands_that_fail_grow_rare(tmp_path: Path, hook: Hook) -> None:
    hook.drips = True
    pod = Pod(tmp_path, {"IDLEWATCH_HEARTBEAT_URL": hook.url})
    said = pod.does("ping", silent_limit_s=20.0)
    assert isinstance(said, dict), said
    assert "answer" in said["failed"][0]
