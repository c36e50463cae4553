"""What is kept: the state of this start only, and readings that come back equal."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.deciding import remembered
from idlewatch.deciding.clock import IdleClock, Seen
from idlewatch.files import write_atomically
from idlewatch.history.database import Database, StateFolderError
from idlewatch.history.formats import LAYOUT
from idlewatch.history.sampling import Sample, facts_in
from idlewatch.history.store import (
    _THIN,
    History,
    events_of,
    reading_from_json,
    reading_to_json,
    readings_of,
    spans_of,
    status_of,
)
from idlewatch.history.verdicts import Span
from idlewatch.model import Cause, Json, Phase, Reading

HISTORIES = Path(__file__).parent / "histories"
WALL = datetime(2026, 11, 20, tzinfo=UTC)
STATE = replace(
    remembered.started(5.0),
    clock=IdleClock(1.0, 9.0, {"gpu": Seen(8.0, ((2.0, 3.0),))}),
    phase=Phase.WARNED,
    cause=Cause.CEILING,
    troubles={"blind:gpu": "not seen"},
)


def test_the_state_comes_back_for_this_start_and_these_settings_only(tmp_path: Path) -> None:
    History(tmp_path).remember("pod1@100", "settings1", STATE)
    history = History(tmp_path)
    assert history.remembered("pod1@100", "settings1") == STATE
    assert history.remembered("pod1@200", "settings1") is None
    assert history.remembered("pod2@100", "settings1") is None
    assert history.remembered("pod1@100", "settings2") is None


def test_a_damaged_database_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"not a database at all" * 100)
    history = History(tmp_path)
    assert history.remembered("pod1@100", "s") is None
    history.happened("warn", "quiet for 30m", at_s=1.0, wall=WALL, facts={})
    assert (tmp_path / "history.db.bad").read_bytes().startswith(b"not a database")
    assert len(events_of(tmp_path)) == 1


def test_events_and_status_are_read_by_others(tmp_path: Path) -> None:
    assert status_of(tmp_path) is None
    assert events_of(tmp_path) == []
    history = History(tmp_path)
    history.happened("warn", "quiet for 30m", at_s=1.0, wall=WALL, facts={"usd": 2})
    history.show({"phase": "warned"})
    assert status_of(tmp_path) == {"phase": "warned"}
    assert events_of(tmp_path)[0]["facts"] == {"usd": 2}


def test_a_history_that_cannot_be_opened_is_an_empty_one_to_those_who_read(tmp_path: Path) -> None:
    (tmp_path / "history.db").mkdir()
    assert events_of(tmp_path) == []
    assert spans_of(tmp_path) == []


def test_readings_older_than_three_days_are_thinned_to_one_a_minute_of_each_signal(tmp_path: Path) -> None:
    history = History(tmp_path)
    old = [Reading(signal=name, at_s=float(at)) for at in range(0, 120, 5) for name in ("gpu", "host")]
    history.saw(old, WALL)
    history.saw([Reading(signal="gpu", at_s=4 * 86400.0 + at) for at in range(3)], WALL)
    history.thin(4 * 86400.0)
    kept = [(reading.signal, reading.at_s) for reading in history.readings_since(-1)]
    assert kept[:4] == [("gpu", 55.0), ("host", 55.0), ("gpu", 115.0), ("host", 115.0)]
    assert len(kept) == 7


def test_what_is_kept_together_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    history = History(tmp_path)

    def half() -> None:
        with history.together():
            history.happened("warn", "quiet", at_s=1.0, wall=WALL, facts={})
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        half()
    assert events_of(tmp_path) == []


def test_a_span_that_stands_is_kept_once_and_made_longer(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.judged([Span("gpu", 1.0, 2.0, "quiet", reason="a")])
    history.judged([Span("gpu", 1.0, 7.0, "quiet", bars=True, reason="b"), Span("host", 3.0, 7.0, "active")])
    assert spans_of(tmp_path) == [
        Span("gpu", 1.0, 7.0, "quiet", bars=True, reason="b"),
        Span("host", 3.0, 7.0, "active"),
    ]
    assert spans_of(tmp_path, since_s=8.0) == []


JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(facts=st.dictionaries(st.text(), JSON, max_size=4), error=st.none() | st.text(), at_s=st.floats(0, 1e9))
def test_a_reading_comes_back_equal(facts: dict[str, Json], error: str | None, at_s: float) -> None:
    reading = Reading(signal="gpu", at_s=at_s, covers_s=5.0, facts=facts, error=error)
    assert reading_from_json(reading_to_json(reading)) == reading


def test_a_state_is_not_remembered_once_a_newer_one_could_not_be_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.remember("pod1@100", "s", STATE)
    assert History(tmp_path).remembered("pod1@100", "s") == STATE
    whole = {path: path.read_bytes() for path in tmp_path.glob("history.db*")}
    history.close()
    (tmp_path / "history.db").unlink()
    (tmp_path / "history.db").mkdir()
    with pytest.raises(StateFolderError, match="Is a directory"):
        history.remember("pod1@100", "s", STATE)
    (tmp_path / "history.db").rmdir()
    for path, content in whole.items():
        path.write_bytes(content)
    after = History(tmp_path)
    assert after.remembered("pod1@100", "s") is None, "what was seen since is not in it"
    after.happened("warn", "quiet", at_s=1.0, wall=WALL, facts={})
    assert after.remembered("pod1@100", "s") is None, "an event makes an old state no newer"
    after.remember("pod1@100", "s", STATE)
    assert after.remembered("pod1@100", "s") == STATE


def test_what_cannot_be_opened_is_no_damage_and_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "history.db").mkdir()
    with pytest.raises(StateFolderError):
        History(tmp_path).happened("warn", "quiet", at_s=1.0, wall=WALL, facts={})
    assert (tmp_path / "history.db").is_dir()
    assert not (tmp_path / "history.db.bad").exists()


def test_a_database_that_is_held_by_somebody_is_no_damage(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.happened("warn", "quiet", at_s=1.0, wall=WALL, facts={})
    with closing(sqlite3.connect(tmp_path / "history.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateFolderError, match="locked"):
            history.happened("save", "quiet", at_s=2.0, wall=WALL, facts={})
        other.execute("ROLLBACK")
    history.happened("stop", "quiet", at_s=3.0, wall=WALL, facts={})
    assert [event["kind"] for event in events_of(tmp_path)] == ["warn", "stop"]


def test_a_database_that_is_damaged_while_the_daemon_runs_is_put_aside_with_all_that_belongs_to_it(
    tmp_path: Path,
) -> None:
    history = History(tmp_path)
    for number in range(50):
        history.happened("warn", f"{number} " * 500, at_s=1.0, wall=WALL, facts={})
    history.close()
    path = tmp_path / "history.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StateFolderError, match="malformed"):
        history.happened("save", "quiet", at_s=2.0, wall=WALL, facts={})
    history.happened("stop", "quiet", at_s=3.0, wall=WALL, facts={})
    assert [event["kind"] for event in events_of(tmp_path)] == ["stop"]
    assert (tmp_path / "history.db.bad").exists()


def written_by_an_older_version(state_dir: Path, version: int) -> None:
    with closing(sqlite3.connect(state_dir / "history.db")) as old:
        old.executescript((HISTORIES / f"format-{version}.sql").read_text())


@pytest.mark.parametrize("version", LAYOUT.steps)
def test_the_history_of_an_older_version_goes_on(tmp_path: Path, version: int) -> None:
    written_by_an_older_version(tmp_path, version)
    history = History(tmp_path)
    history.happened("stop", "quiet", at_s=99.0, wall=WALL, facts={})
    assert history.put_aside() is None
    assert [(event["kind"], event["facts"]) for event in events_of(tmp_path)] == [("warn", {"usd": 2}), ("stop", {})]
    assert history.readings_since(0.0) == [
        Reading(signal="gpu", at_s=10.0, covers_s=5.0, facts={"gpus": [{"util": 93}]}),
        Reading(signal="people", at_s=10.0, covers_s=5.0, error="no /proc/net/tcp"),
    ]
    verdicts = [] if version == 1 else [Span("gpu", 10.0, 70.0, "active", bars=True, reason="GPU 0 at 93%")]
    assert spans_of(tmp_path) == verdicts
    assert list(facts_in(tmp_path, Sample(signal="gpu", from_s=0.0, to_s=99.0))) == [(10.0, {"gpus": [{"util": 93}]})]


def test_a_program_that_ends_within_a_step_leaves_the_history_as_it_was(tmp_path: Path) -> None:
    written_by_an_older_version(tmp_path, 2)
    dying = "from idlewatch.history.formats import LAYOUT; from tests.test_history import bring_up_until_killed"
    command = [sys.executable, "-P", "-c", f"{dying}; bring_up_until_killed({str(tmp_path)!r})"]
    done = subprocess.run(command, cwd=HISTORIES.parent.parent, env={"PYTHONPATH": "."}, check=False)
    assert done.returncode == -signal.SIGKILL
    history = History(tmp_path)
    assert [reading.signal for reading in history.readings_since(0.0)] == ["gpu", "people"]
    assert history.put_aside() is None


def bring_up_until_killed(state_dir: str) -> None:
    """In a process of its own: all of the last step is written, and then it is ended hard."""

    def killed(database: sqlite3.Connection) -> None:
        LAYOUT.steps[2](database)
        os.kill(os.getpid(), signal.SIGKILL)

    Database(Path(state_dir) / "history.db", replace(LAYOUT, steps={2: killed})).rows("SELECT 1")


@pytest.mark.parametrize(
    ("version", "tables", "why"),
    [
        (LAYOUT.format + 1, "", "was written by a newer version of idlewatch"),
        (2, "CREATE TABLE readings (x)", "does not look like one of idlewatch"),
        (1, "CREATE TABLE events (x); CREATE TABLE readings (reading)", "does not look like one of idlewatch"),
        (0, "CREATE TABLE events (x)", "does not look like one of idlewatch"),
        (-1, "", "does not look like one of idlewatch"),
    ],
)
def test_a_database_that_this_version_can_t_go_on_with_is_put_aside_with_words(
    tmp_path: Path, version: int, tables: str, why: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "history.db")) as other:
        other.executescript(f"{tables}; PRAGMA user_version = {version}")
    history = History(tmp_path)
    history.happened("stop", "quiet", at_s=3.0, wall=WALL, facts={})
    assert (
        history.put_aside()
        == f"the one of before {why}, and lies in {tmp_path}/history.db.bad now: the history begins here"
    )
    with closing(sqlite3.connect(tmp_path / "history.db.bad")) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (version,)
        assert "".join(sql for (sql,) in kept.execute("SELECT sql || '; ' FROM sqlite_master")).rstrip("; ") == tables
    assert len(events_of(tmp_path)) == 1


def test_a_step_that_finds_no_room_leaves_the_history_as_it_was_and_is_tried_again(tmp_path: Path) -> None:
    written_by_an_older_version(tmp_path, 2)

    def full(database: sqlite3.Connection) -> None:
        LAYOUT.steps[2](database)
        database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
        database.execute("CREATE TABLE more AS SELECT zeroblob(1000000)")

    database = Database(tmp_path / "history.db", replace(LAYOUT, steps={2: full}))
    with pytest.raises(StateFolderError, match="full"):
        database.rows("SELECT 1")
    assert [reading.signal for reading in History(tmp_path).readings_since(0.0)] == ["gpu", "people"]


def test_a_database_that_somebody_removes_is_begun_anew(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.happened("warn", "quiet", at_s=1.0, wall=WALL, facts={})
    for path in tmp_path.glob("history.db*"):
        path.unlink()
    history.happened("stop", "quiet", at_s=3.0, wall=WALL, facts={})
    assert [event["kind"] for event in events_of(tmp_path)] == ["stop"]


def test_a_damaged_reading_is_left_out_when_judges_look_back(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.saw([Reading(signal="gpu", at_s=1.0), Reading(signal="gpu", at_s=2.0)], WALL)
    with closing(sqlite3.connect(tmp_path / "history.db", isolation_level=None)) as other:
        other.execute("UPDATE readings SET reading = 'nothing' WHERE at_s = 1.0")
    assert [reading.at_s for reading in history.readings_since(0.0)] == [2.0]


def test_half_a_file_is_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "status.json" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "status.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_what_names_people_is_nobody_elses_to_read(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.happened("alarm", "ada's notebook", at_s=1.0, wall=datetime.now(UTC), facts={})
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("history.db*")}
    history.close()
    assert modes == {0o600}
    assert (tmp_path / "history.db").stat().st_mode & 0o777 == 0o600


def test_thinning_hour_by_hour_keeps_what_thinning_at_once_keeps(tmp_path: Path) -> None:
    began_s, hours = 4 * 86400.0 + 17.0, 5
    kept = []
    for name, steps in (("at once", 1), ("by hours", hours)):
        folder = tmp_path / name
        folder.mkdir()
        history = History(folder)
        history.thin(began_s)
        ticks = [began_s - 3 * 86400.0 + tick * 7.3 for tick in range(int(hours * 3600 / 7.3) - 20)]
        with history.together():
            for at_s in ticks:
                history.saw([Reading(signal=signal, at_s=at_s) for signal in ("gpu", "host")], WALL)
        for step in range(1, steps + 1):
            history.thin(began_s + hours * 3600.0 * step / steps)
        history.close()
        kept.append([(reading.signal, reading.at_s) for _, reading in readings_of(folder)])
    assert kept[0] == kept[1]
    assert len(kept[0]) == pytest.approx(2 * hours * 60, abs=10)


def test_each_thinning_looks_only_at_what_has_become_old(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.saw([Reading(signal="gpu", at_s=1.0)], WALL)
    history.close()
    database = sqlite3.connect(tmp_path / "history.db")
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {_THIN}", {"from": 0.0, "old": 1.0, "thin": 60.0})]
    database.close()
    assert not [step for step in plan if step.startswith("SCAN readings")], plan
    assert sum("readings_at (at_s>? AND at_s<?)" in step for step in plan) == 2
