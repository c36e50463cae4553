"""The daemon's side of holds: which count, which are over, and that rubbish neither raises nor holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.model import Hold
from idlewatch.requests.holds import EndedHold, HoldsRead, read_holds, remove

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 10_000.0
DAY = 86_400.0


class Folder:
    """A state folder and a made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.state, self.proc, self.holds = root, root / "proc", root / "holds"
        self.holds.mkdir(exist_ok=True)
        self.proc.mkdir(exist_ok=True)

    def put(self, name: str = "a", changes: Mapping[str, object] = MappingProxyType({}), /, **more: object) -> Path:
        record = {
            "version": 1,
            "id": name,
            "who": "train.py",
            "reason": "night run",
            "until_s": NOW + 600,
            "placed_s": NOW - 60,
            "pid": None,
            "pid_started": None,
            **changes,
            **more,
        }
        path = self.holds / f"{name}.json"
        path.write_text(json.dumps(record))
        return path

    def process(self, pid: int, *, started: int, state: str = "S") -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        fields = " ".join([state, "1", *["0"] * 17, str(started), "0"])
        (self.proc / str(pid) / "stat").write_text(f"{pid} (a) R 1 b) {fields}\n")

    def read(self, now_s: float = NOW, hold_max_s: float = DAY, known: tuple[Hold, ...] = ()) -> HoldsRead:
        return read_holds(self.state, now_s, hold_max_s=hold_max_s, proc=self.proc, known=known)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_hold_counts(folder: Folder) -> None:
    folder.put()
    held = Hold(id="a", who="train.py", reason="night run", until_s=NOW + 600)
    assert folder.read() == HoldsRead(active=(held,))


@pytest.mark.parametrize(("now_s", "active"), [(NOW + 599.9, 1), (NOW + 600, 0)])
def test_a_hold_expires(folder: Folder, now_s: float, active: int) -> None:
    folder.put()
    seen = folder.read(now_s)
    assert len(seen.active) == active
    assert [ended.why for ended in seen.ended] == ["expired"] * (1 - active)


def test_no_hold_lasts_longer_than_the_longest(folder: Folder) -> None:
    folder.put(until_s=1e300)
    assert folder.read(hold_max_s=3600).active[0].until_s == NOW - 60 + 3600
    assert folder.read(NOW + 3600, hold_max_s=3600).ended[0].why == "expired"


def test_a_hold_from_the_future_is_none(folder: Folder) -> None:
    """Its end would move on with every look; CLOCK_BOOTTIME has no future but in a file of another boot."""
    folder.put(placed_s=NOW + 3600, until_s=1e9)
    folder.put("b", placed_s=NOW + 5, until_s=1e9)
    seen = folder.read()
    assert [hold.id for hold in seen.active] == ["b"]
    assert seen.unreadable[0].reason == "placed in the future, so in another boot"


PROCESSES = {
    "alive": (77, "S", 77, True),
    "came back as another": (78, "S", 77, False),
    "a zombie": (77, "Z", 77, False),
    "alive, start unknown": (99, "R", None, True),
}


@pytest.mark.parametrize("row", PROCESSES.values(), ids=PROCESSES)
def test_a_hold_ends_with_its_process(folder: Folder, row: tuple[int, str, int | None, bool]) -> None:
    started, state, noted, active = row
    folder.process(500, started=started, state=state)
    folder.put(pid=500, pid_started=noted)
    seen = folder.read()
    assert bool(seen.active) is active
    assert [ended.why for ended in seen.ended] == ([] if active else ["its process 500 has ended"])


def test_a_process_that_is_gone_ends_its_hold_and_one_that_is_hidden_does_not(folder: Folder) -> None:
    folder.put("gone", pid=500, pid_started=1)
    folder.put("hidden", pid=501, pid_started=1)
    (folder.proc / "501" / "stat").mkdir(parents=True)
    seen = folder.read()
    assert [hold.id for hold in seen.active] == ["hidden"]
    assert [ended.id for ended in seen.ended] == ["gone"]


def test_a_real_process_holds_until_it_ends(folder: Folder) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat").read_text()
        folder.put(pid=child.pid, pid_started=int(stat[stat.rindex(")") + 1 :].split()[19]))
        alive = read_holds(folder.state, NOW, hold_max_s=DAY)
        child.communicate(b"\n")
    assert len(alive.active) == 1
    assert len(read_holds(folder.state, NOW, hold_max_s=DAY).ended) == 1


def test_a_file_that_was_taken_away_is_a_release(folder: Folder) -> None:
    path = folder.put()
    known = folder.read().active
    path.unlink()
    assert folder.read(known=known).ended == (EndedHold(id="a", who="train.py", reason="night run", why="released"),)


def test_a_known_hold_whose_file_is_rubbish_now_is_not_released(folder: Folder) -> None:
    path = folder.put()
    known = folder.read().active
    path.write_text("{")
    seen = folder.read(known=known)
    assert (seen.active, seen.ended, len(seen.unreadable)) == ((), (), 1)


def test_remove_takes_only_holds_away(folder: Folder) -> None:
    folder.put("a")
    folder.put("b")
    outside = folder.state / "outside.json"
    outside.write_text("")
    remove(folder.state, ["a", "missing", "../outside"])
    assert [path.name for path in folder.holds.iterdir()] == ["b.json"]
    assert outside.exists()


