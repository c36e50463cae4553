"""The way out for a GPU that can't be read: an hour after the alarm, that no process but ours has one open."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from idlewatch.gpu.holders import Holders, holders
from idlewatch.gpu.reader import GpuReader, Taken
from idlewatch.model import Activity, Finding
from idlewatch.signals.gpu import GpuSignal
from idlewatch.signals.gpu_proof import LOOK_AFTER_S, OpenFiles
from tests.gpu_polls import Pod, failed, gpu, poll
from tests.nvml_stub import NvmlScript, build, child_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACTIVE, QUIET, UNKNOWN = Activity.ACTIVE, Activity.QUIET, Activity.UNKNOWN
HUNG = "GPU reader hung: no line for 16 s"
PATIENCE_S = 60.0
LOST = 15
PROC = Path("/proc")


class Proc:
    """A /proc: processes and what they have open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir(parents=True)
        self.mounted("rw,nosuid")
        self.process(1, "init", "/dev/null")

    def mounted(self, options: str) -> None:
        (self.root / "self" / "mounts").write_text(
            f"overlay / overlay rw,hidepid=2 0 0\nproc /proc proc {options} 0 0\n"
        )

    def process(self, pid: int, name: str, *opened: str, thread: int | None = None) -> Path:
        """A process, or another thread of it."""
        folder = self.root / str(pid)
        first = folder if thread is None else folder / "task" / str(thread)
        (first / "fd").mkdir(parents=True)
        if thread is None:
            (folder / "task" / str(pid)).mkdir(parents=True)
            (folder / "task" / str(pid) / "fd").symlink_to(folder / "fd")
        for number, path in enumerate(opened):
            (first / "fd" / str(number)).symlink_to(path)
        (folder / "comm").write_text(f"{name}\n")
        return folder

    def unreadable(self, pid: int) -> None:
        """A process of somebody else: its open files can't be listed."""
        (self.root / str(pid)).mkdir()
        (self.root / str(pid) / "fd").write_text("")

    def look(self, *ours: int) -> Holders:
        return holders(self.root, frozenset(ours))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


# ---------------------------------------------------------------- who has a GPU open


def test_nobody_is_a_proof(proc: Proc) -> None:
    proc.process(7, "sshd", "socket:[4711]", "/dev/pts/0", "/tmp/nvidia.log")
    found = proc.look()
    assert (found.none, str(found)) == (True, "no process but idlewatch has a GPU open")


@pytest.mark.parametrize(
    "device", ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kfd", "/dev/dri/renderD128", "/dev/dxg"]
)
def test_any_device_of_a_gpu_is_none(proc: Proc, device: str) -> None:
    proc.process(812, "python3", "/dev/null", device)
    found = proc.look()
    assert (found.none, found.names) == (False, ("python3 (pid 812)",))
    assert str(found) == "a GPU is open in python3 (pid 812): it may be at work"


def test_our_own_processes_do_not_count(proc: Proc) -> None:
    proc.process(40, "idlewatch", "/dev/nvidiactl")
    assert not proc.look().none
    assert proc.look(40).none


def test_many_are_named_shortly(proc: Proc) -> None:
    for pid in range(100, 105):
        proc.process(pid, "vllm", "/dev/nvidia0")
    assert str(proc.look()).endswith(" and 2 more: it may be at work")


def test_files_that_cannot_be_seen_prove_nothing(proc: Proc) -> None:
    proc.unreadable(9)
    found = proc.look()
    assert (found.none, str(found)) == (False, "the open files of 1 of 2 processes can't be seen (not root?)")


def test_one_who_is_seen_counts_more_than_one_who_is_not(proc: Proc) -> None:
    proc.unreadable(9)
    proc.process(812, "python3", "/dev/nvidia0")
    assert proc.look().names == ("python3 (pid 812)",)


@pytest.mark.parametrize(
    ("options", "proves"), [("rw,hidepid=2", False), ("hidepid=invisible,rw", False), ("rw,hidepid=0", True)]
)
def test_processes_that_are_hidden_prove_nothing(proc: Proc, options: str, proves: bool) -> None:  # noqa: FBT001  (a parameter)
    proc.mounted(options)
    assert proc.look().none is proves


