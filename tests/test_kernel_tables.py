"""One pass for all who ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import KernelTables, netlink


class Counted:
    """A kernel dump that counts how often it is asked."""

    def __init__(self) -> None:
        self.passes = 0
        self.refuses = False

    def __call__(self, family: int) -> list[netlink.Entry]:
        self.passes += 1
        if self.refuses:
            raise PermissionError(1, "Operation not permitted")
        return []


def put(proc: Path, pid: int, parent: int = 1) -> None:
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    fields = f"S {parent} {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0"
    (proc / f"{pid}/stat").write_text(f"{pid} (x) {fields}")


def test_who_asks_within_the_period_causes_no_pass(tmp_path: Path) -> None:
    put(tmp_path, 1)
    dump = Counted()
    tables = KernelTables(proc=tmp_path, pts=tmp_path, dump=dump)
    first = tables.at(100.0)
    assert tables.at(100.0) is first
    assert tables.at(105.0) is first
    assert tables.at(110.02) is first
    assert dump.passes == 2
    second = tables.at(114.98)
    assert second is not first
    assert second.at_s == 114.98
    assert second.sockets.at_s == 114.98
    assert dump.passes == 4


def test_time_that_goes_backwards_causes_no_pass(tmp_path: Path) -> None:
    put(tmp_path, 1)
    tables = KernelTables(proc=tmp_path, pts=tmp_path, dump=Counted(), period_s=0.0)
    first = tables.at(100.0)
    assert tables.at(99.0) is first
    assert tables.at(100.0) is first
    assert tables.at(100.1) is not first


def test_sockets_that_cannot_be_read_leave_the_processes(tmp_path: Path) -> None:
    put(tmp_path, 1)
    dump = Counted()
    dump.refuses = True
    now = KernelTables(proc=tmp_path, pts=tmp_path, dump=dump).at(100.0)
    assert now.processes.get(1) is not None
    for _ in range(2):
        with pytest.raises(SignalError, match="TCP sockets cannot be read"):
            _ = now.sockets


def test_a_failed_pass_is_tried_again_at_once(tmp_path: Path) -> None:
    tables = KernelTables(proc=tmp_path, pts=tmp_path, dump=Counted())
    with pytest.raises(SignalError):
        tables.at(100.0)
    put(tmp_path, 1)
    assert tables.at(101.0).at_s == 101.0


def test_our_own_tree_follows_the_daemon(tmp_path: Path) -> None:
    for pid, parent in ((1, 0), (10, 1), (11, 10), (20, 1)):
        put(tmp_path, pid, parent)
    tables = KernelTables(proc=tmp_path, pts=tmp_path, own_pid=lambda: 10, dump=Counted())
    assert tables.at(100.0).processes.own == {10, 11}
    put(tmp_path, 20, 10)
    assert tables.at(200.0).processes.own == {10, 11}


def test_sockets_are_looked_at_anew_between_passes_unless_bytes_are_not_counted(tmp_path: Path) -> None:
    put(tmp_path, 1)
    dump = Counted()
    tables = KernelTables(proc=tmp_path, pts=tmp_path, dump=dump)
    assert tables.sockets_now(100.0) is tables.at(100.0).sockets
    assert tables.sockets_now(105.0).at_s == 105.0
    assert tables.at(106.0).at_s == 100.0
    assert dump.passes == 4
    dump.refuses = True
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("  sl  local_address\n")
    assert tables.sockets_now(120.0) is tables.sockets_now(125.0)
