"""
The whole path on a Pod with GPUs: a real daemon, its reader with the real pynvml on an NVML that is scripted to be
idle, to work in bursts, to hang, to crash, to lie, or not to be there.

What takes long runs side by side: `long_runs` begins with the first test and is looked at in the last ones, and all
faults of NVML happen at once, each in a Pod of its own, beside a sound one that shows what becomes of an idle Pod.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch.history import events_of
from idlewatch.show.status import number
from idlewatch.snapshot import snapshots
from tests.gpu_pods import (
    FAST,
    HURRIED,
    IDLE_AFTER_S,
    IMPATIENT,
    SLOW,
    VERB,
    WARN_FOR_S,
    GpuPod,
    gpu_of,
    gpu_pod,
    screen_of,
)
from tests.nvml_stub import ALL, NvmlScript, build, now_s
from tests.whole_path import POD_ID, comes, proven

LOST, NOT_SUPPORTED, UNKNOWN_ERROR = 15, 3, 999
LONG_S = 5 * (IDLE_AFTER_S + WARN_FOR_S)
PATIENCE_S = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def pod(tmp_path: Path, library: Path) -> Iterator[GpuPod]:
    with gpu_pod(tmp_path, library) as made:
        yield made


# ---------------------------------------------------------------- what takes long, begun first


@dataclass(frozen=True)
class LongRuns:
    """One GPU of 1 or of 4 that works 0.2 s in 20 s, a GPU that never does, and the verb `run` on an idle GPU."""

    alone: GpuPod
    last_of_four: GpuPod
    never: GpuPod
    verb: GpuPod
    began_s: float


BURST_EVERY_S, BURST_IDLE_AFTER_S = 20.0, 22.0


@pytest.fixture(scope="module", autouse=True)
def long_runs(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[LongRuns]:
    with ExitStack() as stack:

        def made(command: tuple[str, ...], gpus: int = 1) -> GpuPod:
            return stack.enter_context(gpu_pod(tmp_path_factory.mktemp("long"), library, gpus=gpus, command=command))

        runs = LongRuns(made(SLOW), made(SLOW, gpus=4), made(SLOW), made(VERB), now_s())
        for loaded in (runs.alone, runs.last_of_four, runs.never):
            loaded.place.settings["IDLEWATCH_BLIND_LIMIT"] = "8s"
            loaded.place.settings["IDLEWATCH_IDLE_AFTER"] = f"{BURST_IDLE_AFTER_S}s"
            loaded.script.mem(ALL, 16000)
            loaded.script.processes(ALL, 1)
        runs.alone.script.burst(0, busy_s=0.2, every_s=BURST_EVERY_S)
        runs.last_of_four.script.burst(3, busy_s=0.2, every_s=BURST_EVERY_S)
        runs.verb.place.settings |= {
            "IDLEWATCH_IDLE_AFTER": "9s",
            "IDLEWATCH_INTERVAL": "1s",
            "IDLEWATCH_BLIND_LIMIT": "10s",
        }
        for run in (runs.verb, runs.alone, runs.last_of_four, runs.never):
            run.place.start()
        yield runs


# ---------------------------------------------------------------- NVML breaks


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to NVML, and what people are then told: the first words must come, the others may."""

    happens: Callable[[NvmlScript], object]
    words: tuple[str, ...]
    gpus: int = 1
    command: tuple[str, ...] = FAST
    at_once: bool = False
    """From the start; else while the GPU works."""
    library: str = "stub"
    """`stub`, `none` or `damaged`."""


OPENS_ANEW = (
    "a GPU could not be read; the GPU reader opens NVML anew",
    "NVML was just opened: readings count in",
)
"""A reader that could read nothing for a while starts again, in case a fresh one can."""
STARVED = ("GPU reader hung: no line for",)
"""On a machine that others keep busy any reader may be late."""
NOT_FOUND = ("NVML can't be opened: NVML Shared Library Not Found", "GPU reader is starting: no line yet")


def lost(script: NvmlScript) -> None:
    for call in ("util_samples", "util"):
        script.error(call, LOST, 1)


def impossible(script: NvmlScript) -> None:
    script.samples(0, [(1.0, 255), (2.0, 255)])
    script.instant(0, 255)


def not_supported(script: NvmlScript) -> None:
    for call in ("util_samples", "util"):
        script.error(call, NOT_SUPPORTED)


