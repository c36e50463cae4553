"""Terminals: input, and nothing but input, moves the instant; no clock step does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.kernel import KernelTables, Process, ProcessTable, Terminal
from idlewatch.kernel.terminals import TerminalFile, TerminalTable, terminal_files, terminal_number

OPENED_WALL_S = 1_800_000_000.0
PTS_3 = terminal_number(os.makedev(136, 3))


def process(pid: int, *, session: int | None = None, terminal: int = PTS_3, started_ticks: int = 90_000) -> Process:
    return Process(
        pid=pid,
        parent=0,
        session=pid if session is None else session,
        terminal=terminal,
        comm="bash",
        state="S",
        started_ticks=started_ticks,
        cpu_s=0.0,
        waited_cpu_s=0.0,
        io=None,
    )


class Scene:
    """One terminal whose times, leader and wall clock the test sets."""

    def __init__(self) -> None:
        self.wall_s = OPENED_WALL_S
        self.access_s = self.change_s = OPENED_WALL_S
        self.processes = [process(50)]
        self.table = TerminalTable(wall_s=lambda: self.wall_s)

    def files(self) -> dict[str, TerminalFile]:
        return {"pts/3": TerminalFile(PTS_3, 0, int(self.access_s * 1e9), int(self.change_s * 1e9))}

    def look(self, now_s: float) -> Terminal:
        (one,) = self.table.look(now_s, self.files(), ProcessTable(now_s, {each.pid: each for each in self.processes}))
        return one


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_look_turns_wall_time_into_an_instant(scene: Scene) -> None:
    scene.access_s += 3600
    scene.wall_s += 3640
    one = scene.look(9000.0)
    assert one.input_s == 8960.0
    assert one.opened_s == 90_000 / os.sysconf("SC_CLK_TCK")
    assert one.leader is not None
    assert one.leader.pid == 50


def test_a_terminal_that_was_only_opened_has_no_input(scene: Scene) -> None:
    scene.wall_s += 7200
    assert scene.look(9000.0).input_s is None
    scene.change_s += 2  # mesg changes its mode
    assert scene.look(9005.0).input_s is None


def test_input_counts_from_the_next_look_on(scene: Scene) -> None:
    scene.look(9000.0)
    scene.wall_s += 15
    scene.access_s += 12
    assert scene.look(9015.0).input_s == 9012.0
    assert scene.look(9999.0).input_s == 9012.0


@pytest.mark.parametrize("step_s", [-86_400.0, -60.0, 60.0, 86_400.0])
def test_no_step_of_the_wall_clock_makes_or_hides_input(scene: Scene, step_s: float) -> None:
    scene.access_s += 100
    scene.wall_s += 200
    assert scene.look(9000.0).input_s == 8900.0
    scene.wall_s += step_s
    assert scene.look(9015.0).input_s == 8900.0
    scene.wall_s += 15
    scene.access_s = scene.wall_s - 5
    typed_s = scene.look(9030.0).input_s
    assert typed_s is not None
    assert 9015.0 <= typed_s <= 9030.0


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_step_after_the_keystroke_leaves_it_between_the_two_looks(scene: Scene, step_s: float) -> None:
    scene.look(9000.0)
    scene.access_s += 100
    scene.wall_s += 105 + step_s
    typed_s = scene.look(9105.0).input_s
    assert typed_s is not None
    assert 9000.0 <= typed_s <= 9105.0


def test_an_access_time_in_the_future_is_no_later_than_now(scene: Scene) -> None:
    scene.access_s += 100
    assert scene.look(9000.0).input_s == 9000.0


def test_a_number_that_came_back_is_another_terminal(scene: Scene) -> None:
    scene.access_s += 100
    scene.wall_s += 200
    assert scene.look(9000.0).input_s == 8900.0
    scene.processes = [process(60, started_ticks=901_000)]
    scene.access_s = scene.change_s = scene.wall_s
    assert scene.look(9015.0).input_s is None


def test_the_leader_is_the_session_s_own(scene: Scene) -> None:
    scene.processes = [process(40, session=50), process(50), process(30, terminal=PTS_3 + 1)]
    leader = scene.look(9000.0).leader
    assert leader is not None
    assert leader.pid == 50
    scene.processes = [process(40, session=50)]
    assert scene.look(9001.0).leader is None


def test_device_numbers_are_written_as_proc_writes_them() -> None:
    assert terminal_number(os.makedev(136, 0)) == 34816
    assert terminal_number(os.makedev(137, 300)) == 0x0010892C


def test_no_devpts_has_no_terminals(tmp_path: Path) -> None:
    assert terminal_files(tmp_path / "pts") == {}


# ---------------------------------------------------------------- the real kernel


RUN = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "print('~ready~', flush=True); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Shell:
    """A real program with a real terminal of its own; `cat` reads what is typed. `via` is a command that starts it."""

    def __init__(self, *command: str, via: tuple[str, ...] = ()) -> None:
        self.master, ours = os.openpty()
        self.path = Path(os.ttyname(ours))
        self.name = f"pts/{self.path.name}"
        started = [*via, sys.executable, "-c", RUN, *(command or ("cat",))]
        self.process = subprocess.Popen(started, stdin=ours, stdout=ours, stderr=ours)
        os.close(ours)
        self.see(b"~ready~")

    def see(self, text: bytes, times: int = 1) -> None:
        """Wait until it has put out `text`; the test's own time limit is the deadline."""
        seen = b""
        while seen.count(text) < times:
            seen += os.read(self.master, 1000)

    def type(self) -> None:
        """Type a line and wait until the terminal has echoed it and `cat` has read it and written it back."""
        os.write(self.master, b"~typed~\n")
        self.see(b"~typed~", 2)

    def notice(self) -> None:
        """Write on the terminal as wall does."""
        with self.path.open("wb") as terminal:
            terminal.write(b"~notice~\n")
        self.see(b"~notice~")

    def close(self) -> None:
        os.close(self.master)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.close()


