"""What programs do because they were asked for a checkpoint: it neither cancels nor clears, and all else still does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.deciding import policy, remembered, sight
from idlewatch.deciding.asked_work import ASKED_SIGNALS, ASKED_TAIL_S
from idlewatch.deciding.clock import idle_for_s
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import State
from idlewatch.model import Action, Activity, Cause, Decision, Finding, Hold, Limits, Outcome, Phase

TICK_S = 5.0
SAVE_TAKES_S = 20.0
LIMITS = Limits(
    idle_after_s=600,
    warn_for_s=60,
    blind_limit_s=600,
    connected_for_s=10800,
    boot_grace_s=0,
    interval_s=TICK_S,
    max_uptime_s=0,
    budget_usd=0,
    stop_without_save=False,
    confirm_within_s=180,
)
START_S = 10_000.0


def quiet(now_s: float, signal: str) -> Finding:
    return Finding(
        signal=signal,
        activity=Activity.QUIET,
        reason=f"{signal} quiet",
        seen_from_s=now_s - TICK_S,
        seen_to_s=now_s,
        refines=signal not in ("gpu", "host"),
    )


def active(now_s: float, signal: str, evidence_s: float | None = None) -> Finding:
    return replace(quiet(now_s, signal), activity=Activity.ACTIVE, evidence_s=evidence_s, reason=f"{signal} active")


@dataclass
class Pod:
    """A Pod whose save asks programs for `ask_s` seconds and then saves; told what each tick finds."""

    ask_s: float = 60.0
    now_s: float = START_S
    holds: tuple[Hold, ...] = ()
    asked: tuple[float, float] | None = None
    state: State = field(default_factory=lambda: remembered.started(START_S))
    decision: Decision = field(default_factory=lambda: Decision(action=Action.WAIT, reason=""))
    saves: int = 0
    ready_s: float | None = None
    save_began_s: float = 0.0

    def tick(self, *changed: Finding) -> Action:
        self.now_s += TICK_S
        if self.ready_s is not None and self.now_s >= self.ready_s:
            saved = Outcome(action=Action.SAVE, ok=True, reason="saved", save_began_s=self.save_began_s)
            self.state, _ = policy.after_outcome(self.state, saved, self.now_s, LIMITS)
            self.ready_s = None
        by_signal = {name: quiet(self.now_s, name) for name in ("gpu", "host", "people", "jobs", "transfers")}
        by_signal |= {finding.signal: finding for finding in changed}
        moment = Moment(now_s=self.now_s, uptime_s=self.now_s - START_S, holds=self.holds, asked=self.asked)
        self.state, self.decision = policy.decide(self.state, list(by_signal.values()), moment, LIMITS)
        if self.decision.action is Action.SAVE:
            self._save()
        if self.decision.action is Action.CANCEL:
            self.ready_s = None
        return self.decision.action

    def _save(self) -> None:
        ask_s = self.ask_s if not self.saves else 0.0
        self.saves += 1
        if ask_s:
            self.asked = (self.now_s, self.now_s + ask_s)
        self.save_began_s = self.now_s + ask_s + (10.0 if ask_s else 0.0)
        self.ready_s = self.save_began_s + SAVE_TAKES_S

    def until(self, action: Action, within_s: float = 3000.0) -> float:
        for _ in range(int(within_s / TICK_S)):
            if self.tick() is action:
                return self.now_s
        pytest.fail(f"no {action}: {self.decision}")

    def evidence(self, signal: str) -> Finding:
        return active(self.now_s + TICK_S, signal, self.now_s + TICK_S)


@pytest.mark.parametrize("signal", sorted(ASKED_SIGNALS))
def test_a_checkpoint_that_was_asked_for_does_not_cancel_and_the_stop_comes(signal: str) -> None:
    pod = Pod()
    asked_s = pod.until(Action.SAVE)
    idle_before_s = idle_for_s(pod.state.clock)
    while pod.now_s < asked_s + 60:
        assert pod.tick(pod.evidence(signal)) is Action.WAIT
    if signal != "transfers":  # the clock runs on what the ground signals saw
        assert idle_for_s(pod.state.clock) <= idle_before_s + TICK_S
    stopped_s = pod.until(Action.STOP)
    assert pod.saves == 1
    assert stopped_s >= asked_s + 60 + ASKED_TAIL_S


@pytest.mark.parametrize("signal", ["people", "jobs"])
def test_others_evidence_cancels_although_programs_are_being_asked(signal: str) -> None:
    pod = Pod()
    pod.until(Action.SAVE)
    assert pod.tick(pod.evidence(signal)) is Action.CANCEL


def test_a_hold_cancels_although_programs_are_being_asked() -> None:
    pod = Pod()
    pod.until(Action.SAVE)
    pod.holds = (Hold(id="1", who="ann", reason="", until_s=1e9),)
    assert pod.tick(pod.evidence("gpu")) is Action.CANCEL


def test_work_that_goes_on_after_the_answer_and_a_minute_cancels() -> None:
    pod = Pod()
    asked_s = pod.until(Action.SAVE)
    while pod.now_s < asked_s + 60 + ASKED_TAIL_S:
        assert pod.tick(pod.evidence("gpu")) is not Action.CANCEL, pod.decision
    assert pod.tick(pod.evidence("gpu")) is Action.CANCEL


def test_evidence_from_before_the_asking_is_no_asked_work() -> None:
    pod = Pod()
    asked_s = pod.until(Action.SAVE)
    assert pod.tick(active(pod.now_s + TICK_S, "host", asked_s - 1)) is Action.CANCEL


def test_busy_now_during_the_asking_bars_nothing() -> None:
    pod = Pod()
    pod.until(Action.SAVE)
    assert pod.tick(replace(quiet(pod.now_s + TICK_S, "host"), bars=True, pauses=True)) is Action.WAIT


def test_what_was_written_after_the_save_began_is_saved_again_before_the_stop() -> None:
    pod = Pod()
    asked_s = pod.until(Action.SAVE)
    while pod.now_s < asked_s + 85:
        pod.tick(pod.evidence("transfers"))
    pod.until(Action.STOP)
    assert pod.saves == 2


def test_a_window_that_still_shows_the_asked_work_long_after_puts_nothing_off() -> None:
    pod = Pod()
    asked_s = pod.until(Action.SAVE)
    for _ in range(400):
        if pod.tick(active(pod.now_s + TICK_S, "host", asked_s + 30)) is Action.STOP:
            assert pod.now_s <= asked_s + 60 + ASKED_TAIL_S + sight.LAST_LOOK_S + 4 * TICK_S
            return
    pytest.fail(f"not stopped: {pod.decision}")


@pytest.mark.slow
@settings(max_examples=150)
@given(
    ask_s=st.sampled_from([5.0, 60.0, 120.0]),
    busy=st.lists(
        st.tuples(st.sampled_from(["gpu", "host", "transfers", "jobs", "people", ""]), st.integers(1, 40)), max_size=12
    ),
)
def test_no_stop_ever_comes_on_work_that_nobody_asked_for_or_that_is_not_saved(
    *, ask_s: float, busy: list[tuple[str, int]]
) -> None:
    pod = Pod(ask_s=ask_s)
    pod.until(Action.SAVE)
    evidence_s, others_s = 0.0, 0.0
    ticks = [signal for signal, length in busy for _ in range(length)] + [""] * 300
    for signal in ticks:
        now_s = pod.now_s + TICK_S
        action = pod.tick(*([active(now_s, signal, now_s)] if signal else []))
        evidence_s = now_s if signal else evidence_s
        asked = pod.asked
        assert asked
        was_asked = signal in ASKED_SIGNALS and asked[0] <= now_s <= asked[1] + ASKED_TAIL_S
        others_s = now_s if signal and not was_asked else others_s
        if signal and not was_asked:
            assert action is not Action.STOP
            assert pod.state.phase in (Phase.WATCHING, Phase.STOPPING)
        if action is Action.STOP:
            assert pod.state.cause is Cause.IDLE
            assert pod.save_began_s >= evidence_s, "what was done last is not in the save"
            assert now_s > asked[1] + ASKED_TAIL_S
            assert not others_s or now_s - others_s >= LIMITS.idle_after_s
            return
