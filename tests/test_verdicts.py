"""Verdicts as spans, and what the policy would have done without one of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.history.verdicts import HELD, HOLD, Span, extended, would_have_stopped_s
from idlewatch.model import FIRST_READING, Activity, Finding, Hold, Json
from idlewatch.show.why import explained
from tests.policy_life import LIMITS, finding

WALL = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
HOUR_S = 3600.0


def told(*ticks: tuple[float, list[Finding], list[Hold]], gap_s: float = 20.0) -> list[Span]:
    standing: dict[str, Span] = {}
    kept: dict[tuple[str, float], Span] = {}
    for now_s, findings, holds in ticks:
        standing = extended(standing, findings, holds, now_s, gap_s)
        kept |= {(span.name, span.from_s): span for span in standing.values()}
    return list(kept.values())


def test_a_verdict_that_stays_is_one_span_with_its_newest_reason() -> None:
    spans = told(*((t, [finding(t, reason=f"cpu {t:.0f}")], []) for t in (0.0, 5.0, 10.0)))
    assert spans == [Span("host", 0.0, 10.0, "quiet", reason="cpu 10")]


def test_a_change_begins_a_span_where_the_last_one_ended() -> None:
    spans = told((0.0, [finding(0)], []), (5.0, [finding(5)], []), (10.0, [finding(10, Activity.ACTIVE)], []))
    assert [(s.verdict, s.from_s, s.to_s) for s in spans] == [("quiet", 0.0, 5.0), ("active", 5.0, 10.0)]


def test_time_without_a_tick_is_in_no_span() -> None:
    spans = told((0.0, [finding(0)], []), (5.0, [finding(5)], []), (500.0, [finding(500)], []))
    assert [(s.from_s, s.to_s) for s in spans] == [(0.0, 5.0), (500.0, 500.0)]


def test_holds_are_told_with_who_and_why() -> None:
    hold = Hold(id="1", who="ann", reason="demo", until_s=99.0)
    spans = told((0.0, [finding(0)], [hold]), (5.0, [finding(5)], [hold]))
    assert Span("hold", 0.0, 5.0, "held", reason="ann: demo") in spans


def busy_gpu(hours: float) -> list[Span]:
    end_s = hours * HOUR_S
    return [Span("gpu", 0.0, end_s, "active", reason="gpu0 87 %"), Span("host", 0.0, end_s, "quiet", reason="quiet")]


def test_without_the_only_active_signal_it_would_have_stopped_on_time() -> None:
    stopped_s = would_have_stopped_s(busy_gpu(2), LIMITS, started_s=0.0, without="gpu")
    assert stopped_s == pytest.approx(LIMITS.idle_after_s + LIMITS.warn_for_s, abs=120)
    assert would_have_stopped_s(busy_gpu(0.5), LIMITS, started_s=0.0, without="gpu") is None
    assert would_have_stopped_s(busy_gpu(2), LIMITS, started_s=0.0, without="host") is None


def test_without_one_of_two_active_signals_the_other_still_keeps_it() -> None:
    spans = [*busy_gpu(2), Span("jobs", 0.0, 2 * HOUR_S, "active", refines=True)]
    assert would_have_stopped_s(spans, LIMITS, started_s=0.0, without="gpu") is None


def test_without_a_hold_it_would_have_stopped_and_a_gap_in_the_watch_counts_for_nothing() -> None:
    held = [Span("host", 0.0, 2 * HOUR_S, "quiet"), Span("hold", 0.0, 2 * HOUR_S, "held", reason="ann: demo")]
    assert would_have_stopped_s(held, LIMITS, started_s=0.0, without="hold") is not None
    torn = [Span("host", 0.0, 1200.0, "quiet"), Span("host", 3000.0, 4200.0, "quiet")]
    assert would_have_stopped_s(torn, LIMITS, started_s=0.0, without="hold") is None


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(["quiet", "active", "unknown"]), st.integers(1, 90)), min_size=1, max_size=12)
)
def test_it_never_finds_a_stop_within_idle_after_of_activity(runs: list[tuple[str, int]]) -> None:
    spans, at_s = [], 0.0
    for verdict, minutes in runs:
        spans.append(Span("host", at_s, at_s + minutes * 60, verdict))
        at_s += minutes * 60
    stopped_s = would_have_stopped_s(spans, LIMITS, started_s=0.0, without="gpu")
    active = [span.to_s for span in spans if span.verdict == "active" and span.from_s < (stopped_s or 0.0)]
    assert stopped_s is None or stopped_s - max(active, default=0.0) >= LIMITS.idle_after_s


STATUS: dict[str, Json] = {
    "phase": "watching",
    "reason": "gpu: gpu0 87 %",
    "started_s": 0.0,
    "usd_per_hour": 2.0,
    "signals": {
        "gpu": {"activity": "active", "reason": "gpu0 87 % > 5 %", "since_s": 0.0, "read_s": 2 * HOUR_S - 3},
        "host": {"activity": "quiet", "reason": "cpu 1 %", "since_s": 0.0, "read_s": 2 * HOUR_S},
    },
}


def test_why_names_each_signal_what_keeps_the_pod_and_what_would_have_been() -> None:
    why = explained(STATUS, busy_gpu(2), LIMITS, 2 * HOUR_S, lambda: WALL)
    lines = why.lines()
    assert "gpu0 87 % > 5 %  (for 2h, read 3s ago)" in lines[1]
    assert lines[3] == "Kept up by gpu: gpu0 87 %."
    assert "would have been stopped at" in lines[4]
    assert "$2." in lines[4]
    stopped_at = datetime.fromisoformat(str(why.as_json()["keepers"][0]["without_it_stopped_at"]))  # type: ignore[index, call-overload]
    assert (WALL - stopped_at).total_seconds() == pytest.approx(2 * HOUR_S - 2100, abs=120)


def test_why_alarms_nobody_who_asks_right_after_the_start() -> None:
    spans = [Span(name, 0.0, 5.0, "unknown", reason=FIRST_READING) for name in ("host", "jobs")]
    text = "\n".join(explained({**STATUS, "reason": "x"}, spans, LIMITS, 5.0, lambda: WALL).lines())
    assert "Read once so far: host, jobs." in text
    assert "can't be seen" not in text
    spans.append(Span("gpu", 0.0, 5.0, "active", reason="gpu0 87 %"))
    text = "\n".join(explained(STATUS, spans, LIMITS, 5.0, lambda: WALL).lines())
    assert "not have been stopped yet: no stop was due yet" in text  # nothing else is known to keep it up


def test_why_says_so_where_nothing_keeps_the_pod() -> None:
    spans = [Span("host", 0.0, HOUR_S, "quiet")]
    waits = explained(STATUS | {"reason": "quiet for 3m of 30m"}, spans, LIMITS, HOUR_S, lambda: WALL)
    assert waits.lines()[-1].startswith("Nothing keeps this Pod up")
    alive = explained(STATUS | {"reason": "lives on more than 3m later"}, spans, LIMITS, HOUR_S, lambda: WALL)
    assert not any("Nothing keeps this Pod up" in line for line in alive.lines())


def test_a_hold_that_has_ended_keeps_nothing_up() -> None:
    spans = [Span("host", 0.0, HOUR_S, "quiet"), Span(HOLD, 0.0, HOUR_S - 20.0, HELD, reason="ada: work")]
    there = explained(STATUS | {"holds": [{"who": "ada"}]}, spans, LIMITS, HOUR_S, lambda: WALL)
    gone = explained(STATUS | {"holds": []}, spans, LIMITS, HOUR_S, lambda: WALL)
    assert ([keeper.name for keeper in there.keepers], gone.keepers) == (["a hold"], [])


def test_why_says_so_where_something_else_keeps_it_too() -> None:
    spans = [*busy_gpu(2), Span("jobs", 0.0, 2 * HOUR_S, "active", refines=True, reason="train.py")]
    lines = explained(STATUS, spans, LIMITS, 2 * HOUR_S, lambda: WALL).lines()
    assert sum("something else kept it up as well" in line for line in lines) == 2


def unseen(signal: str, hours: float, *, refines: bool) -> list[Span]:
    spans = [Span("host", 0.0, hours * HOUR_S, "quiet")]
    return [*spans, Span(signal, 0.0, hours * HOUR_S, "unknown", refines=refines, reason="refuses its API")]


def test_why_says_how_long_a_refining_signal_that_can_t_be_seen_is_waited_for() -> None:
    told = explained(STATUS, unseen("jupyter", 2, refines=True), LIMITS, 2 * HOUR_S, lambda: WALL)
    text = "\n".join(told.lines())
    assert "Kept up because jupyter can't be seen, for 2h now: refuses its API." in text
    assert "until jupyter is seen again, but for 3h at the most; then the other signals decide." in text
    assert "IDLEWATCH_IGNORE=jupyter" in text
    assert "GPU" not in text.partition("Kept up")[2]
    assert told.as_json()["keepers"][0]["verdict"] == "unknown"  # type: ignore[index, call-overload]


def test_a_refining_signal_that_is_waited_for_no_more_keeps_nothing() -> None:
    told = explained(STATUS, unseen("jupyter", 3.1, refines=True), LIMITS, 3.1 * HOUR_S, lambda: WALL)
    assert not told.keepers
    still = explained(STATUS, unseen("gpu", 3.1, refines=False), LIMITS, 3.1 * HOUR_S, lambda: WALL)
    assert [keeper.name for keeper in still.keepers] == ["gpu"]