def test_a_process_whose_first_thread_has_ended_may_hold_one_in_another(proc: Proc) -> None:
    """As one whose other thread hangs in the driver, and that SIGKILL did not end."""
    proc.process(30, "python3")
    assert proc.look().none
    proc.process(30, "python3", "/dev/nvidia0", thread=31)
    assert proc.look().names == ("python3 (pid 30)",)


def test_a_proc_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    found = holders(tmp_path / "none", frozenset())
    assert not found.none
    assert str(found) == "the open files of processes can't be seen (No such file or directory)"


def test_the_real_proc_is_understood() -> None:
    """Whatever runs here: this process has an open file that is no GPU, and is asked about itself."""
    found = holders(PROC, frozenset())
    assert f"(pid {os.getpid()})" not in " ".join(found.names)
    assert found.error is None or "can't be seen" in found.error or "hidden" in found.error


# ---------------------------------------------------------------- what the signal makes of it


class Blind(Pod):
    """A signal that looks who has a GPU open after its GPUs were not seen for long; a tick each 5 s."""

    def __init__(self, proc: Proc, **settings: Any) -> None:
        super().__init__(open_files=OpenFiles(proc=proc.root), **settings)

    def blind(self, from_s: float, to_s: float, error: str = HUNG) -> Finding:
        """The finding at `to_s`, after nothing but that error since `from_s`."""
        for now_s in range(int(from_s), int(to_s), 5):
            assert self.see(error=error, now_s=now_s).activity is UNKNOWN, now_s
        return self.see(error=error, now_s=to_s)


def test_after_long_blindness_nobody_who_has_a_gpu_open_is_quiet(proc: Proc) -> None:
    pod = Blind(proc)
    finding = pod.blind(0, LOOK_AFTER_S)
    assert finding.activity is QUIET
    assert finding.reason == f"no process but idlewatch has a GPU open; unreadable for 75 min: {HUNG}"
    assert finding.seen_to_s == finding.seen_from_s  # nothing was looked at before
    again = pod.see(error=HUNG, now_s=LOOK_AFTER_S + 5)
    assert (again.seen_from_s, again.seen_to_s) == (LOOK_AFTER_S, LOOK_AFTER_S + 5)


def test_before_that_nobody_looks(proc: Proc) -> None:
    pod = Blind(proc)
    assert pod.blind(0, LOOK_AFTER_S - 1).reason == HUNG


def test_a_good_reading_begins_it_anew(proc: Proc) -> None:
    pod = Blind(proc)
    pod.blind(0, LOOK_AFTER_S - 10)
    assert pod.see(poll(LOOK_AFTER_S - 5, gpu())).activity is QUIET
    assert pod.blind(LOOK_AFTER_S, LOOK_AFTER_S + 60).reason == HUNG


def test_somebody_who_has_one_open_keeps_it_unknown_and_is_named(proc: Proc) -> None:
    pod = Blind(proc)
    proc.process(812, "python3", "/dev/nvidia0")
    finding = pod.blind(0, LOOK_AFTER_S)
    assert finding.activity is UNKNOWN
    assert finding.reason == f"{HUNG}; a GPU is open in python3 (pid 812): it may be at work"


def test_what_cannot_be_seen_keeps_it_unknown(proc: Proc) -> None:
    proc.unreadable(9)
    assert Blind(proc).blind(0, LOOK_AFTER_S).reason.endswith("can't be seen (not root?)")


def test_two_looks_far_apart_prove_nothing_of_the_time_between(proc: Proc) -> None:
    pod = Blind(proc)
    pod.blind(0, LOOK_AFTER_S)
    late = pod.see(error=HUNG, now_s=LOOK_AFTER_S + 40)
    assert late.activity is QUIET
    assert late.seen_from_s == late.seen_to_s


def test_someone_who_opened_one_in_between_breaks_the_proof(proc: Proc) -> None:
    pod = Blind(proc)
    pod.blind(0, LOOK_AFTER_S)
    folder = proc.process(812, "python3", "/dev/nvidia0")
    assert pod.see(error=HUNG, now_s=LOOK_AFTER_S + 5).activity is UNKNOWN
    (folder / "fd" / "0").unlink()
    ended = pod.see(error=HUNG, now_s=LOOK_AFTER_S + 10)
    assert (ended.activity, ended.seen_from_s) == (QUIET, ended.seen_to_s)


