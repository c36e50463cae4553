"""A save that builds upon an earlier one: what it holds, what is kept for it, and what makes it a full one."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import Snapshot, find, manifest, restore, snapshots, verify
from idlewatch.snapshot.manifest import from_manifest, to_manifest
from tests.snapshot_trees import POD, hostile_tree, saved, state, write

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def brought_back(snapshot: Snapshot, target: Path) -> Path:
    target.mkdir()
    restore(snapshot, target)
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that is worth building upon: one percent of it is little."""
    root = tmp_path / "root"
    for number in range(200):
        write(root / f"d{number % 10}" / f"{number}", os.urandom(2000))
    write(root / "big", os.urandom(4 * MIB))
    return root


def volume_of(root: Path) -> Path:
    return root.parent / "volume"


@pytest.mark.slow
def test_only_what_has_changed_is_written(root: Path) -> None:
    first = saved(root, volume_of(root))
    write(root / "d1/1", "changed")
    second = saved(root, volume_of(root))
    assert (first.base, second.base) == (None, first.id)
    assert second.archive_bytes < first.archive_bytes / 100
    assert second.members <= 3
    assert (second.files, second.total_bytes) == (201, first.total_bytes - 2000 + 7)
    assert state(brought_back(second, root.parent / "target")) == state(root)
    assert state(brought_back(first, root.parent / "older"))["d1/1"] != state(root)["d1/1"]
    verify(second)


@pytest.mark.slow
def test_every_kind_of_change_comes_back(root: Path) -> None:
    hostile_tree(root / "hostile")
    saved(root, volume_of(root))
    (root / "d2/2").chmod(0o600)
    (root / "d3/3").unlink()
    shutil.rmtree(root / "d4")
    (root / "d5").rename(root / "renamed")
    os.link(root / "d6/6", root / "d7/link")
    shutil.rmtree(root / "d8")
    write(root / "d8", "a file where a folder was")
    (root / "d9/9").unlink()
    write(root / "d9/9/below", "a folder where a file was")
    (root / "d1").chmod(0o711)
    (root / "hostile/links/two").unlink()
    before = (root / "d0/0").lstat().st_mtime_ns
    write(root / "d0/0", "same time as before", before)
    snapshot = saved(root, volume_of(root))
    assert snapshot.base is not None
    assert "d5/5" in snapshot.gone
    assert state(brought_back(snapshot, root.parent / "target")) == state(root)


def test_what_was_gone_and_has_come_back(root: Path) -> None:
    first = saved(root, volume_of(root))
    shutil.rmtree(root / "d4")
    second = saved(root, volume_of(root))
    assert {"d4", "d4/4"} <= set(second.gone)
    write(root / "d4/new", "new")
    third = saved(root, volume_of(root))
    assert (third.base, "d4" in third.gone, "d4/4" in third.gone) == (first.id, False, True)
    assert state(brought_back(third, root.parent / "target")) == state(root)


@pytest.mark.slow
def test_random_changes_again_and_again(root: Path) -> None:
    chance = random.Random(5)
    for round_ in range(6):
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for path in chance.sample(files, 4):
            chance.choice((lambda p: p.unlink(), lambda p: write(p, "other"), lambda p: p.rename(f"{p}.moved")))(path)
        write(root / f"new{round_}" / "file", "new")
        snapshot = saved(root, volume_of(root))
        assert state(brought_back(snapshot, root.parent / f"target{round_}")) == state(root)
    assert snapshot.base is not None


def test_much_change_is_a_full_save_again(root: Path) -> None:
    saved(root, volume_of(root))
    write(root / "big", os.urandom(4 * MIB))
    assert saved(root, volume_of(root)).base is None


def test_another_container_builds_upon_nothing(root: Path) -> None:
    saved(root, volume_of(root), since_ns=1)
    assert saved(root, volume_of(root), since_ns=2).base is None
    assert saved(root, volume_of(root), since_ns=2, incremental=False).base is None


@pytest.mark.slow
def test_a_base_that_cannot_be_trusted_is_not_built_upon(root: Path) -> None:
    first = saved(root, volume_of(root))
    raw = bytearray(first.archive_path.read_bytes())
    raw[first.index_at + 30] ^= 1
    first.archive_path.write_bytes(raw)
    second = saved(root, volume_of(root))
    assert second.base is None
    assert state(brought_back(second, root.parent / "target")) == state(root)


