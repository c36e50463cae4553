"""What the doctor makes of a daemon that has died or just begun, of folders that are not there, and of secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idlewatch.doctor.examine import judged
from idlewatch.doctor.here import Here
from idlewatch.doctor.here import here as gathered
from idlewatch.doctor.lines import Group, Lines
from idlewatch.doctor.looking import Seen
from idlewatch.doctor.looks_volume import loss
from idlewatch.history.store import STATUS_FILE
from idlewatch.settings import SETTINGS_FILE, Source, load, verb_sources
from idlewatch.show.doctor import report_lines
from idlewatch.state_folder import only_daemon
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


NOTIFY = "IDLEWATCH_NOTIFY"


def shell_of(folder: Path, **variables: str) -> Here:
    """What a shell gathers beside a daemon that was given a channel, of which only the name is written down."""
    (folder / STATUS_FILE).write_text(json.dumps(STATUS | {"at_s": 1000.0, "interval_s": 5.0}))
    both = {"RUNPOD_POD_ID": "abc", "IDLEWATCH_STATE_DIR": str(folder), "IDLEWATCH_SIGNALS": "host"}
    (folder / SETTINGS_FILE).write_text(json.dumps({"variables": both, "origins": {"notify": "environment"}}))
    return gathered(load(verb_sources([Source(name="environment", variables=both | variables)])), 1002.0)


def test_a_channel_that_only_the_daemon_knows_is_a_channel(tmp_path: Path) -> None:
    with only_daemon(tmp_path):
        here = shell_of(tmp_path)
        knowing = shell_of(tmp_path, IDLEWATCH_NOTIFY="ntfy://topic")
    lines = judged(here, changed("machine", "terminals", []))
    assert line(lines, "channels").text.startswith("the daemon has a channel that this shell does not know")
    assert "terminals" not in {one.name for one in lines}
    assert line(lines, "environment").text.endswith(f"and has {NOTIFY} besides")
    assert (here.unknown_secrets, knowing.unknown_secrets) == ((NOTIFY,), ())
    assert "1 channel would be told: ntfy" in line(judged(knowing, healthy()), "channels").text
    dead = judged(shell_of(tmp_path), changed("machine", "terminals", []))
    assert "no channel is set" in line(dead, "terminals").text


def test_a_dead_daemon_does_not_observe() -> None:
    observes = loaded(IDLEWATCH_MODE="observe")
    dead = line(judged(pod(loaded=observes, running=False), healthy()), "mode")
    assert dead.text.startswith("a daemon that is started with these settings would only observe")
    lives = line(judged(pod(loaded=observes, status={**STATUS, "mode": "observe"}), healthy()), "mode")
    assert lives.text.startswith("it only observes")


def test_a_long_remedy_is_printed_once_and_given_to_programs_each_time() -> None:
    remedy = "make another key, " * 10
    lines = [Lines(Group.KEY).broken(f"api:{number}", "refused", remedy) for number in range(4)]
    text = " ".join(report_lines(lines, 80))
    assert (text.count("-> make another key"), text.count("-> as above")) == (1, 3)
    assert all(one.as_json()["remedy"] == remedy for one in lines)


def test_without_a_key_what_to_do_is_told_once() -> None:
    text = " ".join(" ".join(report_lines(judged(pod(keys=()), healthy()), 80)).split())
    assert text.count("make a key in RunPod's console") == 1