def test_one_lost_gpu_is_covered_by_the_proof_and_the_other_by_its_readings(proc: Proc) -> None:
    pod = Blind(proc, gpu_count=2)
    for at_s in range(0, int(LOOK_AFTER_S), 5):
        assert pod.see(poll(at_s, gpu(), failed("GPU-1")), now_s=at_s).activity is UNKNOWN
    at_s = int(LOOK_AFTER_S)
    quiet = pod.see(poll(at_s, gpu(), failed("GPU-1")), now_s=at_s)
    assert (quiet.activity, quiet.reason.split(": ", 1)[1]) == (QUIET, "gpu1 utilization: GPU is lost")
    assert pod.see(poll(at_s + 5, gpu(util_max_pct=40), failed("GPU-1")), now_s=at_s + 5).activity is ACTIVE
    proc.process(812, "python3", "/dev/nvidia0")
    held = pod.see(poll(at_s + 10, gpu(), failed("GPU-1")), now_s=at_s + 10)
    assert (held.activity, held.seen_to_s) == (UNKNOWN, 0)
    assert held.reason == "gpu1 utilization: GPU is lost; a GPU is open in python3 (pid 812): it may be at work"


def test_the_facts_tell_how_it_was_proven(proc: Proc) -> None:
    pod = Blind(proc)
    pod.blind(0, LOOK_AFTER_S)
    facts = pod.read(error=HUNG, now_s=LOOK_AFTER_S + 5).facts
    assert (facts["lost"], facts["gpus"], facts["holders"]) == (HUNG, [], [])
    assert (facts["unseen_s"], facts["holders_error"]) == (LOOK_AFTER_S + 5, None)
    seen = pod.read(poll(LOOK_AFTER_S + 10, gpu())).facts
    assert (seen["unseen_s"], seen["holders"]) == (0, None)


def test_the_reader_itself_has_gpus_open_and_does_not_count(proc: Proc) -> None:
    proc.process(77, "python3", "/dev/nvidiactl")
    pod = Blind(proc)
    pod.blind(0, LOOK_AFTER_S)
    pod.reader.next = Taken(error=HUNG, pid=77)
    assert pod.signal.judge(pod.signal.read(LOOK_AFTER_S + 5)).activity is QUIET
    pod.reader.next = Taken(error=HUNG, pid=78)
    assert pod.signal.judge(pod.signal.read(LOOK_AFTER_S + 10)).activity is UNKNOWN


# ---------------------------------------------------------------- through the reader, pynvml and the stub


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script", gpus=2)


@pytest.fixture
def until(library: Path, script: NvmlScript, proc: Proc) -> Iterator[Callable[[Activity, str], Finding]]:
    """Reads and judges until a finding of that activity, with these words, comes."""
    reader = GpuReader(argv=child_argv(library, script, poll_s=0.1), poll_s=0.1, grace_s=0.5)
    signal = GpuSignal(reader=reader, gpu_count=2, open_files=OpenFiles(proc=proc.root, after_s=1.0))

    def until(activity: Activity, words: str) -> Finding:
        end_s, seen = time.monotonic() + PATIENCE_S, None
        while time.monotonic() < end_s:
            seen = signal.judge(signal.read(time.clock_gettime(time.CLOCK_BOOTTIME)))
            if seen.activity is activity and words in seen.reason:
                return seen
            time.sleep(0.02)
        raise AssertionError(seen)

    yield until
    signal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda script: script.error("*", LOST, 1), "GPU is lost"),
        (lambda script: script.stall("util_samples", 600), "GPU reader hung"),
        (lambda script: script.count(1), "only 1 of 2 GPUs found"),
        (lambda script: script.mig(1), "MIG: none of its instances"),
        (lambda script: script.error("init", 18), "version mismatch"),
    ],
    ids=["lost", "hang", "fewer", "mig", "mismatch"],
)
def test_a_fault_that_stays_ends_in_the_proof_and_a_user_ends_the_proof(
    until: Callable[[Activity, str], Finding],
    script: NvmlScript,
    proc: Proc,
    fault: Callable[[NvmlScript], None],
    words: str,
) -> None:
    if words == "version mismatch":
        fault(script)
    else:
        until(QUIET, "2 GPUs at 0 %")
        fault(script)
    until(UNKNOWN, words)
    until(QUIET, words)
    proc.process(812, "python3", "/dev/nvidia1")
    assert until(UNKNOWN, words).reason.endswith("a GPU is open in python3 (pid 812): it may be at work")
