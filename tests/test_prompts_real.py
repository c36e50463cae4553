"""Real programs that wait for a person at a real terminal, and such as wait for something else there."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch.kernel import KernelTables, Process, ProcessTable
from idlewatch.kernel.prompts import Prompt, prompt
from idlewatch.model import Finding
from idlewatch.signals.jobs import JobsSignal
from tests.waiting import comes

PROC = Path("/proc")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PROC / "self/wchan").exists(), reason="needs /proc/PID/wchan"),
]
DEADLINE_S = 60.0
READY = "ready"
INPUT = "input('? ')"
RAW = "import tty; tty.setraw(0); import time; time.sleep(1000)"
SERVES = "import asyncio; print('ready', flush=True); asyncio.run(asyncio.sleep(1000))"
SLEEPS = "import time; print('ready', flush=True); time.sleep(1000)"
LISTENS = """
import socket
server = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(server.getsockname())
print("ready", flush=True); client.recv(1)"""
READLINE = "import readline; input('? ')"
PASSWORD = "import getpass; getpass.getpass('? ')"


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def table() -> ProcessTable:
    return KernelTables(own_pid=lambda: -1, period_s=0.0).at(now_s()).processes


def process(pid: int) -> Process:
    found = table().get(pid)
    assert found is not None
    return found


@contextmanager
def in_terminal(*command: str) -> Iterator[tuple[int, int]]:
    """A program that leads a terminal of its own: its PID, and the side from which somebody types."""
    pid, master = pty.fork()
    if pid == 0:  # pragma: no cover -- another program in an instant
        os.execvp(command[0], command)  # noqa: S606 -- no shell is wanted
    try:
        yield pid, master
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)


def said(master: int, words: str) -> None:
    """Wait until it has written so."""
    text = ""
    while words not in text:
        text += os.read(master, 4096).decode(errors="replace")


def is_asked(pid: int) -> Prompt:
    found: list[Prompt | None] = [None]

    def looked() -> bool:
        found.append(prompt(PROC, process(pid)))
        return found[-1] is not None

    assert comes(looked, DEADLINE_S, every_s=0.1), (PROC / f"{pid}/wchan").read_text()
    assert found[-1] is not None
    return found[-1]


@pytest.mark.parametrize(
    ("command", "by_key"),
    [
        ([sys.executable, "-c", INPUT], False),
        ([sys.executable, "-c", READLINE], True),
        ([sys.executable, "-c", PASSWORD], False),
        (["bash", "-c", "read -p '? ' answer; true"], False),
        ([sys.executable, "-c", RAW], True),
    ],
)
def test_a_program_that_asks_its_terminal_is_seen_and_looking_moves_nothing(command: list[str], by_key: bool) -> None:  # noqa: FBT001
    with in_terminal(*command) as (pid, _):
        first = is_asked(pid)
        assert first.by_key == by_key
        assert prompt(PROC, process(pid)) == first


@pytest.mark.parametrize("code", [SERVES, SLEEPS, LISTENS])
def test_a_program_that_waits_for_anything_else_is_not(code: str) -> None:
    with in_terminal(sys.executable, "-c", code) as (pid, master):
        said(master, READY)
        assert comes(lambda: process(pid).state == "S", DEADLINE_S, every_s=0.1)
        assert process(pid).in_foreground
        assert prompt(PROC, process(pid)) is None


def test_where_the_kernel_tells_of_no_descriptor_a_wait_for_a_line_is_believed(tmp_path: Path) -> None:
    with in_terminal(sys.executable, "-c", INPUT) as (pid, _):
        is_asked(pid)
        seen, folder = process(pid), tmp_path / str(pid)
        folder.mkdir()
        (folder / "fd").symlink_to(PROC / f"{pid}/fd")
        (folder / "wchan").write_text("wait_woken")
        assert prompt(tmp_path, seen) is not None
        (folder / "wchan").write_text("0")
        assert prompt(tmp_path, seen) is None
        (folder / "wchan").unlink()
        assert prompt(tmp_path, seen) is None


def test_a_program_that_works_or_reads_from_elsewhere_is_not() -> None:
    with in_terminal(sys.executable, "-c", RAW) as (pid, _):
        is_asked(pid)
        assert prompt(PROC, replace(process(pid), state="R")) is None
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    command = f'exec {sys.executable} -c "{SLEEPS}" <{os.ttyname(theirs)}'
    with in_terminal("bash", "-c", command) as (pid, master):
        said(master, READY)
        assert comes(lambda: process(pid).state == "S", DEADLINE_S, every_s=0.1)
        assert prompt(PROC, process(pid)) is None
    os.close(ours)
    os.close(theirs)


def test_a_program_behind_or_ended_or_without_a_terminal_is_not() -> None:
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {INPUT!r}], process_group=0); p.wait()"
    with in_terminal(sys.executable, "-c", code) as (pid, _):
        assert comes(lambda: bool(table().children(pid)), DEADLINE_S, every_s=0.1)
        behind = table().children(pid)[0]
        assert comes(lambda: process(behind).state == "T", DEADLINE_S, every_s=0.1)
        assert not process(behind).in_foreground
        asked = process(pid)
    assert prompt(PROC, asked) is None
    with subprocess.Popen([sys.executable, "-c", INPUT], stdin=subprocess.PIPE, start_new_session=True) as piped:
        assert not process(piped.pid).in_foreground


def typed(tmux: list[str], line: str) -> None:
    subprocess.run([*tmux, "send-keys", line, "Enter"], check=True)


def shown(tmux: list[str]) -> str:
    return subprocess.run([*tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout


def told(watching: JobsSignal) -> Finding:
    """The verdict on who waits: what other programs of this machine use would be named first."""
    reading = watching.read(now_s())
    return watching.judge(replace(reading, facts={**reading.facts, "trees": [], "tools": []}))


def bars(watching: JobsSignal, pid: int, words: Callable[[Finding], bool]) -> Finding:
    """Look again and again until that is said of a process."""
    found: list[Finding] = []

    def looked() -> bool:
        found.append(told(watching))
        return words(found[-1]) and f"pid {pid})" in found[-1].reason

    assert comes(looked, DEADLINE_S, every_s=0.2), found[-1]
    return found[-1]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
@pytest.mark.parametrize("options", [["-m", "pdb"], []])
def test_a_debugger_at_its_prompt_in_a_detached_tmux_bars_and_its_shell_does_not(
    tmp_path: Path, options: list[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os\nstarted = os.getpid()\nbreakpoint()\nbreakpoint()\nprint('over', started)\n")
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "bash", "--norc"], check=True)
    watching = JobsSignal(kernel=KernelTables(own_pid=lambda: -1, period_s=0.0))
    try:
        shell = int(
            subprocess.run(
                [*tmux, "list-panes", "-F", "#{pane_pid}"], check=True, capture_output=True, text=True
            ).stdout
        )
        assert comes(lambda: prompt(PROC, process(shell)) is not None, DEADLINE_S, every_s=0.1)
        told(watching)
        assert f"(pid {shell})" not in told(watching).reason
        typed(tmux, f"{sys.executable} {' '.join(options)} {script}")
        assert comes(lambda: "(Pdb)" in shown(tmux), DEADLINE_S, every_s=0.1)
        (debugged,) = table().children(shell)
        found = bars(watching, debugged, lambda each: each.bars)
        assert f"tmux: {'pdb' if options else 'train.py'} (pid {debugged}) waits for input" in found.reason
        typed(tmux, "import os; os._exit(0)")
        assert comes(lambda: not table().children(shell), DEADLINE_S, every_s=0.1)
        assert f"(pid {debugged})" not in told(watching).reason
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