RUBBISH: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON"),
    "no JSON": (b"hold for ever", "not JSON"),
    "no text": (b"\xff\xfe\xfa\x00", "not JSON"),
    "deep": (b"[" * 60_000, "not JSON"),
    "a list": (b"[]", "not a hold of version 1"),
    "large": (b" " * (64 * 1024 + 1), "larger than 64 KiB"),
    "a number that never ends": (b'{"version":1,"id":"a","until_s":' + b"9" * 5000 + b"}", ""),
}


@pytest.mark.parametrize(("content", "reason"), RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_reported_left_and_no_hold(folder: Folder, content: bytes, reason: str) -> None:
    (folder.holds / "a.json").write_bytes(content)
    seen = folder.read()
    assert (seen.active, seen.ended) == ((), ())
    assert seen.unreadable[0].name == "a.json"
    assert reason in seen.unreadable[0].reason
    assert (folder.holds / "a.json").read_bytes() == content


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"id": "b"},
        {"until_s": None},
        {"until_s": "never"},
        {"until_s": True},
        {"until_s": math.inf},
        {"until_s": math.nan},
        {"until_s": 10**400},
        {"placed_s": math.nan},
        {"placed_s": None},
        {"pid": 0},
        {"pid": -1},
        {"pid": "self"},
        {"pid": True},
        {"pid": 1.5},
        {"pid_started": "now"},
    ],
    ids=str,
)
def test_one_wrong_field_makes_it_no_hold(folder: Folder, changes: dict[str, object]) -> None:
    folder.put("a", changes)
    seen = folder.read()
    assert (seen.active, seen.ended, len(seen.unreadable)) == ((), (), 1)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_only_regular_files_with_a_holds_name_are_read(folder: Folder) -> None:
    (folder.state / "real.json").write_text(folder.put("link").read_text())
    (folder.holds / "link.json").unlink()
    (folder.holds / "link.json").symlink_to(folder.state / "real.json")
    os.mkfifo(folder.holds / "pipe.json")
    (folder.holds / "folder.json").mkdir()
    (folder.holds / "note.txt").write_text("x")
    (folder.holds / os.fsdecode(b"\xff\x1b.json")).write_text("x")
    (folder.holds / ".draft.json").write_text("x")
    before = descriptors()
    seen = folder.read()
    assert seen.active == ()
    assert {each.name for each in seen.unreadable} == {"link.json", "pipe.json", "folder.json", "note.txt", ".json"}
    assert descriptors() == before


def test_words_of_others_are_made_printable(folder: Folder) -> None:
    folder.put(who="\x1b[31mme", reason="a\ud800\u202eb" + "x" * 5000)
    hold = folder.read().active[0]
    assert hold.who == "[31mme"
    assert hold.reason == "ab" + "x" * 197 + "…"


def test_a_missing_folder_holds_nothing_and_one_that_is_none_is_reported(tmp_path: Path) -> None:
    assert read_holds(tmp_path, NOW, hold_max_s=DAY) == HoldsRead()
    (tmp_path / "holds").write_text("")
    assert read_holds(tmp_path, NOW, hold_max_s=DAY).unreadable[0].name == "holds"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
RECORD = st.fixed_dictionaries(
    {"version": st.just(1) | JSON, "id": st.just("a") | JSON},
    optional={
        "who": JSON,
        "reason": JSON,
        "until_s": st.floats() | JSON,
        "placed_s": st.floats(max_value=NOW) | JSON,
        "pid": JSON,
        "pid_started": JSON,
    },
)


@pytest.mark.slow
@given(st.binary(max_size=400) | RECORD.map(lambda record: json.dumps(record).encode()))
@settings(max_examples=200, deadline=None)
def test_whatever_the_file_holds_nothing_raises_and_nothing_holds_for_ever(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    root.mkdir(exist_ok=True)
    folder = Folder(root)
    (folder.holds / "a.json").write_bytes(content)
    now = folder.read(hold_max_s=3600)
    later = folder.read(NOW + 3600 + 61, hold_max_s=3600)
    assert len(now.active) + len(now.ended) + len(now.unreadable) == 1
    assert later.active == ()
    assert all(hold.until_s <= NOW + 3661 for hold in now.active)
    for hold in now.active:
        (hold.who + hold.reason).encode()


def test_a_hold_whose_program_stands_still_ends_and_one_that_gets_on_does_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.put("still", progress_within_s=100, progress_s=NOW - 100)
    folder.put("moving", progress_within_s=100, progress_s=NOW - 99)
    folder.put("bad", progress_within_s=100)
    found = folder.read()
    assert [hold.id for hold in found.active] == ["moving"]
    assert [(ended.id, ended.why) for ended in found.ended] == [("still", "its program has made no progress")]
    assert [bad.name for bad in found.unreadable] == ["bad.json"]


def test_progress_in_the_future_is_no_progress(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.put("ahead", progress_within_s=100, progress_s=NOW + 1e6)
    assert [bad.reason for bad in folder.read().unreadable] == ["it has made progress in the future"]