def read(tables: KernelTables, now_s: float, name: str) -> Terminal:
    return next(each for each in tables.terminals(now_s) if each.name == name)


def aged(path: Path, seconds: int) -> None:
    """Make the times of a terminal older, as if nothing had happened for so long."""
    then_s = time.time() - seconds
    os.utime(path, (then_s, then_s))


def test_typing_moves_the_instant_and_output_does_not(shell: Shell) -> None:
    aged(shell.path, 1000)
    tables, now_s = KernelTables(), time.clock_gettime(time.CLOCK_BOOTTIME)
    first = read(tables, now_s, shell.name)
    assert first.leader is not None
    assert first.leader.pid == shell.process.pid
    shell.notice()
    assert read(tables, now_s + 15, shell.name).input_s == first.input_s
    shell.type()
    typed_s = read(tables, now_s + 30, shell.name).input_s
    assert typed_s is not None
    assert now_s + 15 <= typed_s <= now_s + 30
    assert read(tables, now_s + 45, shell.name).input_s == typed_s


def test_a_new_terminal_causes_a_pass_and_an_old_one_does_not(shell: Shell) -> None:
    tables, now_s = KernelTables(), time.clock_gettime(time.CLOCK_BOOTTIME)
    tables.terminals(now_s)
    another = Shell()
    try:
        leader = read(tables, now_s + 5, another.name).leader
        assert leader is not None
        assert leader.pid == another.process.pid
        assert tables.at(now_s + 6).at_s == now_s + 5
    finally:
        another.close()


def test_the_kernel_rounds_as_written_down(shell: Shell) -> None:
    """The step is at most 8 s: typing after that always moves the access time, and never beyond now."""
    aged(shell.path, 9)
    before_ns = shell.path.stat().st_atime_ns
    shell.type()
    after_ns = shell.path.stat().st_atime_ns
    assert before_ns < after_ns <= time.time_ns()
