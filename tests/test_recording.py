"""A history as the lines of a recording."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from idlewatch.history.recording import head_line, lines_of, name_of, picture_of
from idlewatch.history.store import DATABASE_FILE, History, Kept, reading_from_json
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Reading

WALL = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
HEAD: dict[str, Json] = {"pod_id": "p1", "boot_key": "p1@1", "started_s": 0.0, "settings": {}}


def seen(state_dir: Path) -> Reading:
    reading = Reading(signal="gpu", at_s=5.0, covers_s=5.0, facts={"util_max_pct": 87, "name": "Überlauf"})
    history = History(state_dir)
    history.saw([reading], WALL)
    history.judged([Span("gpu", 0.0, 5.0, "active", reason="gpu0 87 %")])
    history.happened("warn", "quiet", at_s=4.0, wall=WALL, facts={})
    history.close()
    return reading


def test_a_recording_has_a_head_and_all_that_was_seen(tmp_path: Path) -> None:
    reading = seen(tmp_path)
    assert json.loads(head_line(HEAD)) == {"recording": 1, **HEAD}
    lines = [json.loads(line) for line in lines_of(tmp_path, Kept())]
    assert reading_from_json(lines[0].pop("reading")) == reading
    assert lines == [
        {"at": WALL.isoformat()},
        {
            "verdict": {
                "name": "gpu",
                "from_s": 0.0,
                "to_s": 5.0,
                "verdict": "active",
                "bars": False,
                "pauses": False,
                "refines": False,
                "reason": "gpu0 87 %",
            }
        },
        {"event": {"at_s": 4.0, "at": WALL.isoformat(), "kind": "warn", "text": "quiet", "facts": {}}},
    ]


def test_names_sort_by_age_and_tell_starts_apart() -> None:
    assert name_of(WALL, "p1@1").startswith("20261120T170000Z-")
    assert name_of(WALL, "p1@1") != name_of(WALL, "p1@2")


def test_a_picture_does_not_change_while_the_daemon_writes_on(tmp_path: Path) -> None:
    seen(tmp_path)
    with picture_of(tmp_path) as picture:
        history = History(tmp_path)
        history.saw([Reading(signal="gpu", at_s=10.0)], WALL)
        history.judged([Span("gpu", 0.0, 10.0, "active")])
        history.close()
        before = list(picture.lines(Kept()))
        assert (len(before), picture.newest_s, picture.newest) == (3, 5.0, Kept(1, 1, 5.0))
        assert '"to_s": 5.0' in before[1]
    assert len(list(lines_of(tmp_path, Kept(1, 1, 5.0)))) == 2


def test_a_damaged_reading_is_left_out_and_no_history_is_none(tmp_path: Path) -> None:
    assert list(lines_of(tmp_path, Kept())) == []
    seen(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as database:
        database.execute("INSERT INTO readings VALUES (6.0, 'w', 'gpu', x'00ff')")
    assert len(list(lines_of(tmp_path, Kept()))) == 3
