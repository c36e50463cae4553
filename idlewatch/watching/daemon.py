"""
The tick: read every signal, judge, decide, write down, carry out; then sleep. One loop, one thread.

A tick never blocks: signals touch only /proc, /sys and pipes, slow effects run in children that `Actions` polls.
Whatever a signal raises becomes an UNKNOWN reading here and nowhere else. What is decided is written down before
it is begun, so that a daemon that dies in between begins the end sequence anew, warning first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from idlewatch.deciding import policy, remembered, troubles
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import State
from idlewatch.deciding.tick import Tick
from idlewatch.errors import SignalError
from idlewatch.model import Action, Activity, Alarm, Clock, Decision, Finding, Limits, Outcome, Reading, Signal

log = structlog.get_logger()


class Actions(Protocol):
    """Carries out decisions; slow ones go on in the background and are polled."""

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Begin what `decision` asks for; CANCEL ends what is under way. Never blocks."""
        ...

    def poll(self, now_s: float) -> Outcome | None:
        """Return the outcome of what was begun, once; None while it runs."""
        ...

    def close(self) -> None:
        """End what is under way, at the daemon's own end."""
        ...


class Record(Protocol):
    """Where what was seen and decided is kept."""

    def tick(self, report: Tick) -> None:
        """Keep one tick; called before its decision is carried out."""
        ...


class Daemon:
    """Owns the loop and the policy's state; everything that touches the world is handed to it."""

    def __init__(
        self,
        *,
        clock: Clock,
        signals: Sequence[Signal],
        actions: Actions,
        record: Record,
        moment: Callable[[float], Moment],
        limits: Limits,
        state: State | None = None,
    ) -> None:
        """`moment` tells, for an instant, uptime, holds, requests and money; `state` is what an earlier daemon left."""
        self._clock = clock
        self._signals = signals
        self._actions = actions
        self._record = record
        self._moment = moment
        self._limits = limits
        self._log = log.bind()  # once, not anew for each of a year's ticks that are replayed
        self.state = policy.resumed(state, clock.now_s()) if state else remembered.started(clock.now_s())

    def look_back(self, readings: Iterable[Reading]) -> None:
        """Let the judges see again what an earlier daemon read, oldest first: their windows reach over a restart."""
        by_name = {signal.name: signal for signal in self._signals}
        for reading in readings:
            if reading.signal in by_name:
                judge(by_name[reading.signal], reading)

    def run(self, *, until: Callable[[], bool]) -> None:
        """Tick at the set interval until `until` says so; late ticks are not made up for."""
        while not until():
            began_s = self._clock.now_s()
            self.tick()
            self._clock.sleep(max(0.0, began_s + self._limits.interval_s - self._clock.now_s()))

    def close(self) -> None:
        """End everything that was begun: actions under way, and what the signals started."""
        self._actions.close()
        for signal in self._signals:
            signal.close()

    def tick(self) -> Tick:
        """One pass over everything."""
        now_s = self._clock.now_s()
        readings = [read(signal, now_s) for signal in self._signals]
        findings = [judge(signal, reading) for signal, reading in zip(self._signals, readings, strict=True)]
        findings = troubles.without_lonely(self.state.blind, findings, now_s)
        outcome = self._actions.poll(now_s)
        alarms: tuple[Alarm, ...] = ()
        if outcome:
            self.state, alarms = policy.after_outcome(self.state, outcome, now_s, self._limits)
        moment = self._moment(now_s)
        self.state, decision = policy.decide(self.state, findings, moment, self._limits)
        report = Tick(
            moment=moment,
            readings=readings,
            findings=findings,
            decision=decision,
            state=self.state,
            outcome=outcome,
            alarms=(*alarms, *decision.alarms),
        )
        self._record.tick(report)
        _say(report, self._log)
        self._actions.carry_out(decision, now_s)
        return report


def _say(report: Tick, log: FilteringBoundLogger) -> None:
    decision, outcome = report.decision, report.outcome
    if outcome:
        log.info("outcome", action=outcome.action, ok=outcome.ok, reason=outcome.reason)
    for alarm in report.alarms:
        log.warning("alarm", name=alarm.name, text=alarm.text)
    log.debug("tick", action=decision.action, reason=decision.reason, idle_for_s=round(decision.idle_for_s))
    if decision.action is not Action.WAIT:
        log.info("decided", action=decision.action, reason=decision.reason, cause=decision.cause)


def read(signal: Signal, now_s: float) -> Reading:
    """A signal's reading; whatever it raises is a reading that could not be had."""
    try:
        return signal.read(now_s)
    except SignalError as error:
        return Reading(signal=signal.name, at_s=now_s, error=str(error))
    except Exception as error:  # noqa: BLE001  (the one place: a broken signal must not end the watch)
        return Reading(signal=signal.name, at_s=now_s, error=f"{type(error).__name__}: {error}")


def judge(signal: Signal, reading: Reading) -> Finding:
    """The verdict on a reading. One that could not be had is UNKNOWN, one that is proven absent is ABSENT."""
    found = _judged(signal, reading)
    return found if found.refines == signal.refines else replace(found, refines=signal.refines)


def _judged(signal: Signal, reading: Reading) -> Finding:
    if reading.error is not None:
        return Finding(signal=signal.name, activity=Activity.UNKNOWN, reason=reading.error)
    if reading.absent is not None and not reading.facts:  # with facts the signal has more to say of it
        with suppress(Exception):  # whatever it makes of that: proven absent is absent
            signal.judge(reading)  # it must forget what is gone
        return Finding(signal=signal.name, activity=Activity.ABSENT, reason=reading.absent)
    try:
        return signal.judge(reading)
    except Exception as error:  # noqa: BLE001  (as above: a reading that can't be judged is unknown, never quiet)
        reason = f"can't be judged: {type(error).__name__}: {error}"
        return Finding(signal=signal.name, activity=Activity.UNKNOWN, reason=reason)
