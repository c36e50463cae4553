"""The host signal: whose counters it reads, what it takes off, and what it takes for use."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.signals import host_processes
from idlewatch.signals.host import WHOLE_EVERY_S, HostSignal, LateWrites

if TYPE_CHECKING:
    from collections.abc import Callable

    Busy = Callable[[float, float], float]

MIB = 1024 * 1024
OWN = 50


@dataclass
class Machine:
    """A made-up /proc and /sys: PID 1 and idlewatch (PID 50) in a container."""

    root: Path
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cgroups(self, mounts: str, own: str, init: str | None = None) -> None:
        self.write(self.proc / "self/mountinfo", mounts)
        self.write(self.proc / "self/cgroup", own)
        self.write(self.proc / "1/cgroup", own if init is None else init)

    def process(self, pid: int, parent: int, *, cpu: int = 0, waited: int = 0, start: int = 0) -> None:
        """CPU times are in clock ticks; the name is one that breaks a naive parser."""
        fields = ["S", str(parent), *["0"] * 9, str(cpu), "0", str(waited), "0", *["0"] * 4, str(start or pid), "0"]
        self.write(self.proc / f"{pid}/stat", f"{pid} (a) R 1 b) {' '.join(fields)}\n")

    def ends(self, pid: int) -> None:
        (self.proc / f"{pid}/stat").unlink()

    def io(self, pid: int, *, reads: int = 0, writes: int = 0) -> None:
        text = f"rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: {reads}\nwrite_bytes: {writes}\n"
        self.write(self.proc / f"{pid}/io", text + "cancelled_write_bytes: 0\n")

    def network(self, **interfaces: int) -> None:
        rows = [f"{name:>6}:{got:>8} 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0\n" for name, got in interfaces.items()]
        self.write(self.proc / "net/dev", "Inter-| Receive\n face |bytes\n" + "".join(rows))

    def v2(self, folder: str, *, cpu_s: float = 0, reads: int = 0, writes: int = 0, anon_mib: int = 0) -> None:
        path = self.sys / folder.lstrip("/")
        self.write(path / "cpu.stat", f"usage_usec {int(cpu_s * 1e6)}\nuser_usec 1\nsystem_usec 2\n")
        self.write(path / "io.stat", f"259:0 rbytes={reads} wbytes={writes} rios=1 wios=1 dbytes=0 dios=0\n7:0\n")
        self.write(path / "memory.stat", f"anon {anon_mib * MIB}\nfile 777777777777\nfile_mapped 0\n")

    def v1(self, folder: str, *, cpu_s: float = 0, reads: int = 0, writes: int = 0, rss_mib: int = 0) -> None:
        def at(controller: str, name: str) -> Path:
            return self.sys / "fs/cgroup" / controller / folder.lstrip("/") / name

        self.write(at("cpu,cpuacct", "cpuacct.usage"), f"{int(cpu_s * 1e9)}\n")
        rows = f"8:0 Read {reads}\n8:0 Write {writes}\n8:0 Sync 5\n8:0 Total {reads + writes}\nTotal {reads + writes}\n"
        self.write(at("blkio", "blkio.throttle.io_service_bytes"), rows)
        self.write(at("memory", "memory.stat"), f"cache 7\nrss 1\ntotal_rss {rss_mib * MIB}\ntotal_mapped_file 0\n")

    def signal(self) -> HostSignal:
        return HostSignal(proc=self.proc, sys=self.sys, own_pid=lambda: OWN)


V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup ro,nosuid,nodev,noexec - cgroup2 cgroup rw,nsdelegate\n"
V1_MOUNTS = (
    "31 30 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:28 {root} /sys/fs/cgroup/systemd ro master:9 - cgroup cgroup rw,xattr,name=systemd\n"
    "33 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct ro master:10 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:30 {root} /sys/fs/cgroup/blkio ro master:11 - cgroup cgroup rw,blkio\n"
    "35 31 0:31 {root} /sys/fs/cgroup/memory ro master:12 - cgroup cgroup rw,memory\n"
)
V1_OWN = "9:name=systemd:{path}\n8:memory:{path}\n7:blkio:{path}\n4:cpu,cpuacct:{path}\n0::/\n"
DOCKER = "/docker/0123456789abcdef"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A container with its own v2 cgroup namespace, which is what Docker gives today."""
    made = Machine(tmp_path)
    made.cgroups(V2_MOUNT.format(root="/"), "0::/\n")
    made.v2("fs/cgroup")
    made.process(1, 0)
    made.process(OWN, 1)
    made.network(lo=0, eth0=0)
    return made


