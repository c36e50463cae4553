"""The daemon's end of the pipe: what it makes of lines, silence and death. Instants are given, so nothing waits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.errors import SignalError
from idlewatch.gpu.line import Instance, Poll, parsed
from idlewatch.gpu.reader import GpuReader, Taken
from tests.nvml_stub import NvmlScript, build, child_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 30.0

GPU: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-0",
    "name": "H100",
    "kind": "nvidia",
    "mig": False,
    "virtual": None,
    "instant": False,
    "instances": [{"uuid": "MIG-0", "mem_used_mib": 300, "util_mean_pct": 2.5}],
    "ring_span_s": 16.5,
    "ring_period_s": 0.1667,
    "power_w": None,
    "power_limit_w": 700.0,
    "mem_total_mib": 81920,
    "not_readable": {"ofa": "Not Supported"},
    "util_max_pct": 87,
    "util_second_pct": 80,
    "util_mean_pct": 41.5,
    "samples": 30,
    "covered_s": 5.0,
    "engines_max_pct": {"encoder": 0},
    "energy_total_mj": 123456,
    "mem_used_mib": 16000,
    "processes": 1,
    "unsupported": ["ofa"],
    "error": None,
}
LINE: dict[str, Any] = {
    "seq": 4,
    "at_s": 100.5,
    "error": None,
    "settles_in_s": 0.0,
    "expected": 1,
    "found": 1,
    "found_error": None,
    "driver": "580.65",
    "poll_s": 5.0,
    "gpus": [GPU],
}

SAYS = "import sys, time\n"
WAITS_FOR_THE_END = "\nsys.stdout.flush()\nsys.stdin.read()\n"


def written(**changes: object) -> bytes:
    return json.dumps({**LINE, **changes}).encode()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script")


@pytest.fixture
def readers() -> Iterator[Callable[..., GpuReader]]:
    made: list[GpuReader] = []

    def make(argv: list[str], **settings: Any) -> GpuReader:
        made.append(GpuReader(argv=argv, **settings))
        return made[-1]

    yield make
    for reader in made:
        pid = reader.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        reader.close()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", SAYS + code]


def prints(*lines: bytes) -> str:
    return "".join(f"print({line.decode(errors='replace')!r})\n" for line in lines) + WAITS_FOR_THE_END


def until(take: Callable[[], Taken], seen: Callable[[Taken], object]) -> Taken:
    """What `take` gives when `seen` is first true of it; the child's own pace is all that is waited for."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        taken = take()
        if seen(taken):
            return taken
        time.sleep(0.01)
    raise AssertionError(taken)


def test_a_line_comes_back_whole() -> None:
    poll = parsed(written())
    assert (poll.seq, poll.at_s, poll.error, poll.expected, poll.found) == (4, 100.5, None, 1, 1)
    (gpu,) = poll.gpus
    assert (gpu.uuid, gpu.util_max_pct, gpu.util_second_pct, gpu.util_mean_pct) == ("GPU-0", 87, 80, 41.5)
    assert (gpu.samples, gpu.covered_s, gpu.engines_max_pct) == (30, 5.0, {"encoder": 0})
    assert (gpu.energy_total_mj, gpu.mem_used_mib, gpu.processes) == (123456, 16000, 1)
    assert (gpu.unsupported, gpu.error, gpu.mig) == (("ofa",), None, False)
    assert (poll.driver, poll.poll_s, gpu.index, gpu.kind, gpu.virtual, gpu.instant) == (
        "580.65",
        5.0,
        0,
        "nvidia",
        None,
        False,
    )
    assert gpu.instances == (Instance(uuid="MIG-0", mem_used_mib=300, util_mean_pct=2.5),)
    assert (gpu.ring_span_s, gpu.ring_period_s, gpu.power_w, gpu.power_limit_w) == (16.5, 0.1667, None, 700.0)
    assert (gpu.mem_total_mib, gpu.not_readable) == (81920, {"ofa": "Not Supported"})


