"""
Idlewatch's other processes, the page and verbs, are no use of the Pod; and nobody gets to be one by looking like one.

A wrong guess must count as use: whatever can't be proven to be ours is a program like any other.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from idlewatch.kernel import processes
from idlewatch.kernel.own import FOLDER, registered, registrations
from idlewatch.model import Json
from idlewatch.signals.host import HostSignal
from idlewatch.signals.making import MAKERS, tie
from tests.test_signal_host import OWN, V2_MOUNT, Machine, facts
from tests.web_process import WITHIN_S

PAGE, ITS_CHILD, STRANGER = (300, 300), (310, 310), (400, 400)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.cgroups(V2_MOUNT.format(root="/"), "0::/\n")
    made.v2("fs/cgroup")
    made.process(1, 0)
    made.process(OWN, 1)
    made.process(STRANGER[0], 1)
    made.process(PAGE[0], STRANGER[0], cpu=500)
    made.network(lo=0, eth0=0)
    return made


class Watch:
    """A host signal that knows of the page."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.signal, self.at_s = machine, machine.signal(), 100.0
        self.own: dict[tuple[int, int], int] = {PAGE: 0}
        self.signal.registered = lambda: dict(self.own)

    def look(self, **what: int) -> dict[str, Json]:
        """What the next look says; `what` the page has used by then: CPU ticks of it and of others."""
        self.machine.v2("fs/cgroup", cpu_s=sum(what.values()) / 100)
        self.at_s += 5.0
        return facts(self.signal, self.at_s)


def test_the_page_s_cpu_is_taken_off_once_it_was_seen_twice(machine: Machine) -> None:
    watch = Watch(machine)
    watch.look()
    machine.process(PAGE[0], STRANGER[0], cpu=800)
    seen = watch.look(page=300, others=40)
    assert seen["cpu_busy_s"] == pytest.approx(0.4)
    assert seen["own_cpu_s"] == pytest.approx(3.0)


def test_what_it_used_before_it_was_known_as_ours_counts(machine: Machine) -> None:
    watch = Watch(machine)
    watch.own = {}
    watch.look()
    watch.own = {PAGE: 0}
    machine.process(PAGE[0], STRANGER[0], cpu=800)
    assert watch.look(page=300)["cpu_busy_s"] == pytest.approx(3.0)
    machine.process(PAGE[0], STRANGER[0], cpu=900)
    assert watch.look(page=400)["cpu_busy_s"] == pytest.approx(0.0)


def test_what_it_starts_is_ours_and_what_ends_below_it_is_counted_once(machine: Machine) -> None:
    watch = Watch(machine)
    watch.look()
    machine.process(ITS_CHILD[0], PAGE[0], cpu=200)
    assert watch.look(child=200)["cpu_busy_s"] == pytest.approx(0.0)
    machine.ends(ITS_CHILD[0])
    machine.process(PAGE[0], STRANGER[0], cpu=500, waited=260)
    seen = watch.look(child=260, others=100)
    assert seen["cpu_busy_s"] == pytest.approx(1.0)
    assert seen["own_cpu_s"] == pytest.approx(0.6)


def test_who_falls_to_it_is_not_ours_and_neither_is_what_he_starts(machine: Machine) -> None:
    watch = Watch(machine)
    machine.process(500, STRANGER[0], cpu=90_000)
    watch.look()
    for number in range(1, 30):
        machine.process(500, PAGE[0], cpu=90_000 + number * 100)
        machine.process(501, 500, cpu=number * 50)
        seen = watch.look(others=number * 150)
        assert seen["cpu_busy_s"] == pytest.approx(1.5), "over whole looks, too, and with what it starts"


def test_one_that_is_no_more_registered_counts_at_once(machine: Machine) -> None:
    watch = Watch(machine)
    watch.look()
    watch.own = {}
    machine.process(PAGE[0], STRANGER[0], cpu=800)
    assert watch.look(page=300)["cpu_busy_s"] == pytest.approx(3.0)


def test_another_process_of_its_pid_is_another_process(machine: Machine) -> None:
    watch = Watch(machine)
    watch.look()
    machine.process(PAGE[0], STRANGER[0], cpu=300, start=9_999)
    assert watch.look(page=300)["cpu_busy_s"] == pytest.approx(3.0)


def test_bytes_that_it_says_it_has_sent_are_taken_off_but_never_more_than_went(machine: Machine) -> None:
    watch = Watch(machine)
    watch.look()
    watch.own = {PAGE: 700_000}
    machine.network(lo=0, eth0=1_000_000)
    assert watch.look()["net_bytes"] == 300_000
    watch.own = {PAGE: 5_000_000}
    machine.network(lo=0, eth0=1_100_000)
    assert watch.look()["net_bytes"] == 0
    machine.network(lo=0, eth0=1_900_000)
    assert watch.look()["net_bytes"] == 800_000


def test_its_disk_bytes_and_memory_are_taken_off(machine: Machine) -> None:
    watch = Watch(machine)
    machine.io(PAGE[0], reads=1000, writes=0)
    watch.look()
    machine.io(PAGE[0], reads=9000, writes=0)
    machine.v2("fs/cgroup", reads=8500)
    watch.at_s += 5.0
    assert facts(watch.signal, watch.at_s)["disk_bytes"] == 500


def test_jobs_and_transfers_do_not_see_it_either(machine: Machine) -> None:
    _, before = processes.look(machine.proc, 100.0, OWN)
    table, _ = processes.look(machine.proc, 105.0, OWN, before, registered=[PAGE, (400, 1)])
    assert table.own == {OWN, PAGE[0]}, "a PID with another start is another process"
    machine.process(500, PAGE[0])
    machine.process(501, STRANGER[0])
    table, before = processes.look(machine.proc, 110.0, OWN, before, registered=[PAGE])
    machine.process(501, PAGE[0])
    machine.process(502, 501)
    table, _ = processes.look(machine.proc, 115.0, OWN, before, registered=[PAGE])
    assert table.own == {OWN, PAGE[0], 500}, "a stranger that falls to it stays one, with what he starts"


