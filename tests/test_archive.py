"""What outlives the Pod: one file a start on the volume, which grows by what is new."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from idlewatch.history.archive import HISTORY, MARK, keep_on_volume
from idlewatch.history.recording import name_of
from idlewatch.history.store import DATABASE_FILE, History
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Reading
from idlewatch.replay import read_story
from idlewatch.report import boots_of

WALL = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
HEAD: dict[str, Json] = {"pod_id": "p1", "boot_key": "p1@1", "started_s": 0.0, "settings": {}}
NAME = name_of(WALL, "p1@1")
DAY_S = 86400.0


def watched(state_dir: Path, instants: Iterable[float], from_s: float = 0.0) -> None:
    """What a daemon kept at these instants, and a warning at the last one."""
    at_s = 0.0
    history = History(state_dir)
    with history.together():
        for at_s in instants:
            facts: dict[str, Json] = {"told": hashlib.sha256(str(at_s).encode()).hexdigest()}
            history.saw([Reading(signal="host", at_s=at_s, covers_s=5.0, facts=facts)], WALL)
        history.judged([Span("host", from_s, at_s, "quiet", reason="CPU 0 %")])
        history.happened("warn", "quiet", at_s=at_s, wall=WALL, facts={})
    history.close()


def thinned(state_dir: Path, now_s: float) -> None:
    history = History(state_dir)
    history.thin(now_s)
    history.close()


def kept(state_dir: Path) -> Path:
    return keep_on_volume(state_dir / "pod", state_dir, NAME, HEAD)


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def instants(path: Path) -> list[float]:
    return [line["reading"]["at_s"] for line in lines(path) if "reading" in line]


def kinds(path: Path) -> Counter[str]:
    return Counter(next(iter(line)) for line in lines(path))


def test_the_first_writing_has_a_head_and_all_that_was_seen(tmp_path: Path) -> None:
    watched(tmp_path, (5.0, 10.0))
    path = kept(tmp_path)
    assert lines(path)[0] == {"recording": 1, **HEAD}
    assert kinds(path) == {"recording": 1, "reading": 2, "verdict": 1, "event": 1}
    assert path.stat().st_mode & 0o077 == 0


def test_one_boot_has_one_file_however_its_start_is_reckoned_and_the_oldest_of_many_go(tmp_path: Path) -> None:
    watched(tmp_path, (5.0,))
    pod, first = tmp_path / "pod", kept(tmp_path)
    assert keep_on_volume(pod, tmp_path, name_of(WALL + timedelta(seconds=1), "p1@1"), HEAD) == first
    for day in range(1, 60):
        keep_on_volume(pod, tmp_path, name_of(WALL + timedelta(days=day), f"p1@{day * 100}"), HEAD)
    names = sorted(path.name for path in (pod / HISTORY).iterdir())
    assert len(names) == 50
    assert first.name not in names
    assert names[-1].startswith("20270118")


def test_it_grows_by_what_is_new_and_not_a_byte_of_before_is_written_again(tmp_path: Path) -> None:
    watched(tmp_path, (at_s * 5.0 for at_s in range(1, 2000)))
    path = kept(tmp_path)
    before = path.read_bytes()
    watched(tmp_path, (10000.0,))
    assert kept(tmp_path) == path
    after = path.read_bytes()
    assert after.startswith(before)
    assert 0 < len(after) - len(before) < 400
    assert kinds(path) == {"recording": 1, "reading": 2000, "verdict": 2, "event": 2}
    assert [line["verdict"]["to_s"] for line in lines(path) if "verdict" in line] == [9995.0, 10000.0]


def test_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    watched(tmp_path, (5.0,))
    path = kept(tmp_path)
    with path.open("ab") as file:
        file.write(b"\x1f\x8b torn" * 100)
    watched(tmp_path, (10.0,))
    kept(tmp_path)
    assert kinds(path) == {"recording": 1, "reading": 2, "verdict": 2, "event": 2}


@pytest.mark.parametrize("left", [0, 20, -1])
def test_a_file_that_is_shorter_than_it_was_has_all_again(tmp_path: Path, left: int) -> None:
    watched(tmp_path, (5.0, 10.0))
    path = kept(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    kept(tmp_path)
    assert kinds(path) == {"recording": 1, "reading": 2, "verdict": 1, "event": 1}


def test_a_file_whose_newer_half_is_lost_has_that_again_and_the_older_once(tmp_path: Path) -> None:
    watched(tmp_path, (5.0, 10.0))
    path = kept(tmp_path)
    half = path.read_bytes()
    watched(tmp_path, (15.0, 20.0))
    kept(tmp_path)
    path.write_bytes(half + b"\x1f\x8b")
    kept(tmp_path)
    assert path.read_bytes().startswith(half)
    assert instants(path) == [5.0, 10.0, 15.0, 20.0]


def test_without_the_mark_the_file_itself_says_what_it_has(tmp_path: Path) -> None:
    watched(tmp_path, (5.0, 10.0))
    path = kept(tmp_path)
    before = path.read_bytes()
    (tmp_path / MARK).unlink()
    watched(tmp_path, (15.0,))
    kept(tmp_path)
    assert path.read_bytes().startswith(before)
    assert instants(path) == [5.0, 10.0, 15.0]
    assert kinds(path)["event"] == 2


def test_a_history_that_began_anew_is_added_to_what_was_kept_of_the_old_one(tmp_path: Path) -> None:
    """A damaged one is put aside; the new one's rows count from 1 again."""
    watched(tmp_path, (at_s * 5.0 for at_s in range(1, 21)))
    path = kept(tmp_path)
    (tmp_path / DATABASE_FILE).rename(tmp_path / "history.db.bad")
    watched(tmp_path, (105.0, 110.0), from_s=105.0)
    kept(tmp_path)
    assert instants(path) == [at_s * 5.0 for at_s in range(1, 23)]
    assert kinds(path)["event"] == 2


