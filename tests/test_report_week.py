"""The bill of a week of joined recordings, reckoned a second time from what each single tick found."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from idlewatch.model import Activity
from idlewatch.report import Bill, billed, boots_of
from idlewatch.show.report import Report, report_csv, report_html, report_json
from tests.recorded_week import MONDAY, STARTS, TICK_S, Look, Week, made_week

USD_PER_HOUR = 2.79
NOW = MONDAY + timedelta(days=7)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    return made_week(tmp_path_factory.mktemp("week"))


@pytest.fixture(scope="module")
def bill(week: Week) -> Bill:
    up_s = (NOW - STARTS[-1].began).total_seconds()
    boots = boots_of(week.state_dir, week.volume, now=NOW, now_s=5000 + up_s, boot_key="boot 2", started_s=5000.0)
    return billed(boots, from_=MONDAY, to=NOW, usd_per_hour=USD_PER_HOUR)


def kind_of(before: Look, look: Look) -> str:
    """The kind of the time up to a look, by the table in docs/report.md; a hold counts from the look that saw it."""
    if Activity.ACTIVE in look.verdicts.values():
        return "active"
    if before.held and look.held:
        return "held"
    return "blind" if Activity.UNKNOWN in look.verdicts.values() else "idle"


def reckoned(week: Week) -> Counter[tuple[str, str]]:
    """Seconds by day and kind, each tick by itself; no span, no stretch, none of the bill's own code."""
    seconds: Counter[tuple[str, str]] = Counter()

    def add(from_: datetime, to: datetime, kind: str) -> None:
        while from_ < to:
            midnight = (from_ + timedelta(days=1)).replace(hour=0, minute=0, second=0)
            seconds[from_.date().isoformat(), kind] += round((min(to, midnight) - from_).total_seconds())
            from_ = midnight

    for start, looks in zip(STARTS, week.looks, strict=True):
        add(start.began, looks[0].at, "unwatched")
        for before, look in pairwise(looks):
            late = (look.at - before.at).total_seconds() > 3 * TICK_S
            add(before.at, look.at, "unwatched" if late else kind_of(before, look))
    return seconds


def test_each_day_of_the_table_is_what_its_ticks_add_up_to(week: Week, bill: Bill) -> None:
    told = Report(pod="p1", bill=bill, starts=3)
    seconds = reckoned(week)
    rows = list(csv.DictReader(report_csv(told).splitlines()))
    assert [row["date"] for row in rows] == [f"2026-11-{day}" for day in range(16, 23)]
    for row in rows:
        for kind in ("active", "held", "blind", "idle", "unwatched"):
            assert float(row[f"{kind}_s"]) == pytest.approx(seconds[row["date"], kind], abs=1.0), (row["date"], kind)
            usd = seconds[row["date"], kind] / 3600 * USD_PER_HOUR
            assert float(row[f"{kind}_usd"]) == pytest.approx(usd, abs=0.001)


def test_the_sums_are_those_of_the_days_and_of_the_hours_that_the_pod_was_up(week: Week, bill: Bill) -> None:
    said = report_json(Report(pod="p1", bill=bill, starts=3))
    whole: Counter[str] = Counter()
    for (_, kind), seconds in reckoned(week).items():
        whole[kind] += seconds
    kinds = said["kinds"]
    assert isinstance(kinds, dict)
    assert {name: round(one["seconds"]) for name, one in kinds.items()} == dict(whole)  # type: ignore[call-overload, index, arg-type]
    hours = sum(start.to_h - start.from_h for start in STARTS)
    assert sum(whole.values()) == hours * 3600 == said["up_s"]
    assert said["usd"] == pytest.approx(hours * USD_PER_HOUR)
    stopped_h = (STARTS[1].from_h - STARTS[0].to_h) + (STARTS[2].from_h - STARTS[1].to_h)
    assert (said["stops"], said["stopped_s"]) == (2, stopped_h * 3600)
    assert said["saved_usd"] == pytest.approx(stopped_h * USD_PER_HOUR)
    assert min(whole["active"], whole["idle"]) > 8 * 3600, "a week of both"
    assert 0 < whole["held"] <= 2.5 * 3600
    assert 0 < whole["blind"] <= 3600
    assert whole["unwatched"] == 3600 + 4 * TICK_S, "the hour, the look after it, and the time up to each first look"


def test_a_gpu_was_at_work_for_as_long_as_its_ticks_say(week: Week, bill: Bill) -> None:
    at_work = sum(
        (look.at - before.at).total_seconds()
        for looks in week.looks
        for before, look in pairwise(looks)
        if look.verdicts["gpu"] is Activity.ACTIVE and (look.at - before.at).total_seconds() <= 3 * TICK_S
    )
    assert bill.gpu_s == pytest.approx(at_work, abs=1.0)


def test_the_page_of_the_week_has_a_bar_for_each_day(bill: Bill) -> None:
    page = report_html(Report(pod="p1", bill=bill, starts=3))
    for day in range(16, 23):
        assert f"2026-11-{day}: active " in page
