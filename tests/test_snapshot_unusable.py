"""A snapshot that can't be used any more is told wherever people ask, and no older one takes its place unseen."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from idlewatch.cli import main
from idlewatch.doctor import looks_volume
from idlewatch.errors import SnapshotError
from idlewatch.host import restoring
from idlewatch.host.restoring import Became
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import Source, load
from idlewatch.snapshot import Snapshot, kept, unusable_text
from idlewatch.snapshot.manifest import to_manifest
from tests.snapshot_trees import saved, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class World:
    """A disk, a volume, and two snapshots of an earlier start, an older one and the newest."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        places = {"STATE_DIR": "state", "SAVE_ROOT": "root", "VOLUME": "volume"}
        self.variables = {f"IDLEWATCH_{name}": str(folder / place) for name, place in places.items()}
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        self.root, self.volume = folder / "root", folder / "volume"
        self.older, self.newest = aged(self.save("older")), self.save("newest")

    def save(self, content: str) -> Snapshot:
        write(self.root / "work", content)
        return saved(self.root, self.volume, pod_id="no-pod", incremental=False)

    def here(self, restore: str = "auto") -> Assembly:
        told = {**self.variables, "IDLEWATCH_RESTORE": restore}
        return assembled(load([Source(name="environment", variables=told)]))

    def wiped(self) -> None:
        (self.root / "work").unlink()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def manifest(snapshot: Snapshot) -> Path:
    return snapshot.archive_path.with_name(f"{snapshot.id}.json")


def aged(snapshot: Snapshot) -> Snapshot:
    """The same, as of a day on which nothing else was saved."""
    made = "2026-01-01T00:00:00+00:00"
    name = "20260101T000000Z-abcdef"
    old = dataclasses.replace(snapshot, id=name, archive=f"{name}.tar.zst", began_at=made, created_at=made)
    for path in (snapshot.archive_path, snapshot.archive_path.with_name(f"{snapshot.id}.txt")):
        path.rename(path.with_name(path.name.replace(snapshot.id, name)))
    manifest(snapshot).unlink()
    manifest(old).write_bytes(to_manifest(old))
    return old


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(path: Path) -> None:
    path.rename(f"{path}.elsewhere")
    path.symlink_to(f"{path}.elsewhere")


HARMS: dict[str, tuple[Callable[[Snapshot], object], str]] = {
    "archive gone": (lambda one: one.archive_path.unlink(), "not there"),
    "archive shorter": (lambda one: os.truncate(one.archive_path, 10), "has 10 bytes"),
    "archive a pipe": (lambda one: piped(one.archive_path), "no regular file"),
    "archive a link": (lambda one: linked(one.archive_path), "no regular file"),
    "manifest gone": (lambda one: manifest(one).unlink(), "its manifest is not there"),
    "manifest empty": (lambda one: os.truncate(manifest(one), 0), "is empty"),
    "manifest broken": (lambda one: manifest(one).write_text("{"), "no JSON"),
    "manifest a pipe": (lambda one: piped(manifest(one)), "no regular file"),
    "manifest a link": (lambda one: linked(manifest(one)), "no regular file"),
    "manifest too large": (lambda one: os.truncate(manifest(one), 1 << 40), "larger than"),
}
harmed = pytest.mark.parametrize(("harm", "why"), HARMS.values(), ids=HARMS)


