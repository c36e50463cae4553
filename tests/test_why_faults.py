"""
What a stranger is told of each fault that keeps GPUs from being read, by `why` and by the alarm in the log: which
signal, what could not be seen, that the Pod is kept up for it, and what to do.

The verdicts are the real judge's on what the GPU reader hands over then; its words are the reader's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from idlewatch import logs
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.tick import Tick
from idlewatch.gpu.reader import Taken
from idlewatch.gpu.words import MetricError, at_the_opening, explained, listed
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Finding, Json, Reading
from idlewatch.show.why import Why
from idlewatch.show.why import explained as why_of
from idlewatch.signals.gpu import GpuSignal
from idlewatch.signals.gpu_proof import LOOK_AFTER_S, OpenFiles
from idlewatch.watching.daemon import Daemon
from tests.fakes import FastClock, Rehearsed, quiet
from tests.gpu_faults import FAULTS
from tests.gpu_polls import failed, gpu, poll
from tests.policy_life import LIMITS
from tests.test_gpu_proof import Proc

WALL = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
INTERVAL_S = 15.0
Takes = Callable[[float], Taken]


BLIND: dict[str, Any] = {
    "util_max_pct": None,
    "util_second_pct": None,
    "util_mean_pct": None,
    "samples": 0,
    "unsupported": ("utilization",),
}


def says(error: str) -> Takes:
    """A reader that has no poll, and why."""
    return lambda _: Taken(error=error)


def opening(code: int, words: str) -> Takes:
    return says(f"NVML can't be opened: {at_the_opening(MetricError(code, explained(code, words)))}")


def lost(code: int, words: str) -> Takes:
    """One of two GPUs can't be read."""
    error = listed({explained(code, words): ["utilization"]})
    return lambda now_s: Taken(polls=(poll(now_s, gpu("GPU-0"), failed("GPU-1", str(error))),))


def fewer(now_s: float) -> Taken:
    return Taken(polls=(poll(now_s, gpu("GPU-0"), expected=2, found=1),))


def impossible(now_s: float) -> Taken:
    return Taken(polls=(poll(now_s, failed(error="utilization: reads 255 %")),))


def unreadable(words: str) -> Takes:
    return lambda now_s: Taken(polls=(poll(now_s, gpu(**BLIND, not_readable={"utilization": words})),))


def uncounted(now_s: float) -> Taken:
    return Taken(polls=(poll(now_s, gpu(), found=None, found_error="Unknown Error"),))


def cut(now_s: float) -> Taken:
    return Taken(polls=(poll(now_s, gpu(**BLIND, mig=True)),))


@dataclass(frozen=True)
class Fault:
    """What the reader hands over, what `why` must say could not be seen, and words that it must explain."""

    takes: Takes
    unseen: str
    explains: str = ""
    gpus: int = 1


OF_THE_READER = "a process of idlewatch's own"
OF_NVML = "the part of NVIDIA's driver"
TOLD: Mapping[str, Fault] = {
    "a call that never returns": Fault(
        says("GPU reader hung: no line for 95 s, told to end (SIGTERM)"), "no line for 95 s", OF_THE_READER
    ),
    "an opening that never returns": Fault(says("GPU reader hung: no line for 40 s"), "hung", OF_THE_READER),
    "a crash": Fault(says("GPU reader crashed: SIGSEGV; starts again in 4 s"), "crashed: SIGSEGV", OF_THE_READER),
    "a crash at the opening": Fault(
        says("GPU reader crashed: SIGSEGV; starts again in 60 s"), "crashed: SIGSEGV", OF_THE_READER
    ),
    "an exit": Fault(says("GPU reader ended: exit code 77; starts again in 2 s"), "exit code 77", OF_THE_READER),
    "an unknown error in every call": Fault(uncounted, "GPUs can't be counted: Unknown Error"),
    "one lost GPU of two": Fault(lost(15, "GPU is lost"), "gpu1 utilization: GPU is lost (it has fallen off", gpus=2),
    "fewer GPUs than at the start": Fault(fewer, "only 1 of 2 GPUs found", gpus=2),
    "impossible values": Fault(impossible, "gpu0 utilization: reads 255 %"),
    "no utilization": Fault(
        unreadable("Not Supported"),
        "gpu0 utilization can't be read: not supported or not permitted here (Not Supported)",
    ),
    "no permission": Fault(
        unreadable(explained(4, "Insufficient Permissions")),
        "not supported or not permitted here (Insufficient Permissions (this container may not ask for it))",
    ),
    "no library": Fault(opening(12, "NVML Shared Library Not Found"), "has no libnvidia-ml.so.1", OF_NVML),
    "a damaged library": Fault(opening(12, "NVML Shared Library Not Found"), "Library Not Found", OF_NVML),
    "a GPU taken from the container": Fault(opening(999, "Unknown Error"), "a new start mends that", OF_NVML),
    "a driver changed under the Pod": Fault(
        opening(18, "RM has detected an NVML/RM version mismatch."), "a new start of the Pod mends that", OF_NVML
    ),
    "a GPU that must be reset": Fault(lost(16, "GPU requires reset"), "until the machine's owner resets it", gpus=2),
    "a MIG GPU that tells nothing": Fault(
        cut, "MIG: how busy its instances are is not told", "a GPU cut into instances"
    ),
    "no reader": Fault(says("GPU reader can't be started: Cannot allocate memory; starts again in 8 s"), "memory"),
}


class Broken:
    """A reader with a fault."""

    def __init__(self, takes: Takes) -> None:
        self.take = takes

    def close(self) -> None: ...


