"""
What the GPU reader costs with 8 GPUs: `python -m benchmarks.gpu_cost [--json] [--seconds 60] [--call-ms MS]`.

The real child runs on `nvml_steady.c`, an NVML that answers at once, so that only our own CPU time is seen: back to
back, and for a minute at the default interval, where caches are cold. A real driver's part is a calculation, calls a
poll times the cost of one; `--call-ms` adds your own figure. As far as it can be compared: an `nvidia-smi` a poll costs
at least the spawn of a process, which is measured with `true`, and 10 to 225 ms where others took the time.

Sources: 17 fields of 8 H100 in 16 ms (atharvanihalani/gpu-telemetry-exploration), 2743 reads of power a second on a
K40m (wookayin/gpustat#76), nvidia-smi 10 to 225 ms (It4innovations/hyperqueue#564, anderskm/gputil#42). Those are
elapsed times: an upper bound of CPU time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu_replay import HeardReader, SteppedReader, next_reading
from idlewatch.signals.gpu import GpuSignal

POLL_S = 5.0
GPUS = 8
SOURCE = Path(__file__).parent / "nvml_steady.c"
WARM_POLLS, POLLS = 24, 240
"""Multiples of 12: processes are counted at every twelfth poll."""
SPAWNS = 50
STUB_AT_MOST_PCT, DRIVER_AT_MOST_PCT = 0.05, 0.2
CALL_MS = {"8 H100, 17 fields in 16 ms": 16 / (17 * 8), "K40m, 2743 reads a second": 1000 / 2743}
SMI_MS = (10.0, 225.0)


@dataclass(frozen=True)
class Cost:
    """CPU time of one way to look, once every 5 s."""

    name: str
    poll_ms: float
    at_most_pct: float | None = None

    @property
    def core_pct(self) -> float:
        """Per cent of one core."""
        return self.poll_ms / 1000 / POLL_S * 100

    def __str__(self) -> str:
        """One row of the table."""
        limit = self.at_most_pct
        verdict = "" if limit is None else f"  {'met' if self.core_pct <= limit else 'MISSED'}: at most {limit:g} %"
        return f"{self.name:70}{self.poll_ms:9.3f}{self.core_pct:9.4f}{self.poll_ms * 3.6 / POLL_S:9.2f}{verdict}"


def built(folder: Path) -> dict[str, str]:
    """Compile the library into `folder`; returns the variables that let a child find it."""
    library = folder / "libnvidia-ml.so.1"
    soname = f"-Wl,-soname,{library.name}"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", soname, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return {"LD_LIBRARY_PATH": str(folder), "NVML_STEADY_CALLS": str(folder / "calls")}


def cpu_s(pid: int) -> float:
    """CPU time of a running process, to the nanosecond: its own clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def back_to_back(variables: dict[str, str], polls: int) -> tuple[float, int]:
    """CPU ms a poll without a wait between polls, and how many calls of NVML the whole process made."""
    reader = SteppedReader(variables, poll_s=POLL_S)
    try:
        for poll in range(WARM_POLLS):
            reader.step(POLL_S * poll)
        before_s = cpu_s(reader.pid or 0)
        for poll in range(WARM_POLLS, WARM_POLLS + polls):
            reader.step(POLL_S * poll)
        spent_s = cpu_s(reader.pid or 0) - before_s
    finally:
        reader.close()
    return spent_s * 1000 / max(polls, 1), int(Path(variables["NVML_STEADY_CALLS"]).read_text())


def calls_a_poll(variables: dict[str, str]) -> float:
    """Calls of NVML in one poll of 8 GPUs, in the mean."""
    return (back_to_back(variables, POLLS)[1] - back_to_back(variables, 0)[1]) / POLLS


