"""How the doctor looks: all at once, within deadlines, and what a machine's own files tell."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from idlewatch.children.tasks import Task
from idlewatch.doctor import drilled, looks_machine, looks_signals
from idlewatch.doctor.here import here as gathered
from idlewatch.doctor.looking import Look, StartLook, look_at
from idlewatch.errors import TaskError
from idlewatch.history.store import DATABASE_FILE, STATUS_FILE
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Finding, Json, Reading
from idlewatch.state_folder import only_daemon
from tests.fakes import quiet
from tests.test_doctor_judging import STATUS, loaded
from tests.waiting import comes

SAYS = "import json; print(json.dumps({{'progress': {{'half': 1}}}})); print(json.dumps({{{0!r}: {1!r}}}), flush=True)"
SLOW = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if {deaf} else signal.SIG_DFL)
print(json.dumps({{"progress": {{"half": 1, "at": "looking under it"}}}}), flush=True)
pathlib.Path({mark!r}).write_text(str(os.getpid()))
time.sleep(600)
"""


def children(mark: Path, **programs: str) -> StartLook:
    """What starts these; one that leaves its process id in `mark` is waited for, so that no time decides a test."""

    def start(name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        if name not in programs:
            raise TaskError(f"can't start {name}")
        command: Sequence[str] = [sys.executable, "-c", programs[name]]
        task = Task(command, request, now_s=now_s, silent_limit_s=silent_limit_s)
        assert str(mark) not in programs[name] or comes(lambda: mark.exists() and mark.read_text() != "", 60.0)
        return task

    return start


def gone(pid: str) -> bool:
    """Whether a process has ended; one that only nobody has taken leave of has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.slow
def test_a_look_that_hangs_is_given_up_and_named_and_the_others_are_seen(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    start = children(mark, good=SAYS.format("result", {"whole": 2}), slow=SLOW.format(deaf=False, mark=str(mark)))
    looks = [Look(name="good", within_s=60.0), Look(name="slow", within_s=0.5), Look(name="gone", within_s=60.0)]
    told: list[str] = []
    seen = look_at(looks, start, told.append)
    assert (seen["good"].said, seen["good"].missing) == ({"whole": 2}, None)
    assert seen["slow"].hung
    assert seen["slow"].missing == "no answer within 0.5 s (looking under it)"
    assert seen["slow"].said["half"] == 1
    assert (seen["gone"].missing, seen["gone"].hung) == ("can't start gone", False)
    assert sorted(told) == ["good", "slow"]
    assert comes(lambda: gone(mark.read_text()), 60.0)


def test_one_that_ignores_a_request_to_end_is_ended_hard(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    start = children(mark, deaf=SLOW.format(deaf=True, mark=str(mark)))
    assert look_at([Look(name="deaf", within_s=0.5)], start)["deaf"].hung
    assert comes(lambda: gone(mark.read_text()), 60.0)


@pytest.mark.slow
def test_one_that_fails_says_why_and_what_it_saw_until_then(tmp_path: Path) -> None:
    error = {"kind": "TaskError", "text": "no right"}
    start = children(tmp_path / "pid", bad=SAYS.format("error", error))
    seen = look_at([Look(name="bad", within_s=60.0)], start)["bad"]
    assert (seen.missing, seen.said, seen.hung) == ("no right", {"half": 1}, False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of RunPod's without anything of ours."""
    for folder in ("proc/1", "proc/2", "dev/pts", "etc/profile.d", "sys"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/1/cmdline").write_bytes(b"/sbin/docker-init\0--\0/start.sh\0")
    (tmp_path / "proc/2/comm").write_text("bash\n")
    (tmp_path / "start.sh").write_text("bash /post_start.sh\n")
    return tmp_path


def machine(root: Path) -> dict[str, Any]:
    said = looks_machine.machine({"root": str(root), "lock": str(root / "daemon.lock")}, lambda _: None)
    assert isinstance(said, dict)
    return said


def test_a_machine_without_anything_of_ours(root: Path) -> None:
    said = machine(root)
    assert said["namespace"] == "own"
    assert (said["starts"], said["unit"], said["systemd"]) == ([], None, False)
    assert (said["login"], said["daemon_pid"], said["terminals"]) == (False, None, [])
    assert "error" in said["cgroup"]
    (root / "proc/2/comm").write_text("kthreadd\n")
    assert machine(root)["namespace"] == "host"


@pytest.mark.parametrize(
    ("file", "text", "starts"),
    [
        ("post_start.sh", "set +e\nsetsid idlewatch run &\n", True),
        ("post_start.sh", "  # idlewatch was here\n", False),
        ("proc/1/cmdline", "python\0-m\0idlewatch\0exec\0--\0/start.sh\0", True),
        ("etc/supervisor/conf.d/idle.conf", "command=/opt/venv/bin/idlewatch run\n", True),
    ],
)
def test_what_starts_the_daemon_is_what_names_it(root: Path, file: str, text: str, starts: bool) -> None:  # noqa: FBT001  (a table)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)
    said = machine(root)
    assert said["starts"] == said["wiped"] == ([str(root / file)] if starts else [])


def test_a_unit_counts_as_enabled_once_something_wants_it(root: Path) -> None:
    folder = root / "etc/systemd/system"
    (folder / "multi-user.target.wants").mkdir(parents=True)
    (folder / "idlewatch.service").write_text("[Service]\n")
    (root / "run/systemd/system").mkdir(parents=True)
    said = machine(root)
    assert (said["systemd"], said["unit"], said["enabled"]) == (True, str(folder / "idlewatch.service"), False)
    (folder / "multi-user.target.wants/idlewatch.service").symlink_to(folder / "idlewatch.service")
    assert machine(root)["enabled"]


def test_who_holds_the_lock_is_read_without_touching_it(tmp_path: Path) -> None:
    lock = tmp_path / "daemon.lock"
    assert looks_machine.lock_holder(lock) is None
    with lock.open("w") as file:
        assert looks_machine.lock_holder(lock) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        line = f"1: FLOCK  ADVISORY  WRITE {os.getpid()} {_device(lock)} 0 EOF\n"
        (tmp_path / "locks").write_text("2: POSIX  ADVISORY  WRITE 1 00:01:5 0 EOF\n" + line)
        assert looks_machine.lock_holder(lock, tmp_path) == os.getpid()


def _device(path: Path) -> str:
    status = path.stat()
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


class Late:
    """Sees something from its third reading on."""

    name = "host"
    refines = False

    def __init__(self) -> None:
        self.readings = 0

    def read(self, now_s: float) -> Reading:
        self.readings += 1
        error = None if self.readings > 2 else "nothing to compare with"
        return Reading(signal=self.name, at_s=now_s, covers_s=1.0, error=error)

    def judge(self, reading: Reading) -> Finding:
        return quiet(reading)

    def close(self) -> None: ...


class NoWait(MachineClock):
    def rest(self, seconds: float) -> None:
        """Go on at once."""


def test_signals_are_read_until_they_see() -> None:
    late, found, at = Late(), dict[str, Json](), list[str]()
    looks_signals._rounds([late], NoWait(), found, at.append)
    assert late.readings == 3
    assert found["host"] == {"activity": "quiet", "reason": "quiet", "refines": False, "gpu": None}
    assert set(at) == {"reading host"}


def test_of_a_gpu_reading_what_the_driver_lets_be_read_is_told() -> None:
    card: Json = {"name": "A100", "kind": "nvidia", "mig": True, "instances": [{}, {}], "not_readable": {"power": "no"}}
    reading = Reading(signal="gpu", at_s=1.0, facts={"expected": 1, "driver": "570", "gpus": [card]})
    said: Any = looks_signals.gpu_facts(reading)
    assert (said["driver"], said["gpus"][0]["instances"], said["gpus"][0]["not_readable"]) == ("570", 2, ["power"])
    assert looks_signals.gpu_facts(Reading(signal="gpu", at_s=1.0, error="NVML is gone")) is None


def test_the_last_drill_outlives_a_stop(tmp_path: Path) -> None:
    volume, state_dir = tmp_path / "volume", tmp_path / "state"
    assert drilled.drill_text(drilled.in_state_folder(state_dir)) is None
    note: dict[str, Json] = {"at": "2026-11-24T17:03:21+00:00", "snapshot": "20261124T170301Z-ab"}
    folder = volume / ".idlewatch/abc"
    folder.mkdir(parents=True)
    (folder / drilled.LAST_DRILL).write_text(json.dumps(note))
    drilled.bring_back(volume, "abc", state_dir)
    assert drilled.in_state_folder(state_dir) == note
    assert drilled.drill_text(note) == "last drill 2026-11-24 17:03 UTC, saved as 20261124T170301Z-ab"
    assert drilled.drill_text({**note, "snapshot": None}) == "last drill 2026-11-24 17:03 UTC, nothing to save"
    drilled.keep(state_dir, {"at": "newer"})
    drilled.bring_back(volume, "abc", state_dir)
    assert drilled.in_state_folder(state_dir) == {"at": "newer"}


def test_one_that_has_not_begun_says_nothing_of_what_it_was_to_look_at() -> None:
    def start(name: str, request: Json, now_s: float, _silent_s: float) -> Task:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        return Task(command, request, now_s=now_s, silent_limit_s=60.0)

    seen = look_at([Look(name="late", within_s=0.3)], start)["late"]
    assert (seen.hung, seen.began) == (True, False)
    assert str(seen.missing).startswith("not begun within 0.3 s: this machine is very busy")


def test_a_history_that_this_user_can_not_open_is_no_reading_and_no_traceback(tmp_path: Path) -> None:
    told = loaded(IDLEWATCH_STATE_DIR=str(tmp_path), IDLEWATCH_SIGNALS="host")
    (tmp_path / STATUS_FILE).write_text(json.dumps(STATUS | {"at_s": 1000.0, "interval_s": 5.0}))
    (tmp_path / DATABASE_FILE).mkdir()  # SQLite says of it what it says of a file that is closed to a user
    with only_daemon(tmp_path):
        found = gathered(told, 1002.0)
    assert (found.running, found.gpu) == (True, None)
