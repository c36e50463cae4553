"""A Pod under the policy alone: findings in, decisions carried out at once, as a test tells it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from idlewatch.deciding import policy, remembered
from idlewatch.deciding.moment import Moment, StopRequest
from idlewatch.deciding.remembered import State
from idlewatch.model import Action, Activity, Decision, Finding, Hold, Limits, Outcome

TICK_S = 5.0
ACCEPTED = Outcome(action=Action.STOP, ok=True, reason="accepted")
LIMITS = Limits(
    idle_after_s=1800,
    warn_for_s=300,
    blind_limit_s=600,
    connected_for_s=10800,
    boot_grace_s=900,
    interval_s=TICK_S,
    max_uptime_s=0,
    budget_usd=0,
    stop_without_save=False,
    confirm_within_s=180,
)


def finding(now_s: float, activity: Activity = Activity.QUIET, signal: str = "host", **changes: object) -> Finding:
    seen = activity not in (Activity.UNKNOWN, Activity.ABSENT)
    base = Finding(
        signal=signal,
        activity=activity,
        reason=f"{signal} {activity.value}",
        seen_from_s=now_s - TICK_S if seen else 0.0,
        seen_to_s=now_s if seen else 0.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class Life:
    """A Pod under the policy: feeds findings tick by tick and carries out decisions at once, as told."""

    limits: Limits = LIMITS
    now_s: float = 10_000.0
    started_s: float = 10_000.0
    save_ok: bool = True
    stop_answer: Outcome = field(default_factory=lambda: Outcome(action=Action.STOP, ok=True, reason="accepted"))
    holds: tuple[Hold, ...] = ()
    request: StopRequest | None = None
    refusal: str | None = None
    spent_usd: float | None = None
    working: bool = False
    observing: bool = False
    state: State = field(init=False)
    log: list[tuple[float, Decision]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = remembered.started(self.now_s)

    def tick(self, *findings: Finding, after_s: float = TICK_S) -> Decision:
        self.now_s += after_s
        moment = Moment(
            now_s=self.now_s,
            uptime_s=self.now_s - self.started_s,
            holds=self.holds,
            request=self.request,
            refusal=self.refusal,
            spent_usd=self.spent_usd,
            working=self.working,
            observing=self.observing,
        )
        seen = findings or (finding(self.now_s), finding(self.now_s, signal="gpu"))
        self.state, decision = policy.decide(self.state, seen, moment, self.limits)
        self.alarms += [alarm.name for alarm in decision.alarms]
        self.told += [alarm.text for alarm in decision.alarms]
        if decision.action is not Action.WAIT:
            self.log.append((self.now_s, decision))
        self._carry_out(decision)
        return decision

    def _carry_out(self, decision: Decision) -> None:
        outcome = None
        if decision.action is Action.SAVE:
            outcome = Outcome(action=Action.SAVE, ok=self.save_ok, reason="disk full", snapshot="s1")
        if decision.action is Action.STOP:
            outcome = self.stop_answer
        if outcome:
            self.state, alarms = policy.after_outcome(self.state, outcome, self.now_s, self.limits)
            self.alarms += [alarm.name for alarm in alarms]

    def quiet(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK_S)):
            self.tick()

    def until(self, action: Action, within_s: float = 4000.0) -> float:
        for _ in range(int(within_s / TICK_S)):
            if self.tick().action is action:
                return self.now_s
        pytest.fail(f"no {action} within {within_s} s; last: {self.log[-3:]}")

    def actions(self) -> list[Action]:
        return [decision.action for _, decision in self.log]
