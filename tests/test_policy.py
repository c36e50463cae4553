"""The policy: one sound baseline, each test changes one thing; then properties over random lives of a Pod."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.deciding import policy
from idlewatch.deciding.clock import idle_for_s
from idlewatch.deciding.moment import StopRequest
from idlewatch.model import Action, Activity, Cause, Decision, Finding, Hold, Outcome, Phase
from tests.policy_life import ACCEPTED, LIMITS, TICK_S, Life, finding


def test_an_idle_pod_is_warned_saved_and_stopped_in_that_order_and_on_time() -> None:
    life = Life()
    stopped_s = life.until(Action.STOP)
    assert life.actions() == [Action.WARN, Action.SAVE, Action.STOP]
    warned_s, saved_s = life.log[0][0], life.log[1][0]
    assert warned_s - life.started_s == pytest.approx(1800, abs=2 * TICK_S)
    assert saved_s - warned_s == pytest.approx(300, abs=2 * TICK_S)
    assert stopped_s - saved_s <= 2 * TICK_S


def quiet_but(life: Life, refining: Finding) -> Decision:
    at_s = life.now_s + TICK_S
    return life.tick(finding(at_s), finding(at_s, signal="gpu"), replace(refining, refines=True))


@pytest.mark.parametrize("before", [Activity.UNKNOWN, Activity.QUIET])
@pytest.mark.parametrize("tells_of_it", [True, False])
def test_what_a_refining_signal_could_not_see_for_long_is_no_quiet_time_unless_it_tells_of_it_later(
    before: Activity, *, tells_of_it: bool
) -> None:
    life = Life()
    seen_to_s = life.now_s + TICK_S
    first = finding(seen_to_s, signal="people")
    quiet_but(life, first)
    for _ in range(int(900 / TICK_S)):
        quiet_but(life, first if before is Activity.QUIET else finding(life.now_s, before, "people"))
    back_s = life.now_s + TICK_S
    back = finding(back_s, signal="people", seen_from_s=seen_to_s if tells_of_it else back_s)
    idle_for_s = quiet_but(life, back).idle_for_s
    assert idle_for_s == pytest.approx(900 if tells_of_it else 0, abs=3 * TICK_S)


def test_a_refining_signal_that_comes_and_goes_puts_the_stop_off_no_longer_than_it_is_waited_for() -> None:
    life = Life(limits=replace(LIMITS, connected_for_s=3600.0))
    for _ in range(12):
        for _ in range(int(660 / TICK_S)):
            quiet_but(life, finding(life.now_s, Activity.UNKNOWN, "people"))
        quiet_but(life, finding(life.now_s + TICK_S, signal="people", seen_from_s=life.now_s + TICK_S))
    assert Action.STOP in life.actions()


def test_signals_that_are_unknown_for_one_reason_are_named_together() -> None:
    life = Life()
    same = [finding(life.now_s, Activity.UNKNOWN, signal, reason="just started") for signal in ("gpu", "host")]
    other = finding(life.now_s, Activity.UNKNOWN, "jobs", reason="refused")
    assert life.tick(*same, other).reason == "gpu, host unknown: just started; jobs unknown: refused"


@pytest.mark.parametrize("when", [Action.WARN, Action.SAVE])
def test_evidence_after_the_warning_cancels_and_the_clock_starts_anew(when: Action) -> None:
    life = Life()
    life.until(when)
    life.state = replace(life.state, phase=Phase.SAVING) if when is Action.SAVE else life.state
    decision = life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    assert decision.action is Action.CANCEL
    assert idle_for_s(life.state.clock) == pytest.approx(0, abs=TICK_S)
    cancelled_s = life.now_s
    assert life.until(Action.WARN) - cancelled_s == pytest.approx(1800, abs=3 * TICK_S)


def test_a_signal_that_is_active_keeps_the_warning_away_however_old_its_newest_evidence_is() -> None:
    life = Life(limits=replace(LIMITS, idle_after_s=60, boot_grace_s=0))
    evidence_s = life.now_s
    for _ in range(100):
        decision = life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE, evidence_s=evidence_s))
    assert life.log == []
    assert decision.reason == "host: host active"


def test_evidence_at_the_last_look_cancels() -> None:
    life = Life()
    life.until(Action.SAVE)
    assert life.state.phase is Phase.LAST_LOOK
    assert life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)).action is Action.CANCEL


def test_evidence_before_the_second_stop_call_cancels() -> None:
    life = Life(stop_answer=Outcome(action=Action.STOP, ok=False, reason="HTTP 503"))
    life.until(Action.STOP)
    assert life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)).action is Action.CANCEL


def test_a_hold_cancels_the_warning_and_leaves_the_clock_alone() -> None:
    life = Life()
    life.until(Action.WARN)
    life.holds = (Hold(id="1", who="ann", reason="demo", until_s=life.now_s + 60),)
    decision = life.tick()
    assert decision.action is Action.CANCEL
    assert "ann" in decision.reason
    assert decision.idle_for_s >= 1800
    life.holds = ()
    assert life.tick().action is Action.WARN


def test_a_bar_keeps_the_warning_away_without_touching_the_clock() -> None:
    life = Life()
    for _ in range(800):
        assert life.tick(finding(life.now_s + TICK_S, bars=True)).action is Action.WAIT
    assert idle_for_s(life.state.clock) >= 3900
    assert life.tick(finding(life.now_s + TICK_S)).action is Action.WARN


def test_unknown_pauses_the_countdown() -> None:
    life = Life()
    warned_s = life.until(Action.WARN)
    for _ in range(24):
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.UNKNOWN, "gpu"))
    assert life.until(Action.SAVE) - warned_s >= 300 + 115


def test_unknown_for_longer_than_the_limit_forgets_the_quiet_time_and_alarms() -> None:
    life = Life()
    life.quiet(1700)
    for _ in range(240):
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.UNKNOWN, "gpu"))
    assert idle_for_s(life.state.clock) == 0
    assert life.alarms == ["blind:gpu"]
    back_s = life.now_s
    assert life.until(Action.WARN) - back_s >= 1500
    assert "blind:gpu" not in life.state.troubles


@pytest.mark.parametrize("gap_s", [300.0, 540.0, 7200.0])
def test_stretches_without_a_daemon_raise_no_alarm_of_a_blind_signal(gap_s: float) -> None:
    life = Life()
    for _ in range(6):
        life.now_s += gap_s
        life.state = policy.resumed(life.state, life.now_s)
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.UNKNOWN, "gpu"))
        life.quiet(60)
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.UNKNOWN, "gpu"))
    assert life.alarms == []
    for _ in range(240):
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.UNKNOWN, "gpu"))
    assert life.alarms == ["blind:gpu"], "one that is blind while the daemon looks is told as before"


def test_a_stretch_without_ticks_longer_than_the_limit_forgets_the_quiet_time() -> None:
    life = Life()
    life.quiet(1700)
    life.tick(after_s=3000)
    assert idle_for_s(life.state.clock) == 0


def test_a_short_stretch_without_ticks_is_not_counted_where_no_reading_covers_it() -> None:
    life = Life()
    life.quiet(1000)
    before_s = idle_for_s(life.state.clock)
    life.tick(after_s=300)
    assert idle_for_s(life.state.clock) == pytest.approx(before_s + TICK_S, abs=0.1)


def test_no_signal_at_all_is_not_idle() -> None:
    life = Life()
    for _ in range(1000):
        assert life.tick(finding(life.now_s, Activity.ABSENT)).action is Action.WAIT


def test_an_absent_signal_does_not_stand_in_the_way() -> None:
    life = Life()
    for _ in range(1000):
        if life.tick(finding(life.now_s + TICK_S), finding(0, Activity.ABSENT, "gpu")).action is Action.STOP:
            return
    pytest.fail("never stopped")


def test_boot_grace_overlaps_the_quiet_time() -> None:
    life = Life(limits=replace(LIMITS, idle_after_s=60, boot_grace_s=900))
    assert life.until(Action.WARN) - life.started_s == pytest.approx(900, abs=2 * TICK_S)


def test_idle_after_zero_never_stops() -> None:
    life = Life(limits=replace(LIMITS, idle_after_s=0))
    life.quiet(8000)
    assert life.log == []


def test_a_failed_save_keeps_the_pod_up_alarmed_and_is_tried_again_with_a_new_warning() -> None:
    life = Life(save_ok=False)
    life.until(Action.SAVE)
    assert life.state.phase is Phase.WATCHING
    assert life.alarms == ["save failed"]
    life.save_ok = True
    life.until(Action.STOP)
    assert life.actions() == [Action.WARN, Action.SAVE, Action.WARN, Action.SAVE, Action.STOP]
    assert "save failed" not in life.state.troubles


def test_the_owner_may_choose_to_stop_without_a_save() -> None:
    life = Life(save_ok=False, limits=replace(LIMITS, stop_without_save=True))
    life.until(Action.STOP)
    assert life.alarms == ["save failed"]


def test_a_machine_that_outlives_its_stop_is_not_confirmed_and_the_stop_is_tried_again() -> None:
    life = Life()
    first_s = life.until(Action.STOP)
    second_s = life.until(Action.STOP)
    assert second_s - first_s >= LIMITS.confirm_within_s
    assert life.alarms == ["STOP NOT CONFIRMED"]
    assert life.actions() == [Action.WARN, Action.SAVE, Action.STOP, Action.STOP]


def test_a_passing_failure_backs_off_as_long_as_the_provider_asks() -> None:
    answer = Outcome(action=Action.STOP, ok=False, reason="HTTP 429", retry_after_s=200)
    life = Life(stop_answer=answer)
    first_s = life.until(Action.STOP)
    assert life.until(Action.STOP) - first_s >= 200


def test_a_stop_long_after_the_warning_needs_a_new_warning() -> None:
    life = Life(stop_answer=Outcome(action=Action.STOP, ok=False, reason="HTTP 503", retry_after_s=3000))
    life.until(Action.STOP)
    life.until(Action.STOP)
    assert life.actions()[-4:] == [Action.CANCEL, Action.WARN, Action.SAVE, Action.STOP]


def test_a_refusal_for_good_alarms_once_and_is_not_followed_by_a_row_of_countdowns() -> None:
    life = Life(stop_answer=Outcome(action=Action.STOP, ok=False, reason="403 on every rung", permanent=True))
    life.until(Action.STOP)
    life.quiet(5 * 3600)
    assert life.actions() == [Action.WARN, Action.SAVE, Action.STOP]
    assert life.alarms == ["stop refused"]
    assert "stop refused" in life.state.troubles


def test_a_pod_that_must_not_be_stopped_is_never_warned_and_says_so_once() -> None:
    life = Life(refusal="this is a Serverless worker")
    life.quiet(4000)
    assert life.log == []
    assert life.alarms == ["cannot stop"]
    assert "Serverless" in life.tick().reason


def test_that_it_must_not_be_stopped_is_told_long_before_that_is_due() -> None:
    life = Life(refusal="this is a Serverless worker")
    life.quiet(60)
    assert life.alarms == ["cannot stop"]
    assert life.tick().reason.startswith("quiet for")


def observer(**changes: object) -> Life:
    observed = Outcome(action=Action.STOP, ok=True, reason="observing", observed=True)
    return replace(Life(stop_answer=observed, observing=True), **changes)  # type: ignore[arg-type]


def test_observe_would_stop_once_an_idle_stretch_and_then_says_so_quietly() -> None:
    life = observer()
    life.until(Action.STOP)
    life.quiet(9000)
    assert life.actions().count(Action.STOP) == 1
    assert life.tick().reason.startswith("would have stopped it (nothing used this Pod for ")
    assert life.tick().reason.endswith("); only observing")
    life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    used_s = life.now_s
    assert life.until(Action.WARN) - used_s == pytest.approx(1800, abs=3 * TICK_S), "no back-off: nothing failed"
    life.quiet(8000)
    assert life.actions().count(Action.STOP) == 2


def test_observe_would_stop_once_for_a_request_and_again_for_the_next() -> None:
    life = observer(request=StopRequest(who="ann", warn_for_s=30, asked_s=1.0))
    life.quiet(9000)
    assert life.actions() == [Action.WARN, Action.SAVE, Action.STOP]
    assert life.tick().reason == "would have stopped it (asked for by ann); only observing"
    life.request = StopRequest(who="ann", warn_for_s=30, asked_s=2.0)
    life.quiet(60)
    assert life.actions()[3:] == [Action.WARN, Action.SAVE, Action.STOP]
    life.request = None
    life.quiet(60)
    assert life.state.observed == ()


def test_observe_would_stop_once_for_each_ceiling_however_the_request_before_it_ended() -> None:
    life = observer(limits=replace(LIMITS, max_uptime_s=3600, budget_usd=10), spent_usd=0.0)
    life.quiet(9000)
    causes = [decision.cause for _, decision in life.log if decision.action is Action.STOP]
    assert causes == [Cause.IDLE, Cause.CEILING]
    assert "IDLEWATCH_MAX_UPTIME" in life.tick().reason
    life.request = StopRequest(who="ann", warn_for_s=30, asked_s=1.0)
    life.until(Action.WARN)
    life.request = None
    assert life.tick().reason == "the request to stop was taken back", "and the ceiling is not told again"
    life.spent_usd = 11.0
    life.quiet(9000)
    stops = [decision for _, decision in life.log if decision.action is Action.STOP]
    assert len(stops) == 3
    assert "IDLEWATCH_BUDGET_USD" in stops[-1].reason


def test_everything_that_observe_says_is_what_would_be() -> None:
    life = observer(limits=replace(LIMITS, max_uptime_s=4 * 3600))
    reasons = [life.tick().reason for _ in range(3200)]
    assert any("would save in 4m" in reason for reason in reasons)
    assert any("would then be saved and stopped" in text for text in life.told)
    for deed in ("saves in", "saving", "asking", "is then saved", "tried again"):
        assert not [text for text in [*reasons, *life.told] if deed in text], deed


@pytest.mark.parametrize("failed", ["save", "stop"])
def test_what_is_tried_again_says_what_failed(failed: str) -> None:
    life = Life(save_ok=failed != "save", stop_answer=Outcome(action=Action.STOP, ok=False, reason="HTTP 503"))
    life.until(Action.SAVE if failed == "save" else Action.STOP)
    what = "save failed: disk full" if failed == "save" else "stop failed: HTTP 503"
    assert life.tick().reason.startswith(f"{what}; tried again in ")


def test_a_ceiling_takes_over_from_a_request_that_is_taken_back() -> None:
    life = Life(limits=replace(LIMITS, max_uptime_s=3600), request=StopRequest(who="ann", warn_for_s=5000))
    life.quiet(3500)
    assert life.state.cause is Cause.REQUEST
    life.request = None
    life.tick()
    assert (life.state.cause, life.state.phase) == (Cause.CEILING, Phase.WARNED)
    assert "IDLEWATCH_MAX_UPTIME" in life.state.why


def test_a_ceiling_beats_evidence_and_holds_but_not_the_save() -> None:
    life = Life(limits=replace(LIMITS, max_uptime_s=3600), save_ok=False)
    life.holds = (Hold(id="1", who="ann", reason="", until_s=1e9),)
    busy = [life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)) for _ in range(730)]
    assert [d.cause for d in busy if d.action is Action.WARN] == [Cause.CEILING]
    assert Action.STOP not in life.actions()
    life.save_ok = True
    for _ in range(400):
        life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    assert Action.STOP in life.actions()


def test_a_budget_is_a_ceiling() -> None:
    life = Life(limits=replace(LIMITS, budget_usd=10))
    life.spent_usd = 9.99
    assert life.tick(finding(life.now_s, Activity.ACTIVE)).action is Action.WAIT
    life.spent_usd = 10.0
    assert life.tick(finding(life.now_s, Activity.ACTIVE)).cause is Cause.CEILING


def test_a_request_to_stop_is_obeyed_while_in_use_and_can_be_taken_back() -> None:
    life = Life(request=StopRequest(who="ann", warn_for_s=30))
    assert life.tick(finding(life.now_s, Activity.ACTIVE)).action is Action.WARN
    life.request = None
    assert life.tick(finding(life.now_s, Activity.ACTIVE)).action is Action.CANCEL
    life.request = StopRequest(who="ann", warn_for_s=30)
    for _ in range(10):
        life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    assert life.actions()[-3:] == [Action.WARN, Action.SAVE, Action.STOP]


def test_a_forced_stop_that_fails_for_long_saves_again_before_it_stops() -> None:
    life = Life(
        request=StopRequest(who="ann", warn_for_s=30),
        stop_answer=Outcome(action=Action.STOP, ok=False, reason="HTTP 503"),
    )
    for _ in range(800):
        life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE))
    saved_s = [at for at, decision in life.log if decision.action is Action.SAVE]
    stops_s = [at for at, decision in life.log if decision.action is Action.STOP]
    assert len(saved_s) > 1
    assert all(min(at - s for s in saved_s if s < at) <= policy.FORCED_SAVE_VALID_S + TICK_S for at in stops_s)


def test_a_restart_of_the_daemon_keeps_the_clock_and_begins_the_sequence_anew() -> None:
    life = Life()
    life.until(Action.SAVE)
    life.state = policy.resumed(life.state, life.now_s)
    assert life.tick().action is Action.WARN
    life.until(Action.STOP)
    life.state = policy.resumed(life.state, life.now_s)
    assert "STOP NOT CONFIRMED" in life.state.troubles


def test_a_refining_signal_that_is_unknown_keeps_the_pod_up_to_the_cap_and_then_stands_aside_with_an_alarm() -> None:
    life = Life()
    for _ in range(int(LIMITS.connected_for_s / TICK_S) + 10):
        decision = life.tick(
            finding(life.now_s + TICK_S),
            finding(life.now_s + TICK_S, Activity.UNKNOWN, "jupyter", refines=True),
        )
        if decision.action is Action.WARN:
            break
    assert life.now_s - life.started_s == pytest.approx(LIMITS.connected_for_s, abs=3 * TICK_S)
    assert "blind:jupyter" in life.alarms
    assert "blind:host" not in life.alarms


def test_a_refining_signal_that_flaps_does_not_put_the_stop_off_for_ever() -> None:
    life = Life(limits=replace(LIMITS, connected_for_s=600))
    for index in range(3000):
        kind = Activity.UNKNOWN if index % 2 else Activity.QUIET
        if life.tick(
            finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, kind, "jupyter", refines=True)
        ).action is (Action.STOP):
            return
    pytest.fail(f"not stopped: {life.log[-3:]}")


def test_the_activity_of_a_refining_signal_clears_the_clock_and_its_quiet_time_needs_no_coverage() -> None:
    life = Life()
    for _ in range(300):
        life.tick(finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, Activity.ACTIVE, "jobs", refines=True))
    assert idle_for_s(life.state.clock) <= TICK_S
    ended_s = life.now_s
    while life.tick(
        finding(life.now_s + TICK_S), finding(life.now_s + TICK_S, signal="jobs", refines=True, seen_from_s=life.now_s)
    ).action is not (Action.WARN):
        assert life.now_s - ended_s < LIMITS.idle_after_s + 2 * TICK_S


def test_refining_signals_alone_never_stop_a_pod() -> None:
    life = Life()
    for _ in range(1000):
        decision = life.tick(finding(life.now_s + TICK_S, signal="jobs", refines=True))
    assert life.log == []
    assert "unknown is never idle" in decision.reason


def test_the_last_look_waits_for_a_fresh_reading_of_a_refining_signal() -> None:
    life = Life()
    for _ in range(1000):
        old = finding(life.now_s + TICK_S, signal="jobs", refines=True, seen_to_s=10_000.0)
        decision = life.tick(finding(life.now_s + TICK_S), old)
    assert life.state.phase is Phase.LAST_LOOK or Action.CANCEL in life.actions()
    assert Action.STOP not in life.actions(), decision


def test_a_notice_is_an_alarm_once_however_its_words_change_and_stops_nothing() -> None:
    life = Life()
    for index in range(100):
        life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE, notice=f"gpu0 may hang for {index} min"))
    assert life.alarms == ["notice:host"]
    assert life.state.troubles["notice:host"] == "gpu0 may hang for 0 min"
    life.tick()
    assert "notice:host" not in life.state.troubles
    assert life.log == []


def test_a_ceiling_is_announced_in_steps_before_its_warning() -> None:
    life = Life(limits=replace(LIMITS, max_uptime_s=4 * 3600))
    told = []
    while life.tick(finding(life.now_s + TICK_S, Activity.ACTIVE)).action is not Action.WARN:
        told.append((life.now_s - life.started_s, life.state.troubles.get("ceiling near", "")))
    first = next(at for at, text in told if "1h" in text)
    assert first == pytest.approx(4 * 3600 - LIMITS.warn_for_s - 3600, abs=2 * TICK_S)
    assert [alarm for alarm in life.alarms if alarm == "ceiling near"] == ["ceiling near"] * 2
    assert "15m" in told[-1][1]


def test_a_budget_whose_price_nobody_tells_raises_an_alarm() -> None:
    life = Life(limits=replace(LIMITS, budget_usd=10))
    life.quiet(840)
    assert "price unknown" not in life.alarms
    life.quiet(120)
    assert "price unknown" in life.alarms
    life.spent_usd = 1.0
    life.tick()
    assert "price unknown" not in life.state.troubles


# ---------------------------------------------------------------- properties

KINDS = st.sampled_from(["quiet", "active", "unknown", "bar", "pause", "absent", "skip"])
RUNS = st.lists(
    st.tuples(KINDS, KINDS, st.sampled_from([1, 2, 13, 40, 90, 150]), st.sampled_from([False, False, False, True])),
    min_size=1,
    max_size=8,
)


def of_kind(kind: str, signal: str, now_s: float) -> Finding:
    match kind:
        case "active":
            return finding(now_s, Activity.ACTIVE, signal)
        case "unknown" | "skip":
            return finding(now_s, Activity.UNKNOWN, signal)
        case "bar":
            return finding(now_s, signal=signal, bars=True)
        case "pause":
            return finding(now_s, signal=signal, pauses=True)
        case "absent":
            return finding(now_s, Activity.ABSENT, signal)
    return finding(now_s, signal=signal)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(runs=RUNS, save_ok=st.booleans(), stop_ok=st.booleans())
def test_whatever_happens_no_stop_breaks_a_promise(
    *, runs: list[tuple[str, str, int, bool]], save_ok: bool, stop_ok: bool
) -> None:
    life = Life(save_ok=save_ok, stop_answer=Outcome(action=Action.STOP, ok=stop_ok, reason="answer"))
    limits = replace(LIMITS, idle_after_s=300, warn_for_s=60, boot_grace_s=0)
    life.limits = limits
    evidence_s = life.now_s
    quiet_s = 0.0
    for host, gpu, ticks, held in runs:
        life.holds = (Hold(id="1", who="ann", reason="", until_s=1e9),) if held else ()
        for _ in range(ticks):
            now_s = life.now_s + (400.0 if host == "skip" else TICK_S)
            findings = (of_kind(host, "host", now_s), of_kind(gpu, "gpu", now_s))
            kinds = {host, gpu} - {"absent"}
            evidence_s = now_s if "active" in kinds else evidence_s
            quiet_s = 0.0 if "active" in kinds else quiet_s + (TICK_S if kinds and kinds <= {"quiet", "bar"} else 0.0)
            decision = life.tick(*findings, after_s=now_s - life.now_s)
            assert idle_for_s(life.state.clock) <= quiet_s + TICK_S + 0.1, "unknown or unseen time was counted"
            if decision.action is Action.STOP:
                warned_s = max(at for at, d in life.log if d.action is Action.WARN)
                saved_s = max(at for at, d in life.log if d.action is Action.SAVE)
                assert now_s - evidence_s >= limits.idle_after_s
                assert now_s - warned_s >= limits.warn_for_s
                assert save_ok
                assert saved_s > evidence_s
                assert saved_s >= warned_s + limits.warn_for_s
                assert not held
                assert kinds <= {"quiet"}
                assert kinds


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(pattern=st.lists(st.booleans(), min_size=2, max_size=20).filter(lambda p: p.count(True) * 4 <= len(p)))
def test_short_flapping_unknown_never_brings_a_stop_nearer_and_does_not_put_it_off_for_ever(
    pattern: list[bool],
) -> None:
    life = Life()
    last_seen_s = life.now_s
    for index in range(1600):
        now_s = life.now_s + TICK_S
        if pattern[index % len(pattern)]:
            found = finding(now_s, Activity.UNKNOWN, "gpu")
        else:
            found = finding(now_s, signal="gpu", seen_from_s=max(last_seen_s, now_s - 15))
            last_seen_s = now_s
        if life.tick(finding(now_s), found).action is Action.STOP:
            assert life.now_s - life.started_s >= LIMITS.idle_after_s + LIMITS.warn_for_s - 2 * TICK_S
            return
    pytest.fail(f"not stopped after {1600 * TICK_S} s; {life.tick().reason}")


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(lead=st.lists(st.sampled_from(["quiet", "active", "unknown"]), max_size=60))
def test_with_everything_quiet_it_does_stop_on_time(lead: list[str]) -> None:
    life = Life(started_s=0.0)
    for kind in lead:
        life.tick(of_kind(kind, "host", life.now_s + TICK_S))
    quiet_from_s = life.now_s
    for _ in range(1000):
        if life.tick(finding(life.now_s + TICK_S)).action is Action.STOP:
            break
    assert Action.STOP in life.actions()
    assert life.now_s - quiet_from_s <= LIMITS.idle_after_s + LIMITS.warn_for_s + 80


def test_a_person_who_asks_after_a_failure_is_not_made_to_wait_for_its_back_off() -> None:
    refused = Outcome(action=Action.STOP, ok=False, reason="401", permanent=True)
    life = Life(stop_answer=refused, request=StopRequest(who="ada", warn_for_s=30, asked_s=10_000.0))
    life.quiet(600)
    assert life.actions() == [Action.WARN, Action.SAVE, Action.STOP], "the same request waits"
    life.request, life.stop_answer = StopRequest(who="ada", warn_for_s=30, asked_s=life.now_s), ACCEPTED
    life.quiet(60)
    assert life.actions()[3:] == [Action.WARN, Action.SAVE, Action.STOP]


def test_a_pod_that_no_ground_signal_sees_is_never_stopped_and_its_owner_hears_of_it() -> None:
    life = Life()
    for _ in range(800):
        life.tick(finding(life.now_s + TICK_S, Activity.ABSENT, signal="gpu"))
    assert (life.log, life.alarms) == ([], ["no ground signal"])
    life.tick(finding(life.now_s + TICK_S))
    assert "no ground signal" not in life.state.troubles


def test_an_unknown_verdict_is_never_quiet_time_even_where_it_names_a_span_that_was_seen() -> None:
    life = Life()
    life.quiet(300)
    idle_s = idle_for_s(life.state.clock)
    for _ in range(100):
        to_s = life.now_s + TICK_S
        unknown = finding(to_s, Activity.UNKNOWN, seen_from_s=life.now_s, seen_to_s=to_s)
        life.tick(finding(to_s, signal="gpu"), unknown)
    assert idle_for_s(life.state.clock) <= idle_s + TICK_S
