"""What a person is told at login, by a real shell that reads the real script."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from idlewatch.deciding.moment import StopRequest
from idlewatch.model import Activity, Finding, Reading
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.telling import login
from idlewatch.watching.record import DaemonRecord
from tests.fakes import Rehearsed
from tests.test_daemon import Scripted
from tests.test_record import daemon, watched


def at_login(disk: Path, flag: str = "-i") -> str:
    command = ["sh", flag, "-e", "-c", f". {disk / LOGIN_SCRIPT}; echo in"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def place_with_profile(folder: Path) -> tuple[Path, Path]:
    disk, state_dir = folder / "disk", folder / "state's"
    (disk / "etc/profile.d").mkdir(parents=True)
    state_dir.mkdir()
    return disk, state_dir


def test_an_interactive_shell_shows_the_words_and_others_do_not(tmp_path: Path) -> None:
    disk, state_dir = place_with_profile(tmp_path)
    login.show_at_login(disk, state_dir)
    assert at_login(disk) == "in\n"
    login.say(state_dir, ["nothing guards this Pod", "bad\x1b[31m words"])
    assert at_login(disk) == "idlewatch: nothing guards this Pod\n  bad[31m words\nin\n"
    assert at_login(disk, "-u") == "in\n"
    login.say(state_dir, [])
    assert at_login(disk) == "in\n"


def test_nothing_is_put_where_login_shells_read_nothing(tmp_path: Path) -> None:
    login.show_at_login(None, tmp_path)
    login.show_at_login(tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Hanging(Scripted):
    def judge(self, reading: Reading) -> Finding:
        return Finding(signal="host", activity=Activity.ACTIVE, reason="busy", notice="gpu0 may hang")


def words_of(state_dir: Path) -> str:
    path = state_dir / login.LOGIN_FILE
    return path.read_text() if path.exists() else ""


def test_the_daemon_says_what_is_wrong_and_takes_it_back(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert words_of(tmp_path) == ""
    daemon(clock, record, Rehearsed(), Hanging()).tick()
    assert "gpu0 may hang" in words_of(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert words_of(tmp_path) == ""
    record.ended()
    assert "nothing guards this Pod" in words_of(tmp_path)
    history.close()


@pytest.mark.slow
def test_who_logs_in_during_the_warning_is_told_how_to_keep_the_pod(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted()).run(until=lambda: clock.now_s() > 1900)
    assert "being stopped" in words_of(tmp_path)
    assert "idlewatch hold 2h" in words_of(tmp_path)
    history.close()


def test_who_logs_in_while_a_request_or_a_ceiling_stops_the_pod_is_told_what_helps_there(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    request = StopRequest(who="ann", warn_for_s=600)
    daemon(clock, record, Rehearsed(), Scripted(), request=request).tick()
    assert "being stopped (asked for by ann); take it back: idlewatch stop --cancel" in words_of(tmp_path)
    capped = daemon(clock, record, Rehearsed(), Scripted(), IDLEWATCH_MAX_UPTIME="10m", IDLEWATCH_IDLE_AFTER="1m")
    capped.run(until=lambda: clock.now_s() > 400)
    assert "raise or unset IDLEWATCH_MAX_UPTIME and restart the daemon" in words_of(tmp_path)
    assert "hold 2h" not in words_of(tmp_path)
    history.close()


@pytest.mark.slow
def test_who_logs_in_where_the_daemon_only_observes_is_told_what_would_be(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path, IDLEWATCH_MODE="observe")
    observing = daemon(clock, record, Rehearsed(), Scripted(), observing=True)
    observing.run(until=lambda: clock.now_s() > 1900)
    assert "this Pod would be stopped now" in words_of(tmp_path)
    assert "is being stopped" not in words_of(tmp_path)
    assert "hold" not in words_of(tmp_path)
    record.ended()
    assert "nothing observes this Pod" in words_of(tmp_path)
    history.close()


def test_why_the_pod_was_stopped_before_is_told_for_a_day(tmp_path: Path) -> None:
    clock, history, told = watched(tmp_path)
    record = DaemonRecord(history, clock, told._loaded, told._pod, lambda: "confirmed by this start: idle")
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert "confirmed by this start: idle" in words_of(tmp_path)
    clock.sleep(90_000)
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert "confirmed" not in words_of(tmp_path)
    history.close()