def test_a_line_with_an_error_needs_nothing_else() -> None:
    assert parsed(b'{"seq": 0, "at_s": 1, "error": "Driver Not Loaded"}') == Poll(
        seq=0, at_s=1, error="Driver Not Loaded"
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"0",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"seq": 1, "at_s": 2, "error": null}',
        written(at_s="5"),
        written(at_s=None),
        written(at_s=True),
        written(at_s=float("nan")),
        written(at_s=float("inf")),
        written(at_s=-1),
        written(error=7),
        written(found="2"),
        written(gpus=None),
        written(gpus={}),
        written(gpus=[None]),
        written(gpus=[{**GPU, "util_max_pct": 127}]),
        written(gpus=[{**GPU, "util_max_pct": "87"}]),
        written(gpus=[{**GPU, "util_max_pct": False}]),
        written(gpus=[{**GPU, "engines_max_pct": {"encoder": 101}}]),
        written(gpus=[{**GPU, "engines_max_pct": None}]),
        written(gpus=[{**GPU, "engines_max_pct": [1]}]),
        written(gpus=[{**GPU, "uuid": 3}]),
        written(gpus=[{**GPU, "mig": None}]),
        written(gpus=[{**GPU, "unsupported": "none"}]),
        written(gpus=[{**GPU, "not_readable": {"ofa": None}}]),
        written(gpus=[{**GPU, "not_readable": ["ofa"]}]),
        written(gpus=[{**GPU, "instances": [{"uuid": "MIG-0"}]}]),
        written(gpus=[{**GPU, "instances": [None]}]),
    ],
)
def test_a_line_that_is_not_one_is_an_error(line: bytes) -> None:
    with pytest.raises(SignalError, match="GPU reader wrote a line that can't be read"):
        parsed(line)


@pytest.mark.parametrize("name", sorted(GPU))
def test_a_gpu_with_a_field_missing_is_an_error_and_never_a_zero(name: str) -> None:
    with pytest.raises(SignalError):
        parsed(written(gpus=[{key: value for key, value in GPU.items() if key != name}]))


@settings(deadline=None)  # the machine is shared
@given(line=st.binary())
def test_any_bytes_are_a_poll_or_an_error(line: bytes) -> None:
    with contextlib.suppress(SignalError):
        assert isinstance(parsed(line), Poll)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)  # the machine is shared
@given(field=st.sampled_from(sorted(GPU)), value=JSON)
def test_any_value_in_a_gpu_is_taken_whole_or_refused(field: str, value: object) -> None:
    try:
        (gpu,) = parsed(written(gpus=[{**GPU, field: value}])).gpus
    except SignalError:
        return
    assert gpu.util_max_pct is None or 0 <= gpu.util_max_pct <= 100
    if field == "util_max_pct":
        assert gpu.util_max_pct == value


@settings(deadline=None)  # the machine is shared
@given(field=st.sampled_from(sorted(LINE)), value=JSON)
def test_any_value_in_a_line_is_taken_whole_or_refused(field: str, value: object) -> None:
    try:
        poll = parsed(written(**{field: value}))
    except SignalError:
        return
    assert poll.at_s >= 0


def test_lines_are_handed_over_once_in_order(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(prints(written(seq=1), written(seq=2, at_s=105.5))))
    taken = until(lambda: reader.take(107.5), lambda taken: taken.polls)
    assert [poll.seq for poll in taken.polls] == [1, 2]
    assert (taken.error, taken.age_s) == (None, 2.0)
    assert reader.take(108.5) == Taken(age_s=3.0)


def test_before_the_first_line_it_says_that_it_is_starting(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(WAITS_FOR_THE_END))
    assert reader.take(100.0) == Taken(error="GPU reader is starting: no line yet")
    assert reader.take(129.0).error == "GPU reader is starting: no line yet"