# ---------------------------------------------------------------- who may say so


def test_only_who_holds_its_own_file_is_registered_and_only_while_it_does(tmp_path: Path) -> None:
    with registered(tmp_path) as moved:
        (key,) = registrations(tmp_path)
        assert key[0] == os.getpid()
        moved(12_345)
        assert registrations(tmp_path) == {key: 12_345}
    assert registrations(tmp_path) == {}
    assert list((tmp_path / FOLDER).iterdir()) == []


HOLDS = """
import os, sys, time
from pathlib import Path
from idlewatch.kernel.own import registered
with registered(Path(sys.argv[1])):
    if sys.argv[2] == "exec":
        os.execvp(sys.executable, [sys.executable, "-c", "print('here', flush=True); input()"])
    if sys.argv[2] == "fork":
        registered_pid = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == registered_pid:
            time.sleep(0.01)
    print("here", flush=True)
    input()
"""


@contextmanager
def another(state_dir: Path, how: str = "stays") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that registers itself, and then stays, forks and ends, or becomes another program."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(state_dir), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        try:
            yield other
        finally:
            other.communicate(b"\n", timeout=WITHIN_S)


@pytest.mark.slow
def test_another_process_is_found_until_it_ends_however_hard(tmp_path: Path) -> None:
    with another(tmp_path) as other:
        assert [key[0] for key in registrations(tmp_path)] == [other.pid]
        other.kill()
        other.wait(WITHIN_S)
        assert registrations(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exec", "fork"])
def test_neither_what_it_becomes_nor_what_it_leaves_behind_is_ours(tmp_path: Path, how: str) -> None:
    with another(tmp_path, how):
        assert registrations(tmp_path) == {}


def test_a_file_that_nobody_holds_proves_nothing_and_is_taken_away(tmp_path: Path) -> None:
    start = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    path = tmp_path / FOLDER / f"{os.getpid()}-{start}"
    path.parent.mkdir(mode=0o700)
    path.touch()
    assert registrations(tmp_path) == {}
    assert not path.exists()


@pytest.mark.parametrize("name", ["1", "x-y", "1-", "-1-2", "99999999-5", "1-1"])
def test_names_that_are_none_of_a_living_process_are_nobody(tmp_path: Path, name: str) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700)
    with (folder / name).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert registrations(tmp_path) == {}


def test_links_pipes_and_folders_are_nobody(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700)
    (folder / "1-2").symlink_to("/proc/self/stat")
    os.mkfifo(folder / "2-3")
    (folder / "3-4").mkdir()
    assert registrations(tmp_path) == {}


def test_a_folder_in_which_others_may_write_counts_for_nothing(tmp_path: Path) -> None:
    with registered(tmp_path):
        (tmp_path / FOLDER).chmod(0o777)
        assert registrations(tmp_path) == {}
        (tmp_path / FOLDER).chmod(0o700)
        assert len(registrations(tmp_path)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_counts_for_nothing(tmp_path: Path) -> None:
    with registered(tmp_path):
        (file,) = (tmp_path / FOLDER).iterdir()
        os.chown(file, 12345, 12345)
        assert registrations(tmp_path) == {}
        os.chown(file, 0, 0)
        os.chown(tmp_path / FOLDER, 12345, 12345)
        assert registrations(tmp_path) == {}
        os.chown(tmp_path / FOLDER, 0, 0)


def test_where_nothing_can_be_written_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    with registered(tmp_path) as moved:
        moved(5)
    assert registrations(tmp_path) == registrations(tmp_path / "none") == {}


# ---------------------------------------------------------------- on this machine

BURNS = """
import sys, time
from pathlib import Path
from idlewatch.kernel.own import registered
with registered(Path(sys.argv[1])):
    print("ready", flush=True)
    input()
    end = time.process_time() + 0.8
    while time.process_time() < end: pass
    print("burnt", flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.parametrize("watched", [True, False])
def test_a_real_process_beside_the_daemon_is_ours_only_where_it_says_so_there(tmp_path: Path, *, watched: bool) -> None:
    """The same program, once registered with this daemon's folder and once with another's: then it counts."""
    folder = tmp_path / ("here" if watched else "elsewhere")
    folder.mkdir()
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as daemon,
        subprocess.Popen(
            [sys.executable, "-c", BURNS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as page,
    ):
        assert page.stdin is not None
        assert page.stdout is not None
        assert page.stdout.readline() == b"ready\n"
        signal = HostSignal(own_pid=lambda: daemon.pid)
        signal.registered = lambda: registrations(tmp_path / "here")
        signal.read(time.clock_gettime(time.CLOCK_BOOTTIME))
        page.stdin.write(b"\n")
        assert page.stdout.readline() == b"burnt\n"
        own_s = facts(signal, time.clock_gettime(time.CLOCK_BOOTTIME))["own_cpu_s"]
        page.communicate(b"\n")
        daemon.communicate(b"\n")
    assert isinstance(own_s, float)
    assert (own_s > 0.6) is watched


def test_signals_that_are_made_for_a_daemon_know_of_them() -> None:
    from idlewatch.model import Surroundings
    from idlewatch.signals.making import KERNEL

    host = MAKERS["host"](Surroundings())
    tie({"host": host}, lambda: {(1, 2): 3})
    assert isinstance(host, HostSignal)
    assert host.registered() == {(1, 2): 3}
    assert list(KERNEL.registered()) == [(1, 2)]
    tie({}, dict)
