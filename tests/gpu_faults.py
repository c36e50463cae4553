"""
What can happen to the driver of a Pod's GPUs, each fault for real, in Pods that live through one after the other.

A `FaultyPod` is a real daemon with a real reader on an NVML that breaks and is mended again; it keeps what `status`,
`why` and the daemon's log said of each fault meanwhile.
"""

from __future__ import annotations

import ctypes
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch import cli
from idlewatch.history.status import number
from idlewatch.history.store import events_of
from tests.gpu_pods import FAST, HURRIED, IDLE_AFTER_S, IMPATIENT, WARN_FOR_S, GpuPod, gpu_of, gpu_pod
from tests.nvml_stub import NvmlScript
from tests.side_by_side import until

NOT_SUPPORTED, NO_PERMISSION, LOST, OTHER_VERSION, UNKNOWN_ERROR = 3, 4, 15, 18, 999
LONG_S = 3 * (IDLE_AFTER_S + WARN_FOR_S)
LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to NVML, and what people are then told: the first words must come, the others may."""

    happens: Callable[[NvmlScript], object]
    words: tuple[str, ...]
    at_once: bool = False
    """From the start; else while the GPU works."""
    for_good: bool = False
    """The reader never asks again for what a card will not give."""
    library: bytes | None = b"stub"
    """What lies in the place of the driver's library; None: nothing."""


OPENS_ANEW = (
    "a GPU could not be read; the GPU reader opens NVML anew",
    "NVML was just opened: readings count in",
)
"""A reader that could read nothing for a while starts again, in case a fresh one can."""
STARTING = "GPU reader is starting: no line yet"
STARVED = ("GPU reader hung: no line for", "GPU reader hung and was ended", "NVML was just opened")
"""On a machine that others keep busy any reader may be late."""
NOT_FOUND = ("NVML can't be opened: NVML Shared Library Not Found", STARTING)


def lost(script: NvmlScript) -> None:
    for call in ("util_samples", "util"):
        script.error(call, LOST, 1)


def impossible(script: NvmlScript) -> None:
    script.samples(0, [(1.0, 255), (2.0, 255)])
    script.instant(0, 255)


def refused(code: int) -> Callable[[NvmlScript], None]:
    def happens(script: NvmlScript) -> None:
        for call in ("util_samples", "util"):
            script.error(call, code)

    return happens


def nothing(_: NvmlScript) -> None: ...


FAULTS: Mapping[str, Fault] = {
    "a call that never returns": Fault(
        happens=lambda script: script.stall("count", 600), words=("GPU reader hung: no line for", *STARVED)
    ),
    "an opening that never returns": Fault(
        happens=lambda script: script.stall("init", 600), words=("GPU reader hung", STARTING), at_once=True
    ),
    "a crash": Fault(happens=lambda script: script.segv("util_samples"), words=("GPU reader crashed: SIGSEGV",)),
    "a crash at the opening": Fault(
        happens=lambda script: script.segv("init"), words=("GPU reader crashed: SIGSEGV", STARTING), at_once=True
    ),
    "an exit": Fault(happens=lambda script: script.exit("mem2", 77), words=("GPU reader ended: exit code 77",)),
    "an unknown error in every call": Fault(
        happens=lambda script: script.error("*", UNKNOWN_ERROR),
        words=("Unknown Error", *OPENS_ANEW),
    ),
    "a GPU taken from the container": Fault(
        happens=lambda script: script.error("init", UNKNOWN_ERROR),
        words=("NVML can't be opened: Unknown Error (often a container that lost its GPU", STARTING),
        at_once=True,
    ),
    "a driver changed under the Pod": Fault(
        happens=lambda script: script.error("*", OTHER_VERSION),
        words=("version mismatch (the machine's driver was changed under this Pod", *OPENS_ANEW),
    ),
    "one lost GPU of two": Fault(happens=lost, words=("gpu1 utilization: GPU is lost", *OPENS_ANEW)),
    "fewer GPUs than at the start": Fault(happens=lambda script: script.count(1), words=("1 of 2 GPUs found",)),
    "impossible values": Fault(happens=impossible, words=("gpu0 utilization: reads 255 %", *OPENS_ANEW)),
    "no utilization": Fault(
        happens=refused(NOT_SUPPORTED),
        words=("utilization can't be read: not supported or not permitted here (Not Supported)",),
        for_good=True,
    ),
    "no permission": Fault(
        happens=refused(NO_PERMISSION),
        words=("utilization can't be read: not supported or not permitted here (Insufficient Permissions",),
        for_good=True,
    ),
    "no library": Fault(happens=nothing, words=NOT_FOUND, at_once=True, library=None),
    "a damaged library": Fault(happens=nothing, words=NOT_FOUND, at_once=True, library=b""),
}


