"""
Lives a Pod's life again: its readings go through the real judges, the real policy and the real daemon.

Only the clock, the actions and the readings' source are stand-ins: time jumps from tick to tick, a save succeeds at
once, a stop ends the life. Nothing of this machine is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from idlewatch.daemon import Daemon, Tick
from idlewatch.model import Action, Activity, Decision, Finding, Hold, Limits, Outcome, Reading, Signal
from idlewatch.policy import Moment
from idlewatch.verdicts import Span, extended

IN_USE, HELD, UNKNOWN, IDLE = "active", "held", "unknown", "idle"
"""What a Pod is at one tick: the strongest of what its signals say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What went in: instants are seconds since the machine's boot."""

    started_s: float
    """When the container started."""
    ends_s: float
    readings: Iterable[Reading]
    """Oldest first."""
    holds: Sequence[tuple[float, Hold]] = ()
    """Since when each was there."""
    asleep: Sequence[tuple[float, float]] = ()
    """Spans in which no daemon looked."""
    usd_per_hour: float | None = None
    began_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """Wall time of second 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One tick, as far as people want to know."""

    at_s: float
    pod: str
    verdicts: Mapping[str, str]
    reason: str
    decisive: str
    """What made the Pod what it is: `gpu: gpu0 utilization 30 % > 5 %`."""


@dataclass(kw_only=True)
class Lived:
    """What came out."""

    looks: list[Look] = field(default_factory=list)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    """All but WAIT."""
    alarms: list[tuple[float, str, str]] = field(default_factory=list)
    """Instant, name, text."""
    spans: list[Span] = field(default_factory=list)
    stopped_s: float | None = None

    def first(self, action: Action) -> float | None:
        """When `action` was first decided."""
        return next((at_s for at_s, decision in self.decisions if decision.action is action), None)


def relive(life: Life, signals: Sequence[Signal], limits: Limits, *, until_stopped: bool = True) -> Lived:
    """Return what the policy makes of a life; without `until_stopped` it goes on after a stop, which is only noted."""
    clock, actions, lived = _Clock(life), _Rehearsed(), _Witness()
    daemon = Daemon(
        clock=clock,
        signals=[_Replayed(signal, _of(signal.name, life.readings)) for signal in signals],
        actions=actions,
        record=lived,
        moment=lambda now_s: _moment(life, now_s),
        limits=limits,
    )
    daemon.run(until=lambda: clock.now_s() >= life.ends_s or (until_stopped and lived.lived.stopped_s is not None))
    lived.lived.spans = list(lived.kept.values())
    return lived.lived


def _of(name: str, readings: Iterable[Reading]) -> list[Reading]:
    return [reading for reading in readings if reading.signal == name]


def _moment(life: Life, now_s: float) -> Moment:
    uptime_s, price = now_s - life.started_s, life.usd_per_hour
    return Moment(
        now_s=now_s,
        uptime_s=uptime_s,
        holds=tuple(hold for since_s, hold in life.holds if since_s <= now_s < hold.until_s),
        spent_usd=uptime_s / 3600 * price if price else None,
        usd_per_hour=price,
    )


class _Clock:
    def __init__(self, life: Life) -> None:
        self._life, self._now_s = life, life.started_s

    def now_s(self) -> float:
        return self._now_s

    def wall(self) -> datetime:
        return self._life.began_at + timedelta(seconds=self._now_s)

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        for from_s, to_s in self._life.asleep:
            if from_s <= self._now_s < to_s:
                self._now_s = to_s


class _Replayed:
    """A real judge, whose readings are handed over at the instants at which they were made."""

    def __init__(self, signal: Signal, readings: Sequence[Reading]) -> None:
        self.name, self.refines = signal.name, signal.refines
        self._signal, self._coming = signal, _Peekable(readings)
        self._newest: Reading | None = None

    def read(self, now_s: float) -> Reading:
        while (following := self._coming.peek()) is not None and following.at_s <= now_s:
            self._judge_what_is_passed_over()
            self._newest = self._coming.take()
        return self._newest or Reading(signal=self.name, at_s=now_s, error="nothing is recorded yet")

    def judge(self, reading: Reading) -> Finding:
        return self._signal.judge(reading)

    def close(self) -> None:
        self._signal.close()

    def _judge_what_is_passed_over(self) -> None:
        """A judge sees every reading, also where the ticks are further apart than the readings."""
        if self._newest is not None and self._newest.error is None and self._newest.absent is None:
            self._signal.judge(self._newest)


class _Peekable:
    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings, self._next = readings, 0

    def peek(self) -> Reading | None:
        return self._readings[self._next] if self._next < len(self._readings) else None

    def take(self) -> Reading:
        self._next += 1
        return self._readings[self._next - 1]


class _Rehearsed:
    """Actions that succeed at once."""

    def __init__(self) -> None:
        self._ready: Outcome | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        if decision.action is Action.SAVE:
            self._ready = Outcome(action=Action.SAVE, ok=True, reason="saved", save_began_s=now_s)
        elif decision.action is Action.STOP:
            self._ready = Outcome(action=Action.STOP, ok=True, reason="would be stopped", observed=True)
        elif decision.action is Action.CANCEL:
            self._ready = None

    def poll(self, now_s: float) -> Outcome | None:
        del now_s
        ready, self._ready = self._ready, None
        return ready

    def close(self) -> None: ...


class _Witness:
    """Keeps what happened, as a `daemon.Record`."""

    def __init__(self) -> None:
        self.lived = Lived()
        self.kept: dict[tuple[str, float], Span] = {}
        self._standing: dict[str, Span] = {}

    def tick(self, report: Tick) -> None:
        now_s, decision = report.moment.now_s, report.decision
        self._standing = extended(self._standing, report.findings, report.moment.holds, now_s, longest_gap_s=60.0)
        self.kept |= {(span.name, span.from_s): span for span in self._standing.values()}
        self.lived.looks.append(_look(report))
        self.lived.alarms += [(now_s, alarm.name, alarm.text) for alarm in report.alarms]
        if decision.action is not Action.WAIT:
            self.lived.decisions.append((now_s, decision))
        if decision.action is Action.STOP and self.lived.stopped_s is None:
            self.lived.stopped_s = now_s


_RANK: Sequence[tuple[str, Callable[[Finding], bool]]] = (
    (IN_USE, lambda finding: finding.activity is Activity.ACTIVE),
    (HELD, lambda finding: finding.bars),
    (UNKNOWN, lambda finding: finding.activity is Activity.UNKNOWN or finding.pauses),
)


def _look(report: Tick) -> Look:
    pod, decisive = _strongest(report)
    return Look(
        at_s=report.moment.now_s,
        pod=pod,
        verdicts={finding.signal: finding.activity.value for finding in report.findings},
        reason=report.decision.reason,
        decisive=decisive,
    )


def _strongest(report: Tick) -> tuple[str, str]:
    if report.moment.holds:
        hold = report.moment.holds[0]
        return HELD, f"hold: {hold.who}: {hold.reason}"
    for pod, there in _RANK:
        strong = next(_matching(report.findings, there), None)
        if strong:
            return pod, f"{strong.signal}: {strong.reason}"
    return IDLE, "; ".join(f"{f.signal}: {f.reason}" for f in report.findings if f.activity is Activity.QUIET)


def _matching(findings: Sequence[Finding], there: Callable[[Finding], bool]) -> Iterator[Finding]:
    return (finding for finding in findings if there(finding))
