"""What others than the daemon leave for its timeline: taken once, and only what they may tell."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlewatch.history.timeline import RESTORED, SAVED_BY_HAND, leave, taken

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_what_is_left_is_taken_once_and_in_its_order(tmp_path: Path) -> None:
    leave(tmp_path, RESTORED, "brought back 3 files", NOON, {"snapshot": "s1"})
    leave(tmp_path, SAVED_BY_HAND, "saved as s2", NOON + timedelta(hours=1))
    for number, path in enumerate(sorted((tmp_path / "requests").iterdir(), key=lambda p: "s2" in p.read_text())):
        os.utime(path, (number, number))
    assert taken(tmp_path) == [
        {"kind": "restored", "text": "brought back 3 files", "at": NOON.isoformat(), "facts": {"snapshot": "s1"}},
        {"kind": "saved by hand", "text": "saved as s2", "at": "2026-11-20T13:00:00+00:00", "facts": {}},
    ]
    assert taken(tmp_path) == []
    assert list((tmp_path / "requests").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        json.dumps({"kind": "stop", "text": "x", "at": NOON.isoformat()}),
        json.dumps({"kind": "restored", "at": NOON.isoformat()}),
        json.dumps({"kind": "restored", "text": "x", "at": "yesterday"}),
        json.dumps({"kind": "restored", "text": "x", "at": "2026-11-20T12:00:00"}),
        "[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_taken_away_and_not_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests/event-1.json").write_text(text)
    assert taken(tmp_path) == []
    assert list((tmp_path / "requests").iterdir()) == []


def test_links_pipes_and_other_requests_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    (folder / "stop.json").write_text("{}")
    (tmp_path / "elsewhere").write_text(json.dumps({"kind": "restored", "text": "x"}))
    (folder / "event-link.json").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "event-pipe.json")
    (folder / "event-folder.json").mkdir()
    assert taken(tmp_path) == []
    assert {path.name for path in folder.iterdir()} == {"stop.json", "event-folder.json"}
    assert (tmp_path / "elsewhere").exists()


def test_a_text_that_could_steer_a_terminal_is_cleaned_and_cut(tmp_path: Path) -> None:
    leave(tmp_path, RESTORED, "\x1b[31mred\n" + "x" * 1000, NOON)
    (event,) = taken(tmp_path)
    assert isinstance(event, dict)
    assert "\x1b" not in str(event["text"])
    assert len(str(event["text"])) == 400


def test_one_that_can_not_be_taken_away_is_not_told_with_every_tick(tmp_path: Path) -> None:
    leave(tmp_path, RESTORED, "x", NOON)
    (path,) = (tmp_path / "requests").iterdir()
    path.unlink()
    path.mkdir()
    assert taken(tmp_path) == taken(tmp_path) == []


def test_without_a_folder_nothing_is_left_and_nothing_is_taken(tmp_path: Path) -> None:
    leave(tmp_path / "none", RESTORED, "x", NOON)
    assert taken(tmp_path / "none") == []
