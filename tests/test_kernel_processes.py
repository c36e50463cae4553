"""The process table: a made-up /proc for what is rare, the real one for what is real."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import processes
from idlewatch.kernel.processes import Ours

TICKS = os.sysconf("SC_CLK_TCK")


def put(proc: Path, pid: int, parent: int, *, name: str = "work", io: str | None = None, started: int = 500) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", parent, pid, 77, 34816, -1, 0, 0, 0, 0, 0, 3 * TICKS, 2 * TICKS, 40, 60, 20, 0, 1, 0, started]
    (folder / "stat").write_bytes(f"{pid} ({name}) {' '.join(map(str, fields))} 0 0 0\n".encode())
    (folder / "cmdline").write_bytes(b"python\0train me.py\0")
    if io is not None:
        (folder / "io").write_text(io)


def pids(proc: Path, own_pid: int = 10, before: Ours | None = None) -> tuple[frozenset[int], Ours]:
    table, ours = processes.look(proc, 1.0, own_pid, before)
    return table.own, ours


def test_fields_stand_where_proc_puts_them_whatever_the_name_holds(tmp_path: Path) -> None:
    put(tmp_path, 1, 0, name="a) S 9 (b", io="rchar: 7\nwchar: 8\nread_bytes: 9\nwrite_bytes: 10\n")
    table, _ = processes.look(tmp_path, 5.0, 1)
    one = table.by_pid[1]
    assert (one.comm, one.parent, one.session, one.terminal) == ("a) S 9 (b", 0, 77, 34816)
    assert (one.cpu_s, one.waited_cpu_s) == (5.0, 100 / TICKS)
    assert one.started_s == 500 / TICKS
    assert one.io == processes.Io(7, 8, 9, 10)
    assert table.command(1) == ("python", "train me.py")


def test_denied_figures_are_none_and_a_vanished_process_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, 1, 0)
    (tmp_path / "55").mkdir()
    table, _ = processes.look(tmp_path, 5.0, 1)
    assert table.by_pid[1].io is None
    assert 55 not in table.by_pid
    assert table.command(55) == ()
    assert table.user_id(99) is None


def test_no_process_at_all_is_an_error_and_not_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="shows no process"):
        processes.look(tmp_path, 1.0, 1)
    with pytest.raises(SignalError, match="cannot be read"):
        processes.look(tmp_path / "missing", 1.0, 1)


def test_hidden_processes_are_told(tmp_path: Path) -> None:
    put(tmp_path, 300, 1)
    assert processes.look(tmp_path, 1.0, 300)[0].hides
    put(tmp_path, 1, 0)
    assert not processes.look(tmp_path, 1.0, 300)[0].hides


def test_the_tree(tmp_path: Path) -> None:
    for pid, parent in ((1, 0), (10, 1), (11, 10), (12, 11), (20, 1)):
        put(tmp_path, pid, parent)
    table, _ = processes.look(tmp_path, 1.0, 10)
    assert table.descendants(10) == {11, 12}
    assert [each.pid for each in table.ancestors(12)] == [11, 10, 1]
    assert table.is_below(12, 10)
    assert not table.is_below(10, 10)
    assert not table.is_below(20, 10)
    assert table.own == {10, 11, 12}


def test_a_parent_loop_of_reused_pids_ends(tmp_path: Path) -> None:
    put(tmp_path, 7, 8)
    put(tmp_path, 8, 7)
    table, _ = processes.look(tmp_path, 1.0, 7)
    assert table.descendants(7) == {8}
    assert len(table.ancestors(7)) <= 2


def test_an_orphan_that_falls_to_us_is_not_ours(tmp_path: Path) -> None:
    for pid, parent in ((1, 0), (10, 1), (11, 10), (20, 1)):
        put(tmp_path, pid, parent)
    own, ours = pids(tmp_path)
    assert own == {10, 11}
    put(tmp_path, 20, 10)
    put(tmp_path, 12, 10)
    own, ours = pids(tmp_path, before=ours)
    assert own == {10, 11, 12}
    assert pids(tmp_path, before=ours)[0] == {10, 11, 12}


def test_the_real_proc_shows_ourselves_and_what_we_started() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        table, _ = processes.look(Path("/proc"), now_s, os.getpid())
        assert {os.getpid(), child.pid} <= table.own
        assert table.is_below(child.pid, os.getpid())
        one = table.by_pid[child.pid]
        assert abs(one.started_s - now_s) < 60
        assert one.parent == os.getpid()
        assert one.io is not None
        assert table.user_id(child.pid) == os.geteuid()
    finally:
        child.communicate(b"\n")
