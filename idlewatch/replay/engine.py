"""
Lives a Pod's life again: its readings go through the real judges, the real policy and the real daemon.

Only the clock, the actions and the readings' source are stand-ins: time jumps from tick to tick, a save succeeds, a
stop is only noted. Nothing of this machine is read. What can't be lived again: what a save or a stop would really have
met, and a person's `idlewatch stop`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from idlewatch.deciding.hours import WorkingHours, parse_working_hours
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import State
from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Decision, Outcome, Signal
from idlewatch.replay.life import Life, Lived, Witness
from idlewatch.replay.tape import Replayed, Tape
from idlewatch.settings import Settings
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.learning import Learner, stakes_of

LOOK_BACK_S = 15 * 60.0
"""What a daemon that starts again lets its judges see once more, as `run.watch` does."""


def relive(
    life: Life, make: Callable[[], Sequence[Signal]], settings: Settings, *, until_stopped: bool = True
) -> Lived:
    """
    Return what the policy makes of a life under these settings; `make` makes the judges, anew for each daemon.

    Without `until_stopped` it goes on after a stop, as with IDLEWATCH_MODE=observe.
    """
    replay, state = _Replay(life, settings), None
    for ends_s in (*life.restarts, life.ends_s):
        state = replay.daemon(make(), state, ends_s, until_stopped=until_stopped)
    return replay.witness.told()


class _Replay:
    """What one daemon of a life shares with the next."""

    def __init__(self, life: Life, settings: Settings) -> None:
        self._life, self._limits = life, settings.limits()
        self._clock = _Clock(life)
        self._learner = self._learns(settings)
        self._moment = _Moments(life, settings, self._learner)
        self._tape = Tape(life.readings, LOOK_BACK_S)
        self.witness = Witness(self._limits.interval_s)

    def _learns(self, settings: Settings) -> Learner | None:
        """With IDLEWATCH_IDLE_AFTER=auto: what learns from this life alone, as in a Pod with its first start."""
        if not settings.learns:
            return None
        limits, stakes = self._limits, stakes_of(settings)
        return Learner(
            None, stakes=stakes, wall=self._clock.wall, default_s=limits.idle_after_s, warn_s=limits.warn_for_s
        )

    def daemon(self, signals: Sequence[Signal], left: State | None, ends_s: float, *, until_stopped: bool) -> State:
        """One daemon from its start to its end; returns what it leaves."""
        clock, lived = self._clock, self.witness.lived
        daemon = Daemon(
            clock=clock,
            signals=[Replayed(signal, self._tape) for signal in signals],
            actions=_Rehearsed(self._life.save_takes_s),
            record=_Watched(self.witness, self._learner),
            moment=self._moment,
            limits=self._limits,
            state=left,
        )
        if left:
            daemon.look_back(self._tape.before(clock.now_s()))
        daemon.run(until=lambda: clock.now_s() >= ends_s or (until_stopped and bool(lived.when(Action.STOP))))
        daemon.close()
        return daemon.state


class _Watched:
    """Each tick for the witness, and for what learns."""

    def __init__(self, witness: Witness, learner: Learner | None) -> None:
        self._witness, self._learner = witness, learner

    def tick(self, report: Tick) -> None:
        self._witness.tick(report)
        if self._learner:
            self._learner.tick(report)


class _Moments:
    """What was true beside the findings."""

    def __init__(self, life: Life, settings: Settings, learner: Learner | None) -> None:
        self._life, self._usd_per_hour, self._learner = life, settings.usd_per_hour, learner
        self._hours: WorkingHours | None = (
            parse_working_hours(settings.working_hours) if settings.working_hours else None
        )

    def __call__(self, now_s: float) -> Moment:
        uptime_s, price = now_s - self._life.started_s, self._usd_per_hour
        chosen = self._learner.chosen if self._learner else None
        return Moment(
            now_s=now_s,
            uptime_s=uptime_s,
            holds=tuple(hold for since_s, hold in self._life.holds if since_s <= now_s < hold.until_s),
            spent_usd=uptime_s / 3600 * price if price else None,
            usd_per_hour=price or None,
            working=self._hours is not None and self._hours.includes(self._life.wall(now_s)),
            learned_idle_after_s=chosen.wait_s if chosen else None,
            learned_why=chosen.why if chosen else None,
        )


class _Clock:
    """Time that jumps from tick to tick, and over the spans in which nobody looked."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._asleep: Iterator[tuple[float, float]] = iter(sorted(life.asleep))
        self._next = next(self._asleep, None)
        self._now_s = life.started_s if life.watched_from_s is None else life.watched_from_s

    def now_s(self) -> float:
        return self._now_s

    def wall(self) -> datetime:
        return self._life.wall(self._now_s)

    def sleep(self, seconds: float) -> None:
        self._now_s = self._next_instant(self._now_s + seconds)
        while self._next is not None and self._next[0] <= self._now_s:
            self._now_s = max(self._now_s, self._next[1])
            self._next = next(self._asleep, None)

    def _next_instant(self, now_s: float) -> float:
        place = bisect_left(self._life.instants, now_s)
        return self._life.instants[place] if place < len(self._life.instants) else now_s


class _Rehearsed:
    """Actions that succeed: a save after its time, a stop at once, and only noted."""

    def __init__(self, save_takes_s: float) -> None:
        self._save_takes_s = save_takes_s
        self._ready: tuple[float, Outcome] | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        if decision.action is Action.SAVE:
            saved = Outcome(action=Action.SAVE, ok=True, reason="saved", save_began_s=now_s)
            self._ready = now_s + self._save_takes_s, saved
        elif decision.action is Action.STOP:
            self._ready = now_s, Outcome(action=Action.STOP, ok=True, reason="would be stopped", observed=True)
        elif decision.action is Action.CANCEL:
            self._ready = None

    def poll(self, now_s: float) -> Outcome | None:
        if self._ready is None or now_s < self._ready[0]:
            return None
        _, outcome = self._ready
        self._ready = None
        return outcome

    def close(self) -> None:
        self._ready = None
