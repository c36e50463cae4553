"""A container that starts again and again: noted on the volume, told, and forgotten within the hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlewatch.children.tasks import TaskEnd
from idlewatch.stopping.past_starts import MANY, STARTS, Start, note_start, too_many
from tests.test_restoring import here_of, known_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POD = "p1"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path


def start(number: int, every: timedelta = timedelta(minutes=5)) -> Start:
    return Start(f"{POD}@{number}", NOW + number * every)


def test_starts_are_noted_once_each_and_the_newest_are_kept(volume: Path) -> None:
    for number in range(40):
        note_start(volume, POD, start(number))
        starts = note_start(volume, POD, start(number))
    assert starts == [start(number) for number in range(24, 40)]


def test_many_starts_within_an_hour_are_told_and_no_longer_than_that(volume: Path) -> None:
    told = [too_many(note_start(volume, POD, start(number)), start(number).at) for number in range(MANY)]
    assert told[:-1] == [None] * (MANY - 1)
    assert f"started {MANY} times within an hour" in str(told[-1])
    starts = note_start(volume, POD, start(MANY - 1))
    assert too_many(starts, start(MANY - 1).at + timedelta(minutes=55)) is None


def test_a_person_who_starts_a_pod_each_half_hour_hears_nothing(volume: Path) -> None:
    for number in range(10):
        starts = note_start(volume, POD, start(number, timedelta(minutes=30)))
    assert too_many(starts, starts[-1].at) is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"at": "yesterday", "boot_key": "a"}]', '{"a": 1}'])
def test_what_makes_no_sense_is_written_anew(volume: Path, content: str) -> None:
    note_start(volume, POD, start(0))
    (volume / ".idlewatch" / POD / STARTS).write_text(content)
    assert note_start(volume, POD, start(1)) == [start(1)]
    assert note_start(volume, POD, start(2)) == [start(1), start(2)]


def test_without_its_volume_nothing_is_made_and_nothing_raised(tmp_path: Path) -> None:
    assert note_start(tmp_path / "gone", POD, start(0)) == [start(0)]
    assert not (tmp_path / "gone").exists()


def test_the_daemon_has_a_trouble_of_it(tmp_path: Path) -> None:
    for name in ("disk/home", "volume", "state"):
        (tmp_path / name).mkdir(parents=True)
    known, starter = known_of(here_of(tmp_path))
    known(0.0)
    now = known._wall()
    starter.tasks["look_back"].told = TaskEnd(result={"starts": [now.isoformat()] * MANY})
    assert "does its command end by itself?" in str(known(1.0).troubles["starts"])
    assert known_of(here_of(tmp_path))[0](0.0).troubles["starts"] is None
