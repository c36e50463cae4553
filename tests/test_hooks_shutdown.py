"""Who asked the daemon to end, and what that means: only for it, or for the whole container."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.model import Json
from idlewatch.stopping.notes import previous_stop
from idlewatch.watching.shutdown import ending_of, machine_goes_down

OWN, PARENT = 40, 30


class Proc:
    """A /proc in which `init` is PID 1 and the daemon's parent has this command line."""

    def __init__(self, path: Path, init: str, parent: str) -> None:
        self.path = path
        self.add(1, init, 0)
        self.add(PARENT, parent.split(maxsplit=1)[0], 1, parent)
        self.add(OWN, "idlewatch", PARENT, "idlewatch run")
        self.add(77, "bash", 1, "bash")

    def add(self, pid: int, name: str, above: int, command: str = "") -> None:
        folder = self.path / str(pid)
        folder.mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "stat").write_text(f"{pid} ({name}) S {above} 0 0")
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in command.split()) + b"\0")


EXEC = "/usr/bin/python3 /usr/local/bin/idlewatch exec -- /start.sh"


@pytest.mark.parametrize(
    ("init", "parent", "sender", "container", "says"),
    [
        ("docker-init", "bash", 0, True, "from outside"),
        ("docker-init", "bash", 1, True, "PID 1 (docker-init) passes that on"),
        ("docker-init", EXEC, PARENT, True, "`idlewatch exec` passes that on"),
        ("docker-init", EXEC, None, True, "`idlewatch exec` passes that on"),
        ("docker-init", "bash", None, False, "somebody ended idlewatch"),
        ("docker-init", "bash", PARENT, False, "bash (pid 30) ended idlewatch"),
        ("docker-init", EXEC, 77, False, "bash (pid 77) ended idlewatch"),
        ("docker-init", EXEC, 99, False, "a process (pid 99) ended idlewatch"),
        ("docker-init", "vi idlewatch exec", PARENT, True, "exec"),
        ("docker-init", "watch idlewatch status exec", PARENT, False, "watch (pid 30)"),
        ("supervisord", "supervisord", 1, False, "supervisord (pid 1) ended idlewatch"),
        ("supervisord", "supervisord", 0, True, "from outside"),
    ],
)
def test_who_asked_tells_whether_the_container_ends(
    tmp_path: Path, init: str, parent: str, sender: int | None, *, container: bool, says: str
) -> None:
    Proc(tmp_path, init, parent)
    ending = ending_of(sender, proc=tmp_path, own_pid=OWN)
    assert (ending.container, says in ending.why) == (container, True), ending.why


@pytest.mark.parametrize(("down", "says"), [(True, "machine is going down"), (False, "service was stopped")])
def test_on_a_machine_with_systemd_it_is_asked(tmp_path: Path, *, down: bool, says: str) -> None:
    Proc(tmp_path, "systemd", "systemd")
    ending = ending_of(1, proc=tmp_path, own_pid=OWN, goes_down=lambda: down)
    assert ending.container is down
    assert says in ending.why


def test_as_pid_1_its_end_is_the_containers(tmp_path: Path) -> None:
    Proc(tmp_path, "idlewatch", "bash")
    assert ending_of(77, proc=tmp_path, own_pid=1).container


def test_without_proc_nothing_is_made_up(tmp_path: Path) -> None:
    assert not ending_of(77, proc=tmp_path, own_pid=OWN).container


@pytest.mark.parametrize(("said", "down"), [("stopping", True), ("running", False), ("degraded", False)])
def test_systemd_says_whether_the_machine_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, *, down: bool
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$1" = is-system-running ] && echo {said}\nexit 1\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine_goes_down() is down
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert machine_goes_down() is False


CLOCK = """
import signal, sys, time
from idlewatch.machine_clock import MachineClock
clock = MachineClock()
clock.end_on_shutdown_request()
if sys.argv[1] == "asleep":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # what comes too early waits for the sleep
print("ready", flush=True)
if sys.argv[1] == "asleep":
    clock.sleep(60)
else:
    ends = time.monotonic() + 60
    while not clock.ended() and time.monotonic() < ends:
        pass
    clock.sleep(60)
print(clock.ended(), clock.sender, flush=True)
"""


@pytest.fixture
def sleeper(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", CLOCK, request.param], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("sleeper", "known"), [("asleep", True), ("awake", False)], indirect=["sleeper"])
def test_a_shutdown_request_ends_the_sleep_and_its_sender_is_known_where_it_was_waited_for(
    sleeper: subprocess.Popen[str], *, known: bool
) -> None:
    assert sleeper.stdout
    assert sleeper.stdout.readline() == "ready\n"
    sleeper.terminate()
    assert sleeper.stdout.readline() == f"True {os.getpid() if known else None}\n"


def test_the_next_start_says_that_the_pod_was_ended_from_outside_and_the_same_start_does_not() -> None:
    note: dict[str, Json] = {"from_outside": True, "at": "2026-11-24T10:00:00", "reason": "x", "boot_key": "pod@1"}
    assert "was ended from outside, not by idlewatch" in str(previous_stop(note, "pod@2"))
    assert previous_stop(note, "pod@1") is None