def test_nothing_starts_before_the_first_take(readers: Callable[..., GpuReader]) -> None:
    assert readers(python(WAITS_FOR_THE_END)).pid is None


def test_mig_is_counted_only_where_that_is_wanted() -> None:
    assert "--gpm" not in GpuReader()._argv
    assert GpuReader(gpm=True, poll_s=2.5)._argv[-2:] == ["2.5", "--gpm"]


def test_it_tells_which_process_reads(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(WAITS_FOR_THE_END))
    assert reader.take(100.0).pid == reader.pid is not None


def test_half_a_line_waits_for_its_other_half(readers: Callable[..., GpuReader]) -> None:
    line = written().decode()
    code = f"print({line[:50]!r}, end='', flush=True); print({line[50:]!r})" + WAITS_FOR_THE_END
    reader = readers(python(code))
    assert until(lambda: reader.take(101.0), lambda taken: taken.polls).error is None


def test_a_garbage_line_is_an_error_until_a_good_one_comes(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(prints(written(seq=1), b"NVRM: oops")))
    taken = until(lambda: reader.take(101.0), lambda taken: taken.polls)
    error = taken.error or reader.take(101.1).error
    assert error is not None
    assert "can't be read" in error
    assert reader.take(102.0).error == error
    good = readers(python(prints(b"NVRM: oops", written(seq=1))))
    assert until(lambda: good.take(101.0), lambda taken: taken.polls).error is None


def test_a_line_without_an_end_is_given_up(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python("sys.stdout.write('x' * 600_000)" + WAITS_FOR_THE_END))
    until(lambda: reader.take(100.0), lambda taken: "can't be read" in (taken.error or ""))


def test_three_periods_of_silence_are_a_hang(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(prints(written())))
    until(lambda: reader.take(100.5), lambda taken: taken.polls)
    assert reader.take(115.5).error is None
    assert reader.take(116.5).error == "GPU reader hung: no line for 16 s"


def test_a_hang_before_the_first_line_counts_from_the_start(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(WAITS_FOR_THE_END))
    reader.take(100.0)
    assert reader.take(131.0).error == "GPU reader hung: no line for 31 s"


def test_a_hung_child_that_talks_again_is_well(readers: Callable[..., GpuReader]) -> None:
    code = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        f"print({written().decode()!r}, flush=True); signal.sigwait([signal.SIGUSR1])\n"
    )
    reader = readers(python(code + prints(written(seq=5, at_s=140))))
    until(lambda: reader.take(100.5), lambda taken: taken.polls)
    pid = reader.pid
    assert pid
    assert reader.take(140.0).error == "GPU reader hung: no line for 40 s"
    os.kill(pid, signal.SIGUSR1)
    assert until(lambda: reader.take(141.0), lambda taken: taken.polls).error is None
    assert reader.pid == pid


def test_a_hung_child_is_ended_gently_step_by_step_and_never_joined(readers: Callable[..., GpuReader]) -> None:
    """End of input, SIGTERM, SIGKILL, each a grace apart; until it is gone no second one is started."""
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN)\n"
    reader = readers(python(stubborn + f"print({written().decode()!r}, flush=True); time.sleep(600)"))
    until(lambda: reader.take(100.5), lambda taken: taken.polls)
    pid = reader.pid
    hung = "GPU reader hung: no line for"
    assert reader.take(170.5).error == f"{hung} 70 s"
    assert reader.take(176.5).error == f"{hung} 76 s, told to end (end of input)"
    assert reader.take(220.5).error == f"{hung} 120 s, told to end (end of input)"
    assert reader.take(236.5).error == f"{hung} 136 s, told to end (SIGTERM)"
    assert reader.take(290.5).error == f"{hung} 190 s, told to end (SIGTERM)"
    assert reader.pid == pid
    assert reader.take(296.5).error == f"{hung} 196 s, told to end (SIGKILL)"
    gone = until(lambda: reader.take(297.0), lambda taken: "was ended" in (taken.error or ""))
    assert gone.error == "GPU reader hung and was ended (SIGKILL); starts again in 1 s"
    assert reader.pid is None
    reader.take(299.0)
    assert reader.pid not in {None, pid}


