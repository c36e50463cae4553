"""`hold -- CMD` with real commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlewatch.cli import main
from idlewatch.settings import environment_with
from idlewatch.watch import request_file


def run(state_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = environment_with({"IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_CONNECTED_FOR": "12s"})
    command = [sys.executable, "-m", "idlewatch", "hold", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def holds(state_dir: Path) -> list[Path]:
    return list((state_dir / "holds").glob("*.json"))


def until(what: object, within_s: float = 30.0) -> None:
    assert callable(what)
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.02)


def test_the_pod_is_held_while_the_command_runs_and_its_status_is_ours(tmp_path: Path) -> None:
    held = run(tmp_path, "--reason", "fine-tuning", "2h", "--", "sh", "-c", "echo out; read x; exit 7")
    until(lambda: holds(tmp_path))
    assert "fine-tuning" in holds(tmp_path)[0].read_text()
    assert f'"pid": {held.pid}' in holds(tmp_path)[0].read_text()
    out, _ = held.communicate("go\n")
    assert (out, held.returncode) == ("out\n", 7)
    assert holds(tmp_path) == []


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_started_leaves_no_hold(tmp_path: Path, command: str, status: int) -> None:
    held = run(tmp_path, "--", command)
    _, error = held.communicate()
    assert held.returncode == status
    assert f"can't start {command}" in error
    assert holds(tmp_path) == []


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
    until(lambda: holds(tmp_path))
    until(lambda: not holds(tmp_path), within_s=90)
    assert held.poll() is None
    held.send_signal(signal.SIGTERM)
    _, error = held.communicate()
    assert "the hold has ended, the command runs on" in error


def test_without_a_daemon_nothing_is_started(tmp_path: Path) -> None:
    held = run(tmp_path / "nowhere", "--", "touch", str(tmp_path / "made"))
    _, error = held.communicate()
    assert held.returncode == 3
    assert "nothing was started" in error
    assert not (tmp_path / "made").exists()


def test_then_stop_without_a_daemon_says_that_nobody_stops_the_pod(tmp_path: Path) -> None:
    held = run(tmp_path, "--then-stop", "--", "true")
    _, error = held.communicate()
    assert held.returncode == 3
    assert "no daemon is running here to carry out a stop" in error
    assert not request_file(tmp_path).exists()


@pytest.mark.parametrize("arguments", [["hold", "--"], ["hold", "--then-stop", "2h"]])
def test_what_makes_no_sense_is_refused_with_the_remedy(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "command" in capsys.readouterr().err