def test_a_state_folder_that_somebody_emptied_takes_nothing_from_the_volume(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    watched(state, (5.0, 10.0))
    path = keep_on_volume(tmp_path, state, NAME, HEAD)
    for file in state.iterdir():
        file.unlink()
    watched(state, (15.0,), from_s=15.0)
    keep_on_volume(tmp_path, state, NAME, HEAD)
    assert instants(path) == [5.0, 10.0, 15.0]


def test_what_lies_in_the_folder_of_an_earlier_start_is_not_this_ones(tmp_path: Path) -> None:
    """Its stop would count as this one's."""
    watched(tmp_path, (5.0, 10.0))
    watched(tmp_path, (1005.0,), from_s=1005.0)
    path = keep_on_volume(tmp_path / "pod", tmp_path, name_of(WALL, "p1@2"), {**HEAD, "started_s": 1000.0})
    assert instants(path) == [1005.0]
    assert kinds(path)["event"] == 1


# ------------------------------------------------------------------- folding


def long_watch(state_dir: Path, days: tuple[float, float], last_kept_s: float) -> list[float]:
    """Two looks a minute in an hour of every six, kept on the volume at an instant, the history thinned at the end."""
    every = range(int(days[0] * DAY_S) + 30, int(days[1] * DAY_S) + 1, 30)
    at = [float(at_s) for at_s in every if at_s % 21600 <= 3600]
    watched(state_dir, (at_s for at_s in at if at_s <= last_kept_s))
    kept(state_dir)
    watched(state_dir, (at_s for at_s in at if at_s > last_kept_s))
    thinned(state_dir, days[1] * DAY_S)
    return at


def test_what_is_old_is_folded_once_and_the_newest_three_days_stay_whole(tmp_path: Path) -> None:
    at = long_watch(tmp_path, (0.0, 6.5), 5.9 * DAY_S)
    size = kept_size = kept(tmp_path).stat().st_size
    path = next((tmp_path / "pod" / HISTORY).iterdir())
    found = instants(path)
    whole = [at_s for at_s in at if at_s > 3.5 * DAY_S]
    assert found[-len(whole) :] == whole
    older = found[: -len(whole)]
    assert len(older) == len({int(at_s // 60) for at_s in older}) == pytest.approx(14 * 60, abs=15)
    assert kinds(path)["event"] == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing else is left"
    folded = json.loads((tmp_path / MARK).read_text())["folded"]["bytes"]
    before = path.read_bytes()[:folded]
    watched(tmp_path, (6.5 * DAY_S + 30,))
    assert 0 < kept(tmp_path).stat().st_size - kept_size < 400, "and then it grows by what is new"
    long_watch(tmp_path, (6.6, 9.6), 9.0 * DAY_S)
    assert kept(tmp_path).stat().st_size < size * 2
    assert path.read_bytes().startswith(before), "what was folded is copied"
    assert len(instants(path)) == len(set(instants(path)))
    assert json.loads((tmp_path / MARK).read_text())["folded"]["bytes"] > folded


def test_a_replay_begins_where_all_readings_were_kept(tmp_path: Path) -> None:
    long_watch(tmp_path, (0.0, 6.5), 5.9 * DAY_S)
    story = read_story(kept(tmp_path), ("host",))
    assert story.life.watched_from_s == pytest.approx(3.5 * DAY_S)


# ------------------------------------------------------------ killed while it writes

_KILLED = """
import resource, signal, sys
from pathlib import Path
from tests.test_archive import kept
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
sys.dont_write_bytecode = True
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
kept(Path(sys.argv[1]))
"""
"""The kernel ends it, at once, with the byte that is one too many."""


def killed_at(state_dir: Path, size: int) -> None:
    command = [sys.executable, "-c", _KILLED, str(state_dir), str(size)]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parent.parent).returncode < 0


@pytest.mark.slow
def test_killed_while_it_grows_it_is_readable_and_the_next_writing_makes_it_whole(tmp_path: Path) -> None:
    watched(tmp_path, (at_s * 5.0 for at_s in range(1, 1000)))
    path = kept(tmp_path)
    size = path.stat().st_size
    watched(tmp_path, (at_s * 5.0 for at_s in range(1000, 40000)))
    killed_at(tmp_path, size + 70_000)
    assert path.stat().st_size == size + 70_000, "torn"
    story = read_story(path, ("host",))
    assert "cut off" in story.notes[0]
    assert len(list(story.life.readings)) > 999
    now = WALL + timedelta(seconds=200_000)
    boots = boots_of(tmp_path / "none", path.parent.parent, now=now, now_s=9.0, boot_key="another", started_s=0.0)
    assert [span.to_s for span in boots[0].spans] == [999 * 5.0], "verdicts come after the readings"
    kept(tmp_path)
    assert instants(path) == [at_s * 5.0 for at_s in range(1, 40000)]


@pytest.mark.slow
def test_killed_while_it_folds_the_old_file_is_whole_and_the_next_writing_folds(tmp_path: Path) -> None:
    long_watch(tmp_path, (0.0, 6.5), 5.9 * DAY_S)
    path = next((tmp_path / "pod" / HISTORY).iterdir())
    before = path.read_bytes()
    killed_at(tmp_path, 40_000)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2
    kept(tmp_path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert len(instants(path)) == pytest.approx(14 * 60 + 12 * 120, abs=30)


def test_without_room_to_fold_it_grows_on(tmp_path: Path) -> None:
    at = long_watch(tmp_path, (0.0, 6.5), 5.9 * DAY_S)
    path = next((tmp_path / "pod" / HISTORY).iterdir())
    part = path.with_name(f".{path.name}.part")
    part.symlink_to(tmp_path / "no such folder" / "part")
    kept(tmp_path)
    assert instants(path) == at
    assert list(path.parent.iterdir()) == [path]
