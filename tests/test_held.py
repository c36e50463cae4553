"""`hold -- CMD` with real commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch.cli import main
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.requests.stop_requests import request_file
from idlewatch.settings import environment_with
from idlewatch.state_folder import only_daemon
from tests.waiting import until


def run(state_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = environment_with({"IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_CONNECTED_FOR": "12s"})
    command = [sys.executable, "-m", "idlewatch", "hold", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def holds(state_dir: Path) -> list[Path]:
    return list((state_dir / "holds").glob("*.json"))


@pytest.mark.slow
def test_the_pod_is_held_while_the_command_runs_and_its_status_is_ours(tmp_path: Path) -> None:
    held = run(tmp_path, "--reason", "fine-tuning", "2h", "--", "sh", "-c", "echo out; read x; exit 7")
    until(lambda: holds(tmp_path), "a hold")
    assert "fine-tuning" in holds(tmp_path)[0].read_text()
    assert f'"pid": {held.pid}' in holds(tmp_path)[0].read_text()
    out, _ = held.communicate("go\n")
    assert (out, held.returncode) == ("out\n", 7)
    assert holds(tmp_path) == []


SCRIPTS = {
    "no program": ("echo", 0o755, 126, "it is no program and its first line names none"),
    "no interpreter": ("#!/no/such/interpreter", 0o755, 127, "the interpreter"),
    "not executable": ("#!/bin/sh", 0o644, 126, "chmod +x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("row", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_cannot_be_started_is_told_why(tmp_path: Path, row: tuple[str, int, int, str]) -> None:
    text, mode, status, says = row
    script = tmp_path / "train"
    script.write_text(f"{text}\n")
    script.chmod(mode)
    held = run(tmp_path, "--", str(script))
    _, error = held.communicate()
    assert held.returncode == status
    assert says in error
    assert str(script) in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "status", "says"),
    [("no-such-command", 127, "there is no such command"), ("/etc", 126, "it is a folder")],
)
def test_a_command_that_cannot_be_started_leaves_no_hold(tmp_path: Path, command: str, status: int, says: str) -> None:
    held = run(tmp_path, "--", command)
    _, error = held.communicate()
    assert held.returncode == status
    assert f"can't start {command}: {says}" in error
    assert holds(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "told"), [("KILL", True), ("SEGV", True), ("PIPE", False), ("INT", False)])
def test_a_command_that_a_signal_ended_has_its_status_and_an_unexpected_one_is_told(
    tmp_path: Path, name: str, *, told: bool
) -> None:
    held = run(tmp_path, "--", "sh", "-c", f"kill -{name} $$")
    _, error = held.communicate()
    assert held.returncode == 128 + signal.Signals[f"SIG{name}"]
    assert (f"sh was ended by SIG{name}" in error) is told
    assert holds(tmp_path) == []


@pytest.mark.slow
def test_a_shutdown_request_reaches_the_command_and_the_hold_ends(tmp_path: Path) -> None:
    held = run(tmp_path, "--", "sh", "-c", "echo $$; exec sleep 600")
    assert held.stdout is not None
    pid = int(held.stdout.readline())
    held.send_signal(signal.SIGTERM)
    held.communicate(timeout=30)
    assert held.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert holds(tmp_path) == []


@pytest.mark.slow
def test_a_command_without_progress_loses_the_hold_and_runs_on(tmp_path: Path) -> None:
    held = run(tmp_path, "--", "sleep", "600")
    until(lambda: holds(tmp_path), "a hold")
    until(lambda: not holds(tmp_path), "the end of the hold")
    assert held.poll() is None
    held.send_signal(signal.SIGTERM)
    _, error = held.communicate()
    assert "the hold has ended, the command runs on" in error


@pytest.mark.slow
def test_without_a_daemon_nothing_is_started(tmp_path: Path) -> None:
    held = run(tmp_path / "nowhere", "--", "touch", str(tmp_path / "made"))
    _, error = held.communicate()
    assert held.returncode == 3
    assert "nothing was started" in error
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_then_stop_without_a_daemon_says_at_once_that_nobody_would_stop_the_pod(tmp_path: Path) -> None:
    held = run(tmp_path, "--then-stop", "--", "touch", str(tmp_path / "made"))
    _, error = held.communicate()
    assert held.returncode == 3
    assert "no daemon is running here to carry out a stop" in error
    assert not request_file(tmp_path).exists()
    assert not (tmp_path / "made").exists()


def watched(state_dir: Path, **more: Json) -> None:
    """As a daemon leaves it that watches."""
    said: dict[str, Json] = {"at_s": MachineClock().now_s(), "interval_s": 3600.0, "phase": "watching", **more}
    (state_dir / "status.json").write_text(json.dumps(said))


@pytest.mark.slow
def test_then_stop_asks_for_a_stop_when_the_command_has_ended_well_or_not(tmp_path: Path) -> None:
    with only_daemon(tmp_path):
        watched(tmp_path)
        held = run(tmp_path, "--then-stop", "--", "sh", "-c", "exit 7")
        out, _ = held.communicate()
    assert held.returncode == 7
    assert "Asked" in out
    assert request_file(tmp_path).exists()


@pytest.mark.slow
def test_then_stop_does_not_stop_a_pod_for_a_command_that_was_not_there(tmp_path: Path) -> None:
    with only_daemon(tmp_path):
        watched(tmp_path)
        held = run(tmp_path, "--then-stop", "--", "pyhton", "train.py")
        _, error = held.communicate()
    assert held.returncode == 127
    assert "no stop is asked for" in error
    assert not request_file(tmp_path).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("exits", "status"), [(0, 3), (7, 7)])
def test_a_daemon_that_has_gone_meanwhile_hides_no_status_of_the_command(
    tmp_path: Path, exits: int, status: int
) -> None:
    with only_daemon(tmp_path):
        watched(tmp_path)
        held = run(tmp_path, "--then-stop", "--", "sh", "-c", f"rm {tmp_path}/daemon.lock; exit {exits}")
        _, error = held.communicate()
    assert held.returncode == status
    assert "no daemon is running here to carry out a stop" in error


@pytest.mark.parametrize("arguments", [["hold", "--"], ["hold", "--then-stop", "2h"]])
def test_what_makes_no_sense_is_refused_with_the_remedy(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "command" in capsys.readouterr().err
