"""What the page shows and does: answers of its addresses, and what the daemon's own readers make of its files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from idlewatch.errors import Refused
from idlewatch.history import sampling
from idlewatch.history.store import DATABASE_FILE, History
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Reading
from idlewatch.requests.holds import read_holds
from idlewatch.requests.save_requests import save_request_file
from idlewatch.requests.stop_requests import request_file, stop_request
from idlewatch.state_folder import only_daemon
from idlewatch.web import charts, pages
from idlewatch.web.acting import Buttons
from idlewatch.web.app import page_app
from idlewatch.web.charts import POINTS, Window
from idlewatch.web.live import RANGES, Live
from idlewatch.web.measured import Measured
from tests.web_asgi import Site, Visitor, made_site
from tests.web_state import BOOT_KEY, POD, START, SetClock, fill_history, show_status, watched


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with only_daemon(tmp_path):
        yield made_site(tmp_path)


def test_the_live_state_is_what_the_daemon_says(site: Site) -> None:
    live = site.visitor().get("/api/status").said
    assert live["running"]
    assert live["status"]["pod_id"] == POD
    assert live["status"]["signals"]["jupyter"]["activity"] == "unknown"
    assert live["limits"] == {"idle_after_s": 1800.0, "warn_for_s": 300.0, "hold_max_s": 86400.0}
    assert (live["holds"], live["stop_asked"], live["problems"]) == ([], None, [])


def test_a_daemon_that_has_just_died_never_looks_alive(tmp_path: Path) -> None:
    """Its last look is no second old."""
    site = made_site(tmp_path)
    visitor = site.visitor()
    live = visitor.get("/api/status").said
    assert not live["running"]
    assert live["not_running"].startswith(
        "NOT RUNNING: the daemon ended without a word, and last looked 0s ago; nothing"
    )
    assert live["not_running"].endswith("Start it with `idlewatch run`.")
    assert visitor.get("/api/why").said is None
    assert "NOT RUNNING" in visitor.get("/stop").text
    csrf = visitor.csrf()
    for address, form in (("/stop", {"warn": "5m", "confirmed": "yes"}), ("/save", {})):
        answer = visitor.post(address, {**form, "csrf": csrf})
        assert (answer.status, "no daemon is running here" in answer.text) == (409, True)
    assert "no daemon watches here now" in visitor.post("/hold", {"for": "30m", "csrf": csrf}).said["said"]
    assert not request_file(tmp_path).exists()


def test_a_daemon_that_hangs_is_neither_alive_nor_gone(site: Site) -> None:
    site.clock.sleep(600.0)
    visitor = site.visitor()
    live = visitor.get("/api/status").said
    assert not live["running"]
    assert "a daemon runs here, but has shown nothing for 10m: it hangs" in live["not_running"]
    answer = visitor.post("/stop", {"warn": "5m", "confirmed": "yes", "csrf": visitor.csrf()})
    assert (answer.status, "it hangs or is only starting" in answer.text) == (409, True)
    assert not request_file(site.state_dir).exists()
    assert "it hangs" in visitor.post("/hold", {"for": "30m", "csrf": visitor.csrf()}).said["said"]
    (site.state_dir / "status.json").unlink()
    assert "has shown nothing yet" in visitor.get("/api/status").said["not_running"]


def test_without_a_daemon_ever_the_page_says_so(tmp_path: Path) -> None:
    site = made_site(tmp_path)
    (tmp_path / "status.json").unlink()
    visitor = site.visitor()
    assert "idlewatch run" in visitor.get("/api/status").said["not_running"]
    assert visitor.get("/api/why").said is None
    assert visitor.get("/api/timeline").said["lanes"] == []
    assert visitor.get("/api/series").said["charts"] == []
    assert visitor.get("/").status == visitor.get("/stop").status == 200


def test_wrong_settings_are_told(site: Site) -> None:
    show_status(site.state_dir, site.clock.now_s(), problems=["IDLEWATCH_MOD: there is no such setting"])
    live = site.visitor().get("/api/status").said
    assert (live["running"], live["problems"]) == (False, ["IDLEWATCH_MOD: there is no such setting"])


def test_a_status_that_is_no_status_breaks_nothing(site: Site) -> None:
    for text in ("", "[]", '{"signals": 7, "holds": 1, "troubles": []}', "\0"):
        (site.state_dir / "status.json").write_text(text)
        visitor = site.visitor()
        assert {visitor.get(path).status for path in ("/", "/stop", "/api/status", "/api/why")} == {200}


def test_holds_are_placed_shown_and_released(site: Site) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    visitor.post("/hold", {"for": "30m", "csrf": csrf})
    now_s = site.clock.now_s()
    (hold,) = visitor.get("/api/status").said["holds"]
    assert hold["who"] == "the page"
    assert visitor.post("/release", {"id": hold["id"], "csrf": csrf}).said == {"said": "Released."}
    assert read_holds(site.state_dir, now_s, hold_max_s=86400.0).active == ()
    assert visitor.post("/release", {"id": hold["id"], "csrf": csrf}).status == 409
    assert visitor.post("/release", {"id": "../status", "csrf": csrf}).status == 409
    assert visitor.post("/hold", {"for": "9999h", "csrf": csrf}).status == 400


def test_what_goes_to_other_machines_is_counted_and_what_stays_here_is_not(site: Site) -> None:
    told: list[int] = []
    app = page_app(watched(site.state_dir, site.clock), moved=told.append)
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert Visitor(app, address=address).get("/healthz").status == 200
    assert told == []
    far = Visitor(app, address="203.0.113.7")
    assert (far.get("/healthz").text, far.get("/healthz").text) == ("ok\n", "ok\n")
    assert told[-1] == 6


def test_a_plain_form_comes_back_to_the_page(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.post("/hold", {"for": "30m", "csrf": visitor.csrf()}, accept="text/html")
    assert (answer.status, answer.headers["location"]) == (303, "./")


def test_a_stop_is_asked_for_and_taken_back(site: Site) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    answer = visitor.post("/stop", {"warn": "5m", "confirmed": "yes", "csrf": csrf})
    assert "warned for 5m" in answer.said["said"]
    request = stop_request(site.state_dir, BOOT_KEY)
    assert request
    assert (request.who, request.warn_for_s) == ("the page", 300.0)
    assert json.loads(request_file(site.state_dir).read_text())["asked_s"] == site.clock.now_s()
    assert visitor.get("/api/status").said["stop_asked"] == "the page"
    assert visitor.post("/cancel", {"csrf": csrf}).said == {"said": "The request is taken back."}
    assert stop_request(site.state_dir, BOOT_KEY) is None
    assert visitor.post("/cancel", {"csrf": csrf}).status == 409


def test_whoever_stops_it_is_told_what_it_does(site: Site) -> None:
    visitor = site.visitor()
    visitor.post("/hold", {"for": "30m", "csrf": visitor.csrf()})
    show_status(site.state_dir, site.clock.now_s(), mode="observe", signals={"gpu": {"activity": "active"}})
    text = visitor.get("/stop").text
    for fact in (
        POD,
        "In use, says: gpu",
        "Holds that a stop overrides: the page",
        "only observes",
        "quiet for 12m 30s",
    ):
        assert fact in text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "Held for 30m."),
        ({"phase": "warned", "cause": "idle"}, "Held for 30m."),
        ({"phase": "warned", "cause": "request"}, "a hold does not change that"),
        ({"phase": "stopping", "cause": "idle"}, "may come too late"),
        ({"ended": True}, "it hangs or is only starting"),
    ],
)
def test_a_hold_in_vain_is_told(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    clock = SetClock()
    show_status(tmp_path, clock.now_s(), **changed)
    with only_daemon(tmp_path):
        said = Buttons(tmp_path, clock, 86400.0).hold(1800.0)
    assert said.endswith(told) or told in said


def window(clock: SetClock, span_s: float) -> Window:
    now_s = clock.now_s()
    return Window(from_s=now_s - span_s, to_s=now_s, wall_less_boot_s=START.timestamp() - now_s)


@pytest.mark.slow
def test_charts_show_each_gpu_and_leave_gaps_where_nobody_looked(tmp_path: Path) -> None:
    clock = SetClock()
    fill_history(tmp_path, clock, days=0.25, gpus=3)
    found: Any = charts.series(tmp_path, window(clock, 6 * 3600.0))
    names = {chart["name"]: [line["name"] for line in chart["lines"]] for chart in found["charts"]}
    assert names["gpu"] == ["gpu0", "gpu1", "gpu2"]
    assert names["cpu"] == ["cpu"]
    assert len(found["at"]) == POINTS
    assert found["at"][-1] <= START.timestamp()
    (gpu,) = [chart for chart in found["charts"] if chart["name"] == "gpu"]
    values = gpu["lines"][0]["values"]
    hour = POINTS // 6
    assert values[3 * hour + 2 : 4 * hour - 2] == [None] * (hour - 4)
    assert max(value for value in values if value is not None) > 50


def test_a_point_is_the_highest_of_a_gpu_and_the_mean_of_the_rest(tmp_path: Path) -> None:
    history, clock = History(tmp_path), SetClock()
    for index, (util, cpu_s) in enumerate([(0.0, 5.0), (90.0, 0.0), (10.0, 10.0)]):
        at_s = clock.now_s() - 30.0 + index
        gpu = {"index": 0, "util_max_pct": util, "mem_used_mib": None}
        history.saw([Reading(signal="gpu", at_s=at_s, facts={"gpus": [dict(gpu)]})], clock.wall())
        history.saw([Reading(signal="host", at_s=at_s, facts={"cpu_busy_s": cpu_s, "span_s": 5.0})], clock.wall())
    history.close()
    wide = Window(from_s=clock.now_s() - 40, to_s=clock.now_s(), wall_less_boot_s=0.0, interval_s=40.0)
    found: Any = charts.series(tmp_path, wide)
    assert {chart["name"]: chart["lines"][0]["values"] for chart in found["charts"]} == {"gpu": [90.0], "cpu": [1.0]}


def test_what_could_not_be_read_is_no_zero(tmp_path: Path) -> None:
    history, clock = History(tmp_path), SetClock()
    at_s = clock.now_s() - 30.0
    unread = [
        Reading(signal="gpu", at_s=at_s, error="no reader"),
        Reading(signal="host", at_s=at_s, facts={"cpus": 2}),
        Reading(signal="gpu", at_s=at_s + 9, facts={"gpus": [{"index": 0, "util_max_pct": 0.0, "error": "lost"}]}),
        Reading(signal="gpu", at_s=at_s + 18, facts={"gpus": [{"index": 0, "util_max_pct": None}]}),
    ]
    history.saw(unread, clock.wall())
    history.close()
    assert charts.series(tmp_path, window(clock, 60.0))["charts"] == []


def test_short_verdicts_are_told_as_one_by_the_strongest(tmp_path: Path) -> None:
    history, clock = History(tmp_path), SetClock()
    start_s = clock.now_s() - 86400.0
    told = [Span("jobs", start_s, start_s + 40000, "quiet", reason="hum")]
    for index, verdict in enumerate(["quiet", "unknown", "active", "quiet"]):
        from_s = start_s + 40000 + index * 10
        told.append(Span("jobs", from_s, from_s + 10, verdict, reason=f"it was {verdict}"))
    told.append(Span("jobs", start_s + 40040, clock.now_s(), "quiet", bars=True, reason="hum"))
    history.judged(told)
    history.close()
    found: Any = charts.timeline(tmp_path, window(clock, 86400.0))
    (lane,) = found["lanes"]
    verdicts = [(span[2], span[3], span[5], span[4]) for span in lane["spans"]]
    assert verdicts[0] == ("quiet", False, 1, "hum")
    assert verdicts[-1] == ("quiet", True, 1, "hum")
    assert ("active", False) in {span[:2] for span in verdicts[1:-1]}
    assert sum(span[2] for span in verdicts) == 6
    assert "it was active" in {span[3] for span in verdicts}
    ends = [span[1] for span in lane["spans"]]
    assert all(span[0] >= before for span, before in zip(lane["spans"][1:], ends, strict=False))


@pytest.mark.slow
def test_a_long_past_costs_no_more_than_a_short_one(tmp_path: Path) -> None:
    """Only what is shown is read: as many points for two days as for half of one, and through the index."""
    clock = SetClock()
    fill_history(tmp_path, clock, days=2.0, gpus=1, full_days=0.2)
    sizes = {}
    for days in (0.5, 2.0):
        found: Any = charts.series(tmp_path, window(clock, days * 86400))
        assert found["sampled"]
        sizes[days] = sum(len(line["values"]) for chart in found["charts"] for line in chart["lines"])
    assert sizes[0.5] == sizes[2.0] == 6 * POINTS
    database = sqlite3.connect(tmp_path / DATABASE_FILE)
    given = {"cells": 10, "from_s": 0.0, "to_s": 1.0, "step_s": 1.0, "signal": "gpu"}
    plans = [
        row[3]
        for query in (sampling._SOME, sampling._ALL)
        for row in database.execute(f"EXPLAIN QUERY PLAN {query}", given)
    ]
    database.close()
    assert not [plan for plan in plans if plan.startswith("SCAN readings")]
    assert sum("readings_at" in plan for plan in plans) == 2


def test_a_damaged_history_shows_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    site = made_site(tmp_path)
    for content in (b"no database", b"SQLite format 3\0" + b"\xff" * 5000):
        (tmp_path / DATABASE_FILE).write_bytes(content)
        visitor = site.visitor()
        assert visitor.get("/api/series").said["charts"] == []
        assert visitor.get("/api/timeline?range=all").said["lanes"] == []
        assert visitor.get("/api/why").status == 200


def test_a_history_of_another_format_is_not_guessed_at(tmp_path: Path) -> None:
    clock = SetClock()
    fill_history(tmp_path, clock, days=0.1)
    database = sqlite3.connect(tmp_path / DATABASE_FILE)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    assert charts.series(tmp_path, window(clock, 3600.0))["charts"] == []


@pytest.mark.slow
def test_every_range_and_any_window_can_be_asked_for(site: Site) -> None:
    fill_history(site.state_dir, site.clock, days=0.2)
    visitor = site.visitor()
    for name in RANGES:
        assert visitor.get(f"/api/timeline?range={name}").said["to"] == pytest.approx(START.timestamp(), abs=0.2)
    from_s = START.timestamp() - 900
    chosen = visitor.get(f"/api/timeline?from={from_s}&to={from_s + 600}").said
    assert (chosen["from"], chosen["to"]) == (from_s, from_s + 600)


@pytest.mark.parametrize(
    "query",
    ["range=9h", "from=1", "from=a&to=b", "from=5&to=1", "from=0&to=1e18", "from=nan&to=nan", "from=-inf&to=inf"],
)
def test_a_window_that_is_none_is_refused(site: Site, query: str) -> None:
    visitor = site.visitor()
    assert {visitor.get(f"/api/{name}?{query}").status for name in ("series", "timeline")} == {400}


@pytest.mark.slow
def test_why_is_not_asked_at_every_poll(tmp_path: Path) -> None:
    clock = SetClock()
    show_status(tmp_path, clock.now_s())
    fill_history(tmp_path, clock, days=0.1)
    live = Live(watched(tmp_path, clock))
    with only_daemon(tmp_path):
        first = live.why()
        assert isinstance(first, dict)
        assert first["keepers"]
        assert live.why() is first
        clock.sleep(25.0)
        show_status(tmp_path, clock.now_s())
        assert live.why() is not first


def test_events_are_the_newest_of_the_window(tmp_path: Path) -> None:
    history, clock = History(tmp_path), SetClock()
    for index in range(400):
        at_s = clock.now_s() - 4000 + index * 10
        history.happened(
            "warn", f"event {index}", at_s=at_s, wall=START - timedelta(seconds=4000 - index * 10), facts={}
        )
    history.close()
    found: Any = charts.timeline(tmp_path, window(clock, 3600.0))
    assert [event["text"] for event in found["events"][:2]] == ["event 399", "event 398"]
    assert len(found["events"]) == 300


def test_what_takes_long_is_measured_once_at_a_time_beside_the_page(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []
    told = iter(
        [(0, '{"total_bytes": 5}', ""), (3, "", "idlewatch: refused: no volume is mounted"), (0, "nonsense", "")]
    )

    async def run(words: Sequence[str]) -> tuple[int, str, str]:
        asked.append(words)
        await asyncio.sleep(0)
        return next(told)

    async def story() -> list[dict[str, Any]]:
        measured = Measured(run)
        answers: list[dict[str, Any]] = [measured.answer("loss")]
        for _ in range(3):
            measured.start("loss")
            measured.start("loss")
            answers.append(measured.answer("loss"))
            await measured._running["loss"]
            answers.append(measured.answer("loss"))
        return answers

    answers = asyncio.run(story())
    assert [answer["state"] for answer in answers] == [
        "none",
        "running",
        "done",
        "running",
        "failed",
        "running",
        "failed",
    ]
    assert answers[2]["answer"] == {"total_bytes": 5}
    assert answers[4]["why"] == "no volume is mounted"
    assert asked == [("loss", "--json")] * 3


def test_the_report_is_shown_as_it_is_and_runs_nothing(tmp_path: Path) -> None:
    async def run(words: Sequence[str]) -> tuple[int, str, str]:
        assert words[:2] == ("report", "--html")
        await asyncio.to_thread(Path(words[2]).write_text, "<p>$12</p>")
        return 0, "", ""

    clock = SetClock()
    site = Site(tmp_path, clock, page_app(watched(tmp_path, clock), Measured(run)))
    answer = site.visitor().get("/report")
    assert answer.text == "<p>$12</p>"
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script" not in policy


def test_a_report_that_can_t_be_made_says_why(tmp_path: Path) -> None:
    async def run(_words: Sequence[str]) -> tuple[int, str, str]:
        return 3, "", "idlewatch: refused: no price is known\n"

    clock = SetClock()
    site = Site(tmp_path, clock, page_app(watched(tmp_path, clock), Measured(run)))
    answer = site.visitor().get("/report")
    assert (answer.status, answer.text) == (409, "refused: no price is known\n")


def test_only_what_there_is_can_be_measured(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.post("/measure", {"what": "run", "csrf": visitor.csrf()}).status == 400
    assert visitor.get("/api/measured?what=run").said == {"state": "none"}


def test_every_file_that_a_page_names_is_there(site: Site) -> None:
    visitor = site.visitor()
    for page in ("/", "/stop"):
        named = [part.partition('"')[0] for part in visitor.get(page).text.split('="static/')[1:]]
        assert named
        for name in named:
            answer = visitor.get(f"/static/{name}")
            assert answer.status == 200
            assert answer.headers["content-type"].partition("/")[0] in ("text", "image")
    assert "uplot.LICENSE.txt" in pages.STATIC


@pytest.mark.slow
def test_big_answers_are_packed(site: Site) -> None:
    fill_history(site.state_dir, site.clock, days=0.2)
    visitor = site.visitor()
    plain, packed = visitor.get("/api/series"), visitor.get("/api/series", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) * 3 < len(plain.body)


def test_a_save_is_asked_of_the_daemon_and_shown(site: Site) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    assert visitor.post("/save", {"csrf": "wrong"}).status == 403
    assert not save_request_file(site.state_dir).exists()
    assert visitor.post("/save", {"csrf": csrf}).said == {"said": "Asked: the daemon saves what a stop would wipe."}
    assert visitor.get("/api/status").said["save_asked"] == "the page"
    said = json.loads(save_request_file(site.state_dir).read_text())
    assert said == {"who": "the page", "boot_key": BOOT_KEY, "asked_s": site.clock.now_s()}
    running: Json = {
        "who": "the page",
        "began_s": 1.0,
        "state": "running",
        "progress": None,
        "text": "",
        "ended_s": None,
    }
    show_status(site.state_dir, site.clock.now_s(), save=running)
    assert visitor.get("/api/status").said["status"]["save"] == running
    answer = visitor.post("/save", {"csrf": csrf})
    assert (answer.status, answer.text) == (409, "refused: a save is under way already\n")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"mode": "observe"}, "only observes"),
        ({"phase": "warned"}, "saves for itself"),
        ({"ended": True}, "only starting"),
    ],
)
def test_a_save_that_nobody_would_make_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    clock = SetClock()
    show_status(tmp_path, clock.now_s(), **changed)
    with only_daemon(tmp_path), pytest.raises(Refused, match=told):
        Buttons(tmp_path, clock, 86400.0).save()
    assert not save_request_file(tmp_path).exists()
