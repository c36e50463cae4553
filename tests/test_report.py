"""The bill: every second of a start is of one kind, what stopping saved, and what Serverless would have cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.history.archive import keep_on_volume
from idlewatch.history.recording import name_of
from idlewatch.history.store import History
from idlewatch.history.verdicts import HELD, HOLD, Span
from idlewatch.model import Activity, Json, Reading
from idlewatch.report import Bill, Boot, Kind, billed, boots_of, card_named, compared, comparison_of
from idlewatch.report.bill import stretches
from idlewatch.show.report import Report, report_csv, report_html, report_json, report_lines

T0 = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
HOUR_S = 3600.0


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def span(name: str, from_h: float, to_h: float, verdict: str, *, refines: bool = False) -> Span:
    return Span(name, from_h * HOUR_S, to_h * HOUR_S, verdict, refines=refines)


DAY = Boot(
    began=T0,
    ended=at(10),
    spans=[
        span("gpu", 0, 2, Activity.ACTIVE),
        span("gpu", 2, 5, Activity.QUIET),
        span("gpu", 5, 6, Activity.UNKNOWN),
        span("gpu", 6, 9, Activity.QUIET),
        span("host", 0, 9, Activity.QUIET),
        span("people", 2.5, 3, Activity.ACTIVE, refines=True),
        span("people", 6, 7, Activity.UNKNOWN, refines=True),
        span(HOLD, 4, 5.5, HELD),
    ],
    stopped_by_us=True,
)


def hours(bill: Bill) -> dict[str, float]:
    return {kind.value: seconds / HOUR_S for kind, seconds in bill.seconds.items()}


def test_each_hour_is_billed_for_the_first_kind_that_fits() -> None:
    bill = billed([DAY], from_=T0, to=at(10), usd_per_hour=2.0)
    assert hours(bill) == {"active": 2.5, "held": 1.5, "blind": 0.5, "idle": 4.5, "unwatched": 1.0}
    assert (bill.gpu_s, bill.runs, bill.usd(bill.up_s)) == (2 * HOUR_S, 1, 20.0)


def test_days_are_cut_at_midnight_utc() -> None:
    bill = billed([DAY], from_=T0, to=at(10), usd_per_hour=2.0)
    assert [(day.date, sum(day.seconds.values())) for day in bill.days] == [
        ("2026-11-20", 2 * HOUR_S),
        ("2026-11-21", 8 * HOUR_S),
    ]


def test_a_period_cuts_what_reaches_over_it() -> None:
    bill = billed([DAY], from_=at(1), to=at(2.75), usd_per_hour=None)
    assert hours(bill) == {"active": 1.25, "held": 0.0, "blind": 0.0, "idle": 0.5, "unwatched": 0.0}
    assert bill.usd(bill.up_s) is None


def test_what_a_stop_saved_ends_with_the_next_start() -> None:
    after = Boot(began=at(34), ended=at(35), spans=[])
    bill = billed([DAY, after], from_=T0, to=at(35), usd_per_hour=2.0)
    assert (bill.stops, bill.stopped_s, bill.usd(bill.stopped_s)) == (1, 24 * HOUR_S, 48.0)
    by_hand = Boot(began=T0, ended=at(10), spans=DAY.spans)
    assert billed([by_hand, after], from_=T0, to=at(35), usd_per_hour=2.0).stops == 0


instants = st.floats(-1.0, 12.0, allow_nan=False)
any_span = st.builds(
    lambda name, a, b, verdict, refines: span(name, min(a, b), max(a, b), verdict, refines=refines),
    st.sampled_from(["gpu", "host", "people", HOLD]),
    instants,
    instants,
    st.sampled_from([*Activity, HELD]),
    st.booleans(),
)


@pytest.mark.slow
@given(st.lists(any_span, max_size=30))
def test_stretches_fill_the_start_without_a_hole_and_agree_with_each_instant(spans: list[Span]) -> None:
    boot = Boot(began=T0, ended=at(10), spans=spans)
    made = stretches(boot)
    assert (made[0].from_, made[-1].to) == (T0, at(10))
    assert all(one.to == following.from_ for one, following in pairwise(made))
    for one in made:
        middle_s = ((one.from_ - T0) + (one.to - one.from_) / 2).total_seconds()
        there = [s for s in spans if s.from_s < middle_s < s.to_s]
        if any(s.verdict == Activity.ACTIVE for s in there):
            assert one.kind is Kind.ACTIVE
        elif not there and (one.to - one.from_) > timedelta(milliseconds=1):
            assert one.kind is Kind.UNWATCHED


def test_a_stretch_shorter_than_the_clock_can_tell_is_none() -> None:
    spans = [span("gpu", 0, 1e-300, Activity.QUIET), span("gpu", -1, 1e-301, Activity.ACTIVE)]
    made = stretches(Boot(began=T0, ended=at(10), spans=spans))
    assert [(one.kind, one.from_, one.to) for one in made] == [(Kind.UNWATCHED, T0, at(10))]


# ---------------------------------------------------------------- the books


def kept(folder: Path, began: datetime, boot_key: str, spans: list[Span], *events: tuple[str, str]) -> None:
    """A start's history, written by the daemon's own code, as a recording on the volume."""
    state_dir, started_s = folder / f"state-{boot_key}", 5000.0
    state_dir.mkdir(parents=True)
    history = History(state_dir)
    history.judged([Span(s.name, s.from_s + started_s, s.to_s + started_s, s.verdict) for s in spans])
    history.saw([Reading(signal="gpu", at_s=started_s, facts={"x": 1})], began)
    for number, (kind, text) in enumerate(events, 1):
        wall = began + timedelta(seconds=number)
        history.happened(kind, text, at_s=started_s + number, wall=wall, facts={})
    history.close()
    head: Mapping[str, Json] = {"boot_key": boot_key, "started_s": started_s}
    keep_on_volume(folder / "pod", state_dir, name_of(began, boot_key), head)


def books(folder: Path, boot_key: str = "now") -> list[Boot]:
    state_dir = folder / "state"
    state_dir.mkdir(exist_ok=True)
    return boots_of(state_dir, folder / "pod", now=at(50), now_s=9000.0, boot_key=boot_key, started_s=9000.0 - HOUR_S)


def test_earlier_starts_are_read_from_the_volume_and_this_one_from_the_state_folder(tmp_path: Path) -> None:
    kept(tmp_path, T0, "a", [span("gpu", 0, 2, Activity.ACTIVE)], ("stop done", "accepted by REST v2"))
    kept(tmp_path, at(20), "b", [span("gpu", 0, 1, Activity.QUIET)], ("stop done", "only observing: no stop was made"))
    kept(tmp_path, at(49), "now", [span("gpu", 0, 1, Activity.QUIET)])
    found = books(tmp_path)
    assert [(boot.began, boot.ended, boot.stopped_by_us) for boot in found] == [
        (T0, at(2), True),
        (at(20), at(21), False),
        (at(49), at(50), False),
    ]
    bill = billed(found, from_=T0, to=at(50), usd_per_hour=1.0)
    assert (bill.seconds[Kind.ACTIVE], bill.stopped_s) == (2 * HOUR_S, 18 * HOUR_S)


def test_a_torn_recording_is_read_up_to_its_tear(tmp_path: Path) -> None:
    kept(tmp_path, T0, "a", [span("gpu", 0, 2, Activity.ACTIVE)])
    path = next((tmp_path / "pod/history").iterdir())
    path.write_bytes(path.read_bytes() + b"\x1f\x8b torn")
    assert len(books(tmp_path)) == 2
    path.write_bytes(b"\x1f\x8b no gzip at all")
    assert len(books(tmp_path)) == 1


# ---------------------------------------------------------------- Pod or Serverless


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("NVIDIA A100-SXM4-80GB", "80 GB"),
        ("NVIDIA GeForce RTX 4090", "24 GB PRO"),
        ("NVIDIA RTX A5000", "24 GB"),
        ("NVIDIA L4", "24 GB"),
        ("NVIDIA L40S", "48 GB PRO"),
        ("NVIDIA RTX 6000 Ada Generation", "48 GB PRO"),
        ("NVIDIA H100 80GB HBM3", "80 GB PRO"),
        ("NVIDIA H200", "141 GB"),
        ("NVIDIA A40", "48 GB"),
        ("NVIDIA RTX PRO 6000 Blackwell", "96 GB PRO"),
    ],
)
def test_a_card_is_known_by_the_drivers_name(name: str, label: str) -> None:
    card = card_named(name)
    assert card is not None
    assert card.label == label


def test_a_card_that_is_not_offered_is_none() -> None:
    assert card_named("NVIDIA Tesla K80") is None
    assert card_named("") is None


MONTH_S = 30 * 24 * HOUR_S


def test_two_hundred_requests_a_day_are_serverless_work() -> None:
    card = card_named("L4")
    assert card is not None
    month = compared(up_s=MONTH_S, gpu_s=200 * 4 * 30, runs=0, usd_per_hour=0.34, card=card)
    assert month.pod_usd == pytest.approx(245, abs=1)
    assert month.flex_usd < 5
    assert month.pod_usd / month.flex_usd == pytest.approx(50, abs=5)
    assert month.advice.startswith("intermittent: ")


def test_a_fine_tune_of_eighteen_hours_stays_on_its_pod() -> None:
    card = card_named("NVIDIA H100 80GB HBM3")
    assert card is not None
    tune = compared(up_s=18 * HOUR_S, gpu_s=17.5 * HOUR_S, runs=1, usd_per_hour=2.79, card=card)
    assert tune.pod_usd == pytest.approx(50, abs=1)
    assert tune.flex_usd > tune.pod_usd
    assert tune.break_even == pytest.approx(2.79 / (0.00116 * 3600))
    assert tune.advice.startswith("sustained: ")


@given(st.floats(1.0, MONTH_S), st.floats(0.0, 1.0), st.floats(0.1, 10.0))
def test_the_break_even_is_where_both_cost_the_same(up_s: float, busy: float, usd_per_hour: float) -> None:
    card = card_named("A100")
    assert card is not None
    said = compared(up_s=up_s, gpu_s=busy * up_s, runs=0, usd_per_hour=usd_per_hour, card=card)
    assert (said.flex_usd < said.pod_usd) == (busy < said.break_even) or said.flex_usd == pytest.approx(said.pod_usd)


def test_of_too_little_nothing_is_compared_and_it_says_so() -> None:
    short = Boot(began=T0, ended=at(7), spans=[span("gpu", 0, 7, "active"), span("host", 0, 7, "active")])
    bill = billed([short, Boot(began=at(8), ended=at(20), spans=[])], from_=T0, to=at(20), usd_per_hour=2.0)
    card = card_named("L4")
    assert comparison_of(bill, card) is None
    text = " ".join(" ".join(report_lines(shown(bill=bill, comparison=None))).split())
    assert "not compared; 7h of this time was watched, and less than 8h says nothing" in text


def test_what_nobody_looked_at_is_not_compared() -> None:
    long = Boot(began=T0, ended=at(10), spans=[span("gpu", 0, 10, "active"), span("host", 0, 10, "active")])
    bill = billed([long, Boot(began=at(10), ended=at(60), spans=[])], from_=T0, to=at(60), usd_per_hour=2.0)
    said = comparison_of(bill, card_named("L4"))
    assert said is not None
    assert said.pod_usd == pytest.approx(20.0)
    assert "over the 10h in which a daemon looked" in " ".join(report_lines(shown(bill=bill, comparison=said)))


# ---------------------------------------------------------------- what is shown


def shown(**changes: object) -> Report:
    card = card_named("L4")
    bill = billed([DAY, Boot(began=at(34), ended=at(35), spans=[])], from_=T0, to=at(35), usd_per_hour=2.0)
    assert card is not None
    said = compared(up_s=bill.up_s, gpu_s=bill.gpu_s, runs=bill.runs, usd_per_hour=2.0, card=card)
    told = {"pod": "<abc>", "bill": bill, "starts": 2, "card": card, "comparison": said, "storage": "$0.20 a GB"}
    return Report(**(told | changes))  # type: ignore[arg-type]  # what a test changes


def test_the_text_fits_into_80_columns_and_has_the_sums() -> None:
    lines = list(report_lines(shown()))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "up for 11h ($22.00) in 2 starts" in text
    assert "1 stop by idlewatch: 1d not billed ($48.00), had it run on." in text
    assert "  idle        41%   4h 30m     $9.00" in text


def test_json_csv_and_html_have_the_same_sums() -> None:
    told = shown()
    said = json.loads(json.dumps(report_json(told)))
    rows = list(csv.DictReader(io.StringIO(report_csv(told))))
    for kind in Kind:
        assert sum(float(row[f"{kind.value}_s"]) for row in rows) == pytest.approx(said["kinds"][kind.value]["seconds"])
    assert sum(float(row["active_usd"]) for row in rows) == pytest.approx(said["kinds"]["active"]["usd"])
    assert (said["format"], said["saved_usd"], said["serverless"]["busy"]) == (1, 48.0, pytest.approx(2 / 11))
    page = report_html(told)
    assert "&lt;abc&gt;" in page
    assert "<abc>" not in page
    assert "http" not in page, "nothing is fetched"
    assert page.count("<rect") == sum(1 for day in told.bill.days for seconds in day.seconds.values() if seconds)


def test_the_page_begins_with_what_was_paid_what_of_it_was_idle_and_what_stopping_saved() -> None:
    figures = (
        "<b>$22.00</b>for 11h in 2 starts",
        "<b>$9.00</b>of it idle, 4h 30m",
        "<b>$48.00</b>not billed after 1 stop, 1d",
    )
    page = report_html(shown())
    assert "".join(f"<div>{one}</div>" for one in figures) in page
    unknown = report_html(shown(bill=billed([DAY], from_=T0, to=at(10), usd_per_hour=None), comparison=None))
    assert "<div><b>10h</b>for 10h in 2 starts</div>" in unknown, "without a price in hours"


def test_what_is_not_compared_is_named_with_its_catch() -> None:
    for text in ("\n".join(report_lines(shown())), report_html(shown())):
        words = " ".join(text.split()).lower()
        assert "a savings plan (months paid beforehand; a stop then saves nothing on the gpu)" in words
        assert "spot (ended with seconds of notice)" in words
        assert "one active worker all the time" in words


def test_without_a_price_no_dollar_is_made_up() -> None:
    bill = billed([DAY], from_=T0, to=at(10), usd_per_hour=None)
    told = shown(bill=bill, card=None, comparison=None)
    assert "$" not in "".join(line for line in report_lines(told) if "While stopped" not in line)
    assert (report_json(told)["usd"], report_json(told)["storage"]) == (None, "$0.20 a GB")


def test_a_kind_of_no_percent_draws_nothing_and_is_not_told_as_none() -> None:
    spans = [span("gpu", 0, 10, Activity.QUIET), span("gpu", 5, 5 + 7 / HOUR_S, Activity.ACTIVE)]
    boot = Boot(began=T0, ended=at(10), spans=spans)
    bill = billed([boot], from_=T0, to=at(10), usd_per_hour=2.0)
    (active,) = [line for line in report_lines(shown(bill=bill)) if line.startswith("  active")]
    assert active.split() == ["active", "<", "1%", "7s", "$0.00"]
    (idle,) = [line for line in report_lines(shown(bill=bill), 60) if line.startswith("  idle")]
    assert idle.endswith("  " + "#" * 22)


def test_it_fits_a_terminal_of_60_columns() -> None:
    assert max(map(len, report_lines(shown(), 60))) <= 60