def facts(signal: HostSignal, at_s: float) -> dict[str, Json]:
    return dict(signal.read(at_s).facts)


# Whose cgroup.

V2_LAYOUTS = {
    "own namespace": ("/", "0::/\n", None, "fs/cgroup"),
    "the host's namespace, Docker's mount": (DOCKER, f"0::{DOCKER}\n", None, "fs/cgroup"),
    "the host's namespace and whole hierarchy": ("/", f"0::{DOCKER}\n", None, f"fs/cgroup{DOCKER}"),
    "an init that split its container": ("/", "0::/system.slice/a\n", "0::/init.scope\n", "fs/cgroup"),
    "a machine with systemd": ("/", "0::/system.slice/idlewatch.service\n", "0::/init.scope\n", "fs/cgroup"),
    "PID 1 outside of the namespace": ("/", "0::/\n", "0::/../../init.scope\n", "fs/cgroup"),
    "PID 1 hidden": ("/", "0::/a\n", "", "fs/cgroup/a"),
    "a path that this mount does not show": ("/", f"0::{DOCKER}/gone (deleted)\n", None, "fs/cgroup"),
}


@pytest.mark.parametrize("layout", V2_LAYOUTS.values(), ids=V2_LAYOUTS)
def test_v2_counts_the_container_and_neither_host_nor_itself(
    machine: Machine, layout: tuple[str, str, str | None, str]
) -> None:
    root, own, init, folder = layout
    machine.cgroups(V2_MOUNT.format(root=root), own, init)
    for decoy in ("fs/cgroup", "fs/cgroup/system.slice/idlewatch.service", "fs/cgroup/init.scope"):
        machine.v2(decoy)
    machine.v2(folder)
    signal = machine.signal()
    signal.read(100)
    for decoy in ("fs/cgroup", "fs/cgroup/system.slice/idlewatch.service", "fs/cgroup/init.scope"):
        machine.v2(decoy, cpu_s=1000)
    machine.v2(folder, cpu_s=20, reads=300, writes=45, anon_mib=64)
    seen = facts(signal, 105)
    assert seen["cpu_busy_s"] == pytest.approx(20)
    assert seen["disk_bytes"] == 345
    assert seen["mem_growth_mib"] == pytest.approx(64)


@pytest.mark.parametrize(("root", "path", "folder"), [("/", "/", "/"), (DOCKER, DOCKER, "/"), ("/", DOCKER, DOCKER)])
def test_v1_counts_the_container(machine: Machine, root: str, path: str, folder: str) -> None:
    machine.cgroups(V1_MOUNTS.format(root=root), V1_OWN.format(path=path))
    machine.v1(folder)
    signal = machine.signal()
    signal.read(100)
    machine.v1("/", cpu_s=1000)
    machine.v1(folder, cpu_s=20, reads=300, writes=45, rss_mib=64)
    seen = facts(signal, 105)
    assert seen["cpu_busy_s"] == pytest.approx(20)
    assert seen["disk_bytes"] == 345
    assert seen["mem_growth_mib"] == pytest.approx(64)


def test_a_mount_from_before_the_namespace_shows_the_host_and_is_not_taken(machine: Machine) -> None:
    own = V1_OWN.format(path="/")
    machine.cgroups(V1_MOUNTS.format(root="/..") + V2_MOUNT.format(root="/"), own, own.replace(":/\n", ":/..\n"))
    machine.v1("/")
    signal = machine.signal()
    signal.read(100)
    machine.v1("/", cpu_s=1000)
    machine.v2("fs/cgroup", cpu_s=1000)
    machine.process(1, 0, cpu=300)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(3)


def test_a_hosts_disk_is_not_taken_where_the_container_has_no_counter(machine: Machine) -> None:
    machine.cgroups(V2_MOUNT.format(root="/"), f"0::{DOCKER}\n")
    machine.v2(f"fs/cgroup{DOCKER}")
    (machine.sys / f"fs/cgroup{DOCKER}/io.stat").unlink()
    signal = machine.signal()
    signal.read(100)
    machine.v2("fs/cgroup", reads=10**12)
    reading = signal.read(105)
    assert "disk_bytes" not in reading.facts
    assert signal.judge(reading).reason == "CPU 0.0 % of a core, network 0 B/s, disk not counted here"


def test_without_any_cgroup_the_visible_processes_are_summed(machine: Machine) -> None:
    machine.cgroups("20 1 0:20 / /proc rw - proc proc rw\n", "")
    machine.process(60, 1, cpu=10_000)
    machine.process(61, 60, cpu=300)
    signal = machine.signal()
    signal.read(100)
    machine.ends(61)
    machine.process(60, 1, cpu=10_100, waited=400)
    machine.process(OWN, 1, cpu=250)
    seen = facts(signal, 105)
    assert seen["cpu_busy_s"] == pytest.approx(2.0)
    assert "disk_bytes" not in seen
    assert "mem_growth_mib" not in seen


