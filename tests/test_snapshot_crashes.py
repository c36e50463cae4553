"""Sudden ends at random instants, and volumes that fill up: what is listed restores whole, what was there stays."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import Snapshot, note_image, restore, snapshots, verify
from idlewatch.snapshot.image import image_of
from idlewatch.snapshot.manifest import from_manifest
from tests.snapshot_trees import POD, birth, saved, state, write

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
ROUNDS = int(os.environ.get("IDLEWATCH_TEST_CRASHES", "20"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]

CHILD = """
import sys
from pathlib import Path
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import SaveRequest, find, restore, save
verb, since_ns = sys.argv[1], int(sys.argv[5])
root, volume, state_dir = map(Path, sys.argv[2:5])
def say(progress):
    print(progress.stage, flush=True)
print("begun", flush=True)
if verb == "restore":
    restore(find(volume, "pod1"), root, since_ns=since_ns, state_dir=state_dir, progress=say)
else:
    keep = 1 if verb == "prune" else 99
    save(SaveRequest(volume=volume, pod_id="pod1", boot_key="b", root=root, state_dir=state_dir, since_ns=since_ns,
                     keep=keep, incremental=verb != "prune"), say)
print("ended", flush=True)
"""


class Pod:
    def __init__(self, tmp_path: Path) -> None:
        self.root, self.volume, self.state_dir = tmp_path / "root", tmp_path / "volume", tmp_path / "state"
        self.volume.mkdir()
        self.state_dir.mkdir()
        for number in range(300):
            write(self.root / f"image{number % 10}" / f"{number}", f"{number}", 1_600_000_000_000_000_000)
        self.since_ns = birth(self.root)
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=self.since_ns, mounts=())

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        for number in range(400):
            write(self.root / f"own{number % 20}" / f"{number}", chance.randbytes(3000))
        write(self.root / "big", chance.randbytes(12 * MIB))

    def save(self, **options: object) -> None:
        saved(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir, **options)

    def call(self, verb: str, root: Path | None = None) -> list[str]:
        folders = [str(root or self.root), str(self.volume), str(self.state_dir)]
        return [sys.executable, "-c", CHILD, verb, *folders, str(self.since_ns)]

    def seconds(self, verb: str, root: Path | None = None) -> float:
        """Return how long it takes undisturbed, from its first word to its last."""
        with subprocess.Popen(self.call(verb, root), stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            began = time.monotonic()
            child.stdout.read()
        assert child.returncode == 0
        return time.monotonic() - began

    def end_suddenly(self, verb: str, after_s: float, root: Path | None = None) -> bool:
        """End a child by SIGKILL so long after its first word; returns whether it was still at work."""
        with subprocess.Popen(self.call(verb, root), stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(after_s)
            child.send_signal(signal.SIGKILL)
            return "ended" not in child.stdout.read()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    pod = Pod(tmp_path)
    pod.work(0)
    (pod.root / "image1/1").unlink()
    return pod


@pytest.mark.parametrize("verb", ["save", "prune"])
def test_a_save_that_ends_suddenly_leaves_every_listed_one_whole(pod: Pod, tmp_path: Path, verb: str) -> None:
    """With `prune` each save is a full one and removes all older ones at its end."""
    pod.save()
    chance, whole_s, cut = random.Random(3), pod.seconds(verb), 0
    known = {one.id for one in snapshots(pod.volume, POD)}
    for number in range(ROUNDS):
        write(pod.root / "own1/1", f"{number}")
        cut += pod.end_suddenly(verb, chance.uniform(0, 1.1 * whole_s))
        listed = snapshots(pod.volume, POD)
        assert listed
        assert verb == "prune" or known <= {one.id for one in listed}
        for snapshot in listed:
            if snapshot.id not in known:
                assert brought_back(snapshot, tmp_path / "back") == content(pod.root)
            elif verb == "prune":
                verify(snapshot)
        known = {one.id for one in listed}
    assert cut
    for snapshot in snapshots(pod.volume, POD):
        verify(snapshot)
    pod.save(keep=1, incremental=False)
    (newest,) = snapshots(pod.volume, POD)
    names = {path.name for path in newest.archive_path.parent.iterdir()} - {"save.lock"}
    assert names == {f"{newest.id}{end}" for end in (".json", ".txt", ".tar.zst")} | {f"image-{newest.image}.names"}


def brought_back(snapshot: Snapshot, target: Path) -> dict[str, object]:
    target.mkdir()
    try:
        restore(snapshot, target)
        return content(target)
    finally:
        shutil.rmtree(target)


def content(root: Path) -> dict[str, object]:
    """What the work is, file by file."""
    return {path: facts[5] for path, facts in state(root).items() if path.startswith(("own", "big"))}


def test_a_restore_that_ends_suddenly_is_run_again(pod: Pod, tmp_path: Path) -> None:
    pod.save()
    wanted = state(pod.root)
    chance, cut = random.Random(4), 0
    (tmp_path / "elsewhere").mkdir()
    whole_s = pod.seconds("restore", tmp_path / "elsewhere")
    for number in range(ROUNDS):
        target = tmp_path / f"target{number}"
        for name in ("image1/1", "image2/2"):
            write(target / name, name.rpartition("/")[2], 1_600_000_000_000_000_000)
        cut += pod.end_suddenly("restore", chance.uniform(0, 1.1 * whole_s), target)
        there = state(target)
        assert not [p for p, facts in there.items() if p in wanted and "own" in p and _differs(facts, wanted[p])]
        restore(snapshots(pod.volume, POD)[0], target, since_ns=pod.since_ns, state_dir=pod.state_dir)
        found = state(target)
        assert {path for path in wanted if path.startswith(("own", "big")) and found.get(path) != wanted[path]} == set()
        assert not (target / "image1/1").exists()
        assert not list(target.rglob(".idlewatch-restoring*"))
    assert cut


def _differs(facts: tuple[object, ...], wanted: tuple[object, ...]) -> bool:
    """Compare the contents of files only: folders get their times at the end."""
    return facts[5] is not None and facts[5] != wanted[5]


SAVE = """
import sys
from pathlib import Path
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import SaveRequest, save
try:
    save(SaveRequest(volume=Path(sys.argv[2]), pod_id="pod1", boot_key="b", root=Path(sys.argv[1]),
                     state_dir=Path(sys.argv[3]), since_ns=int(sys.argv[4])))