FAULTS: Mapping[str, Fault] = {
    "a call that never returns": Fault(
        happens=lambda script: script.stall("count", 600),
        words=("GPU reader hung: no line for", "GPU reader hung and was ended (SIGTERM)"),
        command=HURRIED,
    ),
    "an opening that never returns": Fault(
        happens=lambda script: script.stall("init", 600),
        words=("GPU reader hung", "GPU reader is starting: no line yet"),
        command=IMPATIENT,
        at_once=True,
    ),
    "a crash": Fault(happens=lambda script: script.segv("util_samples"), words=("GPU reader crashed: SIGSEGV",)),
    "a crash at the opening": Fault(
        happens=lambda script: script.segv("init"),
        words=("GPU reader crashed: SIGSEGV", "GPU reader is starting: no line yet"),
        at_once=True,
    ),
    "an exit": Fault(happens=lambda script: script.exit("mem2", 77), words=("GPU reader ended: exit code 77",)),
    "an unknown error in every call": Fault(
        happens=lambda script: script.error("*", UNKNOWN_ERROR),
        words=("GPUs can't be counted: Unknown Error", "NVML can't be opened: Unknown Error", *OPENS_ANEW),
    ),
    "one lost GPU of two": Fault(happens=lost, words=("gpu1 utilization: GPU is lost", *OPENS_ANEW), gpus=2),
    "fewer GPUs than at the start": Fault(happens=lambda script: script.count(1), words=("1 of 2 GPUs found",), gpus=2),
    "impossible values": Fault(happens=impossible, words=("gpu0 utilization: reads 255 %", *OPENS_ANEW)),
    "no utilization": Fault(
        happens=not_supported, words=("gpu0 utilization can't be read: not supported or not permitted here",)
    ),
    "no library": Fault(happens=lambda _: None, words=NOT_FOUND, at_once=True, library="none"),
    "a damaged library": Fault(happens=lambda _: None, words=NOT_FOUND, at_once=True, library="damaged"),
}


@dataclass
class Faulty:
    """A Pod with one fault, and what was shown of it."""

    fault: Fault
    pod: GpuPod
    worked: bool = False
    since_s: float = 0.0
    """The newest tick at which the GPUs were not unknown: a poll from before the fault may come late."""
    ticked_s: float = 0.0
    reasons: set[str] = field(default_factory=set)
    screen: str = ""

    def seen_at_work(self) -> bool:
        """Whether the GPU was ever shown as active, or can't be."""
        self.worked = self.worked or self.pod.activity() == "active"
        return self.worked or self.fault.at_once

    def breaks(self) -> None:
        if not self.fault.at_once:
            self.fault.happens(self.pod.script)
        self.pod.script.rests(0)
        self.since_s = self.pod.at_s()

    def told_for_long(self) -> bool:
        """Note what is shown now; whether the fault is told and the daemon has ticked on for long since."""
        status = self.pod.place.status()
        gpu, at_s = gpu_of(status), number(status.get("at_s"))
        if gpu.get("activity") != "unknown" or not self.since_s:
            self.since_s, self.reasons = at_s, set()
            return False
        self.reasons.add(str(gpu.get("reason")))
        self.screen, self.ticked_s = screen_of(status), at_s - self.since_s
        return self.ticked_s >= LONG_S and self.told()

    def told(self) -> bool:
        return any(self.fault.words[0] in reason for reason in self.reasons)

    def wrong(self) -> list[str]:
        """What is not as it must be; ends the daemon."""
        words, place = (*self.fault.words, *STARVED), self.pod.place
        strange = [reason for reason in self.reasons if not any(known in reason for known in words)]
        facts = {
            "was not first seen at work": self.seen_at_work(),
            f"was told as {self.reasons}": self.told() and not strange,
            f"has the screen {self.screen}": re.search(r"^  gpu +unknown  ", self.screen, re.MULTILINE) is not None,
            f"ticked on for {self.ticked_s} s": self.ticked_s >= LONG_S,
            f"did {place.kinds()}": set(place.kinds()) <= {"shutdown"},
            "was stopped": not place.stopped(),
            f"ended {(end := self.pod.ended())}": end == (0, []),
        }
        return [text for text, right in facts.items() if not right]


def pods_with_faults(stack: ExitStack, folder: Path, stub: Path) -> dict[str, Faulty]:
    made = {}
    for number_, (name, fault) in enumerate(FAULTS.items()):
        if fault.library == "none" and a_library_is_here():
            continue
        library = library_of(fault, stub, folder)
        pod = gpu_pod(folder / f"fault{number_}", library, gpus=fault.gpus, command=fault.command)
        made[name] = Faulty(fault, stack.enter_context(pod))
    return made


def library_of(fault: Fault, stub: Path, folder: Path) -> Path:
    if fault.library == "stub":
        return stub
    own = folder / fault.library
    own.mkdir()
    if fault.library == "damaged":
        (own / "libnvidia-ml.so.1").write_bytes(b"")
    return own


def a_library_is_here() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def all_come(pods: Iterable[Faulty], so: Callable[[Faulty], bool]) -> None:
    """Wait until each is so, or its daemon is dead; what did not come is found later, Pod by Pod."""
    each = list(pods)
    comes(lambda: all([so(one) or not one.pod.place.lives() for one in each]), PATIENCE_S)  # noqa: C419  (ask all)