# Reading.


def test_the_first_reading_covers_nothing_and_says_so(machine: Machine) -> None:
    machine.v2("fs/cgroup", cpu_s=5000)
    signal = machine.signal()
    reading = signal.read(100)
    assert reading.covers_s == 0
    assert signal.judge(reading).activity is Activity.UNKNOWN


def test_a_reading_covers_the_time_since_the_last_one_also_across_a_failure(machine: Machine) -> None:
    signal = machine.signal()
    signal.read(100)
    network = (machine.proc / "net/dev").read_text()
    (machine.proc / "net/dev").write_text("nonsense\n\n:\n")
    with pytest.raises(SignalError):
        signal.read(105)
    (machine.proc / "net/dev").write_text(network)
    machine.v2("fs/cgroup", cpu_s=3)
    reading = signal.read(110)
    assert reading.covers_s == 10
    assert reading.facts["cpu_busy_s"] == pytest.approx(3)


def test_reading_twice_at_one_instant_repeats_the_reading(machine: Machine) -> None:
    signal = machine.signal()
    signal.read(100)
    machine.v2("fs/cgroup", cpu_s=3)
    first = signal.read(105)
    assert signal.read(105) is first
    assert signal.judge(first) == signal.judge(first)


@pytest.mark.parametrize("text", ["", "user_usec 5\n", "usage_usec many\n", "Failed to read\n", "usage_usec -\n"])
def test_cpu_that_cannot_be_read_is_an_error_and_never_zero(machine: Machine, text: str) -> None:
    signal = machine.signal()
    signal.read(100)
    machine.write(machine.sys / "fs/cgroup/cpu.stat", text)
    with pytest.raises(SignalError, match=r"cpu\.stat"):
        signal.read(105)


@pytest.mark.parametrize("lost", ["io.stat", "memory.stat"])
def test_a_counter_that_this_cgroup_has_and_that_makes_no_sense_is_an_error(machine: Machine, lost: str) -> None:
    signal = machine.signal()
    signal.read(100)
    machine.write(machine.sys / "fs/cgroup" / lost, "8:0 rbytes=x\nanon x\n")
    with pytest.raises(SignalError, match=lost):
        signal.read(105)


def test_a_counter_that_goes_backwards_is_an_error_once(machine: Machine) -> None:
    machine.v2("fs/cgroup", cpu_s=500)
    machine.network(lo=0, eth0=500)
    signal = machine.signal()
    signal.read(100)
    machine.v2("fs/cgroup", cpu_s=1)
    with pytest.raises(SignalError, match="CPU time went backwards"):
        signal.read(105)
    machine.network(lo=0, eth0=400)
    with pytest.raises(SignalError, match="network of eth0 went backwards"):
        signal.read(110)
    machine.v2("fs/cgroup", cpu_s=2)
    assert signal.read(115).facts["cpu_busy_s"] == pytest.approx(1)


def test_network_leaves_out_loopback_and_survives_an_interface_that_goes(machine: Machine) -> None:
    machine.network(lo=10, eth0=1000, veth1=5000)
    signal = machine.signal()
    signal.read(100)
    machine.network(lo=10**9, eth0=1600, tun0=40)
    assert facts(signal, 105)["net_bytes"] == 640


# What idlewatch itself causes.


def test_own_tree_is_taken_off_and_stays_off_when_children_end(machine: Machine) -> None:
    machine.process(51, OWN, cpu=500)
    machine.v2("fs/cgroup", cpu_s=5)
    signal = machine.signal()
    signal.read(100)
    machine.process(51, OWN, cpu=700)
    machine.v2("fs/cgroup", cpu_s=7)
    assert facts(signal, 105)["cpu_busy_s"] == 0
    machine.ends(51)
    machine.process(OWN, 1, cpu=100, waited=800)
    machine.v2("fs/cgroup", cpu_s=9 + 1.5)
    seen = facts(signal, 110)
    assert seen["own_cpu_s"] == pytest.approx(2)
    assert seen["cpu_busy_s"] == pytest.approx(1.5)


def test_a_process_beside_ours_counts(machine: Machine) -> None:
    machine.process(51, 1, cpu=0)
    signal = machine.signal()
    signal.read(100)
    machine.process(51, 1, cpu=400)
    machine.v2("fs/cgroup", cpu_s=4)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(4)