@dataclass(frozen=True)
class Life:
    """Faults that one Pod has, one after the other; only its first may be one from the start."""

    faults: tuple[str, ...]
    gpus: int = 1
    command: tuple[str, ...] = FAST


LIVES = (
    Life(("a call that never returns", "a driver changed under the Pod"), command=HURRIED),
    Life(("an opening that never returns",), command=IMPATIENT),
    Life(("a crash at the opening", "an unknown error in every call")),
    Life(("a damaged library", "a crash")),
    Life(("no library", "an exit")),
    Life(("a GPU taken from the container", "fewer GPUs than at the start"), gpus=2),
    Life(("one lost GPU of two", "no permission"), gpus=2),
    Life(("impossible values", "no utilization")),
)
"""No Pod has two faults of the same words: the log tells those once in ten minutes."""


@dataclass
class Told:
    """One fault, and what was told of it."""

    fault: str
    since_s: float = 0.0
    """The newest tick at which the GPUs were not unknown: a poll from before the fault may come late."""
    ticked_s: float = 0.0
    reasons: set[str] = field(default_factory=set)
    status: str = ""
    why: str = ""
    failed: list[str] = field(default_factory=list)
    """The reasons in the lines `signal_failed` of the log."""
    back: int = 0
    """How many lines `signal_back`."""
    stopped: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        return FAULTS[self.fault].words

    @property
    def for_good(self) -> bool:
        return FAULTS[self.fault].for_good

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        known, first, times = (*self.words, *STARVED), self.words[0], len(self.failed)
        kept = self.why.partition("Kept up because gpu can't be seen")[2]
        facts = {
            f"ticked on for {self.ticked_s} s": self.ticked_s >= LONG_S,
            f"was told as {self.reasons}": all(any(word in one for word in known) for one in self.reasons),
            f"has the status {self.status}": first in self.status and " gpu unknown " in self.status,
            f"has the why {self.why}": first in kept and "idlewatch doctor" in kept,
            f"was logged as {self.failed}": all(any(word in one for word in known) for one in self.failed),
            f"was logged {times} times, its end {self.back}": 1 <= times == self.back + self.for_good <= 2,
            "was stopped": not self.stopped,
        }
        return [f"{self.fault}: {text}" for text, right in facts.items() if not right]

    def rows(self) -> Iterator[str]:
        """Its part of the table."""
        yield f"{self.fault}: {'STOPPED' if self.stopped else 'not stopped'}"
        yield f"    status  {sentence(self.status, 'gpu unknown')}"
        yield f"    why     {sentence(self.why, 'Kept up because')}"
        yield from (f"    log     warning signal_failed gpu: {reason}" for reason in self.failed)
        yield from ["    log     info signal_back gpu"] * self.back


def sentence(text: str, begins: str) -> str:
    return text[max(0, text.find(begins)) :][:170]