class QuietHost:
    name = "host"
    refines = False

    def read(self, now_s: float) -> Reading:
        return Reading(signal=self.name, at_s=now_s, covers_s=INTERVAL_S)

    def judge(self, reading: Reading) -> Finding:
        return quiet(reading)

    def close(self) -> None: ...


@dataclass
class Seen:
    """A record that keeps what `why` is made from, and the alarms."""

    standing: dict[str, Span] = field(default_factory=dict)
    spans: dict[tuple[str, float], Span] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    newest: Tick | None = None

    def tick(self, report: Tick) -> None:
        now_s = report.moment.now_s
        self.standing = extended(self.standing, report.findings, (), now_s, 3 * INTERVAL_S)
        self.spans |= {(span.name, span.from_s): span for span in self.standing.values()}
        self.alarms += [alarm.text for alarm in report.alarms if alarm.name == "blind:gpu"]
        self.newest = report

    def why(self) -> Why:
        assert self.newest is not None
        now_s, newest = self.newest.moment.now_s, self.newest
        signals: dict[str, Json] = {
            finding.signal: {
                "activity": finding.activity.value,
                "reason": finding.reason,
                "since_s": self.standing[finding.signal].from_s,
                "read_s": reading.at_s,
            }
            for finding, reading in zip(newest.findings, newest.readings, strict=True)
        }
        status: dict[str, Json] = {
            "phase": newest.state.phase.value,
            "reason": newest.decision.reason,
            "started_s": 0.0,
            "usd_per_hour": 2.0,
            "signals": signals,
        }
        spans = sorted(self.spans.values(), key=lambda span: span.from_s)
        return why_of(status, spans, LIMITS, now_s, lambda: WALL)


@pytest.fixture(autouse=True)
def silent_daemon() -> None:
    logs.set_up(least=logging.CRITICAL)


def lived(fault: Fault, minutes: float, proc: Path = Path("/nonexistent")) -> Seen:
    """A Pod with an idle host whose GPUs can't be read from the start."""
    clock, seen = FastClock(), Seen()
    clock.sleep(1.0)
    gpus = GpuSignal(reader=Broken(fault.takes), gpu_count=fault.gpus, open_files=OpenFiles(proc=proc))
    watch = Daemon(
        clock=clock,
        signals=[gpus, QuietHost()],
        actions=Rehearsed(),
        record=seen,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=replace(LIMITS, interval_s=INTERVAL_S),
    )
    watch.run(until=lambda: clock.now_s() > minutes * 60)
    return seen


def test_no_fault_of_the_reader_is_left_out_and_each_has_the_words_of_the_real_one() -> None:
    assert set(FAULTS) <= set(TOLD)
    for name, fault in FAULTS.items():
        taken = TOLD[name].takes(100.0)
        found = GpuSignal(reader=Broken(lambda _, taken=taken: taken), gpu_count=TOLD[name].gpus)  # type: ignore[misc]  # a default
        reason = str(found.judge(found.read(100.0)).reason)
        assert fault.words[0] in reason, name


@pytest.mark.parametrize("name", TOLD)
def test_why_explains_a_fault_to_a_stranger(name: str) -> None:
    fault = TOLD[name]
    told = lived(fault, 20).why().lines()
    text = "\n".join(told)
    (kept,) = (line for line in told if line.startswith("Kept up"))
    assert kept.startswith("Kept up because gpu can't be seen, for 19m 4")
    assert fault.unseen in kept
    assert "this Pod stays up until gpu is seen again or, after 1h 15m, no program has a GPU open." in text
    assert fault.explains in text
    assert "idlewatch doctor" in text
    assert "idlewatch stop" in text
    assert "IDLEWATCH_IGNORE=gpu" in text
    assert "Without it this Pod would not have been stopped yet: no stop was due yet." in text


@pytest.mark.parametrize("name", TOLD)
def test_the_alarm_names_the_signal_what_was_not_seen_and_that_the_pod_is_kept_up(name: str) -> None:
    fault = TOLD[name]
    (alarm,) = lived(fault, 20).alarms
    assert alarm.startswith("gpu not seen for 15m, so this Pod is kept up: ")
    assert fault.unseen in alarm


def test_why_says_since_when_it_costs_money() -> None:
    told = "\n".join(lived(TOLD["a crash"], 95).why().lines())
    assert "Without it this Pod would have been stopped at" in told
    assert "($1.98)" in told


def test_a_gpu_that_is_open_in_a_program_is_named_with_it(tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    proc.process(812, "python3", "/dev/nvidia0")
    told = "\n".join(lived(TOLD["a crash"], LOOK_AFTER_S / 60 + 5, proc.root).why().lines())
    assert "a GPU is open in python3 (pid 812): it may be at work" in told


def test_the_documentation_says_what_is_said_of_each_fault_and_of_no_other() -> None:
    text = (Path(__file__).parent.parent / "docs/signals.md").read_text().partition("| what happened |")[2]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.partition("\n\n")[0].splitlines()]
    told = {name: words.strip("*").split(" … ") for name, words, _ in rows[2:]}
    assert {*told} >= {*FAULTS}
    for name, words in told.items():
        kept = "\n".join(lived(TOLD[name], 20).why().lines())
        assert all(word in kept for word in words), (name, words, kept)


def test_what_is_seen_has_no_such_lines() -> None:
    sound = Fault(lambda now_s: Taken(polls=(poll(now_s, gpu("GPU-0")),)), "")
    told = "\n".join(lived(sound, 20).why().lines())
    assert "can't be seen" not in told
    assert "IDLEWATCH_IGNORE" not in told