def test_what_an_idle_server_spins_is_no_work_and_other_processes_work_still_is(machine: Machine) -> None:
    machine.process(51, 1, cpu=0)
    machine.process(52, 1, cpu=0)
    signal = machine.signal()
    signal.spinning = lambda: ((51, 51), (OWN, OWN), (4711, 4711))
    signal.read(100)
    machine.process(51, 1, cpu=900)
    machine.process(52, 1, cpu=100)
    machine.v2("fs/cgroup", cpu_s=10)
    seen = facts(signal, 105)
    assert seen["spun_cpu_s"] == pytest.approx(9)
    assert seen["cpu_busy_s"] == pytest.approx(1)


def test_a_server_that_has_only_begun_is_counted(machine: Machine) -> None:
    signal = machine.signal()
    signal.spinning = lambda: ((51, 51),)
    signal.read(100)
    machine.process(51, 1, cpu=400)
    machine.v2("fs/cgroup", cpu_s=4)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(4)


def test_a_job_with_the_pid_of_a_server_that_has_ended_is_work(machine: Machine) -> None:
    machine.process(51, 1, cpu=9000, start=7)
    signal = machine.signal()
    signal.spinning = lambda: ((51, 7),)
    signal.read(100)
    machine.process(51, 1, cpu=100, start=9900)
    machine.v2("fs/cgroup", cpu_s=1)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(1)
    machine.process(51, 1, cpu=500, start=9900)
    machine.v2("fs/cgroup", cpu_s=5)
    seen = facts(signal, 110)
    assert seen["cpu_busy_s"] == pytest.approx(4)
    assert seen["spun_cpu_s"] == 0


def test_an_orphan_that_falls_to_our_tree_is_still_not_ours(machine: Machine) -> None:
    """Where idlewatch is PID 1, jobs that were put into the container and whose shell has gone become its children."""
    machine.process(70, 0)
    machine.process(71, 70, cpu=90_000)
    signal = HostSignal(proc=machine.proc, sys=machine.sys, own_pid=lambda: 1)
    signal.read(100)
    machine.ends(70)
    machine.process(71, 1, cpu=90_400)
    machine.v2("fs/cgroup", cpu_s=4)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(4)
    machine.process(71, 1, cpu=90_800)
    machine.v2("fs/cgroup", cpu_s=8)
    assert facts(signal, 110)["cpu_busy_s"] == pytest.approx(4)
    machine.ends(71)
    machine.process(1, 0, waited=90_800)
    machine.v2("fs/cgroup", cpu_s=11)
    assert facts(signal, 115)["cpu_busy_s"] == pytest.approx(3)


def test_a_stranger_that_falls_to_our_tree_between_two_whole_looks_is_still_not_ours(machine: Machine) -> None:
    machine.process(70, 1, cpu=90_000)
    signal = machine.signal()
    signal.read(100)
    for at_s in range(105, 255, 5):
        machine.process(70, OWN, cpu=90_000 + 80 * (at_s - 100))
        machine.v2("fs/cgroup", cpu_s=0.8 * (at_s - 100))
        assert facts(signal, at_s)["cpu_busy_s"] == pytest.approx(4)


def test_between_two_whole_looks_strangers_are_not_read_and_ours_are(machine: Machine) -> None:
    machine.process(60, 1)
    machine.process(51, OWN)
    signal = machine.signal()
    signal.read(100)
    machine.write(machine.proc / "60/stat", "nobody reads this")
    machine.process(51, OWN, cpu=100)
    machine.process(52, 51, cpu=50)
    machine.process(61, 1, cpu=900)
    machine.v2("fs/cgroup", cpu_s=10.5)
    seen = facts(signal, 105)
    assert seen["own_cpu_s"] == pytest.approx(1.5)
    assert seen["cpu_busy_s"] == pytest.approx(9)
    assert signal._before is not None
    assert {pid for pid, _ in signal._before.usage.processes} == {OWN, 51, 52, 61}
    machine.ends(51)
    machine.process(OWN, 1, waited=120)
    machine.process(52, 1, cpu=70)  # our child's child has left our tree
    machine.v2("fs/cgroup", cpu_s=11)
    assert facts(signal, 110)["own_cpu_s"] == pytest.approx(0.2)