class FaultyPod:
    """A Pod that lives through its faults."""

    def __init__(self, life: Life, pod: GpuPod, library: Path, own: Path) -> None:
        """`library` holds a sound one, `own` is where this Pod looks for it."""
        self._life, self._pod, self._library, self._own = life, pod, library, own
        self.told: list[Told] = []
        self.wrong: list[str] = []

    def lives(self) -> Iterator[None]:
        """Each step waits for what must come before the next one."""
        first = FAULTS[self._life.faults[0]]
        self._have_library(first.library)
        self._pod.script.works(0)
        if first.at_once:
            first.happens(self._pod.script)
        self._pod.place.start()
        for name in self._life.faults:
            self.told.append(told := Told(name))
            if not FAULTS[name].at_once:
                yield from until(self._works)
            yield from self._broken(told)
            if told.for_good:
                return
            self._mend()
            yield from until(self._works)
            yield from until(lambda told=told: self._logged(told) and len(told.failed) == told.back)  # type: ignore[misc]  # a default

    def ask_to_end(self) -> None:
        """So that all end at the same time."""
        self._pod.ask_to_end()

    def end(self) -> None:
        """Look at what its daemon did all the time, and how it ends."""
        ended, place = self._pod.ended(), self._pod.place
        did = [f"{event['kind']}: {event['text']}" for event in events_of(place.state_dir)]
        did = [one for one in did if not one.startswith(("shutdown", "alarm"))]
        self.wrong = [line for told in self.told for line in told.wrong()]
        names = ", ".join(self._life.faults)
        self.wrong += [f"{names}: did {did}"] if did or place.stopped() else []
        self.wrong += [] if ended == (0, []) else [f"{names}: ended {ended}"]
        if [told.fault for told in self.told] != list(self._life.faults) or not (
            self._works() or self.told[-1].for_good
        ):
            self.wrong.append(f"{names}: came as far as {self.told[-1]}")

    def _works(self) -> bool:
        return self._pod.activity() == "active"

    def _broken(self, told: Told) -> Iterator[None]:
        fault = FAULTS[told.fault]
        if not fault.at_once:
            fault.happens(self._pod.script)
        self._pod.script.rests(0)
        yield from until(lambda: self._told_for_long(told) and self._asked(told))
        told.stopped = self._pod.place.stopped()

    def _told_for_long(self, told: Told) -> bool:
        """Note what is shown now; whether the fault is told and logged, and the daemon has ticked on for long since."""
        status = self._pod.place.status()
        gpu, at_s = gpu_of(status), number(status.get("at_s"))
        if gpu.get("activity") != "unknown" or not told.since_s:
            told.since_s, told.reasons = at_s, set()
            return False
        told.reasons.add(reason := str(gpu.get("reason")))
        told.ticked_s = at_s - told.since_s
        return told.ticked_s >= LONG_S and told.words[0] in reason and self._logged(told) and bool(told.failed)

    def _asked(self, told: Told) -> bool:
        """Ask the verbs; whether what they show is still of this fault, and no reader that has just started anew."""
        told.status, told.why = self._said("status"), self._said("why")
        return told.words[0] in told.status and told.words[0] in told.why

    def _logged(self, told: Told) -> bool:
        """Take in what this Pod's log has of this fault."""
        lines = [line for line in self._pod.place.logged() if line.get("signal") == "gpu"]
        before = sum(len(one.failed) + one.back for one in self.told if one is not told)
        told.failed = [str(line["reason"]) for line in lines[before:] if line["event"] == "signal_failed"]
        told.back = sum(line["event"] == "signal_back" for line in lines[before:])
        return True

    def _mend(self) -> None:
        self._have_library(b"stub")
        self._pod.script.reset(gpus=self._life.gpus)
        self._pod.script.works(0)

    def _have_library(self, what: bytes | None) -> None:
        target, aside = self._own / LIBRARY, self._own / "aside"
        target.unlink(missing_ok=True)
        if what == b"stub":
            shutil.copy(self._library / LIBRARY, aside)
            aside.replace(target)
        elif what is not None:
            target.write_bytes(what)

    def _said(self, verb: str) -> str:
        """What the verb prints of this Pod, on one line."""
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
            patch.setenv("IDLEWATCH_STATE_DIR", str(self._pod.place.state_dir))
            cli.main([verb])
        return " ".join(said.getvalue().split())


def a_library_is_here() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def faulty_pods(stack: ExitStack, folder: Path, library: Path) -> list[FaultyPod]:
    """A Pod for each life; where this machine has a driver, none without a library."""
    made = []
    for number_, life in enumerate(LIVES):
        if a_library_is_here() and any(FAULTS[name].library is None for name in life.faults):
            continue
        own = folder / f"driver{number_}"
        own.mkdir()
        at = folder / f"pod{number_}"
        pod = stack.enter_context(gpu_pod(at, own, gpus=life.gpus, command=life.command))
        pod.place.log = at / "log"
        pod.place.settings["IDLEWATCH_BLIND_LIMIT"] = "40s"  # a tenth of it is granted to a reader that starts
        made.append(FaultyPod(life, pod, library, own))
    return made


def table(told: Sequence[Told]) -> list[str]:
    """What was told of each fault."""
    return [row for one in told for row in one.rows()]