def test_damage_to_the_base_is_found_before_anything_is_written(root: Path) -> None:
    first = saved(root, volume_of(root))
    write(root / "d1/1", "changed")
    second = saved(root, volume_of(root))
    raw = bytearray(first.archive_path.read_bytes())
    raw[len(raw) // 2] ^= 1
    first.archive_path.write_bytes(raw)
    (target := root.parent / "target").mkdir()
    with pytest.raises(SnapshotError, match="damaged"):
        restore(second, target)
    with pytest.raises(SnapshotError, match="damaged"):
        verify(second)
    assert list(target.iterdir()) == []


def test_without_its_base_it_is_not_listed(root: Path) -> None:
    first = saved(root, volume_of(root))
    second = saved(root, volume_of(root))
    (first.archive_path.with_name(f"{first.id}.json")).rename(root.parent / "aside")
    assert snapshots(volume_of(root), POD) == []
    with pytest.raises(SnapshotError, match="builds upon"):
        restore(second, root)


def test_what_is_built_upon_is_kept_and_goes_with_the_last_of_them(root: Path) -> None:
    first = saved(root, volume_of(root), keep=2)
    later = [saved(root, volume_of(root), keep=2) for _ in range(3)]
    assert [one.id for one in snapshots(volume_of(root), POD)] == [later[2].id, later[1].id, first.id]
    full = [saved(root, volume_of(root), keep=2, incremental=False) for _ in range(2)]
    assert [one.id for one in snapshots(volume_of(root), POD)] == [full[1].id, full[0].id]


@pytest.mark.slow
def test_a_limit_in_bytes_never_takes_the_newest(root: Path) -> None:
    first = saved(root, volume_of(root), incremental=False)
    second = saved(root, volume_of(root), incremental=False, keep=9, keep_bytes=2 * first.archive_bytes + 10_000)
    assert len(snapshots(volume_of(root), POD)) == 2
    third = saved(root, volume_of(root), incremental=False, keep=9, keep_bytes=2 * first.archive_bytes + 10_000)
    assert [one.id for one in snapshots(volume_of(root), POD)] == [third.id, second.id]
    last = saved(root, volume_of(root), incremental=False, keep=9, keep_bytes=1)
    assert [one.id for one in snapshots(volume_of(root), POD)] == [last.id]


def test_a_file_that_changed_while_the_base_was_written_is_written_again(root: Path) -> None:
    first = saved(root, volume_of(root))
    path = first.archive_path.with_name(f"{first.id}.json")
    path.write_bytes(to_manifest(dataclasses.replace(first, changing=("d1/1",))))
    second = saved(root, volume_of(root))
    assert second.base == first.id
    assert second.members == 1


def test_what_was_gone_already_when_the_base_ended_stays_gone(root: Path) -> None:
    first = saved(root, volume_of(root))
    (root / "d1/1").unlink()
    path = first.archive_path.with_name(f"{first.id}.json")
    path.write_bytes(to_manifest(dataclasses.replace(first, gone=("d1/1",))))
    second = saved(root, volume_of(root))
    assert (second.base, second.gone) == (first.id, ("d1/1",))
    assert state(brought_back(second, root.parent / "target")) == state(root)


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("zstd")), reason="needs the system's tar and zstd")
def test_the_text_beside_it_tells_how_to_do_it_by_hand(root: Path) -> None:
    saved(root, volume_of(root))
    (root / "d3/3").unlink()
    write(root / "d1/1", "changed")
    snapshot = saved(root, volume_of(root))
    text = snapshot.archive_path.with_name(f"{snapshot.id}.txt").read_text()
    (target := root.parent / "by hand").mkdir()
    lines = [line.strip() for line in text.splitlines()]
    for command in (line for line in lines if line.startswith("zstd ")):
        quoted = command.replace("DIR", f"'{target}'")
        subprocess.run(["sh", "-ec", quoted], check=True, cwd=snapshot.folder)
    removed = lines[lines.index("Then remove what is in an archive or the image but was gone:") + 1]
    (target / removed).unlink()
    found, wanted = state(target), state(root)
    assert {path for path in wanted if found.get(path) != wanted[path]} <= {"d1", "d3"}  # folders: their times moved
    assert found.keys() == wanted.keys()


def test_an_older_format_is_still_brought_back(root: Path) -> None:
    """Format 1 had no ctimes, no image and no base; a manifest of it lacks these keys."""
    first = saved(root, volume_of(root))
    values = json.loads(to_manifest(dataclasses.replace(first, format=1)))
    old = {key: value for key, value in values.items() if key not in {"image", "deleted", "base", "seal"}}
    sealed = json.dumps({**old, "seal": manifest._seal(old)}).encode()
    found = from_manifest(sealed, first.archive_path.parent)
    assert (found.image, found.deleted, found.base, found.format) == (None, (), None, 1)
    assert find(volume_of(root), POD).id == first.id
