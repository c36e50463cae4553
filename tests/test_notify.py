"""Notices on real pseudo-terminals: who gets one, what it may hold, and that no terminal holds the daemon up."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.notify import COLUMNS, Delivery, Terminals, notice_bytes, warning_text
from idlewatch.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Pty:
    """A terminal of this test, and the side on which its person reads."""

    master: int
    slave: int

    def shown(self, until: bytes) -> bytes:
        """What appears up to `until`, which must come."""
        seen = b""
        while until not in seen:
            assert select.select([self.master], [], [], 20)[0], seen
            seen += os.read(self.master, 65536)
        return seen


class Pod:
    """A folder that stands for /dev/pts and shows only this test's terminals, so that no real one is written to."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack

    def terminal(self, name: str) -> Pty:
        made = Pty(*pty.openpty())
        self._stack.callback(os.close, made.master)
        self._stack.callback(os.close, made.slave)
        (self.folder / name).symlink_to(os.ttyname(made.slave))
        return made

    def tell(self, text: str) -> Delivery:
        return Terminals(pts_dir=self.folder).tell(text)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    folder = tmp_path / "pts"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        yield Pod(folder, stack)


def test_every_terminal_is_told_once_with_a_bell_and_whole_lines(pod: Pod) -> None:
    first, second = pod.terminal("0"), pod.terminal("11")
    tty.setraw(second.slave)
    delivery = pod.tell("the Pod stops\nin 5 min")
    assert delivery == Delivery(told=("pts/0", "pts/11"))
    assert second.shown(b"5 min\r\n") == b"\r\n\athe Pod stops\r\nin 5 min\r\n"
    assert first.shown(b"5 min").count(b"\a") == 1
    assert not select.select([second.master], [], [], 0)[0]


def test_what_is_no_terminal_is_not_written_to(pod: Pod) -> None:
    (pod.folder / "3").write_text("a file")
    (pod.folder / "4").symlink_to("/dev/null")
    (pod.folder / "ptmx").symlink_to("/dev/ptmx")
    assert pod.tell("x").failed == (("pts/3", "no terminal"), ("pts/4", "no terminal"))
    assert (pod.folder / "3").read_text() == "a file"


def test_a_stopped_terminal_fails_and_the_others_are_told(pod: Pod) -> None:
    stopped, other = pod.terminal("0"), pod.terminal("1")
    termios.tcflow(stopped.slave, termios.TCOOFF)  # what Ctrl-S does, but at once: a typed one is handled later
    delivery = pod.tell("hello")
    assert delivery == Delivery(told=("pts/1",), failed=(("pts/0", "takes no more output"),))
    assert b"hello" in other.shown(b"hello")
    termios.tcflow(stopped.slave, termios.TCOON)
    assert pod.tell("again").told == ("pts/0", "pts/1")


@pytest.mark.parametrize("stop", [False, True])
def test_a_full_terminal_that_nobody_reads_fails(pod: Pod, *, stop: bool) -> None:
    full = pod.terminal("0")
    os.set_blocking(full.slave, False)
    while select.select([], [full.slave], [], 0.1)[1]:
        os.write(full.slave, b"x" * 64)
    if stop:
        termios.tcflow(full.slave, termios.TCOOFF)
    assert pod.tell("hello").failed == (("pts/0", "takes no more output"),)


def test_a_terminal_on_which_someone_else_hangs_in_a_write_fails(pod: Pod) -> None:
    stuck = pod.terminal("0")
    tty.setraw(stuck.slave)
    command = [sys.executable, "-c", "import os; os.write(2, b'r'); os.write(1, b'x' * 10**6)"]
    with subprocess.Popen(command, stdout=stuck.slave, stderr=subprocess.PIPE) as writer:
        assert writer.stderr is not None
        assert writer.stderr.read(1) == b"r"
        select.select([stuck.master], [], [], 20)
        delivery = pod.tell("hello" * 4000)
        writer.terminate()
    assert delivery.failed == (("pts/0", "takes no more output"),)


