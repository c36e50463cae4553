"""Working hours: what they mean, and what they do to the idle limit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.deciding.hours import parse_working_hours, with_zone
from idlewatch.model import Action
from tests.policy_life import LIMITS, Life

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(days: int, hours: float) -> datetime:
    return MONDAY + timedelta(days=days, hours=hours)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon-Fri 09:00-18:00", at(0, 9), at(0, 18)),
        ("Mon-Fri 09:00-18:00 UTC", at(4, 17.9), at(5, 12)),
        ("mon wed 9:00-17:00", at(2, 10), at(1, 10)),
        ("Fri 22:00-02:00", at(5, 1), at(4, 3)),
        ("Sat-Sun 00:00-24:00", at(6, 23.9), at(0, 0)),
        ("Fri-Mon 08:00-09:00", at(0, 8.5), at(2, 8.5)),
        ("Mon-Fri 09:00-18:00 Europe/Berlin", at(0, 8), at(0, 17)),
        ("Mon 09:00-10:00, Tue 20:00-21:00 America/New_York", at(2, 1.5), at(1, 20.5)),
    ],
)
def test_what_is_written_is_meant(text: str, inside: datetime, outside: datetime) -> None:
    hours = parse_working_hours(text)
    assert parse_working_hours(with_zone(text)) == hours
    assert hours.includes(inside)
    assert not hours.includes(outside)


def test_hours_without_a_zone_are_told_with_that_which_is_meant() -> None:
    assert with_zone(" Mon-Fri 09:00-18:00 ") == "Mon-Fri 09:00-18:00 UTC"
    for named in ("Mon 09:00-10:00 utc", "Mon-Fri 09:00-18:00 Europe/Berlin"):
        assert with_zone(named) == named


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("always", "no span of the week"),
        ("Mon-Fri 9-18", "no span of the week"),
        ("Mon-Fri 09:00-18:00 Europe/Nowhere", "no time zone"),
        ("Mo 09:00-18:00", "no day of the week"),
        ("Xyz 09:00-18:00", "no day of the week"),
        ("Mon 25:00-26:00", "no time of day"),
        ("Mon 09:61-10:00", "no time of day"),
        ("", "no span"),
    ],
)
def test_what_means_nothing_is_refused_with_the_remedy(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_working_hours(text)


@given(st.text(max_size=60))
def test_whatever_is_written_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_working_hours(text).includes(MONDAY) in (True, False)


def test_in_working_hours_an_idle_pod_is_given_longer_and_their_end_ends_that() -> None:
    life = Life(limits=replace(LIMITS, working_idle_after_s=7200), working=True)
    life.quiet(3600)
    assert life.log == []
    life.working = False
    assert life.tick().action is Action.WARN


def test_in_working_hours_with_0_nothing_is_stopped_for_idleness() -> None:
    life = Life(limits=replace(LIMITS, working_idle_after_s=0), working=True)
    life.quiet(20_000)
    assert life.log == []
    assert "working hours" in life.tick().reason


def test_working_hours_that_begin_during_the_warning_call_it_off() -> None:
    life = Life(limits=replace(LIMITS, working_idle_after_s=7200))
    life.until(Action.WARN)
    life.working = True
    decision = life.tick()
    assert decision.action is Action.CANCEL
    assert "working hours" in decision.reason
    warned_s = life.until(Action.WARN, within_s=8000)
    assert warned_s - life.started_s == pytest.approx(7200, abs=20)


def test_a_ceiling_beats_working_hours() -> None:
    life = Life(limits=replace(LIMITS, working_idle_after_s=0, max_uptime_s=3600), working=True)
    life.quiet(3700)
    assert Action.STOP in life.actions()