def test_a_long_gap_between_two_calls_skips_no_step(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(f"print({written().decode()!r}, flush=True); time.sleep(600)"))
    until(lambda: reader.take(100.5), lambda taken: taken.polls)
    assert "(end of input)" in (reader.take(9999.0).error or "")


@pytest.mark.slow
def test_a_child_that_dies_is_replaced_after_growing_delays(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    now_s, delays = 100.0, []
    for _ in range(8):
        reader.take(now_s)
        crashed = until(lambda: reader.take(now_s), lambda _: reader.pid is None)  # noqa: B023  (called at once)
        assert (crashed.error or "").startswith("GPU reader crashed: SIGSEGV; starts again in ")
        delay_s = float((crashed.error or "").split()[-2])
        delays.append(delay_s)
        assert reader.take(now_s + delay_s - 0.5).polls == ()
        assert reader.pid is None
        now_s += delay_s
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_reason_of_a_crash_stays_until_the_next_one_talks(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python("import os; os.abort()"))
    reader.take(100.0)
    until(lambda: reader.take(100.0), lambda _: reader.pid is None)
    reader.take(101.0)
    assert reader.take(101.0).error in {
        "GPU reader crashed: SIGABRT",
        "GPU reader crashed: SIGABRT; starts again in 2 s",
    }


def test_a_child_that_talked_well_starts_again_soon(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(f"print({written().decode()!r})"))
    for now_s in (100.0, 101.0, 102.0, 103.0):
        reader.take(now_s)
        ended = until(lambda: reader.take(now_s), lambda _: reader.pid is None)  # noqa: B023  (called at once)
        assert ended.error == "GPU reader ended: exit code 0; starts again in 1 s"


def test_the_last_lines_of_a_child_that_died_are_handed_over(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(f"print({written().decode()!r}, flush=True); import os; os.abort()"))
    at_once = reader.take(100.0).polls  # where this process was kept waiting behind its child
    time.sleep(0.3)
    polls = at_once or until(lambda: reader.take(100.0), lambda taken: taken.polls).polls
    assert [poll.seq for poll in polls] == [4]


def test_an_exit_code_comes_with_the_last_words(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python("raise ImportError('no module named ctypes')"))
    error = until(lambda: reader.take(100.0), lambda _: reader.pid is None).error
    assert error == "GPU reader ended: exit code 1 (ImportError: no module named ctypes); starts again in 1 s"


def test_a_child_that_cannot_be_started_is_said(readers: Callable[..., GpuReader]) -> None:
    reader = readers(["/nowhere/python"])
    error = reader.take(100.0).error
    assert error == "GPU reader can't be started: No such file or directory; starts again in 1 s"


def test_close_ends_the_child_and_leaves_none(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python(prints(written())))
    until(lambda: reader.take(100.5), lambda taken: taken.polls)
    pid = reader.pid
    assert pid
    reader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    reader.close()


@pytest.mark.slow
def test_close_ends_a_child_that_does_not_listen(readers: Callable[..., GpuReader]) -> None:
    reader = readers(python("time.sleep(600)"))
    reader.take(100.0)
    pid = reader.pid
    assert pid
    reader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Stubbed:
    """A reader over the real child on the stub, on the real clock."""

    def __init__(self, reader: GpuReader) -> None:
        self.reader = reader

    def take(self) -> Taken:
        return self.reader.take(time.clock_gettime(time.CLOCK_BOOTTIME))

    def until(self, seen: Callable[[Taken], object]) -> Taken:
        return until(self.take, seen)


@pytest.fixture
def stubbed(readers: Callable[..., GpuReader], library: Path, script: NvmlScript) -> Stubbed:
    return Stubbed(readers(child_argv(library, script, poll_s=0.1), poll_s=0.1, grace_s=0.5))


@pytest.mark.slow
def test_the_real_child_is_read(stubbed: Stubbed, script: NvmlScript) -> None:
    script.works(0, 87)
    taken = stubbed.until(lambda taken: taken.polls and taken.polls[-1].gpus[0].util_max_pct == 87)
    assert taken.error is None
    assert taken.polls[-1].gpus[0].mem_used_mib == 16000


@pytest.mark.slow
def test_a_crash_inside_nvml_is_said_and_survived(stubbed: Stubbed, script: NvmlScript) -> None:
    stubbed.until(lambda taken: taken.polls)
    pid = stubbed.reader.pid
    script.segv("util_samples")
    assert "GPU reader crashed: SIGSEGV" in str(stubbed.until(lambda taken: "crashed" in (taken.error or "")).error)
    script.reset()
    assert stubbed.until(lambda taken: taken.polls).error is None
    assert stubbed.reader.pid != pid


@pytest.mark.slow
def test_an_exit_inside_nvml_is_said(stubbed: Stubbed, script: NvmlScript) -> None:
    stubbed.until(lambda taken: taken.polls)
    script.exit("mem2", 77)
    stubbed.until(lambda taken: "GPU reader ended: exit code 77" in (taken.error or ""))


@pytest.mark.slow
def test_a_hang_inside_nvml_is_ended_and_replaced(stubbed: Stubbed, script: NvmlScript) -> None:
    stubbed.until(lambda taken: taken.polls)
    pid = stubbed.reader.pid
    script.stall("count", 600)
    stubbed.until(lambda taken: "GPU reader hung: no line for" in (taken.error or ""))
    stubbed.until(lambda taken: "hung and was ended (SIGTERM)" in (taken.error or ""))
    script.reset()
    assert stubbed.until(lambda taken: taken.polls).error is None
    assert stubbed.reader.pid != pid


@pytest.mark.slow
def test_an_nvml_that_cannot_be_opened_keeps_its_words_between_the_tries(stubbed: Stubbed, script: NvmlScript) -> None:
    script.error("init", 18)
    words = "NVML can't be opened: RM has detected an NVML/RM version mismatch"
    stubbed.until(lambda taken: words in (taken.error or "") and stubbed.reader.pid is None)
    stubbed.until(lambda taken: words in (taken.error or "") and stubbed.reader.pid is not None)
    script.reset()
    assert stubbed.until(lambda taken: taken.polls).error is None


@pytest.mark.slow
def test_the_child_leaves_when_the_daemon_is_gone(library: Path, script: NvmlScript) -> None:
    """The daemon dies without a word, and something that it started still holds the child's pipes open."""
    argv = child_argv(library, script, poll_s=0.1)
    code = (
        "import os, subprocess, sys\n"
        "from idlewatch.gpu.reader import GpuReader\n"
        "import time\n"
        f"reader = GpuReader(argv={argv!r})\n"
        "while not reader.take(time.clock_gettime(time.CLOCK_BOOTTIME)).polls: time.sleep(0.02)\n"
        "for pipe in (reader._child.process.stdin, reader._child.process.stdout):\n"
        "    os.set_inheritable(pipe.fileno(), True)\n"
        "holder = subprocess.Popen(['sleep', '30'], close_fds=False)\n"
        "print(reader.pid, holder.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)]
    )
    os.close(write)
    with os.fdopen(read) as said:
        child, holder = (int(number) for number in said.readline().split())
    os.waitpid(pid, 0)
    try:
        end_s = time.monotonic() + PATIENCE_S
        while _lives(child) and time.monotonic() < end_s:
            time.sleep(0.02)
        assert not _lives(child)
    finally:
        os.kill(holder, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  (one line of /proc)
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
