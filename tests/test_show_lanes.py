"""Verdicts as a line: no activity is lost, nothing is drawn where nobody looked."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from idlewatch.history.verdicts import HELD, HOLD, Span
from idlewatch.model import Activity
from idlewatch.show.lanes import LEGEND, lane, lanes, pod_lane


def span(name: str, from_s: float, to_s: float, verdict: str, *, bars: bool = False, refines: bool = False) -> Span:
    return Span(name, from_s, to_s, verdict, bars=bars, refines=refines)


def test_each_column_shows_the_strongest_that_was_in_it() -> None:
    spans = [
        span("gpu", 0, 30, Activity.QUIET),
        span("gpu", 30, 31, Activity.ACTIVE),
        span("gpu", 31, 55, Activity.UNKNOWN),
        span("gpu", 55, 70, Activity.QUIET, bars=True),
        span("gpu", 80, 99, Activity.ABSENT),
    ]
    assert lane(spans, 0, 100, 10) == "...#?+++--"


def test_the_pod_is_held_or_quiet_whatever_a_refining_signal_can_not_read() -> None:
    spans = [
        span("host", 0, 100, Activity.QUIET),
        span("people", 0, 100, Activity.UNKNOWN, refines=True),
        span("gpu", 0, 100, Activity.ABSENT),
        span(HOLD, 50, 69, HELD),
        span("host", 80, 90, Activity.UNKNOWN),
    ]
    assert pod_lane(spans, 0, 100, 10) == ".....hh.??"


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(0, 60), st.sampled_from(list(Activity))), max_size=20),
    st.integers(1, 80),
)
def test_no_activity_is_lost_and_none_is_made_up(drawn: list[tuple[float, float, Activity]], columns: int) -> None:
    spans = [span("gpu", from_s, from_s + for_s, verdict) for from_s, for_s, verdict in drawn]
    told = lane(spans, 0.0, 100.0, columns)
    active = [one for one in spans if one.verdict == Activity.ACTIVE and one.to_s >= 0 and one.from_s < 100]
    assert (len(told), "#" in told) == (columns, bool(active))


def test_the_picture_fits_into_80_columns_and_explains_itself() -> None:
    spans = [span("transfers", 0, 7200, Activity.QUIET), span(HOLD, 3600, 7200, HELD)]
    lines = list(lanes(spans, 7200.0, datetime(2026, 11, 24, 12, 0, tzinfo=UTC), hours=2.0))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["10:00", "10:30", "11:00", "11:30"]
    assert [line.split()[0] for line in lines[1:4]] == ["the", "transfers", "hold"]
    assert lines[-1].strip() == LEGEND
