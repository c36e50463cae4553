"""
The vocabulary as types: what the parts of idlewatch say to each other.

Instants are seconds on CLOCK_BOOTTIME (`*_s`), which runs on through a suspend and never jumps with the wall
clock; a wall time is an aware UTC `datetime` (`*_at`) and only ever shown. Spans are seconds, too. A bare number
carries its unit in its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What a reading, a request or a record is made of: it must survive a file and come back equal."""


class Activity(StrEnum):
    """The verdict on one reading. UNKNOWN is never quiet; ABSENT needs proof that the Pod has no such thing."""

    ACTIVE = "active"
    QUIET = "quiet"
    UNKNOWN = "unknown"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one signal saw: facts with their units, no opinion."""

    signal: str
    """Name of the signal, as in SIGNALS."""
    at_s: float
    """The instant that the facts describe, CLOCK_BOOTTIME seconds (not the instant they were handed over)."""
    covers_s: float = 0.0
    """Seconds up to `at_s` that the facts describe: a counter's difference covers the time since the last one."""
    facts: Mapping[str, Json] = field(default_factory=dict)
    """Named facts, the unit in each name (`cpu_busy_s`, `util_max_pct`)."""
    error: str | None = None
    """Why it could not be read, in words for people; then `facts` counts for nothing."""
    absent: str | None = None
    """The proof that this Pod has no such thing (`RUNPOD_GPU_COUNT=0`); None where there is none."""


FIRST_READING = "just started: it takes a second reading to compare with"
"""Reason of an UNKNOWN that the next reading ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict on a reading, with its reason."""

    signal: str
    activity: Activity
    reason: str
    """One clause with value, unit and limit: `gpu0 utilization 87 % > 5 %`."""
    seen_from_s: float = 0.0
    seen_to_s: float = 0.0
    """The span that was seen (CLOCK_BOOTTIME); empty where nothing was. A repeated reading repeats its span."""
    evidence_s: float | None = None
    """Instant of the newest activity that this reading proves; only with ACTIVE."""
    bars: bool = False
    """Keeps the warning from being given, or cancels it, without touching the idle clock."""
    pauses: bool = False
    """The span was seen but does not count as quiet: the idle clock stands still over it."""
    notice: str | None = None
    """What people should hear although it changes no verdict: a GPU that may hang, one sign alone for hours."""
    refines: bool = False
    """Of a signal that only refines what the ground signals see; the daemon copies it from the signal."""


class Signal(Protocol):
    """
    A named source of evidence: reads facts, and judges them.

    A constructor does no I/O, so that `replay` and the demo can judge recorded readings on any machine.
    """

    name: str
    refines: bool
    """False: a ground signal, without which idleness can't be known. True: where it can't be read, that bars the
    warning for IDLEWATCH_CONNECTED_FOR at most, raises an alarm, and then the other signals decide."""

    def read(self, now_s: float) -> Reading:
        """Return the newest facts. Never blocks: touches only /proc, /sys, the state folder and pipes.

        Raises SignalError (or anything else) where it can't; the daemon makes an UNKNOWN of it.
        """
        ...

    def judge(self, reading: Reading) -> Finding:
        """Return the verdict. No I/O and no clock: the same readings in the same order give the same findings."""
        ...

    def close(self) -> None:
        """End what `read` started, gently."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something of the owner's own that says whether the Pod is in use."""

    task: str
    """The task that asks it."""
    request: Json = field(repr=False)
    """May hold a whole address, with its password."""
    every_s: float
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a signal is told of the Pod and of its owner's wishes when it is made."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The platform's own variables: RUNPOD_GPU_COUNT, JUPYTER_PASSWORD (a secret)."""
    started_s: float = 0.0
    """When this container started, CLOCK_BOOTTIME seconds; others' time stamps are never believed before it."""
    connected_for_s: float = 3 * 3600.0
    """IDLEWATCH_CONNECTED_FOR: how long a connection, or a state without motion, may bar."""
    gpus_before: Callable[[], int | None] = lambda: None
    """How many GPUs this Pod had before its last stop; None: not known, or not yet."""
    gpu_limit_pct: float = 5.0
    """IDLEWATCH_GPU_LIMIT: the utilization above which a GPU is in use."""
    gpu_gpm: bool = False
    """IDLEWATCH_GPU_GPM: ask MIG instances through GPM."""
    asked: Callable[[float, float], frozenset[tuple[int, int]]] = lambda _from_s, _to_s: frozenset()
    """Processes (PID, start in clock ticks) that were asked for a checkpoint in some part of a span."""
    servers: tuple[str, ...] = ()
    """IDLEWATCH_SERVERS as it was written: servers that only the owner knows."""
    questions: Mapping[str, Question] = field(default_factory=dict)
    """Name of a signal -> what its owner wants asked."""
    start_task: Callable[[str, Json, float, float], Any] | None = None
    """Starts a `tasks.Task`: name, request, instant, and how long it may be silent; None: nothing can be asked here."""


