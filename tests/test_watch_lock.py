"""Whether a daemon lives, told by its lock; asking is no obstacle to one that starts."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from idlewatch import state_folder
from idlewatch.cli import main
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.errors import Refused
from idlewatch.state_folder import daemon_watches, only_daemon
from tests.whole_path import POD_ID, Place, simulated


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        yield place


def test_a_daemon_lives_as_long_as_it_holds_its_lock(tmp_path: Path) -> None:
    assert not daemon_watches(tmp_path / "none")
    with only_daemon(tmp_path):
        assert daemon_watches(tmp_path)
        assert daemon_watches(tmp_path), "asking takes nothing away"
        with pytest.raises(Refused, match="another idlewatch watches"), only_daemon(tmp_path):
            pass
    assert (tmp_path / state_folder.LOCK_FILE).exists()
    assert not daemon_watches(tmp_path)


def test_a_daemon_that_starts_while_somebody_asks_gets_its_lock(tmp_path: Path) -> None:
    (tmp_path / state_folder.LOCK_FILE).touch()
    asking, starting = (os.open(tmp_path / state_folder.LOCK_FILE, os.O_RDWR) for _ in range(2))
    fcntl.flock(asking, fcntl.LOCK_SH)
    start = Thread(target=state_folder._lock, args=(starting, 60.0))
    start.start()
    fcntl.flock(asking, fcntl.LOCK_UN)
    start.join(60.0)
    assert not start.is_alive()
    assert daemon_watches(tmp_path)
    os.close(asking)
    os.close(starting)


@pytest.mark.parametrize(("age_s", "lives"), [(1.0, True), (600.0, False)])
def test_where_the_lock_cannot_be_read_the_last_look_decides(tmp_path: Path, age_s: float, lives: bool) -> None:  # noqa: FBT001
    (tmp_path / state_folder.LOCK_FILE).symlink_to(state_folder.LOCK_FILE)  # nobody can open it, root neither
    at_s = time.clock_gettime(time.CLOCK_BOOTTIME) - age_s
    (tmp_path / "status.json").write_text(json.dumps({"at_s": at_s, "interval_s": 5.0}))
    assert daemon_watches(tmp_path) is lives


@pytest.mark.slow
def test_a_daemon_that_is_ended_hard_is_not_running_at_once(
    pod: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.settings = {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_INTERVAL": "60s"}
    daemon = pod.start()
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(pod.state_dir))
    pod.until(lambda: pod.phase() == "watching")
    assert main(["status"]) == 0
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    capsys.readouterr()
    assert main(["status"]) == 1
    assert "NOT RUNNING: the daemon ended without a word" in capsys.readouterr().out
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False
    assert main(["why"]) == 3