except SnapshotError as error:
    print("failed", error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_real_full_disk_at_any_offset(pod: Pod, tmp_path: Path) -> None:
    """A small file system of its own: here ENOSPC comes from the kernel, for the archive, the text or the manifest."""
    small = tmp_path / "small"
    small.mkdir()
    chance = random.Random(6)
    for left in [0, 4096, *(chance.randrange(13 * MIB) for _ in range(ROUNDS // 4))]:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(small)], check=False)
        if mounted.returncode != 0:
            pytest.skip("nothing can be mounted here")
        try:
            write(small / "filler", bytes(16 * MIB - left - 64 * 1024))
            done = pod_save_into(pod, small)
            assert "failed" in done or snapshots(small, POD)
            for snapshot in snapshots(small, POD):
                verify(snapshot)
            assert not list(small.rglob("*.part"))
        finally:
            subprocess.run(["umount", str(small)], check=True)


def pod_save_into(pod: Pod, volume: Path) -> str:
    call = [sys.executable, "-c", SAVE, str(pod.root), str(volume), str(pod.state_dir), str(pod.since_ns)]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_before_anything_is_written(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes flipped, cut out, doubled or put in, in the archive or the manifest: never a wrong file, never a hang."""
    root, volume = tmp_path / "root", tmp_path / "volume"
    if not root.exists():
        for number in range(30):
            write(root / f"d{number % 3}" / f"{number}", os.urandom(700))
        saved(root, volume)
    (snapshot,) = snapshots(volume, POD)
    victim = data.draw(st.sampled_from([snapshot.archive_path, snapshot.archive_path.with_name(f"{snapshot.id}.json")]))
    good = victim.read_bytes()
    at, length = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=40))
    bad = good[:at] + put + good[at + length :]
    assume(bad != good)
    target = tmp_path / "target"
    try:
        victim.write_bytes(bad)
        for listed in snapshots(volume, POD):
            target.mkdir()
            if _restored(listed, target):
                assert json.loads(bad) == json.loads(good)  # a manifest with other blanks says the same
                assert state(target) == state(root)
                shutil.rmtree(target)
            else:
                target.rmdir()
    finally:
        victim.write_bytes(good)


def _restored(snapshot: Snapshot, target: Path) -> bool:
    try:
        restore(snapshot, target)
    except SnapshotError:
        return False
    return True


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_manifest_or_an_image(raw: bytes) -> None:
    from pathlib import Path as AnyPath

    for read in (lambda: from_manifest(raw, AnyPath("/x")), lambda: image_of(raw)):
        with pytest.raises(SnapshotError):
            read()