def test_an_nvml_that_breaks_is_said_and_never_stops_the_pod(tmp_path: Path, library: Path) -> None:
    with ExitStack() as stack:
        sound = stack.enter_context(gpu_pod(tmp_path / "sound", library))
        faulty = pods_with_faults(stack, tmp_path, library)
        start_at_work(sound, faulty.values())
        all_come(faulty.values(), Faulty.seen_at_work)
        sound.place.until(lambda: sound.activity() == "active")
        for one in faulty.values():
            one.breaks()
        sound.script.rests(0)
        all_come(faulty.values(), Faulty.told_for_long)
        sound.place.until(sound.place.stopped)
        for one in faulty.values():
            one.pod.ask_to_end()
        wrong = [f"{name} {what}" for name, one in faulty.items() for what in one.wrong()]
        assert not wrong, "\n".join(wrong)


def start_at_work(sound: GpuPod, faulty: Iterable[Faulty]) -> None:
    """Start every Pod with its first GPU at work, and what is broken at once broken."""
    for one in faulty:
        if one.fault.at_once:
            one.fault.happens(one.pod.script)
    for pod in (sound, *(one.pod for one in faulty)):
        pod.script.works(0)
        pod.place.start()


def test_a_stall_that_ends_is_sat_out_by_the_same_reader(pod: GpuPod) -> None:
    """45 s in a Pod, where a silence of 15 s is a hang and the reader is granted 60 s more; here a twentieth."""
    pod.script.works(0)
    pod.place.start()
    pod.place.until(lambda: pod.activity() == "active")
    before = pod.readers()
    pod.script.stall("count", 2.5)
    pod.place.until(lambda: pod.activity() == "unknown" and "GPU reader hung: no line for" in pod.reason())
    pod.script.stall("count", 0)
    pod.place.until(lambda: pod.activity() == "active")
    assert (pod.readers(), pod.place.kinds()) == (before, [])
    pod.script.rests(0)
    pod.place.until(pod.place.stopped)


def test_a_hang_in_the_warning_halts_the_countdown_and_then_cancels_it(pod: GpuPod) -> None:
    pod.place.command = HURRIED
    pod.place.settings |= {"IDLEWATCH_WARN_FOR": "5s", "IDLEWATCH_BLIND_LIMIT": "8s"}
    pod.script.works(0)
    pod.place.start()
    pod.place.until(lambda: pod.activity() == "active")
    pod.script.rests(0)
    pod.place.until(lambda: pod.place.phase() == "warned")
    save_due_s = number(pod.place.status().get("acts_at_s"))
    pod.script.stall("count", 600)
    pod.place.until(lambda: "cancel" in pod.place.kinds())
    warned, cancelled = events_of(pod.place.state_dir)
    assert (warned["kind"], cancelled["kind"]) == ("warn", "cancel")
    assert number(cancelled["at_s"]) > save_due_s
    assert "gpu unknown: GPU reader hung" in str(cancelled["text"])
    pod.script.reset()
    pod.script.works(0)
    pod.place.until(lambda: pod.activity() == "active")
    pod.script.rests(0)
    pod.place.until(pod.place.stopped)
    assert pod.place.kinds()[2:6] == ["warn", "save", "save done", "stop"]


# ---------------------------------------------------------------- NVML is well


def test_an_idle_gpu_pod_is_saved_and_stopped(pod: GpuPod) -> None:
    pod.place.settings["IDLEWATCH_BLIND_LIMIT"] = "1s"  # else the reader's start counts as a fifth that was not seen
    pod.place.start()
    pod.place.until(lambda: pod.activity() == "quiet")
    assert len(pod.readers()) == 1
    pod.place.until(pod.place.stopped)
    assert pod.place.kinds()[:4] == ["warn", "save", "save done", "stop"]
    assert pod.place.api.problems == []
    proven(pod.place)
    assert pod.ended() == (0, [])


def test_a_gpu_that_works_a_fifth_of_a_second_in_twenty_is_in_use(long_runs: LongRuns) -> None:
    long_runs.never.place.until(long_runs.never.place.stopped, PATIENCE_S)
    for bursts in (long_runs.alone, long_runs.last_of_four):
        long_ago_s = long_runs.began_s + 12 + 2.2 * BURST_IDLE_AFTER_S
        bursts.place.until(lambda: bursts.at_s() > long_ago_s, PATIENCE_S)  # noqa: B023  (called at once)
        assert "no busy reading" not in bursts.reason()
        assert (bursts.place.kinds(), bursts.place.stopped()) == ([], False)


def test_the_verb_itself_comes_to_the_stop_that_it_only_observes(long_runs: LongRuns) -> None:
    place = long_runs.verb.place
    place.until(lambda: "would stop" in place.kinds(), PATIENCE_S)
    assert place.kinds() == ["would warn", "would save", "would stop"]
    assert "1 GPU at 0 % <= 5 %" in screen_of(place.status())
    assert [request.call for request in place.api.requests if request.method != "GET"] == []
    assert snapshots(place.volume, POD_ID) == []
    assert long_runs.verb.ended() == (0, [])