@harmed
def test_each_place_says_it(
    world: World, capsys: pytest.CaptureFixture[str], harm: Callable[[Snapshot], object], why: str
) -> None:
    harm(world.newest)
    told = rf"1 snapshot here can't be used: {world.newest.id}: .*{re.escape(why)}"
    assert main(["snapshots"]) == 0
    listed = capsys.readouterr().out
    assert world.older.id in listed
    assert re.search(told, listed)
    assert main(["snapshots", "--json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in raw["snapshots"]] == [world.older.id]
    assert [(one["id"], why in one["why"]) for one in raw["unusable"]] == [(world.newest.id, True)]
    assert re.search(told, str(looks_volume.volume(None, lambda _: None)["unusable"]))  # type: ignore[index, call-overload]  # an object
    offered = str(restoring.offer(world.here("ask")))
    assert re.search(told, offered)
    assert f"`idlewatch restore {world.older.id}` brings it back" in offered
    assert re.search(told, str(restoring.offer(world.here("ask"), world.older.id)))


@harmed
def test_a_person_is_given_the_older_one_only_by_its_id(
    world: World, capsys: pytest.CaptureFixture[str], harm: Callable[[Snapshot], object], why: str
) -> None:
    harm(world.newest)
    world.wiped()
    for verb in (["restore"], ["restore", world.newest.id]):
        assert main(verb) == 1
        said = capsys.readouterr().err
        assert why in said
        assert f"`idlewatch restore {world.older.id}` brings back the one of" in said
    assert not (world.root / "work").exists()
    assert main(["restore", world.older.id]) == 0
    assert (world.root / "work").read_text() == "older"


@harmed
def test_a_restore_at_boot_takes_the_older_one_and_says_so(
    world: World, harm: Callable[[Snapshot], object], why: str
) -> None:
    harm(world.newest)
    world.wiped()
    mark = restoring.bring_back(world.here(), lambda _: None)
    assert (world.root / "work").read_text() == "older"
    assert (mark.became, mark.snapshot) == (Became.DONE, world.older.id)
    assert re.search(rf"1 snapshot here can't be used: {world.newest.id}: .*{re.escape(why)}", mark.text)


def flipped(snapshot: Snapshot) -> None:
    raw = bytearray(snapshot.archive_path.read_bytes())
    raw[len(raw) // 2] ^= 1
    snapshot.archive_path.write_bytes(raw)


def test_one_that_shows_its_damage_only_when_it_is_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    flipped(world.newest)
    world.wiped()
    assert main(["restore"]) == 1
    said = capsys.readouterr().err
    assert "so nothing was touched" in said
    assert f"`idlewatch restore {world.older.id}` brings back the one of" in said
    mark = restoring.bring_back(world.here(), lambda _: None)
    assert (mark.snapshot, (world.root / "work").read_text()) == (world.older.id, "older")
    assert world.newest.id in mark.text


def test_where_none_can_be_used_nobody_says_that_there_was_none(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    flipped(world.newest)
    os.truncate(world.older.archive_path, 10)
    saved(world.root, world.volume, pod_id="another")
    world.wiped()
    assert main(["restore"]) == 1
    assert "there is no other one" in capsys.readouterr().err
    with pytest.raises(SnapshotError, match=f"1 snapshot here can't be used: {world.newest.id}"):
        restoring.bring_back(world.here(), lambda _: None)
    manifest(world.newest).unlink()
    assert main(["snapshots"]) == 0
    said = capsys.readouterr().out
    assert "that can be used" in said
    assert "2 snapshots here can't be used" in said
    assert main(["restore"]) == 1
    assert "another" not in capsys.readouterr().err
    assert "another" not in str(restoring.offer(world.here("ask")))


def test_a_damaged_older_one_keeps_nobody_from_the_newest(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(world.older.archive_path, 10)
    world.wiped()
    assert main(["restore"]) == 0
    assert (world.root / "work").read_text() == "newest"
    assert "can't be used" not in str(restoring.offer(world.here("ask")))
    assert main(["snapshots"]) == 0
    assert world.older.id in capsys.readouterr().out


def test_what_is_left_of_no_save_is_not_called_a_snapshot(world: World) -> None:
    folder = world.newest.archive_path.parent
    for name in ("notes.json", "20990101T000000Z-abcdef.tar.zst", "x.txt", "20990101T000000Z-abcde.json"):
        (folder / name).write_text("")
    assert kept(world.volume, "no-pod").unusable == {}


def test_what_they_hold_can_not_steer_a_terminal() -> None:
    text = unusable_text({"a\x1b[31m": "b\x1b[0m", "c": "d", "e": "f", "g": "h"})
    assert text == "4 snapshots here can't be used: a\\x1b[31m: b\\x1b[0m; c: d; e: f; and 1 more"
