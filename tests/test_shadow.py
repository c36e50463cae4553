"""What other settings would have done to this Pod: lives lived again by the policy, judged anew, and put into words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from idlewatch.history.archive import keep_on_volume
from idlewatch.history.recording import name_of
from idlewatch.history.store import History
from idlewatch.history.verdicts import HELD, HOLD, Span
from idlewatch.model import Activity, Json, Reading
from idlewatch.replay.comparison import Outcome
from idlewatch.report import Boot, boots_of
from idlewatch.settings import Loaded, Source, load
from idlewatch.shadow import Life, Shadow, lives_of, proposals, shadow_of
from idlewatch.shadow.course import Course
from idlewatch.shadow.judged import TooLong, judged_anew, verdicts_of
from idlewatch.shadow.tried import Other, Tried
from idlewatch.show.shadow import shadow_html, shadow_json, shadow_lines
from idlewatch.signals import SIGNALS

T0 = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


def settings(**variables: str) -> Loaded:
    told = {f"IDLEWATCH_{name}": value for name, value in variables.items()}
    return load([Source(name="test", variables=told)])


def spans(*parts: tuple[float, str]) -> list[Span]:
    """`gpu` as these (minutes, verdict) say, one after the other, and a host that is quiet all the time."""
    found, at_s = [], 0.0
    for minutes, verdict in parts:
        found.append(Span("gpu", at_s, at_s + minutes * MINUTE_S, verdict))
        at_s += minutes * MINUTE_S
    return [Span("host", 0.0, at_s, Activity.QUIET), *found]


def boot(*parts: tuple[float, str], day: int = 0, stopped_by_us: bool = False) -> Boot:
    told, began = spans(*parts), T0 + timedelta(days=day)
    ended = began + timedelta(seconds=max(span.to_s for span in told))
    return Boot(began=began, ended=ended, spans=told, stopped_by_us=stopped_by_us)


def lives(*boots: Boot) -> list[Life]:
    return lives_of(boots, T0)


def stops(told: Sequence[Life], usd_per_hour: float | None = None, **variables: str) -> list[list[tuple[int, int]]]:
    """For each life the minute of each stop, and after how many minutes somebody came back (-1: nobody)."""
    course = Course(settings(**variables).settings, usd_per_hour)
    return [
        [(round(stop.at_s / 60), -1 if stop.back_s is None else round(stop.away_s / 60)) for stop in course.stops(life)]
        for life in told
    ]


USE, REST, BLIND = Activity.ACTIVE.value, Activity.QUIET.value, Activity.UNKNOWN.value
LUNCH = boot((60, USE), (50, REST), (60, USE), (300, REST))


# ---------------------------------------------------------------- one life


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        ("20m", [(86, 24), (196, -1)]),
        ("30m", [(96, 14), (206, -1)]),
        ("45m", [(221, -1)]),
        ("0", []),
    ],
)
def test_a_life_goes_on_after_each_stop_that_would_have_been_made(wait: str, expected: list[tuple[int, int]]) -> None:
    [found] = stops(lives(LUNCH), IDLE_AFTER=wait)
    assert found == [pytest.approx(one, abs=1) for one in expected]


def test_holds_bars_and_what_is_not_known_keep_it_up_as_ever() -> None:
    held = replace(LUNCH, spans=[*LUNCH.spans, Span(HOLD, 0.0, 470 * MINUTE_S, HELD)])
    barred = replace(LUNCH, spans=[*LUNCH.spans, Span("people", 0.0, 470 * MINUTE_S, REST, bars=True, refines=True)])
    blind = boot((60, USE), (50, REST), (60, USE), (300, BLIND))
    assert stops(lives(held)) == stops(lives(barred)) == [[]]
    assert stops(lives(blind)) == [[pytest.approx((96, 14), abs=1)]]


def test_a_new_start_has_its_grace_again_and_working_hours_hold() -> None:
    short = boot((1, USE), (40, REST), (1, USE), (40, REST))
    [found] = stops(lives(short), IDLE_AFTER="2m", WARN_FOR="10s", BOOT_GRACE="30m")
    assert found == [pytest.approx((32, 10), abs=1), pytest.approx((73, -1), abs=2)]
    assert stops(lives(LUNCH), WORKING_HOURS="Mon-Fri 09:00-23:00 UTC") == [[pytest.approx((296, -1), abs=1)]]


def test_a_start_that_we_stopped_goes_on_as_quiet_time_until_the_next() -> None:
    first, second = boot((60, USE), (36, REST), stopped_by_us=True), boot((10, USE), (10, REST), day=1)
    [life, _] = lives(first, second)
    assert (life.ends_s, life.back_s) == (DAY_S, DAY_S)
    away = round(DAY_S / 60)
    assert stops([life], IDLE_AFTER="20m") == [[pytest.approx((86, away - 86), abs=1)]]
    assert stops([life], IDLE_AFTER="2h") == [[pytest.approx((186, away - 186), abs=1)]]
    soon = replace(second, began=first.ended + timedelta(minutes=20))
    assert stops([lives(first, soon)[0]], IDLE_AFTER="1h") == [[]], "it waits longer than anybody was away"


def test_of_a_start_that_ended_in_use_or_by_another_hand_nothing_is_known_after_it() -> None:
    after = boot((10, USE), day=1)
    in_use = lives(boot((60, USE), stopped_by_us=True), after)[0]
    by_hand = lives(boot((60, USE), (36, REST)), after)[0]
    assert (in_use.back_s, by_hand.back_s) == (None, None)
    assert (in_use.ends_s, by_hand.ends_s) == (3600.0, 96 * MINUTE_S)


def test_only_what_lies_in_the_period_is_looked_at() -> None:
    [life] = lives_of([LUNCH], T0 + timedelta(minutes=120))
    assert life.dates == {"2026-11-02"}
    assert stops([life], IDLE_AFTER="20m") == [[pytest.approx((196, -1), abs=1)]]


def test_auto_learns_from_start_to_start_and_without_a_price_waits_the_default() -> None:
    day = [*[(10, USE), (8, REST)] * 8, (5, USE), (400, REST)]
    habits = [boot(*day, day=at, stopped_by_us=True) for at in range(5)]
    told = stops(lives(*habits), usd_per_hour=2.5, IDLE_AFTER="auto")
    begins, night = 8 * 18 + 5, 24 * 60
    assert told[0] == [pytest.approx((begins + 62, night - begins - 62), abs=2)], "the break-even at first"
    assert told[4] == [pytest.approx((begins + 16, -1), abs=2)], "nobody is ever away for 9 min and then comes back"
    assert stops(lives(*habits), IDLE_AFTER="auto")[4] == [pytest.approx((begins + 36, -1), abs=2)]


# ---------------------------------------------------------------- what is tried


def never() -> float:
    return 0.0


def shadow(boots: Sequence[Boot], state_dir: Path, spent_s: Callable[[], float] = never, **variables: str) -> Shadow:
    return shadow_of(
        lives(*boots),
        settings(**variables),
        usd_per_hour=2.0,
        restart_usd=2.5,
        factories=SIGNALS,
        state_dir=state_dir,
        spent_s=spent_s,
        within_s=20.0,
    )


def tried(told: Shadow, words: str) -> Tried:
    return next(one for one in told.tried if one.other.words == words)


NIGHTS = [boot((60, USE), (50, REST), (60, USE), (600, REST), day=day) for day in range(4)]


@pytest.mark.slow
def test_each_other_setting_is_compared_with_the_one_of_now(tmp_path: Path) -> None:
    told = shadow(NIGHTS, tmp_path)
    assert (told.days, told.enough, told.starts, told.left_out) == (4, True, 4, 0)
    names = {one.other.words for one in told.tried}
    assert "IDLEWATCH_IDLE_AFTER=30m" not in names, "that holds now"
    assert "IDLEWATCH_IDLE_AFTER=auto" in names
    longer = tried(told, "IDLEWATCH_IDLE_AFTER=45m")
    assert (longer.now.stops, longer.outcome.stops) == (8, 4)
    assert (longer.now.too_soon, longer.outcome.too_soon) == (4, 0)
    assert longer.more_s == pytest.approx(-4 * (14 + 15) * MINUTE_S, rel=0.05)


def test_with_little_history_nothing_is_tried_and_that_is_said(tmp_path: Path) -> None:
    told = shadow(NIGHTS[:2], tmp_path)
    assert (told.enough, told.tried) == (False, ())
    assert list(shadow_lines(told)) == ["Other settings: not enough history yet to compare them, 2 of 3 days."]
    assert shadow_json(told)["proposed"] == []


@pytest.mark.slow
def test_where_the_time_is_over_the_newest_starts_are_told_of(tmp_path: Path) -> None:
    ticks = iter(range(1000))
    told = shadow(NIGHTS, tmp_path, spent_s=lambda: 5.0 * next(ticks))
    assert told.left_out == 1
    assert {one.starts for one in told.tried} == {3}
    assert "the newest 3 of 4 starts" in " ".join(shadow_lines(told))


@pytest.mark.slow
def test_what_can_not_be_set_beside_the_rest_is_not_tried(tmp_path: Path) -> None:
    told = shadow(NIGHTS, tmp_path, INTERVAL="6m", BLIND_LIMIT="20m")
    assert "IDLEWATCH_IDLE_AFTER=10m" not in {one.other.words for one in told.tried}


# ---------------------------------------------------------------- judged anew


def readings(percent: float, minutes: int, from_s: float) -> list[Reading]:
    gpu: dict[str, Json] = {
        "index": 0,
        "uuid": "GPU-0",
        "util_max_pct": percent,
        "util_second_pct": percent,
        "util_mean_pct": percent / 2,
        "covered_s": 30.0,
        "samples": 180,
        "mem_used_mib": 4000.0,
        "processes": 1,
    }
    facts: dict[str, Json] = {"gpus": [gpu], "expected": 1, "found": 1}
    return [
        Reading(signal="gpu", at_s=from_s + at * 30.0, covers_s=30.0, facts=facts) for at in range(1, 2 * minutes + 1)
    ]


def kept(folder: Path, began: datetime = T0) -> Boot:
    """A start on the volume: an hour at 80 %, two hours at 4 %, which is in use only below a limit of 4 %."""
    started_s, history = 500.0, History(folder)
    told = [*readings(80.0, 60, started_s), *readings(4.0, 120, started_s + HOUR_S)]
    with history.together():
        history.saw(told, began)
        history.judged(
            replace(span, from_s=span.from_s + started_s, to_s=span.to_s + started_s)
            for span in spans((60, USE), (120, REST))
        )
    history.happened("stop done", "stopped", at_s=started_s + 3 * HOUR_S, wall=began + timedelta(hours=3), facts={})
    head: dict[str, Json] = {"pod_id": "p1", "boot_key": "p1@1", "started_s": started_s, "settings": {}}
    keep_on_volume(folder / "pod", folder, name_of(began, "p1@1"), head)
    history.close()
    [first, _] = boots_of(
        folder / "none",
        folder / "pod",
        now=began + timedelta(days=1),
        now_s=DAY_S,
        boot_key="p1@2",
        started_s=DAY_S - 60.0,
    )
    return first


def anew(life: Life, over: Callable[[], bool] = lambda: False, **variables: str) -> Life:
    return judged_anew(life, ("gpu",), settings(**variables), SIGNALS, Path("/nonexistent"), over)


def test_a_signal_is_judged_anew_from_the_readings_that_were_kept(tmp_path: Path) -> None:
    [life] = lives(kept(tmp_path))
    same, lower = anew(life), anew(life, GPU_LIMIT="3%")
    assert stops([same]) == stops([life]) == [[pytest.approx((96, -1), abs=1)]]
    assert verdicts_of(same) != verdicts_of(lower)
    assert stops([lower]) == [[]]
    assert {span.name for span in lower.spans} == {"gpu", "host"}


def test_what_has_no_readings_keeps_its_verdicts_and_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    [life] = lives(kept(tmp_path))
    assert judged_anew(life, ("people",), settings(), SIGNALS, tmp_path, lambda: False).spans == life.spans
    torn = replace(life, recording=tmp_path / "torn.jsonl.gz")
    assert life.recording is not None
    (tmp_path / "torn.jsonl.gz").write_bytes(life.recording.read_bytes()[:-40])
    assert stops([anew(torn)]) == stops([life])
    with pytest.raises(TooLong):
        anew(life, over=lambda: True)


def test_this_starts_readings_come_from_the_state_folder(tmp_path: Path) -> None:
    first = kept(tmp_path)
    [life] = lives(replace(first, recording=None))
    lower = judged_anew(life, ("gpu",), settings(GPU_LIMIT="3%"), SIGNALS, tmp_path, lambda: False)
    assert stops([lower]) == [[]]


# ---------------------------------------------------------------- what is proposed


def one(value: str, saved_h: float, working: int = 1, too_soon: int = 1) -> Tried:
    outcome = Outcome(10, saved_h * HOUR_S, working, too_soon)
    return Tried(
        other=Other("IDLEWATCH_IDLE_AFTER", value), outcome=outcome, now=Outcome(10, 40 * HOUR_S, 1, 1), starts=9
    )


def told_of(*several: Tried, usd_per_hour: float | None = 2.0) -> Shadow:
    return Shadow(days=12, starts=9, up_s=100 * HOUR_S, usd_per_hour=usd_per_hour, restart_usd=2.5, tried=several)


def proposed(told: Shadow) -> list[tuple[str, str]]:
    return [(found.kind, found.tried.other.value) for found in proposals(told)]


def test_more_stops_in_use_are_never_proposed_without_being_said() -> None:
    told = told_of(one("20m", 55.5, working=3), one("25m", 45.0))
    assert proposed(told) == [("better", "25m"), ("bolder", "20m")]
    as_often, soon = "as often as now", "within the hour before you came back"
    better, bolder = (found.text for found in proposals(told))
    assert better == (
        "with IDLEWATCH_IDLE_AFTER=25m you would have saved $10.00 (5h of billing) more, "
        f"and been stopped {as_often} while you were working and {as_often} {soon}"
    )
    assert bolder == (
        "with IDLEWATCH_IDLE_AFTER=20m you would have saved $31.00 (15h 30m of billing) more, "
        f"and been stopped twice more while you were working and {as_often} {soon}"
    )


def test_bolder_settings_must_pay_for_their_restarts_and_small_gains_are_no_reason() -> None:
    assert proposed(told_of(one("20m", 42.0, working=3))) == [], "$4 more, and two restarts of $2.50"
    assert proposed(told_of(one("20m", 40.5))) == []
    assert proposed(told_of(one("20m", 60.0, working=2), usd_per_hour=None)) == [], "nothing can be weighed"
    assert proposed(told_of(one("20m", 60.0), usd_per_hour=None)) == [("better", "20m")]


def test_fewer_stops_in_use_are_proposed_with_what_they_cost() -> None:
    told = told_of(one("1h", 30.0, working=0), one("45m", 36.0, working=0))
    assert proposed(told) == [("kinder", "45m")]
    assert "would have saved $8.00 (4h of billing) less, and been stopped once less while" in proposals(told)[0].text


def test_the_words_name_what_they_rest_on_and_a_page_shows_all_that_was_tried() -> None:
    told = told_of(one("20m", 60.0))
    assert " ".join(shadow_lines(told)).endswith("before you came back (by the verdicts of 12 days).")
    assert "Other settings: none of 1 would have done better" in " ".join(shadow_lines(told_of(one("20m", 40.0))))
    page = shadow_html(told)
    assert "<td>IDLEWATCH_IDLE_AFTER=20m</td><td>20h</td><td>$40.00</td><td>10 (now 10)</td>" in page
    said: Any = json.loads(json.dumps(shadow_json(told)))
    assert said["proposed"][0]["setting"] == "IDLEWATCH_IDLE_AFTER=20m"
    assert said["tried"][0]["more_saved_usd"] == 40.0


@pytest.mark.slow
def test_the_verb_says_it_and_leaves_it_out_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "volume/.idlewatch").mkdir(parents=True)
    kept(tmp_path / "volume/.idlewatch", began=datetime.now(UTC) - timedelta(days=1))
    (tmp_path / "volume/.idlewatch/pod").rename(tmp_path / "volume/.idlewatch/p1")
    told = json.loads(report(tmp_path, "--json"))["other_settings"]
    assert (told["enough"], told["starts"], told["proposed"], told["tried"]) == (False, 1, [], [])
    assert "not enough history yet to compare them, " in " ".join(report(tmp_path).split())
    assert "settings" not in report(tmp_path, "--csv")


def report(folder: Path, *words: str) -> str:
    variables = {
        "PATH": os.environ["PATH"],
        "RUNPOD_POD_ID": "p1",
        "IDLEWATCH_VOLUME": str(folder / "volume"),
        "IDLEWATCH_STATE_DIR": str(folder / "state"),
        "IDLEWATCH_SAVE_ROOT": str(folder / "disk"),
    }
    command = [sys.executable, "-m", "idlewatch", "report", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60).stdout
