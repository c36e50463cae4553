"""Waste that is not idleness: told with dollars from built histories, and not told where too little was seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlewatch.history.store import History
from idlewatch.history.verdicts import Span
from idlewatch.model import Activity, Json, Reading
from idlewatch.report import Advice, advice_of, billed
from idlewatch.report.advice import DAY_S, SAMPLES, WEEK_S, Look, advised, look_of
from idlewatch.report.bill import Boot
from idlewatch.show.report import Report, report_html, report_json, report_lines
from idlewatch.show.status import status_lines

NOW_S, STEP_S = 40 * DAY_S, WEEK_S / SAMPLES
WALL = datetime(2026, 11, 24, tzinfo=UTC)


def looks(percent: Callable[[float], tuple[float | None, ...]], days: float, mib: float = 300.0) -> list[Look]:
    """Looks of so many days up to now; `percent` of seconds before now."""
    many = int(days * DAY_S / STEP_S)
    ages = [(many - index - 0.5) * STEP_S for index in range(many)]
    return [Look(NOW_S - age, percent(age), tuple(mib for _ in percent(age))) for age in ages]


def span(name: str, from_days: float, to_days: float, verdict: str) -> Span:
    """A verdict from and to so many days ago."""
    return Span(name, NOW_S - from_days * DAY_S, NOW_S - to_days * DAY_S, verdict)


def told(seen: list[Look], spans: Iterable[Span] = (), usd: float | None = 8.0) -> dict[str, Advice]:
    found = advised(seen, list(spans), now_s=NOW_S, step_s=STEP_S, usd_per_hour=usd)
    return {one.name: one for one in found}


def one_of_eight(_age: float) -> tuple[float | None, ...]:
    return (80.0, *[0.2] * 7)


def test_one_of_eight_at_work_is_told_with_the_part_of_the_price_that_the_others_cost() -> None:
    advice = told(looks(one_of_eight, 2))["few at work"]
    assert advice.text == "7 of 8 GPUs did nothing in the 1d of work of the last day; all 8 are billed"
    assert "a Pod with 1 GPU" in advice.remedy
    assert (advice.usd_per_hour, advice.usd_per_day) == (7.0, 168.0)
    assert advice.dollars == "$7.00 an hour, $168.00 a day"


def test_a_gpu_that_had_its_part_of_the_work_is_not_told_of() -> None:
    def in_turn(age: float) -> tuple[float | None, ...]:
        """Each has its hours."""
        return (90.0, 0.0) if age % 7200 < 3600 else (0.0, 90.0)

    assert told(looks(in_turn, 2)) == {}


@pytest.mark.parametrize(
    "seen",
    [
        looks(one_of_eight, 0.7),
        [look for look in looks(one_of_eight, 2) if look.at_s % 10_000 < 7_000],
        looks(lambda _: (80.0,), 2),
        looks(lambda _: (80.0, None), 2),
        looks(lambda age: (80.0, 0.0) if age < 5 * 3600 else (0.0, 0.0), 2),
        [],
    ],
    ids=["too short", "too thin", "one GPU", "one that can't be read", "five hours of work", "nothing"],
)
def test_few_at_work_is_not_told_where_too_little_was_seen(seen: list[Look]) -> None:
    assert "few at work" not in told(seen)


def idle(_age: float) -> tuple[float | None, ...]:
    return (0.0,)


SERVED = [span("servers", 7, 2.5, Activity.ACTIVE), span("servers", 2.5, 0, Activity.QUIET)]


def test_a_model_that_nobody_asks_is_told_with_the_whole_price() -> None:
    advice = told(looks(idle, 7, mib=61_440.0), SERVED)["nobody asks"]
    assert advice.text == "a model lies in 60 GiB of GPU memory, and no request came for 2d 12h"
    assert advice.usd_per_day == 192.0


@pytest.mark.parametrize(
    ("mib", "spans"),
    [
        (300.0, SERVED),
        (61_440.0, [span("servers", 7, 0.9, Activity.ACTIVE), span("servers", 0.9, 0, Activity.QUIET)]),
        (61_440.0, [span("servers", 0.9, 0, Activity.QUIET)]),
        (61_440.0, [span("servers", 7, 0, Activity.ABSENT)]),
        (61_440.0, [span("servers", 7, 0, Activity.UNKNOWN)]),
        (61_440.0, [*SERVED, span("jobs", 2, 1, Activity.ACTIVE)]),
        (61_440.0, []),
    ],
    ids=["no model", "asked yesterday", "seen for less than a day", "no server", "unreadable", "other use", "nothing"],
)
def test_a_model_is_not_told_of_where_somebody_asks_or_too_little_was_seen(mib: float, spans: list[Span]) -> None:
    assert "nobody asks" not in told(looks(idle, 7, mib=mib), spans)


IN_USE = [span("jobs", 7, 2, Activity.ACTIVE)]


def five(age: float) -> tuple[float | None, ...]:
    return (20.0 if age % 40_000 < 10_000 else 0.0, 20.0 if age % 40_000 < 10_000 else 0.0)


def test_five_percent_for_a_week_is_told_with_what_is_paid_for_nothing() -> None:
    advice = told(looks(five, 7), IN_USE)["hardly used"]
    assert advice.text == "the GPUs were used 5 % over the last week, and billed whole"
    assert advice.usd_per_hour == pytest.approx(7.6, abs=0.1)


@pytest.mark.parametrize(
    ("seen", "spans"),
    [
        (looks(five, 5), IN_USE),
        (looks(five, 7), [span("jobs", 7, 5, Activity.ACTIVE)]),
        (looks(lambda _: (40.0, 0.0), 7), IN_USE),
        (looks(lambda _: (None, None), 7), IN_USE),
    ],
    ids=["five days", "mostly idle", "20 %", "can't be read"],
)
def test_a_low_mean_is_not_told_of_where_too_little_is_known(seen: list[Look], spans: list[Span]) -> None:
    assert "hardly used" not in told(seen, spans)


def test_without_a_price_there_are_no_dollars() -> None:
    advice = told(looks(one_of_eight, 2), usd=None)["few at work"]
    assert (advice.usd_per_hour, advice.usd_per_day, advice.dollars) == (None, None, "")


def test_a_gpu_with_an_error_was_not_seen() -> None:
    gpus: list[Json] = [{"util_mean_pct": 3.0, "mem_used_mib": 5}, {"error": "lost", "util_mean_pct": 3.0}]
    assert look_of(1.0, {"gpus": gpus}) == Look(1.0, (3.0, None), (5, None))
    assert look_of(1.0, {}) == Look(1.0, (), ())


# ---------------------------------------------------------------- from a history, and where it is shown


def history_of(state_dir: Path, days: float, every_s: float = 60.0) -> None:
    """A start of two GPUs of which one works."""
    history, noise = History(state_dir), random.Random(3)
    with history.together():
        at_s = NOW_S - days * DAY_S
        while at_s < NOW_S:
            gpus: list[Json] = [
                {"index": 0, "util_mean_pct": noise.uniform(60, 90), "mem_used_mib": 40_000},
                {"index": 1, "util_mean_pct": 0.0, "mem_used_mib": 4},
            ]
            wall = WALL - timedelta(seconds=NOW_S - at_s)
            history.saw([Reading(signal="gpu", at_s=at_s, covers_s=5.0, facts={"gpus": gpus})], wall)
            at_s += every_s
        history.judged([Span("gpu", NOW_S - days * DAY_S, NOW_S, Activity.ACTIVE)])
    history.close()


def test_it_is_computed_from_the_history(tmp_path: Path) -> None:
    history_of(tmp_path, days=1.2)
    (advice,) = advice_of(tmp_path, NOW_S, 4.0)
    assert (advice.name, advice.usd_per_hour) == ("few at work", 2.0)
    assert advice.text.startswith("gpu1 did nothing in the ")


def test_a_short_or_missing_history_gives_none(tmp_path: Path) -> None:
    assert advice_of(tmp_path, NOW_S, 4.0) == []
    history_of(tmp_path, days=0.5)
    assert advice_of(tmp_path, NOW_S, 4.0) == []


GIVEN = told(looks(one_of_eight, 2))["few at work"]


def test_the_report_tells_it_in_each_of_its_forms() -> None:
    boot = Boot(began=WALL, ended=WALL + timedelta(days=2), spans=[])
    bill = billed([boot], from_=boot.began, to=boot.ended, usd_per_hour=8.0)
    report = Report(pod="p", bill=bill, starts=1, advice=[GIVEN])
    lines = list(report_lines(report))
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert "Advice: 7 of 8 GPUs did nothing" in text
    assert "($7.00 an hour, $168.00 a day); a Pod with 1 GPU would" in text
    (said,) = json.loads(json.dumps(report_json(report)))["advice"]
    assert (said["name"], said["usd_per_hour"], said["usd_per_day"]) == ("few at work", 7.0, 168.0)
    assert '<p class="advice">7 of 8 GPUs did nothing' in report_html(report)
    assert "Advice" not in "".join(report_lines(Report(pod="p", bill=bill, starts=1)))


def test_status_tells_it() -> None:
    status: dict[str, Json] = {"at_s": 999.0, "interval_s": 5.0, "phase": "watching", "advice": [GIVEN.as_json()]}
    text = " ".join(" ".join(status_lines(status, 1000.0)).split())
    assert "advice: 7 of 8 GPUs did nothing in the 1d of work of the last day; all 8 are billed ($168.00 a day)" in text
    assert "advice" not in " ".join(status_lines({**status, "advice": []}, 1000.0))