def test_a_child_of_ours_with_the_pid_of_one_that_had_ended_is_ours_after_a_whole_look(machine: Machine) -> None:
    machine.process(60, 1, cpu=500, start=7)
    signal = machine.signal()
    signal.read(100)
    machine.process(60, OWN, cpu=0, start=9000)
    facts(signal, 105)
    facts(signal, 100 + WHOLE_EVERY_S)
    machine.process(60, OWN, cpu=300, start=9000)
    machine.v2("fs/cgroup", cpu_s=3)
    assert facts(signal, 105 + WHOLE_EVERY_S)["own_cpu_s"] == pytest.approx(3)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_looks_that_are_not_whole_say_the_same_as_those_that_are(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Of a crowd in which processes start, work, end and leave their parents, none of which we adopt."""
    machine, dice = Machine(tmp_path_factory.mktemp("machine")), random.Random(seed)
    machine.process(1, 0)
    machine.process(OWN, 1)
    living = {OWN: 1, 1: 0}
    next_pid, used = 100, dict.fromkeys(living, 0)
    before: list[host_processes.Usage] = []
    for look in range(12):
        for pid in dice.sample(sorted({*living} - {1, OWN}), k=min(len(living) - 2, dice.randrange(3))):
            used[living[pid]] += used[pid]
            machine.ends(pid)
            del living[pid]
            living |= {child: 1 for child, parent in living.items() if parent == pid}
        for _ in range(dice.randrange(4)):
            living[next_pid], used[next_pid] = dice.choice([*living]), 0
            next_pid += 1
        for pid in living:
            used[pid] += dice.randrange(50)
            machine.process(pid, living[pid], cpu=used[pid])
        now = [
            host_processes.usage(machine.proc, OWN, before[every > 1] if before else None, whole=look % every == 0)
            for every in (1, 5)
        ]
        spent = [host_processes.own_cpu_s(old, new) for old, new in zip(before, now, strict=False)]
        assert not spent or spent[0] == pytest.approx(spent[1])
        assert now[0].own == now[1].own
        before = now


def test_a_child_that_left_our_tree_does_not_make_our_share_negative(machine: Machine) -> None:
    machine.process(51, OWN, cpu=5000)
    signal = machine.signal()
    signal.read(100)
    machine.process(51, 1, cpu=5100)
    machine.process(OWN, 1, cpu=50)
    machine.v2("fs/cgroup", cpu_s=1.5)
    assert facts(signal, 105)["cpu_busy_s"] == pytest.approx(1.0)


def test_own_disk_bytes_are_taken_off_also_when_they_reach_the_disk_later(machine: Machine) -> None:
    machine.io(OWN)
    signal = machine.signal()
    signal.read(100)
    machine.io(OWN, reads=100, writes=9000)
    machine.v2("fs/cgroup", reads=150)
    assert facts(signal, 105)["disk_bytes"] == 50
    machine.v2("fs/cgroup", reads=150, writes=9200)
    assert facts(signal, 110)["disk_bytes"] == 200


def test_own_writes_that_never_reach_a_disk_hide_nothing_for_long() -> None:
    """A save to a network volume is counted as written and shows in no block counter."""
    late = LateWrites()
    assert late.others(0, own=10_000, written=0) == 0
    assert late.others(50, own=0, written=4_000) == 0
    assert late.others(61, own=0, written=4_000) == 4_000


def test_own_memory_is_taken_off(machine: Machine) -> None:
    pages = os.sysconf("SC_PAGE_SIZE")
    machine.write(machine.proc / f"{OWN}/statm", "900 500 100 1 0 300 0\n")
    signal = machine.signal()
    signal.read(100)
    machine.write(machine.proc / f"{OWN}/statm", f"900 {600 + 32 * MIB // pages} 200 1 0 300 0\n")
    machine.v2("fs/cgroup", anon_mib=40)
    assert facts(signal, 105)["mem_growth_mib"] == pytest.approx(8)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.floats(0, 40), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10**7)), max_size=8
    )
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_taken_off_nothing_gets_negative(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, int, int, int]]
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.cgroups(V2_MOUNT.format(root="/"), "0::/\n")
    machine.network(lo=0, eth0=0)
    signal, used_s = machine.signal(), 0.0
    for at, (busy_s, own, waited, own_bytes) in enumerate(steps):
        used_s += busy_s
        machine.v2("fs/cgroup", cpu_s=used_s, writes=at * 5000)
        machine.process(OWN, 1, cpu=own, waited=waited)
        machine.io(OWN, reads=own_bytes, writes=own_bytes)
        seen = signal.read(100.0 + at).facts
        for name in ("cpu_busy_s", "own_cpu_s", "disk_bytes"):
            value = seen.get(name, 0)
            assert isinstance(value, int | float)
            assert value >= 0


# Judging.


def tick(at_s: float, *, cpu: float = 0.0, span: float = 5.0, **more: float) -> Reading:
    named: dict[str, Json] = {"cpu_busy_s": cpu, "net_bytes": 0, "disk_bytes": 0, "mem_growth_mib": 0.0, **more}
    return Reading(signal="host", at_s=at_s, covers_s=span, facts=named)


def bursts(every_s: float, long_s: float, *, cores: float = 1.0, phase_s: float = 0.0) -> Busy:
    """CPU seconds between two instants of a job that runs `long_s` each `every_s`."""

    def used(start_s: float, end_s: float) -> float:
        first = (start_s - phase_s) // every_s * every_s + phase_s
        overlap = max(0.0, min(end_s, first + long_s) - max(start_s, first))
        return cores * (overlap + max(0.0, min(end_s, first + every_s + long_s) - max(start_s, first + every_s)))

    return used


def steady(cores: float) -> Busy:
    """CPU seconds of something that never rests."""
    return lambda start_s, end_s: cores * (end_s - start_s)


def play(*used: Busy, hours: float = 2.0, late_s: float = 0.0, hum: bool = True, seed: int = 1) -> list[Finding]:
    """Judge a series at 5 s ticks, up to `late_s` late each, with the hum of an idle JupyterLab under it."""
    dice, signal, at_s, found = random.Random(seed), HostSignal(), 0.0, list[Finding]()
    while at_s < hours * 3600:
        span = 5.0 + dice.random() * late_s
        noise = min(0.028, max(0.0, dice.gauss(0.007, 0.004))) * span if hum else 0.0
        cpu = noise + sum(job(at_s, at_s + span) for job in used)
        at_s += span
        found.append(signal.judge(tick(at_s, cpu=cpu, span=span)))
    return found


def settled(found: list[Finding]) -> list[Finding]:
    """What was found after the first window, in which a burst counts for more."""
    return [finding for finding in found if finding.seen_to_s > 1300]


@pytest.mark.slow
@pytest.mark.parametrize("late_s", [0.0, 1.0])
@pytest.mark.parametrize("cores", [1, 8])
def test_a_cron_job_of_20_s_each_10_min_never_holds_a_pod(cores: int, late_s: float) -> None:
    for phase in (0, 1, 2.5):
        found = settled(play(bursts(600, 20, cores=cores, phase_s=phase), hours=1, late_s=late_s, seed=int(phase)))
        assert {finding.activity for finding in found} == {Activity.QUIET}
        paused_s = sum(finding.seen_to_s - finding.seen_from_s for finding in found if finding.pauses)
        assert 0 < paused_s / (found[-1].seen_to_s - found[0].seen_from_s) < 0.06, "35 min of quiet take under 38 min"


def test_a_language_server_with_collections_is_quiet() -> None:
    server = steady(0.03)
    assert {finding.activity for finding in settled(play(server, bursts(60, 1)))} == {Activity.QUIET}


def test_a_steady_load_counts_from_the_limit_above_the_most_that_may_be_a_hum() -> None:
    assert {f.activity for f in play(steady(0.15), hours=0.5, hum=False)} == {Activity.QUIET}
    assert play(steady(0.16), hours=0.5, hum=False)[-1].activity is Activity.ACTIVE


@pytest.mark.parametrize(
    ("work", "gap_s"),
    [
        pytest.param(steady(80), 5, id="tokenizing in 80 processes"),
        pytest.param(steady(1), 5, id="a notebook cell at 100 %"),
        pytest.param(bursts(900, 120, cores=2), 900, id="a compile of 2 min in 15"),
        pytest.param(bursts(60, 5, phase_s=2), 60, id="an agent with 5 s a minute"),
    ],
)
def test_work_is_active_and_its_evidence_is_never_old(work: Busy, gap_s: float) -> None:
    newest_s = 0.0
    for finding in play(work, hours=1):
        newest_s = max(newest_s, finding.evidence_s or 0.0)
        assert finding.seen_to_s < 1300 or finding.seen_to_s - newest_s <= gap_s + 5
        assert finding.evidence_s is None or finding.evidence_s <= finding.seen_to_s


def test_evidence_is_the_last_tick_of_work_and_does_not_move_on_after_it() -> None:
    signal = HostSignal()
    worked = [signal.judge(tick(at, cpu=4.0)) for at in range(5, 605, 5)]
    after = [signal.judge(tick(at, cpu=0.02)) for at in range(605, 1800, 5)]
    assert worked[-1].evidence_s == 600
    assert {finding.evidence_s for finding in after} == {600, None}
    assert after[-1].activity is Activity.QUIET


def test_one_busy_tick_pauses_and_bars_and_clears_nothing() -> None:
    signal = HostSignal()
    for at in range(5, 1005, 5):
        signal.judge(tick(at))
    finding = signal.judge(tick(1005, cpu=20))
    assert (finding.activity, finding.pauses, finding.bars) == (Activity.QUIET, True, True)
    assert finding.reason.startswith("CPU 0.8 % of a core")
    assert finding.reason.endswith("; busy now, so the idle clock waits: CPU 400 % of a core > 50.0 %")
    assert signal.judge(tick(1010)).bars is False


def test_the_very_first_tick_does_not_fill_the_window() -> None:
    assert HostSignal().judge(tick(5, cpu=5)).activity is Activity.QUIET
    assert HostSignal().judge(tick(5, cpu=5)).pauses
    signal = HostSignal()
    assert [signal.judge(tick(at, cpu=5)).activity for at in (5, 10, 15)][-1] is Activity.ACTIVE


def test_a_long_blind_stretch_cannot_hide_work_behind_its_own_median() -> None:
    signal = HostSignal()
    for at in range(5, 605, 5):
        signal.judge(tick(at))
    finding = signal.judge(tick(3600, span=3000, cpu=240))
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, 3600)


@pytest.mark.parametrize(
    ("fact", "least", "reason"),
    [
        ("net_bytes", 51_000, "network 51.0 KB/s > 50.0 KB/s over 10 min"),
        ("disk_bytes", 1_100_000, "disk 1.1 MB/s > 1.0 MB/s over 10 min"),
        ("mem_growth_mib", 0.5, "memory grew 270 MiB > 256 MiB over 10 min"),
    ],
)
def test_each_bulk_signal_alone_is_use_just_above_its_limit(fact: str, least: float, reason: str) -> None:
    signal, below = HostSignal(), HostSignal()
    for at in range(5, 605, 5):
        finding = signal.judge(tick(at, **{fact: least * 5}))
        quiet = below.judge(tick(at, **{fact: least * 5 * 0.9}))
    assert (finding.activity, finding.reason) == (Activity.ACTIVE, reason)
    assert finding.evidence_s == 600
    assert quiet.activity is Activity.QUIET


def test_memory_that_a_short_job_takes_and_gives_back_is_no_growth() -> None:
    signal = HostSignal()
    steps = {40: 900.0, 44: -900.0}
    found = [signal.judge(tick(number * 5, mem_growth_mib=steps.get(number % 120, 0))) for number in range(1, 700)]
    assert {finding.activity for finding in found} == {Activity.QUIET}


def test_memory_that_stays_counts_from_when_it_grew() -> None:
    signal = HostSignal()
    found = [signal.judge(tick(number * 5, mem_growth_mib=900.0 if number == 100 else 0)) for number in range(1, 300)]
    assert {finding.evidence_s for finding in found} == {500, None}


def test_the_reason_has_value_unit_and_limit() -> None:
    signal = HostSignal()
    for at in range(5, 605, 5):
        finding = signal.judge(tick(at, cpu=20.6))
    assert finding.reason == "CPU 412 % of a core > 15.0 % over 10 min"
    for at in range(605, 1805, 5):
        finding = signal.judge(tick(at, cpu=0.03, net_bytes=1000))
    assert finding.reason == "CPU 0.6 % of a core, network 0.2 KB/s, disk 0 B/s"
    assert (finding.seen_from_s, finding.seen_to_s) == (1795, 1800)


def test_errors_and_proofs_pass_through() -> None:
    signal = HostSignal()
    unread = signal.judge(Reading(signal="host", at_s=5, error="cpu.stat cannot be read"))
    assert (unread.activity, unread.reason) == (Activity.UNKNOWN, "cpu.stat cannot be read")
    assert signal.judge(Reading(signal="host", at_s=5, absent="no host")).activity is Activity.ABSENT
    without = signal.judge(Reading(signal="host", at_s=5, covers_s=5, facts={"cpu_busy_s": None}))
    assert without.activity is Activity.UNKNOWN


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 4000), st.floats(0, 900), st.floats(0, 1e9), st.floats(0, 1e10), st.floats(-5000, 5000)
        ),
        max_size=40,
    )
)
def test_any_series_gives_findings_that_keep_their_word(series: list[tuple[float, float, float, float, float]]) -> None:
    signal, again, at_s = HostSignal(), HostSignal(), 1000.0
    for span, cpu, net, disk, growth in series:
        at_s += span
        reading = tick(at_s, cpu=cpu, span=span, net_bytes=net, disk_bytes=disk, mem_growth_mib=growth)
        finding = signal.judge(reading)
        assert finding == again.judge(reading)
        assert (finding.evidence_s is not None) == (finding.activity is Activity.ACTIVE)
        assert finding.evidence_s is None or at_s - 600 < finding.evidence_s <= at_s
        assert not (finding.pauses and finding.activity is Activity.ACTIVE)


# On this machine.

BURN = """
import time
print("ready", flush=True)
input()
end = time.process_time() + 0.8
while time.process_time() < end: pass
print("burnt", flush=True)
input()
"""


def burnt(own_pid: Callable[[int], int]) -> dict[str, Json]:
    """What the real counters say while a child burns 0.8 CPU seconds, seen by the process `own_pid(child)`."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        signal = HostSignal(own_pid=lambda: own_pid(child.pid))
        signal.read(time.clock_gettime(time.CLOCK_BOOTTIME))
        child.stdin.write(b"\n")
        assert child.stdout.readline() == b"burnt\n"
        seen = facts(signal, time.clock_gettime(time.CLOCK_BOOTTIME))
        child.communicate(b"\n")
    return seen


@pytest.mark.slow
def test_a_real_child_of_ours_is_taken_off() -> None:
    own = burnt(lambda _: os.getpid())["own_cpu_s"]
    assert isinstance(own, float)
    assert own > 0.6


@pytest.mark.slow
def test_a_real_process_beside_ours_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        seen = burnt(lambda _: stranger.pid)
        stranger.communicate(b"\n")
    assert isinstance(seen["cpu_busy_s"], float)
    assert seen["cpu_busy_s"] > 0.6
    assert isinstance(seen["own_cpu_s"], float)
    assert seen["own_cpu_s"] < 0.5


# Use that nobody else sees.


def test_who_used_most_is_named_once_a_minute_without_ours_and_idle_servers(machine: Machine) -> None:
    signal = machine.signal()
    signal.spinning = lambda: ((51, 51),)
    machine.process(51, 1)
    for pid in range(60, 65):
        machine.process(pid, 1)
    assert "busiest" not in facts(signal, 100)
    machine.process(1, 0, cpu=100, waited=1400)
    machine.process(51, 1, cpu=9000)
    machine.process(OWN, 1, cpu=9000)
    for pid in range(60, 65):
        machine.process(pid, 1, cpu=pid)
    machine.process(70, 1, cpu=300)
    assert "busiest" not in facts(signal, 105)
    used = {1: 15.0, 70: 3.0, 64: 0.64}
    assert facts(signal, 160)["busiest"] == [
        {"name": "a) R 1 b", "pid": pid, "cpu_s": cpu_s, "span_s": 60.0} for pid, cpu_s in used.items()
    ]
    assert "busiest" not in facts(signal, 165)


def heard(*stretches: tuple[float, float]) -> list[tuple[float, str]]:
    """Instant and words of each new notice, after stretches of so many seconds at so many cores."""
    signal, at_s, told = HostSignal(), 0.0, list[tuple[float, str]]()
    busiest: list[Json] = [{"name": "supervisord", "pid": 1, "cpu_s": 15.0, "span_s": 60.0}]
    for lasts_s, used in stretches:
        for _ in range(round(lasts_s / 60)):
            at_s += 60
            reading = tick(at_s, cpu=used * 60, span=60.0)
            notice = signal.judge(replace(reading, facts={**reading.facts, "busiest": busiest})).notice
            if notice is not None and [notice] != [text for _, text in told[-1:]]:
                told.append((at_s, notice))
    return told


def test_use_that_only_the_host_sees_is_told_after_3_h_with_who_makes_it() -> None:
    ((at_s, notice),) = heard((6 * 3600, 0.25))
    assert 3 * 3600 < at_s < 3 * 3600 + 300
    assert notice == (
        "CPU 25.0 % of a core > 15.0 % over 10 min; most CPU, with what they started: supervisord (pid 1) 25 %: "
        "the only sign of use for more than 3h; if that is no work: IDLEWATCH_IGNORE=host"
    )


def test_figures_that_fall_below_their_limits_for_less_than_a_stop_takes_are_one_stretch() -> None:
    half_hours = [(1800, 0.25), (1200, 0.0)] * 5
    assert heard(*half_hours, (600, 0.25))
    assert not heard((2 * 3600, 0.25), (3600, 0.0), (2 * 3600, 0.25))


@pytest.mark.parametrize("busiest", [7, ["x"], [{"name": "x", "pid": 1, "cpu_s": "x", "span_s": 60.0}]])
def test_who_used_most_in_words_that_make_no_sense_is_unknown(busiest: Json) -> None:
    reading = tick(5)
    found = HostSignal().judge(replace(reading, facts={**reading.facts, "busiest": busiest}))
    assert found.activity is Activity.UNKNOWN
