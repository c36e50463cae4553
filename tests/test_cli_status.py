"""The screen of `idlewatch status` and the verbs beside it, as somebody reads them at night in 80 columns."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlewatch.cli import main
from idlewatch.deciding.remedies import to_keep_up
from idlewatch.history.store import History
from idlewatch.history.verdicts import Span
from idlewatch.model import Activity, Json
from idlewatch.show.folding import COLUMNS
from idlewatch.show.lanes import LEGEND
from idlewatch.show.status import status_lines
from idlewatch.state_folder import only_daemon

NOW_S, NOW = 1000.0, datetime(2026, 11, 20, tzinfo=UTC)
LONG = (
    "gpu0 (NVIDIA H100 80GB HBM3) utilization 0 % in 14 samples, memory 61.2 GB, 3 processes, power 121 W over a floor"
)
QUIET: dict[str, Json] = {
    "at_s": NOW_S - 1,
    "interval_s": 5.0,
    "mode": "stop",
    "phase": "watching",
    "reason": "quiet for 3m of 30m",
    "why": None,
    "cause": None,
    "idle_for_s": 180.0,
    "spent_usd": 4.2,
    "troubles": {},
    "holds": [],
    "signals": {
        "gpu": {"activity": "quiet", "reason": LONG},
        "transfers": {"activity": "unknown", "reason": "can't be read"},
    },
}
WARNED: dict[str, Json] = {
    **QUIET,
    "phase": "warned",
    "reason": "saves in 4m",
    "why": "nothing used this Pod for 30m",
    "cause": "idle",
    "acts_at_s": NOW_S + 240,
}


def screen(**changes: Json) -> str:
    return "\n".join(status_lines({**QUIET, **changes}, NOW_S))


def test_columns_stand_below_each_other_whatever_the_signals_are_called() -> None:
    lines = screen().splitlines()
    (gpu,), (transfers,) = ([line for line in lines if line.startswith(f"  {name}")] for name in ("gpu", "transfers"))
    assert gpu.index("quiet") == transfers.index("unknown")
    assert gpu.index("gpu0") == transfers.index("can't")
    below = lines[lines.index(gpu) + 1]
    assert below[: gpu.index("gpu0")].isspace()
    assert below[gpu.index("gpu0")] != " "


def test_a_signal_shows_its_newest_verdicts_and_how_old_its_reading_is_where_that_is_no_news() -> None:
    signals: dict[str, Json] = {
        "gpu": {"activity": "quiet", "reason": "idle", "read_s": NOW_S - 42},
        "jobs": {"activity": "quiet", "reason": "no job", "read_s": NOW_S - 6},
    }
    lanes = {"gpu": "..##..", "jobs": "...."}
    lines = status_lines({**QUIET, "signals": signals}, NOW_S, lanes=lanes)
    assert "  gpu   quiet    ..##..  idle (42s ago)" in lines
    assert "  jobs  quiet    ....    no job" in lines
    narrow = status_lines({**QUIET, "signals": signals}, NOW_S, lanes=lanes, columns=60)
    assert "  jobs  quiet    no job" in narrow


def test_everything_fits_into_80_columns_and_one_screen() -> None:
    names = ("gpu", "people", "host", "jupyter", "jobs", "transfers", "servers", "command")
    said = screen(
        signals={name: {"activity": "unknown", "reason": LONG * 3} for name in names},
        troubles={"save failed": "no space left on the volume " * 8, "notice:gpu": "x" * 300},
        holds=[{"who": "ann", "reason": "training " * 40, "until_s": NOW_S + 60}],
        previous_stop="confirmed by this start: " + LONG,
    ).splitlines()
    assert max(map(len, said)) <= COLUMNS
    assert len(said) <= 34
    assert "…" in said[-8]


def test_the_headline_says_what_it_has_cost() -> None:
    assert screen().splitlines()[0] == "watching (stop) · idle for 3m · $4.20 so far"
    assert screen(spent_usd=None).splitlines()[0] == "watching (stop) · idle for 3m"


def test_when_it_saves_is_said_once_with_the_reason_and_what_keeps_the_pod_up() -> None:
    lines = status_lines(WARNED, NOW_S)
    assert lines[1:3] == ["  saves in 4m: nothing used this Pod for 30m", "  keep it up: idlewatch hold 2h"]
    assert "\n".join(lines).count("saves in") == 1


@pytest.mark.parametrize(
    ("cause", "why", "remedy", "not_said"),
    [
        ("request", "asked for by ann", "idlewatch stop --cancel", "hold 2h"),
        (
            "ceiling",
            "uptime reaches its ceiling of 8h (IDLEWATCH_MAX_UPTIME)",
            "unset IDLEWATCH_MAX_UPTIME and restart",
            "BUDGET",
        ),
        ("ceiling", "$9 spent (IDLEWATCH_BUDGET_USD)", "unset IDLEWATCH_BUDGET_USD and restart", "hold 2h"),
    ],
)
def test_the_remedy_is_the_one_that_helps_against_this_cause(cause: str, why: str, remedy: str, not_said: str) -> None:
    said = " ".join("\n".join(status_lines({**WARNED, "cause": cause, "why": why}, NOW_S)).split())
    assert remedy in said
    assert not_said not in said
    assert remedy in to_keep_up(cause, why)


def test_a_ceiling_of_which_only_the_cause_is_known_names_both_variables() -> None:
    assert "IDLEWATCH_MAX_UPTIME or IDLEWATCH_BUDGET_USD" in to_keep_up("ceiling")


def test_a_stop_that_was_asked_for_promises_no_way_back() -> None:
    assert "keep it up" not in "\n".join(status_lines({**WARNED, "phase": "stopping"}, NOW_S))


def test_a_daemon_that_only_observes_says_so_and_asks_for_nothing() -> None:
    said = "\n".join(status_lines({**WARNED, "mode": "observe", "reason": "would save in 4m"}, NOW_S))
    assert said.startswith("warned (only observing: nothing is done)")
    assert "keep it up" not in said


def test_what_others_have_written_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in screen(troubles={"notice:jobs": "a job named \x1b[2J"})


def test_a_full_state_folder_is_said_while_what_is_shown_is_still_new() -> None:
    said = "\n".join(status_lines(QUIET, NOW_S, lives=True, fault="no space is left"))
    assert "the state folder can't be written (no space is left): what stands here is 1s old" in " ".join(said.split())


def test_a_daemon_that_lives_and_does_not_look_is_not_taken_for_one_that_ended() -> None:
    old = {**QUIET, "at_s": NOW_S - 600}
    assert status_lines(old, NOW_S, lives=True)[0].startswith("NOT SHOWN: a daemon runs here")
    assert status_lines({**QUIET, "ended": True}, NOW_S, lives=True)[0].startswith("NOT SHOWN")
    assert status_lines(old, NOW_S, lives=False)[0].startswith("NOT RUNNING")
    assert status_lines(QUIET, NOW_S, lives=False)[0].startswith("NOT RUNNING")


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    return tmp_path


def shown(state_dir: Path) -> None:
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    History(state_dir).show({**QUIET, "at_s": now_s})


def test_status_is_done_only_where_a_daemon_lives(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    with only_daemon(state_dir):
        assert main(["status"]) == 1
        assert "has shown nothing yet" in capsys.readouterr().out
        shown(state_dir)
        assert main(["status"]) == 0
        assert main(["status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["running"] is True
    shown(state_dir)
    assert main(["status"]) == 1
    assert "NOT RUNNING" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "why"])
@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_status_is_said(
    state_dir: Path, content: bytes, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (state_dir / "status.json").write_bytes(content)
    with only_daemon(state_dir):
        assert main([verb]) == 1
    assert f"{state_dir}/status.json is damaged" in capsys.readouterr().err


def test_a_status_that_cannot_be_read_is_said(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state_dir / "status.json").mkdir()
    assert main(["status"]) == 1
    assert f"{state_dir}/status.json can't be read: " in capsys.readouterr().err


def test_a_history_that_is_not_there_yet_is_nothing_yet(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history"]) == 0
    assert capsys.readouterr().out == "nothing yet\n"


def corrupt(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def replaced_by_a_folder(path: Path) -> None:
    path.mkdir()


def without_its_end(path: Path) -> None:
    history = History(path.parent)
    history.show(QUIET)
    history.saw([], NOW)
    history.happened("warn", "quiet " * 4000, at_s=1.0, wall=NOW, facts={})
    history.close()
    os.truncate(path, 8192)


@pytest.mark.parametrize("spoil", [corrupt, replaced_by_a_folder, without_its_end])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_history_that_cannot_be_read_is_not_an_empty_one(
    state_dir: Path, spoil: Callable[[Path], None], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(state_dir / "history.db")
    assert main(["history", *options]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{state_dir}/history.db can't be read: " in told.err


def test_the_quiet_time_is_drawn_against_the_limit_that_holds_and_a_learned_one_is_explained() -> None:
    told = screen(idle_after_s=1800.0)
    assert "[###...........................] 3m of 30m quiet" in told
    learned = screen(idle_after_s=1080.0, learned_why="at this time of day you came back within 18m in 40 of 42 gaps")
    assert "waits so long: at this time of day you came back within 18m" in learned
    assert "[" not in screen(idle_after_s=0.0), "idleness stops nothing: there is nothing to draw"
    assert "quiet\n" not in screen(idle_after_s=1800.0, phase="warned", reason="saves in 4m")


def test_what_came_before_is_shown_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    history = History(tmp_path)
    history.judged(
        [Span("host", now_s - 3000, now_s, Activity.QUIET), Span("gpu", now_s - 600, now_s, Activity.ACTIVE)]
    )
    for kind, text in (
        ("save done", "saved 3 files as old"),
        ("saved while in use", "saved 4 files as new"),
        ("x", "y"),
    ):
        history.happened(kind, text, at_s=now_s, wall=NOW, facts={})
    history.happened("saved by hand", "heard of late", at_s=now_s, wall=NOW - timedelta(hours=3), facts={})
    history.show({**QUIET, "at_s": now_s})
    history.close()
    (tmp_path / "last-drill.json").write_text(json.dumps({"at": "2026-11-19T10:00:00+00:00", "snapshot": None}))
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    with only_daemon(tmp_path):
        assert main(["status"]) == 0
    said = capsys.readouterr().out
    lane = next(line for line in said.splitlines() if "last hour" in line).strip()
    assert re.fullmatch(r"last hour \[ {8,10}\.{38,42}#{9,12}\]", lane), "a column is a minute, and time goes on"
    assert f"  {LEGEND}" in said.splitlines()
    assert "last save 2026-11-20 00:00 UTC: saved 4 files as new" in said
    assert "last drill 2026-11-19 10:00 UTC, nothing to save" in said
    assert main(["history", "--hours", "2"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "All times are UTC."
    assert "  the Pod  " in said
    assert "saved 4 files as new" in said
    assert said.index("heard of late") < said.index("saved 3 files as old")
