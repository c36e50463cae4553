"""
One life under the policy of some settings: where it would have been stopped, and when it was needed again.

The real policy decides on the verdicts that were given, in steps of half a minute. While something is in use nothing
can be decided, and after a stop nothing is until the Pod is used again: both are passed over. What a stop brings is a
new start, with a new grace. Ceilings and requests to stop are left out: they are the same under all settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from idlewatch.deciding import policy
from idlewatch.deciding.hours import WorkingHours, parse_working_hours
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.patience import Gap
from idlewatch.deciding.remembered import State, started
from idlewatch.deciding.tick import Tick
from idlewatch.history.verdicts import Span, found_over
from idlewatch.model import Action, Activity, Decision, Finding, Hold, Limits, Outcome
from idlewatch.settings import Settings
from idlewatch.shadow.lives import Life
from idlewatch.watching.learning import Learner, stakes_of

STEP_S = 30.0
_SAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop that would have been made; seconds since the life began."""

    at_s: float
    back_s: float | None
    """When the Pod was used again; None: it was not, as far as is known."""
    away_s: float
    """How long it would have been stopped."""


class Lanes:
    """The verdicts of a life, looked at from its beginning to its end."""

    def __init__(self, spans: Sequence[Span]) -> None:
        """`spans` by their beginning."""
        self._coming = iter(spans)
        self._next = next(self._coming, None)
        self._standing: list[Span] = []

    def over(self, from_s: float, to_s: float) -> tuple[list[Finding], list[Hold]]:
        """What was found in a step; no step may begin before the one that was looked at last."""
        while self._next is not None and self._next.from_s < to_s:
            self._standing.append(self._next)
            self._next = next(self._coming, None)
        self._standing = [span for span in self._standing if span.to_s > from_s]
        return found_over(self._standing, from_s, to_s)

    def busy_until_s(self, at_s: float) -> float:
        """The end of what is in use at an instant that was looked at; the instant itself where nothing is."""
        return max((span.to_s for span in self._standing if _in_use(span) and span.from_s <= at_s), default=at_s)


def _in_use(span: Span) -> bool:
    return span.verdict == Activity.ACTIVE


class Course:
    """Lives, one after the other, under one set of settings."""

    def __init__(self, settings: Settings, usd_per_hour: float | None) -> None:
        """Where the wait is learned, it is learned from these lives alone; never without a price."""
        self._settings, self._usd_per_hour = settings, usd_per_hour
        self._limits: Limits = replace(settings.limits(), max_uptime_s=0.0, budget_usd=0.0)
        hours = settings.working_hours
        self._hours: WorkingHours | None = parse_working_hours(hours) if hours else None
        self._learned: Sequence[Gap] = ()

    def stops(self, life: Life) -> list[Stop]:
        """Each stop that would have been made in this life."""
        lived = _Lived(life, self._limits, self._hours, self._usd_per_hour, self._learner(life))
        stops = list(lived.stops())
        self._learned = lived.gaps
        return stops

    def _learner(self, life: Life) -> Callable[[Callable[[], float]], Learner] | None:
        if not self._settings.learns:
            return None

        def made(now_s: Callable[[], float]) -> Learner:
            learner = Learner(
                None,
                stakes=stakes_of(self._settings),
                wall=lambda: life.wall(now_s()),
                default_s=self._limits.idle_after_s,
                warn_s=self._limits.warn_for_s,
            )
            learner.learn(self._learned)
            return learner

        return made


class _Lived:
    """One life, step by step."""

    def __init__(
        self,
        life: Life,
        limits: Limits,
        hours: WorkingHours | None,
        usd_per_hour: float | None,
        make_learner: Callable[[Callable[[], float]], Learner] | None,
    ) -> None:
        self._life, self._limits, self._hours, self._usd_per_hour = life, limits, hours, usd_per_hour
        self._now_s, self._since_s = life.from_s, 0.0
        self._state = started(life.from_s)
        self._learner = make_learner(lambda: self._now_s) if make_learner else None

    @property
    def gaps(self) -> Sequence[Gap]:
        """What was learned of."""
        return self._learner.gaps if self._learner else ()

    def stops(self) -> Iterator[Stop]:
        """Each stop, until nobody came back."""
        life, lanes = self._life, Lanes(self._life.spans)
        while self._now_s < life.ends_s:
            from_s = max(self._now_s, lanes.busy_until_s(self._now_s) - STEP_S)
            self._now_s = min(life.ends_s, from_s + STEP_S)
            decision = self._step(*lanes.over(from_s, self._now_s))
            if decision.action is Action.STOP:
                stop = _stop(life, self._now_s)
                yield stop
                if stop.back_s is None:
                    return
                self._begin_again(stop, stop.back_s, decision.idle_for_s)

    def _begin_again(self, stop: Stop, back_s: float, idle_s: float) -> None:
        if self._learner:
            began_s = self._life.wall(stop.at_s).timestamp() - idle_s
            self._learner.learn([Gap(began_s=began_s, lasted_s=idle_s + stop.away_s, waited_s=idle_s)])
        self._now_s = self._since_s = back_s
        self._state = started(back_s)

    def _step(self, findings: Sequence[Finding], holds: Sequence[Hold]) -> Decision:
        now_s, moment = self._now_s, self._moment(holds)
        self._state, decision = policy.decide(self._state, findings, moment, self._limits)
        if decision.action is Action.SAVE:
            saved = Outcome(action=Action.SAVE, ok=True, reason="", save_began_s=now_s)
            self._state, _ = policy.after_outcome(self._state, saved, now_s + _SAVE_S, self._limits)
        if self._learner:
            self._learner.tick(_tick(moment, findings, decision, self._state))
        return decision

    def _moment(self, holds: Sequence[Hold]) -> Moment:
        return Moment(
            now_s=self._now_s,
            uptime_s=self._now_s - self._since_s,
            holds=holds,
            usd_per_hour=self._usd_per_hour,
            working=self._hours is not None and self._hours.includes(self._life.wall(self._now_s)),
            learned_idle_after_s=self._learner.wait_s if self._learner else None,
        )


def _tick(moment: Moment, findings: Sequence[Finding], decision: Decision, state: State) -> Tick:
    return Tick(moment=moment, readings=(), findings=findings, decision=decision, state=state, outcome=None, alarms=())


def _stop(life: Life, at_s: float) -> Stop:
    uses = (max(span.from_s, at_s) for span in life.spans if _in_use(span) and span.to_s > at_s)
    back_s = min(uses, default=life.back_s)
    return Stop(at_s, back_s, (life.ends_s if back_s is None else back_s) - at_s)
