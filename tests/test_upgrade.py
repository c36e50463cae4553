"""A state folder that another version left: what can't be used is set aside with words, and the daemon watches."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.history.store import events_of
from tests.whole_path import POD_ID, Place, simulated

pytestmark = pytest.mark.slow
OF_ANOTHER_VERSION = {
    "status.json": '{"format": 0, "phase": "dozing"}',
    "settings.json": '{"version": 0}',
    "restored.json": '{"container": "x", "became": "thought of", "more": 1}',
    "hooks.json": '{"boot_key": "x", "stages": ["before"]}',
    "gaps.jsonl": '{"version": 0}\n[]\n',
    "asked.json": "[1, 2]",
    "login.txt": "idlewatch: of another version\n",
    "holds/old.json": '{"who": ["x"], "until": "tomorrow"}',
    "requests/stop.json": '{"stop": true}',
    "requests/save.json": "[]",
    "requests/event-1.json": '{"kind": "stop done", "text": "invented"}',
    "state.newest": "",
}


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        place.settings = {"IDLEWATCH_IDLE_AFTER": "1h"}
        for name, text in OF_ANOTHER_VERSION.items():
            (place.state_dir / name).parent.mkdir(exist_ok=True)
            (place.state_dir / name).write_text(text)
        with closing(sqlite3.connect(place.state_dir / "history.db")) as database:
            database.execute("PRAGMA user_version = 99")
        yield place


def test_it_watches_says_what_it_put_aside_and_believes_none_of_the_rest(pod: Place) -> None:
    daemon = pod.start()
    pod.until(lambda: pod.phase() == "watching" and "history" in pod.kinds())
    said = {str(event["kind"]): str(event["text"]) for event in events_of(pod.state_dir)}
    assert said["history"].startswith("the one of before was written by a newer version of idlewatch")
    assert str(pod.state_dir / "history.db.bad") in said["history"]
    assert "stop done" not in said
    assert pod.status()["holds"] == []
    assert pod.status()["action"] in ("wait", "none")
    env = {"IDLEWATCH_STATE_DIR": str(pod.state_dir), "RUNPOD_POD_ID": POD_ID}
    for verb in ("status", "why", "holds", "history", "settings"):
        command = [sys.executable, "-P", "-m", "idlewatch", verb]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=100)
        assert "Traceback" not in done.stderr, verb
        assert done.stdout, verb
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    assert json.loads((pod.state_dir / "status.json").read_text())["ended"] is True


def test_the_history_of_an_older_version_is_gone_on_with(pod: Place) -> None:
    (pod.state_dir / "history.db").unlink()
    with closing(sqlite3.connect(pod.state_dir / "history.db")) as database:
        database.executescript((Path(__file__).parent / "histories/format-2.sql").read_text())
    pod.start()
    pod.until(lambda: pod.phase() == "watching" and "request refused" in pod.kinds())
    assert next(str(event["text"]) for event in events_of(pod.state_dir)) == "quiet for 30m"
    assert "history" not in pod.kinds(), "nothing was put aside"
