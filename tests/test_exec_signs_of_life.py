"""A daemon that stands still under `idlewatch exec` is noticed; one that is late or stopped with us is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.host.notify_socket import NotifySocket
from idlewatch.host.signs_of_life import SignsOfLife

ME = os.getpid()
DEADLINE_S = 60.0


@pytest.fixture
def signs() -> Iterator[SignsOfLife]:
    found = SignsOfLife()
    found.begun(1000.0)
    yield found
    found.close()


def daemon(signs: SignsOfLife) -> NotifySocket:
    return NotifySocket({name.decode(): value.decode() for name, value in signs.variables().items()})


def test_without_a_daemon_nothing_is_due() -> None:
    found = SignsOfLife()
    assert found.due_s == float("inf")
    found.close()


def test_one_that_never_looks_is_silent_once(signs: SignsOfLife) -> None:
    assert signs.silent_s(ME, 1179.0) is None
    assert signs.silent_s(ME, 1180.0) == 180.0
    assert signs.silent_s(ME, 9999.0) is None


def test_one_that_looks_is_silent_only_after_the_time_that_it_announced(signs: SignsOfLife) -> None:
    told = daemon(signs)
    told.ready(100.0)
    told.alive("watching")
    assert signs.silent_s(ME, 1180.0) is None
    assert signs.due_s == 1480.0
    told.alive("watching")
    assert signs.silent_s(ME, 1480.0) is None
    assert signs.silent_s(ME, 1780.0) == 300.0


def test_a_full_socket_holds_nobody_up_and_what_came_first_counts(signs: SignsOfLife) -> None:
    told = daemon(signs)
    told.ready(100.0)
    for _ in range(2000):
        told.alive("watching")
    assert signs.silent_s(ME, 1180.0) is None
    assert signs.due_s == 1480.0
    assert signs.silent_s(ME, 1480.0) == 300.0


def test_what_another_process_says_is_no_sign_of_the_daemon(signs: SignsOfLife) -> None:
    code = (
        "import sys; from idlewatch.host.notify_socket import NotifySocket as N; "
        "N({'NOTIFY_SOCKET': sys.argv[1], 'WATCHDOG_USEC': '1'}).alive('watching')"
    )
    address = signs.variables()[b"NOTIFY_SOCKET"].decode()
    subprocess.run([sys.executable, "-c", code, address], check=True, timeout=DEADLINE_S)
    assert signs.silent_s(ME, 1180.0) == 180.0


def test_who_was_stopped_as_well_proves_nothing(signs: SignsOfLife) -> None:
    assert signs.silent_s(ME, 5000.0) is None
    assert signs.due_s == 5120.0
    assert signs.silent_s(ME, 5120.0) == 120.0


def test_another_daemon_begins_anew(signs: SignsOfLife) -> None:
    daemon(signs).ready(1000.0)
    assert signs.silent_s(ME, 1180.0) is None
    signs.begun(2000.0)
    assert signs.due_s == 2180.0
    assert signs.silent_s(ME, 2180.0) == 180.0


@pytest.mark.slow
def test_one_that_stands_still_is_ended_and_started_again_and_the_command_lives_on(tmp_path: Path) -> None:
    child = Path(__file__).parent / "exec_child.py"
    still = f"cd {tmp_path}; echo $NOTIFY_SOCKET >>pid; kill -STOP $$"
    command = "while [ $(cat pid 2>/dev/null | wc -l) -lt 2 ]; do sleep 0.1; done; exit 5"
    told = {"PATH": os.environ["PATH"], "PYTHONPATH": str(child.parent.parent), "STARTS_WITHIN_S": "0.5"}
    asked = [sys.executable, str(child), still, "--", "sh", "-c", command]
    started = subprocess.Popen(asked, cwd=tmp_path, env=told, stderr=subprocess.PIPE, text=True)
    with started:
        said = started.communicate(timeout=100)[1]
    assert started.returncode == 5
    assert "idlewatch exec: the daemon stands still: it has not looked at this Pod for 0 s; it is ended\n" in said
    assert "was ended by signal 9; it is started again in 1 s" in said
    assert all(line.startswith("@") for line in (tmp_path / "pid").read_text().split())
