"""What the doctor makes of a daemon that has died or just begun, of folders that are not there, and of secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idlewatch.doctor.examine import judged
from idlewatch.doctor.here import here as gathered
from idlewatch.doctor.looking import Seen
from idlewatch.doctor.looks_volume import loss
from idlewatch.history import STATUS_FILE
from idlewatch.lock import only_daemon
from tests.test_doctor_judging import BROKEN, STATUS, changed, healthy, line, loaded, pod


def test_a_daemon_that_was_killed_does_not_run_though_it_has_just_looked(tmp_path: Path) -> None:
    told = loaded(IDLEWATCH_STATE_DIR=str(tmp_path), IDLEWATCH_SIGNALS="host")
    (tmp_path / STATUS_FILE).write_text(json.dumps(STATUS | {"at_s": 1000.0, "interval_s": 5.0}))
    with only_daemon(tmp_path):
        assert gathered(told, 1002.0).running
    dead = gathered(told, 1002.0)
    found = line(judged(dead, changed("machine", "daemon_pid", None)), "daemon")
    assert (dead.running, found.standing) == (False, BROKEN)
    assert "is not running, last looked 2s ago" in found.text


def test_a_volume_that_is_not_there_has_no_room_that_could_be_made() -> None:
    seen = changed("volume", "there", False)
    lines = judged(pod(), seen)
    assert line(lines, "volume").text == "/workspace is no folder"
    assert not {"room", "snapshots"} & {one.name for one in lines}


def test_a_save_root_that_is_not_there_is_named_with_its_setting() -> None:
    gone = healthy() | {"loss": Seen(said={"root": "/nope", "gone": True})}
    lines = judged(pod(), gone)
    found = line(lines, "root")
    assert found.standing is BROKEN
    assert "IDLEWATCH_SAVE_ROOT=/nope is not there" in found.text
    assert "IDLEWATCH_SAVE_ROOT" in str(found.remedy)
    assert "room" not in {one.name for one in lines}


def test_the_look_at_the_loss_says_where_there_is_no_such_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(tmp_path / "gone"))
    monkeypatch.setattr("idlewatch.doctor.looks_volume.be_gentle", lambda: None)
    assert loss(None, lambda _: None) == {"root": str(tmp_path / "gone"), "gone": True}
