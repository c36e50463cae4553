"""The jobs signal on real processes: nohup, a terminal that closes, tmux, a tool that waits, our own children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch.kernel import KernelTables
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.signals.jobs import JobsSignal
from tests.waiting import comes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/1/stat").exists(), reason="needs /proc with PID 1 in sight"),
]
DEADLINE_S = 90.0
"""Generous: a job must get a second of CPU on a machine that others use, too."""
NOBODY = -1


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def fresh(own_pid: int = NOBODY) -> JobsSignal:
    """A signal that looks anew whenever it is asked, and that counts this test's children unless told.

    Its limit is 0.6 s of CPU in two minutes: on a busy machine the usual 7 s may take longer than a test.
    """
    return JobsSignal(kernel=KernelTables(own_pid=lambda: own_pid, period_s=0.0), cpu_limit_cores=0.005)


def only(reading: Reading, pid: int) -> Reading:
    """Leave out what other programs of this machine do: they would be named first."""
    facts = {name: _of(value, pid) if name in {"trees", "tools"} else value for name, value in reading.facts.items()}
    return replace(reading, facts=facts)


def _of(entries: Json, pid: int) -> Json:
    assert isinstance(entries, list)
    return [one for one in entries if isinstance(one, dict) and one["pid"] == pid]


def is_named(reading: Reading, pid: int) -> bool:
    """Whether a process is the one that used most in some tree."""
    return bool(only(reading, pid).facts["trees"])


def poll(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    assert comes(true, DEADLINE_S, every_s=0.2), "not in time"


def active(watching: JobsSignal, pid: int, each: Callable[[], object] = lambda: None) -> Finding:
    """Look again and again until a process is a job; return what is then said of it."""
    found: list[Finding] = []

    def looked() -> bool:
        each()
        found.append(watching.judge(only(watching.read(now_s()), pid)))
        return found[-1].activity is Activity.ACTIVE

    poll(looked)
    return found[-1]


def written_pid(path: Path) -> int:
    """Wait for the file in which a program says which process it is."""
    poll(lambda: path.exists() and path.read_text().strip().isdecimal())
    return int(path.read_text())


def fields_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def has_ended(pid: int) -> bool:
    """Whether it is gone, or waits to be waited for."""
    return fields_of(pid)[:1] in ([], ["Z"])


def where_left(pid: int) -> str:
    """What is to be said of a job that nobody has any more, once its shell has ended."""
    poll(lambda: has_ended(int(fields_of(pid)[3])))
    return "closed terminal: " if fields_of(pid)[1] == "1" else ""


@contextmanager
def ended(pid: int) -> Iterator[int]:
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def crunch(tmp_path: Path) -> Path:
    """A program that uses a whole core, and says which process it is."""
    path = tmp_path / "crunch.py"
    path.write_text(f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nwhile True: pass\n")
    return path


def test_a_nohup_job_whose_shell_is_gone_is_seen_and_named(crunch: Path) -> None:
    watching = fresh()
    watching.read(now_s())
    command = f"nohup {sys.executable} {crunch} >/dev/null 2>&1 &"
    subprocess.run(["sh", "-c", command], check=True, start_new_session=True)
    with ended(written_pid(crunch.parent / "pid")) as pid:
        where, found = where_left(pid), active(watching, pid)
        assert f"{where}crunch.py (pid {pid})" in found.reason
        assert found.evidence_s is not None


def test_a_job_outlives_its_terminal(crunch: Path) -> None:
    watching = fresh()
    watching.read(now_s())
    master, slave = os.openpty()
    # Forked: below this test it would share a tree with whatever else runs here.
    command = ["setsid", "--fork", "--ctty", "bash", "--norc"]
    subprocess.run(command, stdin=slave, stdout=slave, stderr=slave, check=True)
    os.close(slave)
    os.write(master, f"nohup {sys.executable} {crunch} >/dev/null 2>&1 &\n".encode())
    with ended(written_pid(crunch.parent / "pid")) as pid:
        poll(lambda: is_named(watching.read(now_s()), pid))
        os.write(master, b"exit\n")
        with suppress(OSError):  # EIO: nobody has the other side any more
            while os.read(master, 4096):
                pass
        os.close(master)
        where, found = where_left(pid), active(watching, pid)
        assert f"{where}crunch.py (pid {pid})" in found.reason


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_a_detached_tmux_counts_by_what_runs_in_it(crunch: Path, tmp_path: Path) -> None:
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "sh"], check=True)
    try:
        shell = subprocess.run(
            [*tmux, "list-panes", "-F", "#{pane_pid}"], check=True, capture_output=True, text=True
        ).stdout
        watching = fresh()
        watching.read(now_s())
        poll(lambda: not is_named(watching.read(now_s()), int(shell)))
        subprocess.run([*tmux, "new-window", "-d", sys.executable, str(crunch)], check=True)
        pid = written_pid(crunch.parent / "pid")
        assert f"tmux: crunch.py (pid {pid})" in active(watching, pid).reason
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


@pytest.mark.skipif(shutil.which("dd") is None, reason="needs dd")
def test_a_tool_that_waits_for_slow_bytes_counts_while_they_come(tmp_path: Path) -> None:
    watching = fresh()
    with subprocess.Popen(
        ["dd", "bs=4k", f"of={tmp_path / 'x'}"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as tool:
        assert tool.stdin is not None
        stream = tool.stdin

        def trickle() -> None:
            stream.write(bytes(128 * 1024))
            stream.flush()

        assert f"dd (pid {tool.pid}) read" in active(watching, tool.pid, trickle).reason
        stream.close()


def test_what_we_started_ourselves_is_no_job() -> None:
    watching = fresh(own_pid=os.getpid())
    watching.read(now_s())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            poll(lambda: used_s(child.pid) > 0.3)
            reading = watching.read(now_s())
            assert not is_named(reading, child.pid)
            assert not is_named(reading, os.getpid())
        finally:
            child.kill()


def used_s(pid: int) -> float:
    fields = fields_of(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