def test_a_person_in_a_shell_is_told(pod: Pod) -> None:
    child, master = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import os; print(os.ttyname(0)); input()"])  # noqa: S606  (pty.fork has forked)
    person = Pty(master, -1)
    name = person.shown(b"\r\n").decode().split()[0]
    (pod.folder / "7").symlink_to(name)
    assert pod.tell("hello").told == ("pts/7",)
    assert b"hello" in person.shown(b"hello")
    os.write(master, b"\n")
    os.waitpid(child, 0)
    os.close(master)
    assert pod.tell("hello").told == ()


@pytest.mark.slow
def test_our_own_standard_output_is_left_out(pod: Pod) -> None:
    own = pod.terminal("0")
    pod.terminal("1")
    program = (
        "import sys; from pathlib import Path; from idlewatch.notify import Terminals;"
        "print(Terminals(pts_dir=Path(sys.argv[1])).tell('hello'), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(pod.folder)],
        stdout=own.slave,
        stderr=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert done.stderr == "1 terminal told\n"
    assert not select.select([own.master], [], [], 0)[0]


def test_no_terminals_and_no_such_folder_raise_nothing(pod: Pod) -> None:
    assert pod.tell("x") == Delivery()
    assert str(pod.tell("x")) == "0 terminals told"
    missing = Terminals(pts_dir=pod.folder / "none").tell("x")
    assert missing.failed == ((str(pod.folder / "none"), "No such file or directory"),)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_descriptors_do_not_leak(pod: Pod) -> None:
    pod.terminal("0")
    os.write(pod.terminal("1").master, b"\x13")
    (pod.folder / "2").write_text("")
    pod.tell("x")
    before = descriptors()
    pod.tell("x")
    assert descriptors() == before


@given(st.text())
def test_a_notice_never_steers_a_terminal(text: str) -> None:
    notice = notice_bytes(text)
    assert notice.startswith(b"\r\n\a")
    shown = notice.removeprefix(b"\r\n\a").decode()
    assert all(char.isprintable() or char in "\r\n" or ord(char) > 0xFF for char in shown.replace("\xa0", " "))
    assert shown.count("\r") == shown.count("\n") == shown.count("\r\n")


def test_escapes_and_direction_marks_are_taken_out() -> None:
    assert printable("a\x1b[2Jb\x9bc\u202ed\x07\te\x7f") == "a[2Jbcd e"


def test_the_warning_says_why_when_where_and_how_to_keep() -> None:
    text = warning_text(
        why="everything quiet for 30m",
        begins_in_s=300,
        saved_to="/workspace/.idlewatch",
        lost=None,
        ends=("2 kernels", "tmux 0"),
        usd_so_far=3.417,
    )
    assert text.splitlines() == [
        "idlewatch: this Pod will be stopped in 5m. It has cost $3.42 so far.",
        "Why: everything quiet for 30m",
        "Files outside the volume will be saved to /workspace/.idlewatch first.",
        "Ends with the stop: 2 kernels, tmux 0",
        "Keep it up: idlewatch hold 2h",
    ]


def test_the_warning_shouts_where_nothing_would_be_saved() -> None:
    text = warning_text(why="w", begins_in_s=60, saved_to=None, lost="everything: there is no volume")
    assert "NOT SAVED and gone after the stop: everything: there is no volume" in text
    assert "$" not in text
    assert "No file would be lost." in warning_text(why="w", begins_in_s=60, saved_to=None, lost=None)


@given(st.text(max_size=600), st.floats(-1e6, 1e6), st.none() | st.text(max_size=300), st.lists(st.text(max_size=60)))
def test_the_warning_stays_short_and_narrow(why: str, begins_in_s: float, place: str | None, ends: list[str]) -> None:
    text = warning_text(why=why, begins_in_s=begins_in_s, saved_to=place, lost=place, ends=ends, usd_so_far=1.0)
    assert max(len(line) for line in text.splitlines()) <= COLUMNS
    assert len(text.splitlines()) <= 16
    assert text.splitlines()[-1] == "Keep it up: idlewatch hold 2h"
