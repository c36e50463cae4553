"""Gaps are written down as they end, over stops and starts, and only where they were seen to be quiet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from idlewatch.deciding import remembered
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.patience import Gap
from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Activity, Decision, Finding, Json
from idlewatch.watching.gaps import MOST, GapLedger, keep, merged, over_a_stop, read

T0 = datetime(2026, 11, 24, tzinfo=UTC)


def tick(now_s: float, activity: Activity, idle_for_s: float = 0.0) -> Tick:
    return Tick(
        moment=Moment(now_s=now_s, uptime_s=now_s),
        readings=(),
        findings=[Finding(signal="gpu", activity=activity, reason="")],
        decision=Decision(action=Action.WAIT, reason="", idle_for_s=idle_for_s),
        state=remembered.started(0.0),
        outcome=None,
        alarms=(),
    )


def gaps(*ticks: Tick) -> list[Gap]:
    ledger = GapLedger()
    made = [ledger.tick(one, T0 + timedelta(seconds=one.moment.now_s), 1800.0) for one in ticks]
    return [gap for gap in made if gap]


def test_a_gap_lasts_from_the_last_use_to_the_next() -> None:
    found = gaps(
        tick(0, Activity.QUIET, 0),
        tick(10, Activity.ACTIVE),
        tick(300, Activity.QUIET, 290),
        tick(605, Activity.QUIET, 595),
        tick(610, Activity.ACTIVE),
        tick(615, Activity.ACTIVE),
    )
    assert found == [Gap(began_s=T0.timestamp() + 10, lasted_s=600.0, waited_s=1800.0)]


def test_what_came_before_the_first_use_and_pauses_in_the_work_are_none() -> None:
    assert gaps(tick(0, Activity.QUIET), tick(1000, Activity.QUIET, 1000), tick(1005, Activity.ACTIVE)) == []
    assert gaps(tick(0, Activity.ACTIVE), tick(100, Activity.QUIET, 100), tick(110, Activity.ACTIVE)) == []


def test_a_gap_in_which_nobody_looked_is_none() -> None:
    assert gaps(tick(0, Activity.ACTIVE), tick(5, Activity.UNKNOWN, 0), tick(1000, Activity.ACTIVE)) == []


NOTE: dict[str, Json] = {"boot_key": "old", "at": T0.isoformat(), "idle_for_s": 2100.0}


def test_a_stop_is_a_gap_up_to_the_next_start() -> None:
    found = over_a_stop(NOTE, "new", T0 + timedelta(hours=10))
    assert found == Gap(began_s=T0.timestamp() - 2100.0, lasted_s=38100.0, waited_s=2100.0)


def test_what_was_no_idle_stop_of_ours_is_none() -> None:
    started = T0 + timedelta(hours=10)
    notes: list[dict[str, Json] | None] = [
        None,
        {},
        {**NOTE, "boot_key": "new"},
        {**NOTE, "from_outside": True},
        {**NOTE, "idle_for_s": None},
        {**NOTE, "at": "yesterday"},
    ]
    for note in notes:
        assert over_a_stop(note, "new", started) is None
    assert over_a_stop(NOTE, "new", T0 - timedelta(hours=1)) is None


some_gaps = st.lists(
    st.builds(Gap, began_s=st.floats(1.0, 1e9), lasted_s=st.floats(120.0, 1e6), waited_s=st.floats(0.0, 1e5)),
    max_size=40,
)


@given(some_gaps, some_gaps)
def test_merging_twice_changes_nothing_and_loses_only_the_same_one(one: list[Gap], other: list[Gap]) -> None:
    once = merged(one, other)
    assert merged(once, one, other) == once
    for gap in (*one, *other):
        assert any(abs(gap.began_s - kept.began_s) < 60.0 * len((*one, *other)) for kept in once)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    many = [Gap(began_s=100.0 * i, lasted_s=200.0, waited_s=1800.0) for i in range(1, MOST + 50)]
    keep(tmp_path / "g", merged(many))
    assert read(tmp_path / "g") == many[-MOST:]


def test_a_damaged_file_gives_what_can_be_read_of_it(tmp_path: Path) -> None:
    good = Gap(began_s=100.0, lasted_s=200.0, waited_s=1800.0)
    keep(tmp_path / "g", [good])
    text = (tmp_path / "g").read_text()
    (tmp_path / "g").write_text(
        f'{text}{{"began_s": 1}}\nnull\n{{"began_s": "x", "lasted_s": 1, "waited_s": 1}}\ntorn {text[:9]}'
    )
    assert read(tmp_path / "g") == [good]
    (tmp_path / "g").write_text(text.replace("200.0", "Infinity"))
    assert read(tmp_path / "g") == []
    assert read(tmp_path / "none") == []