class Clock(Protocol):
    """The daemon's only source of time."""

    def now_s(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def wall(self) -> datetime:
        """The wall clock, aware, UTC; for people only."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; may return early on a shutdown request."""
        ...


class Phase(StrEnum):
    """Where the end sequence stands; `policy` draws the picture."""

    WATCHING = "watching"
    WARNED = "warned"
    SAVING = "saving"
    LAST_LOOK = "last look"
    STOPPING = "stopping"


class Action(StrEnum):
    """What one decision asks for; at most one a tick."""

    WAIT = "wait"
    WARN = "warn"
    CANCEL = "cancel"
    SAVE = "save"
    STOP = "stop"


class Cause(StrEnum):
    """Why the end sequence runs. Evidence and holds cancel only IDLE."""

    IDLE = "idle"
    CEILING = "ceiling"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A person's or a program's request not to stop; it always ends."""

    id: str
    who: str
    reason: str
    until_s: float
    """CLOCK_BOOTTIME instant at which it ends at the latest."""
    pid: int | None = None
    """Ends with this process, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that people must hear about although nothing is being stopped, or because it can't be."""

    name: str
    """A stable key (`blind:gpu`, `save failed`, `STOP NOT CONFIRMED`): one alarm of a name until it changes."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy wants done now, and why; prints as one sentence."""

    action: Action
    reason: str
    cause: Cause | None = None
    idle_for_s: float = 0.0
    acts_at_s: float | None = None
    """WARN: when the save begins if nothing happens."""
    alarms: tuple[Alarm, ...] = ()

    def __str__(self) -> str:
        """`warn: everything quiet for 30m`."""
        return f"{self.action.value}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What carrying out a decision gave; fed back to `policy.after_outcome`."""

    action: Action
    ok: bool
    reason: str
    permanent: bool = False
    """Of a failed STOP: the provider refused for good, so trying soon is pointless."""
    observed: bool = False
    """Nothing was done, on purpose: IDLEWATCH_MODE=observe."""
    retry_after_s: float | None = None
    """Of a failed STOP: how long the provider asked to be left alone."""
    snapshot: str | None = None
    """Of a SAVE: the snapshot's id; None where there was nothing to save."""
    save_began_s: float | None = None
    """Of a SAVE: the instant from which changes may be missing in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The part of the settings that the policy needs, in seconds; see `settings.Settings` for what each means."""

    idle_after_s: float
    """0: idleness never stops the Pod."""
    working_idle_after_s: float = 0.0
    """The same within working hours."""
    warn_for_s: float
    blind_limit_s: float
    connected_for_s: float
    boot_grace_s: float
    interval_s: float
    max_uptime_s: float
    """0: no ceiling."""
    budget_usd: float
    """0: no ceiling."""
    stop_without_save: bool
    """IDLEWATCH_ON_SAVE_FAILURE=stop."""
    confirm_within_s: float
    """How long the machine may live on after an accepted stop."""
    spread: float = 0.0
    """From 0 to 1: this Pod's place among those that ask the same provider; a few of them wait longer than others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Which Pod this is, and which life of it."""

    pod_id: str | None
    source: str
    """Where the id came from: `environment`, `/proc/1/environ`, `/etc/rp_environment`; or why there is none."""
    started_s: float
    """When this container started, CLOCK_BOOTTIME seconds."""
    boot_key: str
    """Unlike for any other start of this or another container; state and warnings never cross it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What the provider's API says of this Pod."""

    pod_id: str
    status: str
    """The provider's word: RUNNING, EXITED …"""
    usd_per_hour: float | None
    locked: bool
    cluster: bool
    volume_path: str | None
    """Mount path of what survives a stop, as the provider knows it."""
    name: str | None = None
    """What its owner calls it; None where the provider does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAnswer:
    """The provider accepted the stop, or it was already under way. It proves nothing about the machine."""

    accepted_by: str
    """Rung of the ladder that was accepted: `REST v2 with IDLEWATCH_RUNPOD_API_KEY`."""
    tried: tuple[str, ...] = ()
    """The rungs before it and what each answered, without secrets."""


class Provider(Protocol):
    """Who runs the Pod."""

    name: str

    def refusal(self) -> str | None:
        """Why this Pod must not be stopped from inside, from the environment alone; None where it may."""
        ...

    def describe(self) -> PodFacts:
        """Read the Pod. Raises ProviderRefused or ProviderUnavailable."""
        ...

    def forbids(self, facts: PodFacts) -> str | None:
        """Why the provider does not let this Pod be stopped from inside, as it was read; None where it does."""
        ...

    def stop(self) -> StopAnswer:
        """
        Ask for the stop of this Pod; never for its termination.

        Returns when the stop is accepted or already under way; safe to call twice. Raises ProviderRefused where
        trying again soon is pointless, else ProviderUnavailable.
        """
        ...
