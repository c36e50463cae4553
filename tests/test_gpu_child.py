"""The child process on the stub, through the real pynvml: what it says when NVML is well, and when it is not."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.gpu import METRICS, REOPEN
from idlewatch.gpu.child import REOPEN_AFTER_POLLS, REOPEN_FOR_ONE_AFTER_POLLS
from idlewatch.gpu.samples import cleaned, period_s, span_s, two_highest
from tests.nvml_stub import ALL, NvmlScript, build, child_argv, now_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, SIZE = 3, 4, 6, 7
DRIVER, FUNCTION, LOST, RESET, MISMATCH, UNKNOWN = 9, 13, 15, 16, 18, 999
PATIENCE_S = 30.0

pytestmark = pytest.mark.slow


class Running:
    """A child process and its lines."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout
        self._out = self.process.stdout

    def line(self) -> dict[str, Any]:
        readable, _, _ = select.select([self._out], [], [], PATIENCE_S)
        assert readable, "the child said nothing"
        said = self._out.readline()
        assert said, self.process.communicate()[1].decode()
        return dict(json.loads(said))

    def gpu(self, index: int = 0) -> dict[str, Any]:
        return dict(self.line()["gpus"][index])

    def until(self, seen: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first line of which `seen` is true; a change of the script may take effect within a poll."""
        for _ in range(100):
            line = self.line()
            if seen(line):
                return line
        raise AssertionError(line)

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        self._out.close()
        assert self.process.stderr
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script")


@pytest.fixture
def start(library: Path, script: NvmlScript) -> Iterator[Callable[..., Running]]:
    children: list[Running] = []

    def start(poll_s: float = 0.1, *options: str) -> Running:
        children.append(Running(child_argv(library, script, *options, poll_s=poll_s)))
        return children[-1]

    yield start
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.end()


def test_an_idle_gpu_reads_zero_with_everything_that_it_has(start: Callable[..., Running]) -> None:
    child = start()
    first, second = child.line(), child.line()
    gpu = second["gpus"][0]
    assert (first["seq"], second["seq"]) == (0, 1)
    assert second["error"] is None
    assert (second["expected"], second["found"]) == (1, 1)
    assert (gpu["uuid"], gpu["name"], gpu["mig"]) == ("GPU-00000000", "Stub GPU", False)
    assert (gpu["util_max_pct"], gpu["util_mean_pct"], gpu["error"]) == (0, 0, None)
    assert gpu["engines_max_pct"] == {"encoder": 0, "decoder": 0, "jpeg": 0, "ofa": 0}
    assert (gpu["mem_used_mib"], gpu["processes"], gpu["unsupported"]) == (3, 0, [])
    assert (gpu["index"], gpu["kind"], gpu["virtual"], gpu["instant"], gpu["not_readable"]) == (
        0,
        "nvidia",
        None,
        False,
        {},
    )
    assert (gpu["power_limit_w"], gpu["mem_total_mib"], gpu["power_w"]) == (700, 81920, None)
    assert gpu["ring_span_s"] == pytest.approx(16.5, abs=0.01)
    assert gpu["ring_period_s"] == pytest.approx(1 / 6, abs=0.001)
    assert (second["driver"], second["poll_s"]) == ("580.0", 0.1)


def test_what_is_covered_is_the_time_between_polls(start: Callable[..., Running]) -> None:
    child = start()
    first, second = child.line(), child.line()
    assert first["gpus"][0]["covered_s"] == 0
    assert second["gpus"][0]["covered_s"] == pytest.approx(second["at_s"] - first["at_s"], abs=0.002)


def test_the_first_polls_are_marked_as_settling(start: Callable[..., Running]) -> None:
    child = start()
    lines = [child.line() for _ in range(9)]
    assert lines[0]["settles_in_s"] > 0
    assert lines[-1]["settles_in_s"] == 0


def test_each_gpu_speaks_for_itself(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=8)
    script.util(5, 87)
    script.mem(5, 16000)
    script.processes(5, 2)
    line = start().until(lambda line: line["gpus"][5]["util_max_pct"])
    assert [gpu["util_max_pct"] for gpu in line["gpus"]] == [0, 0, 0, 0, 0, 87, 0, 0]
    assert (line["gpus"][5]["mem_used_mib"], line["gpus"][5]["processes"]) == (16000, 2)
    assert len({gpu["uuid"] for gpu in line["gpus"]}) == 8


@pytest.mark.parametrize("engine", ["encoder", "decoder", "jpeg", "ofa"])
def test_a_busy_engine_is_seen_at_utilization_zero(
    start: Callable[..., Running], script: NvmlScript, engine: str
) -> None:
    script.engine(0, engine, 12)
    gpu = start().until(lambda line: line["gpus"][0]["engines_max_pct"].get(engine))["gpus"][0]
    assert gpu["engines_max_pct"][engine] == 12
    assert gpu["util_max_pct"] == 0


def test_rows_that_drivers_get_wrong_are_dropped(start: Callable[..., Running], script: NvmlScript) -> None:
    """Unsorted, without a time stamp, above 100, twice."""
    at_s = now_s() - 1
    script.samples(0, [(at_s, 4), (0, 99), (at_s - 2, 3), (at_s - 1, 127), (at_s - 2, 7), (at_s, 4)])
    child = start()
    gpu = child.gpu()
    assert (gpu["util_max_pct"], gpu["util_second_pct"], gpu["samples"]) == (7, 4, 2)
    assert child.gpu()["util_max_pct"] == 0  # the newest time stamp was passed back, not the last one


def test_a_ring_with_nothing_newer_leaves_the_instant_reading(
    start: Callable[..., Running], script: NvmlScript
) -> None:
    script.dry(ALL)
    script.instant(0, 31)
    child = start()
    child.line()
    gpu = child.gpu()
    assert (gpu["util_max_pct"], gpu["samples"], gpu["error"]) == (31, 1, None)
    assert gpu["covered_s"] > 0


def test_no_ring_and_no_instant_reading_is_an_error_and_never_a_zero(
    start: Callable[..., Running], script: NvmlScript
) -> None:
    script.dry(ALL)
    script.error("util", UNKNOWN)
    gpu = start().gpu()
    assert gpu["util_max_pct"] is None
    assert gpu["error"] == "utilization: Unknown Error"
    assert gpu["covered_s"] == 0


def test_a_ring_that_fails_is_an_error_beside_the_instant_reading(
    start: Callable[..., Running], script: NvmlScript
) -> None:
    script.error("util_samples", UNKNOWN)
    script.instant(0, 40)
    gpu = start().gpu()
    assert (gpu["util_max_pct"], gpu["error"]) == (40, "utilization: Unknown Error")


def test_an_instant_reading_above_100_is_an_error(start: Callable[..., Running], script: NvmlScript) -> None:
    script.dry(ALL)
    script.instant(0, 127)
    gpu = start().gpu()
    assert (gpu["util_max_pct"], gpu["error"]) == (None, "utilization: reads 127 %")


def test_an_error_costs_no_samples_when_it_passes(start: Callable[..., Running], script: NvmlScript) -> None:
    child = start()
    good = child.until(lambda line: line["seq"] >= 1)
    script.error("util_samples", UNKNOWN)
    child.until(lambda line: line["gpus"][0]["error"])
    script.error("util_samples", 0)
    back = child.until(lambda line: not line["gpus"][0]["error"])
    assert back["gpus"][0]["covered_s"] > 0.15
    assert back["at_s"] - back["gpus"][0]["covered_s"] >= good["at_s"] - 0.01


def test_a_ring_that_grows_between_two_calls_is_read_again(start: Callable[..., Running], script: NvmlScript) -> None:
    script.util(0, 20, since_s=0)
    script.error("util_rows", SIZE, times=2)
    gpu = start().gpu()
    assert (gpu["util_max_pct"], gpu["samples"], gpu["error"]) == (20, 100, None)


def test_a_gpu_without_a_ring_is_tapped_between_polls(start: Callable[..., Running], script: NvmlScript) -> None:
    script.error("util_samples", NOT_SUPPORTED)
    script.util(0, 20, since_s=0)
    child = start(2.5)
    gpu = child.until(lambda line: line["gpus"][0]["samples"] >= 2)["gpus"][0]
    assert (gpu["util_max_pct"], gpu["unsupported"], gpu["error"]) == (20, [], None)
    assert gpu["covered_s"] <= gpu["samples"]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, FUNCTION])
def test_what_a_gpu_lacks_is_listed_metric_by_metric(
    start: Callable[..., Running], script: NvmlScript, code: int
) -> None:
    for call in ("jpeg", "jpeg_samples", "energy", "processes"):
        script.error(call, code)
    gpu = start().gpu()
    assert gpu["unsupported"] == ["jpeg", "energy", "processes"]
    assert set(gpu["not_readable"]) == {"jpeg", "energy", "processes"}
    assert gpu["power_w"] == 70  # asked only where there is no counter
    assert (gpu["error"], gpu["energy_total_mj"], gpu["processes"]) == (None, None, None)
    assert (gpu["util_max_pct"], gpu["mem_used_mib"]) == (0, 3)
    assert "jpeg" not in gpu["engines_max_pct"]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
def test_utilization_that_is_refused_is_unsupported_not_zero(
    start: Callable[..., Running], script: NvmlScript, code: int
) -> None:
    script.error("util_samples", code)
    script.error("util", code)
    gpu = start().gpu()
    assert (gpu["util_max_pct"], gpu["samples"]) == (None, 0)
    assert gpu["unsupported"] == ["utilization"]
    words = {3: "Not Supported", 4: "Insufficient Permissions (this container may not ask for it)"}
    assert gpu["not_readable"] == {"utilization": words[code]}


def test_mig_is_said_honestly_even_where_the_calls_answer(start: Callable[..., Running], script: NvmlScript) -> None:
    script.mig(0)
    gpu = start().gpu()
    assert gpu["mig"] is True
    assert (gpu["util_max_pct"], gpu["covered_s"], gpu["engines_max_pct"]) == (None, 0, {})
    assert "utilization" in gpu["unsupported"]
    assert gpu["energy_total_mj"] > 0


def test_an_engine_that_fails_makes_the_gpu_unknown(start: Callable[..., Running], script: NvmlScript) -> None:
    for call in ("encoder", "encoder_samples"):
        script.error(call, UNKNOWN)
    gpu = start().gpu()
    assert gpu["error"] == "encoder: Unknown Error"
    assert gpu["covered_s"] == 0


def test_a_vote_that_fails_for_once_is_unknown_and_no_more(start: Callable[..., Running], script: NvmlScript) -> None:
    for call in ("energy", "mem2", "processes"):
        script.error(call, UNKNOWN)
    gpu = start().gpu()
    assert (gpu["energy_total_mj"], gpu["mem_used_mib"], gpu["processes"]) == (None, None, None)
    assert (gpu["error"], gpu["unsupported"], gpu["util_max_pct"]) == (None, [], 0)
    assert gpu["not_readable"] == dict.fromkeys(("energy", "memory", "processes"), "Unknown Error")


@pytest.mark.parametrize("code", [FUNCTION, 2, 25])
def test_an_old_library_gives_memory_with_the_reserve(
    start: Callable[..., Running], script: NvmlScript, code: int
) -> None:
    script.error("mem2", code)
    assert start().gpu()["mem_used_mib"] == 483


def test_the_energy_counter_rises_with_the_power(start: Callable[..., Running], script: NvmlScript) -> None:
    script.energy_w(0, 300)
    child = start()
    drawn_between([child.line() for _ in range(8)], lambda at_s: 300 * at_s)


def drawn_between(lines: list[dict[str, Any]], joules_at: Callable[[float], float]) -> None:
    """The counter is read somewhere between the instant of its poll and that of the next one."""
    total = [line["gpus"][0]["energy_total_mj"] / 1000 for line in lines]
    at_s = [line["at_s"] for line in lines]
    least = joules_at(at_s[-2]) - joules_at(at_s[1])
    assert least - 1 <= total[-2] - total[0] <= joules_at(at_s[-1]) - joules_at(at_s[0]) + 1


@pytest.mark.parametrize(
    ("code", "words", "meaning"),
    [
        (DRIVER, "Driver Not Loaded", "no NVIDIA driver is loaded on this machine"),
        (MISMATCH, "RM has detected an NVML/RM version mismatch", "the machine's driver was changed under this Pod"),
        (UNKNOWN, "Unknown Error", "often a container that lost its GPU when the machine reloaded its services"),
        (NO_PERMISSION, "Insufficient Permissions", "this container may not ask for it"),
    ],
)
def test_an_nvml_that_cannot_be_opened_says_why_and_leaves(
    start: Callable[..., Running], script: NvmlScript, code: int, words: str, meaning: str
) -> None:
    script.error("init", code)
    child = start()
    assert child.line()["error"].startswith(f"NVML can't be opened: {words} ({meaning}")
    assert child.process.wait(PATIENCE_S) == REOPEN


def test_a_library_that_is_missing_is_said(tmp_path: Path, script: NvmlScript) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")  # so that a real one of this machine is not found either
    child = Running(child_argv(tmp_path, script, poll_s=0.1))
    assert child.line()["error"] == (
        "NVML can't be opened: NVML Shared Library Not Found "
        "(this container has no libnvidia-ml.so.1 that can be loaded)"
    )
    assert child.end() == REOPEN


def test_a_pynvml_of_another_project_is_said(tmp_path: Path, library: Path, script: NvmlScript) -> None:
    (tmp_path / "pynvml.py").write_text("class NVMLError(Exception): pass\n")
    argv = child_argv(library, script, poll_s=0.1)
    child = Running([argv[0], f"PYTHONPATH={tmp_path}", *argv[1:]])
    assert child.line()["error"] == "NVML can't be opened: this pynvml has no nvmlInit"
    assert child.end() == REOPEN


def test_a_count_that_shrinks_is_in_the_line(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=2)
    child = start()
    child.line()
    script.count(1)
    line = child.until(lambda line: line["found"] != 2)
    assert (line["expected"], line["found"], len(line["gpus"])) == (2, 1, 2)


def test_a_count_that_fails_leaves_the_gpus_readable(start: Callable[..., Running], script: NvmlScript) -> None:
    child = start()
    child.line()
    script.error("count", UNKNOWN)
    line = child.until(lambda line: line["found_error"])
    assert (line["found"], line["found_error"]) == (None, "Unknown Error")
    assert line["gpus"][0]["util_max_pct"] == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (LOST, "utilization: GPU is lost (it has fallen off the bus; only the machine's owner can bring it back)"),
        (RESET, "utilization: GPU requires restart (nothing runs on it until the machine's owner resets it)"),
        (UNKNOWN, "MIG mode and 5 other readings: Unknown Error"),
    ],
)
def test_a_gpu_that_is_lost_is_an_error_and_the_other_reads_on(
    start: Callable[..., Running], script: NvmlScript, code: int, words: str
) -> None:
    script.reset(gpus=2)
    child = start()
    child.line()
    script.error("*", code, 1)
    line = child.until(lambda line: line["gpus"][1]["error"] == words)
    lost, other = line["gpus"][1], line["gpus"][0]
    assert (lost["util_max_pct"], lost["covered_s"], lost["mem_used_mib"]) == (None, 0, None)
    assert (other["error"], other["util_max_pct"]) == (None, 0)


def test_a_gpu_that_was_lost_before_is_missed_not_left_out(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=2)
    script.error("handle", LOST, 1)
    line = start().line()
    assert len(line["gpus"]) == 2
    gpu = line["gpus"][1]
    assert (gpu["error"].split(" (")[0], gpu["util_max_pct"], gpu["index"]) == ("GPU is lost", None, 1)
    assert set(gpu["not_readable"]) == set(METRICS)


def test_a_gpu_that_stays_unreadable_ends_the_process_for_a_fresh_one(
    start: Callable[..., Running], script: NvmlScript
) -> None:
    child = start(0.02)
    child.line()
    script.error("*", LOST)
    assert child.process.wait(PATIENCE_S) == REOPEN


def test_one_gpu_that_stays_unreadable_does_not_cost_the_others_their_reader_so_soon(
    start: Callable[..., Running], script: NvmlScript
) -> None:
    """An NVML that is open may read on where a new one can't be opened: it is given up after ten times as long."""
    script.reset(gpus=2)
    child = start(0.02)
    child.line()
    script.error("*", LOST, 1)
    failing = 0
    while failing < REOPEN_AFTER_POLLS + 10:
        failing += bool(child.line()["gpus"][1]["error"])
    assert child.process.poll() is None
    while child.process.poll() is None and failing < 200:
        try:
            failing += bool(child.line()["gpus"][1]["error"])
        except AssertionError:
            break
    assert child.process.wait(PATIENCE_S) == REOPEN
    assert failing == REOPEN_FOR_ONE_AFTER_POLLS


def test_it_settles_anew_after_it_was_away(library: Path, script: NvmlScript) -> None:
    """A suspended machine wakes its GPUs, which reads as busy."""
    code = "from idlewatch.gpu import child; child.AWAY_S = 2.0; raise SystemExit(child.main(['child', '0.1']))"
    child = Running([*child_argv(library, script, poll_s=0.1)[:-3], "-c", code])
    try:
        child.until(lambda line: line["settles_in_s"] == 0)
        os.kill(child.process.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(child.process.pid, signal.SIGCONT)
        child.until(lambda line: line["settles_in_s"] > 0)
        child.until(lambda line: line["settles_in_s"] == 0)
    finally:
        child.end()


@pytest.mark.parametrize(("code", "then"), [(0, ""), (UNKNOWN, ": Unknown Error")])
def test_a_gpu_that_takes_long_for_a_call_is_not_asked_for_the_rest(
    library: Path, script: NvmlScript, code: int, then: str
) -> None:
    """45 s a call, for every call, on a GPU whose firmware is dead; here a second is long."""
    code_of_child = (
        "from idlewatch.gpu import child, nvml; nvml.SLOW_S = 0.9; raise SystemExit(child.main(['child', '0.1']))"
    )
    child = Running([*child_argv(library, script, poll_s=0.1)[:-3], "-c", code_of_child])
    try:
        child.line()
        script.error("util_samples", code)
        script.stall("util_samples", 1.0)
        words = re.compile(rf"utilization: the driver took \d+ s to answer{then}")
        line = child.until(lambda line: words.fullmatch(line["gpus"][0]["error"] or ""))
    finally:
        script.reset()
        child.end()
    gpu = line["gpus"][0]
    assert (gpu["energy_total_mj"], gpu["mem_used_mib"], gpu["engines_max_pct"]) == (None, None, {})
    assert gpu["not_readable"] == dict.fromkeys(METRICS, gpu["error"].removeprefix("utilization: "))


def test_a_gpu_that_vanishes_moves_the_others_up(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=3)
    child = start()
    child.line()
    script.gone(1)
    line = child.until(lambda line: line["found"] != 3)
    assert (line["expected"], line["found"]) == (3, 2)
    fresh = start().line()
    assert [(gpu["index"], gpu["uuid"]) for gpu in fresh["gpus"]] == [(0, "GPU-00000000"), (1, "GPU-00000002")]


def test_a_series_of_steps_is_seen_step_by_step(start: Callable[..., Running], script: NvmlScript) -> None:
    """Utilization, an engine and power, from a script that was written before."""
    child = start()
    lines = [child.line()]
    begin_s = now_s() + 0.5
    script.power_series(0, [(begin_s, 250), (begin_s + 0.7, 50)])
    script.series(0, [(begin_s + 0.4, 30), (begin_s + 1.1, 0)], metric="encoder")
    script.series(0, [(begin_s, 40), (begin_s + 0.7, 0)])
    while lines[-1]["at_s"] < begin_s + 2:
        lines.append(child.line())
    gpus = [line["gpus"][0] for line in lines]
    assert {gpu["util_max_pct"] for gpu in gpus} == {0, 40}
    assert {gpu["engines_max_pct"]["encoder"] for gpu in gpus} == {0, 30}
    high_w, then_w = 250 - 70, 50 - 70

    def joules_at(at_s: float) -> float:
        since_s, after_s = max(at_s - begin_s, 0), max(at_s - begin_s - 0.7, 0)
        return 70 * at_s + high_w * (since_s - after_s) + then_w * after_s

    drawn_between(lines, joules_at)


def test_no_gpu_at_all_is_said_as_none_found(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=0)
    line = start().line()
    assert (line["error"], line["expected"], line["found"], line["gpus"]) == (None, 0, 0, [])


def test_it_ends_when_its_input_closes(start: Callable[..., Running]) -> None:
    child = start(600)
    child.line()
    assert child.end() == 0


def test_it_ends_after_the_call_that_it_is_stuck_in(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=8)
    child = start()
    child.line()
    script.stall("util_samples", 0.5)
    assert child.end() == 0


def test_it_ends_when_nobody_reads(start: Callable[..., Running]) -> None:
    child = start(0.02)
    child.line()
    assert child.process.stdout
    child.process.stdout.close()
    assert child.process.wait(PATIENCE_S) == 0


def test_every_burst_is_seen_however_the_polls_fall(start: Callable[..., Running], script: NvmlScript) -> None:
    """0.2 s of work each second, polled each 0.3 s: an instant reading would miss most of them."""
    child = start(0.3)
    child.line()
    begin_s = now_s() + 0.2
    script.burst(0, busy_s=0.2, every_s=1.0, since_s=begin_s)
    lines = [child.line() for _ in range(14)]
    ended = int(lines[-1]["at_s"] - 0.4 - begin_s) or 1
    for number in range(ended):
        from_s = begin_s + number
        after = next(line for line in lines if line["at_s"] >= from_s + 0.4)
        in_reach = [line for line in lines if from_s <= line["at_s"] <= after["at_s"]]
        assert max(line["gpus"][0]["util_max_pct"] for line in in_reach) > 5, number


@pytest.mark.parametrize("ago_s", [0.5, 4.0, 9.0, 15.0])
def test_a_burst_of_a_fifth_of_a_second_each_20_s_stays_in_the_ring(
    start: Callable[..., Running], script: NvmlScript, ago_s: float
) -> None:
    script.burst(0, busy_s=0.2, every_s=20.0, since_s=now_s() - ago_s)
    gpu = start().gpu()
    assert gpu["util_max_pct"] > 5
    assert gpu["util_mean_pct"] < 5


def test_a_shallow_ring_is_polled_before_it_runs_over(start: Callable[..., Running], script: NvmlScript) -> None:
    script.ring(depth=60, sample_s=0.02)
    child = start(60)
    first, second = child.line(), child.line()
    assert second["at_s"] - first["at_s"] < 30
    assert second["gpus"][0]["covered_s"] <= 1.2


def test_it_stays_small_with_eight_gpus(start: Callable[..., Running], script: NvmlScript) -> None:
    script.reset(gpus=8)
    child = start(0.05)
    for _ in range(20):
        child.line()
    with open(f"/proc/{child.process.pid}/status") as status:  # noqa: PTH123  (one line of /proc)
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    assert kib < 25 * 1024, f"the reader takes {kib / 1024:.1f} MiB"


def test_it_imports_nothing_heavy() -> None:
    code = "import idlewatch.gpu.child, idlewatch.gpu.nvml, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"pydantic", "psutil", "structlog", "httpx", "dataclasses", "idlewatch.model"} & set(loaded)


ROWS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 300)))


