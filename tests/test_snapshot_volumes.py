"""Volumes that fill up, turn read-only, hang or are slow in the middle of a save, at any operation and at any byte."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch.snapshot import note_image, restore, snapshots
from tests.faulty_volume import Faulty, build
from tests.snapshot_trees import POD, birth, saved, state, write
from tests.waiting import comes

MIB = 1 << 20
ROUNDS = int(os.environ.get("IDLEWATCH_TEST_CRASHES", "20"))
MOST_OPERATIONS = 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]

SAVE = """
import sys
from pathlib import Path
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import SaveRequest, save
root, volume, state_dir = map(Path, sys.argv[1:4])
since_ns, keep, incremental = map(int, sys.argv[4:7])
try:
    made = save(SaveRequest(volume=volume, pod_id="pod1", boot_key="b", root=root, state_dir=state_dir,
                            since_ns=since_ns, keep=keep, incremental=bool(incremental)))
except SnapshotError as error:
    print("failed", error)
else:
    print("saved", made and made.id)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty_volume"))


class World:
    """A disk with an image below it, and a volume that can fail."""

    def __init__(self, tmp_path: Path, library: Path) -> None:
        self.root, self.volume, self.state_dir = tmp_path / "root", tmp_path / "volume", tmp_path / "state"
        self.volume.mkdir()
        self.state_dir.mkdir()
        for number in range(30):
            write(self.root / f"image{number % 3}" / f"{number}", f"{number}", 1_600_000_000_000_000_000)
        self.since_ns = birth(self.root)
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=self.since_ns, mounts=())
        (self.root / "image1/1").unlink()
        chance = random.Random(0)
        for number in range(50):
            write(self.root / f"own{number % 5}" / f"{number}", chance.randbytes(3000))
        write(self.root / "own/big", chance.randbytes(2 * MIB))
        self.faulty = Faulty(library, self.volume, tmp_path)
        self.targets = tmp_path / "targets"
        self.targets.mkdir()

    @property
    def folder(self) -> Path:
        return self.volume / ".idlewatch" / POD / "snapshots"

    def change(self, number: int) -> None:
        write(self.root / "own1/1", f"changed {number}")

    def save(self) -> None:
        saved(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir, keep=9)

    def call(self, *, keep: int, incremental: bool) -> list[str]:
        folders = [str(self.root), str(self.volume), str(self.state_dir)]
        return [sys.executable, "-c", SAVE, *folders, str(self.since_ns), str(keep), str(int(incremental))]

    def child(self, variables: dict[str, str], *, keep: int = 9, incremental: bool = False) -> subprocess.Popen[str]:
        call = self.call(keep=keep, incremental=incremental)
        return subprocess.Popen(call, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)

    def said(self, variables: dict[str, str], *, keep: int = 9, incremental: bool = False) -> str:
        """What a save in a child process says at its end; empty where it has ended suddenly."""
        with self.child(variables, keep=keep, incremental=incremental) as child:
            return child.communicate()[0]

    def restores_whole(self) -> list[str]:
        """Bring every listed snapshot back, the newest compared with the disk; returns their ids."""
        listed = snapshots(self.volume, POD)
        for snapshot in listed:
            target = self.targets / str(len(list(self.targets.iterdir())))
            target.mkdir()
            restore(snapshot, target)
            assert (target / "own/big").read_bytes() == (self.root / "own/big").read_bytes()
            assert len(own(state(target))) == len(own(state(self.root)))
        return [one.id for one in listed]

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def own(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {path: facts for path, facts in found.items() if path.startswith("own")}


@pytest.fixture
def world(tmp_path: Path, library: Path) -> World:
    return World(tmp_path, library)


def operations_of(world: World, *, keep: int, incremental: bool = False, slow_us: int = 0) -> list[str]:
    """What an undisturbed save does on the volume."""
    world.faulty.operations()
    assert world.said(world.faulty.variables(slow_us=slow_us), keep=keep, incremental=incremental).startswith("saved")
    return world.faulty.operations()


def some(chance: random.Random, most: int, count: int) -> list[int]:
    return list(range(most)) if count >= most else sorted(chance.sample(range(most), count))


def test_a_save_that_ends_at_any_operation_leaves_every_listed_one_whole(world: World) -> None:
    """Each save is a full one that removes the one before it: so it ends in the middle of that, too."""
    world.save()
    count = len(operations_of(world, keep=1))
    for at in some(random.Random(1), count + 1, ROUNDS * 2 // 5):
        world.change(at)
        before = {one.id for one in snapshots(world.volume, POD)}
        said = world.said(world.faulty.variables("die", at=at + 1), keep=1)
        ended = world.faulty.on.exists()
        world.faulty.mend()
        listed = world.restores_whole()
        assert listed
        assert ended == (said == "")
        assert before & set(listed) or set(listed) - before
    world.said({}, keep=1)
    (left,) = snapshots(world.volume, POD)
    assert world.files() == {
        "save.lock",
        f"image-{left.image}.names",
        *(f"{left.id}{end}" for end in (".json", ".txt", ".tar.zst")),
    }


@pytest.mark.parametrize("kind", ["full", "readonly"])
def test_a_volume_that_fails_at_any_byte_fails_the_save_and_keeps_the_others(world: World, kind: str) -> None:
    world.save()
    world.change(0)
    (first,) = snapshots(world.volume, POD)
    files, weight = world.files(), first.archive_bytes + 4096
    reason = {"full": "No space left on device", "readonly": "Read-only file system"}[kind]
    chance = random.Random(kind)
    for offset in [0, 1, 600, *(chance.randrange(weight) for _ in range(ROUNDS // 4))]:
        said = world.said(world.faulty.variables(kind, at_bytes=offset))
        assert said.startswith("failed")
        assert reason in said
        assert [one.id for one in snapshots(world.volume, POD)] == [first.id]
        world.faulty.mend()
        if kind == "full":
            assert world.files() == files, "what makes room can be removed, and was"
    assert world.restores_whole() == [first.id]
    assert world.said({}).startswith("saved")
    assert not list(world.folder.glob("*.part"))
    assert len(world.restores_whole()) == 2


@pytest.mark.parametrize("kind", ["full", "readonly", "hang"])
def test_a_volume_that_fails_at_any_operation_leaves_every_listed_one_whole(world: World, kind: str) -> None:
    world.save()
    count = len(operations_of(world, keep=9))
    for at in some(random.Random(kind), count, ROUNDS // 4):
        world.change(at)
        before = [one.id for one in snapshots(world.volume, POD)]
        variables = world.faulty.variables(kind, at=at + 1)
        with world.child(variables) as child:
            assert comes(lambda: world.faulty.on.exists() or child.poll() is not None, 120)
            if kind == "hang":
                child.kill()
            said = child.communicate()[0]
        world.faulty.mend()
        after = [one.id for one in snapshots(world.volume, POD)]
        assert set(before) <= set(after)
        assert said.startswith("saved") <= (len(after) > len(before)), "a save that says so counts"
    world.restores_whole()
    assert world.said({}).startswith("saved")
    assert not list(world.folder.glob("*.part"))


def test_a_slow_volume_is_asked_little(world: World) -> None:
    """With 2 ms an operation: the first save, those upon it, and one that removes a full one and what built upon it."""
    unlinked = []
    for number in range(5):
        world.change(number)
        operations = operations_of(world, keep=2, incremental=number != 3, slow_us=2000)
        counts = 1 + max(at for at, one in enumerate(operations) if one.startswith("fsync"))
        assert counts <= MOST_OPERATIONS, "until it counts:\n" + "\n".join(operations)
        removing = [one.split()[0] for one in operations[counts:]]
        assert removing.count("lstat64") <= 2, "at those that are kept"
        assert set(removing) <= {"lstat64", "unlink"}
        unlinked.append(removing.count("unlink"))
        world.restores_whole()
    assert unlinked == [0, 0, 0, 3, 6]


def test_a_volume_that_is_removed_is_no_place_to_save_to(world: World) -> None:
    world.volume.rmdir()
    assert "no place to save to" in world.said({})
    world.volume.write_text("a file")
    assert "no place to save to" in world.said({})
    assert world.volume.read_text() == "a file"


def test_one_that_is_damaged_is_not_counted_among_those_that_are_kept(world: World) -> None:
    """Else a whole one would be removed because of one that brings nothing back."""
    made = []
    for number in range(3):
        world.change(number)
        made.append(saved(world.root, world.volume, since_ns=world.since_ns, incremental=False, keep=9))
    with made[2].archive_path.open("r+b") as archive:
        archive.truncate(made[2].archive_bytes - 1)
    world.change(3)
    newest = saved(world.root, world.volume, since_ns=world.since_ns, incremental=False, keep=2)
    assert [one.id for one in snapshots(world.volume, POD)] == [newest.id, made[1].id]
    assert not made[0].archive_path.exists()
