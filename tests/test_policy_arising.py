"""What arises in the middle of an end sequence: busy moments that are no use, requests, ceilings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from idlewatch.deciding.moment import StopRequest
from idlewatch.deciding.policy import save_begins_s
from idlewatch.model import Action, Activity, Cause, Finding, Outcome, Phase
from tests.policy_life import LIMITS, TICK_S, Life, finding

REFUSED = Outcome(action=Action.STOP, ok=False, reason="403", permanent=True)


def busy(now_s: float) -> Finding:
    return finding(now_s, bars=True, pauses=True)


def asked(life: Life, who: str = "ann", warn_for_s: float = 60.0) -> StopRequest:
    return StopRequest(who=who, warn_for_s=warn_for_s, asked_s=life.now_s)


def busy_for_a_moment(life: Life) -> Action:
    return life.tick(busy(life.now_s + TICK_S), finding(life.now_s + TICK_S, signal="gpu")).action


def test_busy_moments_that_come_back_call_no_warning_off_and_put_the_stop_off_by_no_more_than_they_last() -> None:
    """A cron job of 5 s each 4 min: every warning was called off, and the next one came at once, for ever."""
    life = Life()
    for _ in range(20):
        life.quiet(235)
        busy_for_a_moment(life)
        if Action.STOP in life.actions():
            break
    assert Action.CANCEL not in life.actions()
    assert life.actions()[0] is Action.WARN
    assert life.log[-1][0] - life.started_s < LIMITS.idle_after_s + LIMITS.warn_for_s + 300


def test_a_busy_moment_after_the_save_began_is_saved_before_the_stop_and_the_last_minute_is_quiet() -> None:
    life = Life()
    saved_s = life.until(Action.SAVE)
    busy_for_a_moment(life)
    again_s = life.until(Action.SAVE)
    stopped_s = life.until(Action.STOP)
    assert saved_s < again_s < stopped_s
    assert stopped_s - saved_s >= 60


def test_a_save_is_not_made_for_ever_because_of_what_is_no_use() -> None:
    life = Life()
    life.until(Action.SAVE)
    for _ in range(12):
        busy_for_a_moment(life)
        life.quiet(50)
    assert life.actions() == [Action.WARN, *[Action.SAVE] * 3]
    life.quiet(90)
    assert life.actions()[-1] is Action.STOP


def test_a_job_that_is_busy_at_the_last_look_is_waited_for_also_where_only_a_refining_signal_sees_it() -> None:
    life = Life()

    def look(*, is_busy: bool) -> None:
        now_s = life.now_s + TICK_S
        job = replace(busy(now_s) if is_busy else finding(now_s), signal="jobs", refines=True)
        life.tick(finding(now_s), finding(now_s, signal="gpu"), job)

    while Action.SAVE not in life.actions():
        look(is_busy=False)
    for _ in range(60):
        look(is_busy=True)
    assert life.actions() == [Action.WARN, *[Action.SAVE] * 3]
    look(is_busy=False)
    assert life.actions()[-1] is Action.STOP


def test_work_that_begins_in_a_countdown_calls_it_off_as_soon_as_it_is_use() -> None:
    life = Life()
    life.until(Action.WARN)
    assert busy_for_a_moment(life) is Action.WAIT
    assert life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)).action is Action.CANCEL


def test_what_comes_and_goes_calls_one_warning_off_and_brings_no_row_of_them() -> None:
    """A poll over SSH each minute, a connection each time."""
    life = Life()
    life.until(Action.WARN)
    for _ in range(60):
        now_s = life.now_s + TICK_S
        life.tick(finding(now_s), finding(now_s, signal="people", bars=True, refines=True))
        life.quiet(55)
    assert life.actions() == [Action.WARN, Action.CANCEL]
    warned_s = life.until(Action.WARN)
    assert warned_s - life.now_s <= LIMITS.warn_for_s


def test_a_request_in_a_countdown_of_idleness_warns_anew_for_as_long_as_it_promised() -> None:
    life = Life()
    life.until(Action.WARN)
    life.quiet(200)
    life.request = asked(life, warn_for_s=600)
    told = life.tick()
    assert (told.action, told.cause, told.reason) == (Action.WARN, Cause.REQUEST, "asked for by ann")
    assert told.acts_at_s == save_begins_s(life.state, life.now_s) == life.now_s + 600
    assert life.until(Action.SAVE) - life.log[-2][0] == pytest.approx(600, abs=2 * TICK_S)


@pytest.mark.parametrize(("first_s", "then_s"), [(600.0, 30.0), (30.0, 600.0)])
def test_the_newest_request_counts(first_s: float, then_s: float) -> None:
    life = Life()
    life.request = asked(life, warn_for_s=first_s)
    life.tick()
    life.quiet(10)
    life.request = asked(life, who="ben", warn_for_s=then_s)
    asked_s = life.now_s
    saved_s = life.until(Action.SAVE)
    assert saved_s - asked_s == pytest.approx(then_s, abs=2 * TICK_S)
    assert [decision.reason for _, decision in life.log][:2] == ["asked for by ann", "asked for by ben"]


def test_a_request_between_save_and_stop_warns_and_saves_again() -> None:
    life = Life(stop_answer=Outcome(action=Action.STOP, ok=False, reason="503"))
    life.until(Action.STOP)
    life.request = asked(life, warn_for_s=120)
    assert life.tick().action is Action.WARN
    life.stop_answer = Outcome(action=Action.STOP, ok=True, reason="accepted")
    life.quiet(300)
    assert life.actions()[-3:] == [Action.WARN, Action.SAVE, Action.STOP]


def test_a_request_that_was_refused_for_good_stands_no_longer_and_may_be_made_again() -> None:
    life = Life(stop_answer=REFUSED)
    life.request = asked(life)
    life.until(Action.STOP)
    life.stop_answer = Outcome(action=Action.STOP, ok=True, reason="accepted")
    for _ in range(2 * 24 * 720):
        life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    assert life.actions().count(Action.STOP) == 1
    life.request = asked(life)
    assert life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)).action is Action.WARN


def test_a_request_for_a_pod_that_must_not_be_stopped_warns_nobody() -> None:
    life = Life()
    life.until(Action.WARN)
    life.request, life.refusal = asked(life), "it belongs to a cluster"
    assert life.tick().action is Action.CANCEL
    life.quiet(100)
    assert life.actions() == [Action.WARN, Action.CANCEL]


def test_a_request_whose_save_failed_still_stands_and_says_so() -> None:
    life = Life(save_ok=False)
    life.request = asked(life)
    life.until(Action.SAVE)
    said = life.tick().reason
    assert life.state.phase is Phase.WATCHING
    assert said.startswith("asked for by ann, which stands; save failed: disk full; tried again in")


def test_pods_of_an_account_that_failed_together_do_not_ask_together_again() -> None:
    waits_s = []
    for spread in (0.0, 0.5, 1.0):
        life = Life(
            limits=replace(LIMITS, spread=spread), stop_answer=Outcome(action=Action.STOP, ok=False, reason="429")
        )
        life.until(Action.STOP)
        waits_s.append(life.state.retry_s - life.now_s)
    assert waits_s == [30.0, 33.75, 37.5]