@dataclass(frozen=True)
class Minute:
    """What a minute at the default interval took."""

    reader_ms: float
    """CPU a poll of the child."""
    daemon_ms: float
    """CPU a tick of the signal in the daemon: taking the line, merging, judging."""
    start_ms: float
    """CPU up to the child's first line: Python, pynvml, the first look."""
    peak_mib: float


def at_the_interval(variables: dict[str, str], seconds: float) -> Minute:
    """Run the child as the daemon does, with a tick of the signal after each poll."""
    words = [f"{name}={value}" for name, value in variables.items()]
    reader = HeardReader(["env", *words, sys.executable, "-P", "-m", "idlewatch.gpu.child", str(POLL_S)], poll_s=POLL_S)
    signal = GpuSignal(reader=reader, gpu_count=GPUS)
    try:
        next_reading(signal, reader, 1)
        pid = reader.pid or 0
        start_s, first = cpu_s(pid), len(reader.polls)
        ticks_s = [_tick_s(signal) for _ in range(max(round(seconds / POLL_S), 1))]
        spent_s, polls = cpu_s(pid) - start_s, len(reader.polls) - first
        return Minute(spent_s * 1000 / polls, sum(ticks_s) * 1000 / len(ticks_s), start_s * 1000, _peak_mib(pid))
    finally:
        signal.close()


def _tick_s(signal: GpuSignal) -> float:
    """CPU time of one tick, an interval after the last."""
    time.sleep(POLL_S)
    began_s = time.thread_time()
    signal.judge(signal.read(time.clock_gettime(time.CLOCK_BOOTTIME)))
    return time.thread_time() - began_s


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def spawn_ms() -> float:
    """CPU time of starting the smallest process there is and waiting for it, on both sides."""
    began_s, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(SPAWNS):
        subprocess.run(["true"], check=True)
    own_s, after = time.process_time() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return (own_s + after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime) * 1000 / SPAWNS


def costs(minute: Minute, hot_ms: float, calls: float, call_ms: dict[str, float]) -> list[Cost]:
    """Every row of the table."""
    drivers = [
        Cost(f"  with a driver: {calls:.0f} calls at {ms:.3f} ms ({words})", minute.reader_ms + calls * ms, limit)
        for (words, ms), limit in zip(call_ms.items(), [DRIVER_AT_MOST_PCT] * len(call_ms), strict=True)
    ]
    return [
        Cost(f"reader, {GPUS} GPUs, every 5 s", minute.reader_ms, STUB_AT_MOST_PCT),
        Cost("reader, polls back to back", hot_ms),
        *drivers,
        Cost("the daemon's part: take, merge, judge", minute.daemon_ms),
        Cost("for comparison: `true`, started every 5 s", spawn_ms()),
        *(Cost(f"for comparison: nvidia-smi of {ms:.0f} ms, every 5 s", ms) for ms in SMI_MS),
    ]


def main() -> int:
    """Measure, print the table and whether the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_cost", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch at the default interval")
    parser.add_argument("--call-ms", type=float, help="what one NVML call costs on your driver")
    options = parser.parse_args()
    call_ms = {**CALL_MS, **({"yours": options.call_ms} if options.call_ms else {})}
    with tempfile.TemporaryDirectory(prefix="idlewatch-benchmark-") as folder:
        variables = built(Path(folder))
        hot_ms, _ = back_to_back(variables, POLLS)
        calls = calls_a_poll(variables)
        minute = at_the_interval(variables, options.seconds)
    rows = costs(minute, hot_ms, calls, call_ms)
    if options.json:
        said = [{**asdict(row), "core_pct": row.core_pct} for row in rows]
        print(json.dumps({"costs": said, "calls_a_poll": calls, **asdict(minute)}, indent=1))
        return 0
    print(f"{'CPU time':70}{'ms a poll':>9}{'% core':>9}{'s an hour':>10}")
    print("\n".join(map(str, rows)))
    print(f"\nthe reader's start takes {minute.start_ms:.0f} ms, its memory is {minute.peak_mib:.1f} MiB at the most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