@settings(deadline=None)  # the machine is shared
@given(rows=ROWS, newest=st.integers(0, 50))
def test_cleaned_rows_are_new_plausible_in_order_and_single(rows: list[tuple[int, int]], newest: int) -> None:
    kept = cleaned(rows, newest)
    times = [at for at, _ in kept]
    assert times == sorted(set(times))
    assert all(at > newest and at > 0 and 0 <= pct <= 100 for at, pct in kept)
    assert set(kept) <= set(rows)


@settings(deadline=None)  # the machine is shared
@given(rows=ROWS, newest=st.integers(0, 50))
def test_cleaning_never_loses_the_highest_plausible_value(rows: list[tuple[int, int]], newest: int) -> None:
    plausible = [pct for at, pct in rows if at > newest and pct <= 100]
    assert max((pct for _, pct in cleaned(rows, newest)), default=None) == max(plausible, default=None)


@settings(deadline=None)  # the machine is shared
@given(rows=ROWS, newest=st.integers(0, 50))
def test_cleaning_does_not_depend_on_the_order_and_passes_on(rows: list[tuple[int, int]], newest: int) -> None:
    kept = cleaned(rows, newest)
    assert cleaned(rows[::-1], newest) == kept
    assert cleaned(kept, newest) == kept
    if kept:
        assert cleaned(rows, kept[-1][0]) == []
        assert span_s(kept) >= (period_s(kept) or 0.0) >= 0


@settings(deadline=None)  # the machine is shared
@given(values=st.lists(st.integers(0, 100), min_size=1))
def test_the_two_highest_are_in_order(values: list[int]) -> None:
    highest, second = two_highest(values)
    assert highest == max(values)
    assert second == (sorted(values)[-2] if len(values) > 1 else 0)


def test_a_ring_whose_clock_was_set_back_is_read_on(start: Callable[..., Running], script: NvmlScript) -> None:
    """The samples' time is the wall clock's on most drivers; a burst after it was set back must still be seen."""
    script.samples(0, [(3600 + now_s() + at / 6, 0) for at in range(-60, 1)])
    script.instant(0, 0)
    child = start()
    assert child.gpu()["util_max_pct"] == 0
    after = NvmlScript(script.path.with_name("after"))
    after.instant(0, 0)
    after.samples(0, [(now_s() + at / 6, 100 * (at % 10 == 0)) for at in range(-60, 1)])
    after.path.replace(script.path)
    child.until(lambda line: line["gpus"][0]["util_max_pct"] == 100)
