from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import idlewatch
from idlewatch.errors import Refused, SnapshotError
from idlewatch.snapshot import (
    Excludes,
    Progress,
    SaveCancelled,
    SaveRequest,
    Snapshot,
    find,
    restore,
    save,
    snapshots,
    verify,
)
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.manifest import FORMAT
from idlewatch.snapshot.sink import Sink
from idlewatch.snapshot.store import Store
from idlewatch.snapshot.writer import TICK_NS, TreeWriter
from tests.snapshot_trees import POD, hostile_tree, request, saved, state, write

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20


def folder_of(volume: Path) -> Path:
    return volume / ".idlewatch" / POD / "snapshots"


ENDS = (".json", ".tar.zst", ".txt")
"""Of the files of one snapshot."""


def files_of(volume: Path) -> set[str]:
    folder = folder_of(volume)
    return {path.name for path in folder.iterdir()} - {"save.lock"} if folder.exists() else set()


def at_stage(name: str, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a progress callback that acts once, when the stage begins."""
    done: list[str] = []

    def note(progress: Progress) -> None:
        if progress.stage == name and not done:
            done.append(name)
            act()

    return note


def test_a_save_leaves_a_closed_pair_of_files_and_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a" / "file", "content")
    snapshot = saved(tmp_path / "root", tmp_path / "volume", began_s=12.5)
    assert files_of(tmp_path / "volume") == {f"{snapshot.id}{end}" for end in ENDS}
    assert {path.stat().st_mode & 0o777 for path in folder_of(tmp_path / "volume").iterdir()} == {0o600}
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "volume" / ".idlewatch").rglob("*") if p.is_dir()} == {0o700}
    assert snapshots(tmp_path / "volume", POD) == [snapshot]
    assert (snapshot.began_s, snapshot.version, snapshot.complete) == (12.5, idlewatch.__version__, True)
    assert (snapshot.files, snapshot.folders, snapshot.total_bytes, snapshot.members) == (1, 1, 7, 2)
    verify(snapshot)


def test_the_hostile_tree_comes_back_entry_by_entry(tmp_path: Path) -> None:
    root = hostile_tree(tmp_path / "root")
    before = state(root)
    snapshot = saved(root, tmp_path / "volume")
    (target := tmp_path / "target").mkdir()
    report = restore(snapshot, target)
    assert state(target) == before
    assert report.whole
    assert (target / "sparse").stat().st_blocks * 512 < MIB
    assert snapshot.archive_bytes < MIB
    assert set(snapshot.sockets) <= {"socket"}


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("zstd")), reason="needs the system's tar and zstd")
def test_the_systems_tar_unpacks_the_same(tmp_path: Path) -> None:
    root = hostile_tree(tmp_path / "root")
    snapshot = saved(root, tmp_path / "volume")
    (target := tmp_path / "target").mkdir()
    command = 'zstd -qdc "$1" | tar -x -C "$2" --numeric-owner --xattrs --xattrs-include="*" -p'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "-", str(snapshot.archive_path), str(target)],
        check=False,
        capture_output=True,
        text=True,
    )
    noise = [
        line
        for line in done.stderr.splitlines()
        if "hdrcharset" not in line and "implausibly old" not in line and "in the future" not in line
    ]
    assert (done.returncode, noise) == (0, [])
    assert state(target) == state(root)


def test_nothing_to_lose_needs_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write(tmp_path / "root" / "tmp" / "x", "excluded")
    (tmp_path / "root" / "tmp").rename(tmp_path / "root" / "run")
    os.utime(tmp_path / "root")
    assert save(request(tmp_path / "root", tmp_path / "volume", since_ns=1)) is None
    assert not (tmp_path / "volume" / ".idlewatch").exists()


def test_only_changes_and_the_folders_above_them_are_saved(tmp_path: Path) -> None:
    write(tmp_path / "root" / "private" / "deep" / "image", "old")
    write(tmp_path / "root" / "private" / "deep" / "edited", "old")
    (tmp_path / "root" / "private").chmod(0o700)
    time.sleep(0.02)
    since_ns = time.clock_gettime_ns(5)
    write(tmp_path / "root" / "private" / "deep" / "edited", "new")
    snapshot = saved(tmp_path / "root", tmp_path / "volume", since_ns=since_ns)
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    assert {str(p.relative_to(target)) for p in target.rglob("*")} == {"private", "private/deep", "private/deep/edited"}
    assert (target / "private").stat().st_mode & 0o777 == 0o700


def test_the_volume_and_the_state_folder_are_never_part_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "work", "x"), write(root / "state" / "status.json", "{}")
    (root / "workspace").mkdir()
    first = saved(root, root / "workspace", skip=(root / "state",))
    second = saved(root, root / "workspace", skip=(root / "state",), incremental=False)
    assert first.members == second.members == 1


def test_what_changes_while_it_is_saved_is_saved_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "a", b"1" * MIB), write(root / "gone", b"2" * MIB), write(root / "b", "unchanged")
    os.link(root / "a", root / "a2")

    def change() -> None:
        write(root / "a", b"3" * 2 * MIB)
        write(root / "late" / "new", b"4" * MIB)
        (root / "gone").rename(root / "renamed")

    callback = at_pass_end(root, change)
    time.sleep(1.5 * TICK_NS / 1e9)
    snapshot = saved_with(root, tmp_path / "volume", callback)
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    assert state(target) == state(root)
    assert snapshot.changed_after == ()
    assert snapshot.gone == ("gone",)


def saved_with(root: Path, volume: Path, progress: Callable[[Progress], None]) -> Snapshot:
    snapshot = save(request(root, volume), progress)
    assert snapshot is not None
    return snapshot


def at_pass_end(root: Path, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a callback that acts once while the archive is written, after the files in `root` itself were read."""
    write(root / "later" / "padding", bytes(12 * MIB))
    done: list[int] = []

    def note(progress: Progress) -> None:
        if progress.stage == "write" and progress.done_bytes > 4 * MIB and not done:
            done.append(1)
            act()

    return note


def test_what_changes_after_the_last_pass_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "a", "before"), write(root / "b", "stays"), write(root / "c", "goes")

    def change() -> None:
        write(root / "a", "after that")
        (root / "c").unlink()

    snapshot = saved_with(root, tmp_path / "volume", at_stage("verify", change))
    assert snapshot.changed_after == ("a",)
    assert (snapshot.changed_after_files, snapshot.changed_after_bytes) == (1, len("after that"))
    assert snapshot.gone == ("c",)
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    assert (target / "a").read_text() == "before"
    assert not (target / "c").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step_bytes", [4096, -4096])
def test_a_file_that_never_rests_is_kept_as_a_prefix_and_named(tmp_path: Path, step_bytes: int) -> None:
    """The callback comes in the middle of reading a file of 20 MiB, and changes it each time."""
    root = tmp_path / "root"
    busy = write(root / "busy", b"b" * 20 * MIB)
    write(root / "calm", "calm")

    def change(progress: Progress) -> None:
        if progress.stage == "write":
            os.truncate(busy, busy.stat().st_size + step_bytes)

    snapshot = saved_with(root, tmp_path / "volume", change)
    assert snapshot.changing == ("busy",)
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    assert (target / "calm").read_text() == "calm"
    restored = (target / "busy").read_bytes()
    assert restored.startswith(b"b" * (20 * MIB - 16 * 4096))
    if step_bytes < 0:
        assert restored.endswith(b"\0" * 4096)


@pytest.mark.slow
def test_a_file_that_a_thread_writes_to_is_saved_as_some_state_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    busy = write(root / "busy", b"")
    ended = threading.Event()

    def work() -> None:
        with busy.open("ab", buffering=0) as file:
            while not ended.is_set():
                file.write(b"b" * 4096)
                if file.tell() > 64 * MIB:
                    file.truncate(0)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            snapshot = saved(root, tmp_path / "volume")
            verify(snapshot)
    finally:
        ended.set()
        worker.join()
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    assert (target / "busy").read_bytes().strip(b"b\0") == b""


def test_what_changed_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """Two writes in one tick of the kernel's clock leave the same ctime: the second can't be told from the first."""
    status = write(tmp_path / "a", "x").stat()
    with (tmp_path / "archive").open("wb") as out:
        for age_ns, torn in ((1_000_000, {"a"}), (TICK_NS, set()), (-1, set())):
            sink = Sink(out.write, 0, digests_of(FORMAT))
            at_ns = status.st_ctime_ns + age_ns
            writer = TreeWriter(str(tmp_path), sink, lambda _: None, now_ns=lambda: at_ns)  # noqa: B023 - called at once
            writer.add("a", "file")
            assert writer.torn == torn


def test_a_second_save_refuses_while_one_runs(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    seen: list[str] = []

    def again() -> None:
        with pytest.raises(Refused, match="under way"):
            save(request(tmp_path / "root", tmp_path / "volume"))
        seen.append("refused")

    saved_with(tmp_path / "root", tmp_path / "volume", at_stage("verify", again))
    assert seen == ["refused"]
    assert len(snapshots(tmp_path / "volume", POD)) == 1


def test_the_last_ones_are_kept_and_older_ones_go_after_the_commit(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    made = [saved(tmp_path / "root", tmp_path / "volume", keep=2, incremental=False) for _ in range(4)]
    listed = snapshots(tmp_path / "volume", POD)
    assert [s.id for s in listed] == [made[3].id, made[2].id]
    assert len(files_of(tmp_path / "volume")) == 2 * len(ENDS)
    assert find(tmp_path / "volume", POD).id == made[3].id
    assert find(tmp_path / "volume", POD, made[2].id).id == made[2].id
    with pytest.raises(SnapshotError, match="none found"):
        find(tmp_path / "volume", POD, made[0].id)


def test_a_failed_save_prunes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    made = [saved(tmp_path / "root", tmp_path / "volume", keep=2, incremental=False) for _ in range(2)]
    with pytest.raises(SaveCancelled):
        save(request(tmp_path / "root", tmp_path / "volume", keep=1), cancelled=cancel_after(2))
    assert {s.id for s in snapshots(tmp_path / "volume", POD)} == {s.id for s in made}


def cancel_after(calls: int) -> Callable[[], bool]:
    left = iter([False] * calls)
    return lambda: next(left, True)


@pytest.mark.parametrize("calls", range(4))
def test_a_cancelled_save_leaves_nothing(tmp_path: Path, calls: int) -> None:
    write(tmp_path / "root" / "file", bytes(20 * MIB))
    with pytest.raises(SaveCancelled, match="cancelled"):
        save(request(tmp_path / "root", tmp_path / "volume"), cancelled=cancel_after(calls))
    assert files_of(tmp_path / "volume") == set()


def test_leftovers_of_a_crash_go_with_the_next_save(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    first = saved(tmp_path / "root", tmp_path / "volume")
    folder = folder_of(tmp_path / "volume")
    for name in ("20200101T000000Z-aaaaaa.tar.zst", "x.tar.zst.part", "x.json.part"):
        write(folder / name, "half")
    write(folder / "unreadable.json", "{"), write(folder / "unreadable.tar.zst", "not ours to judge")
    assert [s.id for s in snapshots(tmp_path / "volume", POD)] == [first.id]
    second = saved(tmp_path / "root", tmp_path / "volume")
    kept = {f"{s.id}{end}" for s in (first, second) for end in ENDS}
    assert files_of(tmp_path / "volume") == kept | {"unreadable.json", "unreadable.tar.zst"}


def test_too_big_a_loss_is_refused_and_the_offenders_are_named(tmp_path: Path) -> None:
    write(tmp_path / "root" / "models" / "big", b"1" * 3 * MIB), write(tmp_path / "root" / "small", "x")
    with pytest.raises(SnapshotError, match=r"MB would be lost.*/root/models \(3\.\d MB\).*; raise IDLEWATCH_SAVE"):
        save(request(tmp_path / "root", tmp_path / "volume", max_bytes=MIB))
    assert files_of(tmp_path / "volume") == set()


def test_what_cannot_be_read_makes_it_no_save_at_all(tmp_path: Path) -> None:
    write(tmp_path / "root" / "fine", "x")
    folder = os.open(tmp_path / "root", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    with pytest.raises(SnapshotError, match=r"nothing counts as saved: .*ddd \(File name too long\)"):
        save(request(tmp_path / "root", tmp_path / "volume"))
    assert not (tmp_path / "volume" / ".idlewatch").exists()


def test_an_archive_that_the_volume_does_not_give_back_never_counts(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", os.urandom(50_000))

    def rot() -> None:
        (archive,) = folder_of(tmp_path / "volume").glob("*.tar.zst")
        raw = bytearray(archive.read_bytes())
        raw[len(raw) // 2] ^= 1
        archive.write_bytes(raw)

    with pytest.raises(SnapshotError, match="damaged"):
        saved_with(tmp_path / "root", tmp_path / "volume", at_stage("verify", rot))
    assert files_of(tmp_path / "volume") == set()


@pytest.mark.parametrize("pod_id", ["", "..", "a/b", ".hidden"])
def test_a_pod_id_never_leads_out_of_the_volume(tmp_path: Path, pod_id: str) -> None:
    write(tmp_path / "root" / "a", "x")
    with pytest.raises(SnapshotError, match="Pod id"):
        save(request(tmp_path / "root", tmp_path / "volume", pod_id=pod_id))


def test_no_volume_is_a_failed_save(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    with pytest.raises(SnapshotError, match="no place to save to"):
        save(SaveRequest(volume=tmp_path / "missing", pod_id=POD, boot_key="b", root=tmp_path / "root"))


def test_too_little_space_is_seen_before_writing(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    store = Store(tmp_path / "volume", POD)
    store.make()
    store.require_space(1)
    with pytest.raises(SnapshotError, match=r"too little for 1152921\.5 TB .*; free some space.*KEEP_SNAPSHOTS"):
        store.require_space(1 << 60)


FULL_DISK = """
import resource, sys
sys.dont_write_bytecode = True
from pathlib import Path
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import SaveRequest, save
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    save(SaveRequest(volume=Path(sys.argv[2]), pod_id="pod1", boot_key="b", root=Path(sys.argv[1])))
except SnapshotError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [300, 100_000, 2_000_000])
def test_a_full_volume_fails_the_save_and_keeps_the_older_one(tmp_path: Path, limit: int) -> None:
    """A limit on file sizes stands in for the full disk: it works for root and others alike."""
    write(tmp_path / "root" / "a", "x")
    older = saved(tmp_path / "root", tmp_path / "volume")
    write(tmp_path / "root" / "big", os.urandom(3 * MIB))
    call = [sys.executable, "-c", FULL_DISK, str(tmp_path / "root"), str(tmp_path / "volume"), str(limit)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    assert "File too large" in done.stdout
    assert files_of(tmp_path / "volume") == {f"{older.id}{end}" for end in ENDS}


SAVING = """
import sys
from pathlib import Path
from idlewatch.snapshot import SaveRequest, save
request = SaveRequest(volume=Path(sys.argv[2]), pod_id="pod1", boot_key="b", root=Path(sys.argv[1]), keep=50)
save(request, lambda progress: print(progress.stage, flush=True))
"""


def killed_save(root: Path, volume: Path, after_steps: int, then_s: float) -> str:
    """Kill a real save a moment after so many calls of its progress, and return the stage it was in."""
    call = [sys.executable, "-c", SAVING, str(root), str(volume)]
    stage = ""
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(after_steps):
            stage = child.stdout.readline().strip() or stage
        time.sleep(then_s)
        child.send_signal(signal.SIGKILL)
    return stage


@pytest.mark.slow
def test_a_killed_save_never_counts_and_the_next_one_clears_up(tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    for number in range(2000):
        write(root / f"d{number % 50}" / f"{number}", os.urandom(3000))
    write(root / "big", os.urandom(40 * MIB))
    older = saved(root, volume)
    chance = random.Random(7)
    stages = set()
    for steps in (1, 2, 3, 4, 5, 7, 9, 11, 13, 16):
        stages.add(killed_save(root, volume, steps, chance.uniform(0, 0.02)))
        for snapshot in snapshots(volume, POD):
            verify(snapshot)
        assert older in snapshots(volume, POD)
    assert {"write", "verify", "commit"} <= stages
    newest = saved(root, volume, keep=50)
    listed = snapshots(volume, POD)
    assert listed[0] == newest
    assert files_of(volume) == {f"{s.id}{end}" for s in listed for end in ENDS}
    (target := tmp_path / "target").mkdir()
    restore(newest, target)
    assert state(target) == state(root)


def test_requests_and_snapshots_pass_through_json(tmp_path: Path) -> None:
    full = request(
        tmp_path / "root",
        tmp_path / "volume",
        skip=(tmp_path / "s",),
        since_ns=5,
        keep=7,
        max_bytes=9,
        began_s=1.5,
        keep_bytes=11,
        state_dir=tmp_path / "s",
        incremental=False,
        excludes=Excludes(trees=frozenset({"a"}), caches=("b",), patterns=("c*",)),
    )
    assert SaveRequest.from_json(json.loads(json.dumps(full.as_json()))) == full
    least = SaveRequest.from_json({"volume": "/v", "pod_id": "p", "boot_key": "b"})
    assert least == SaveRequest(volume=Path("/v"), pod_id="p", boot_key="b")
    with pytest.raises(SnapshotError, match="unknown keeep"):
        SaveRequest.from_json({"volume": "/v", "pod_id": "p", "boot_key": "b", "keeep": 3})
    with pytest.raises(SnapshotError, match="boot_key"):
        SaveRequest.from_json({"volume": "/v", "pod_id": "p"})
    root = hostile_tree(tmp_path / "root")
    snapshot = saved(root, tmp_path / "volume")
    assert Snapshot.from_json(json.loads(json.dumps(snapshot.as_json()))) == snapshot


@pytest.mark.slow
def test_the_face_is_light_to_import() -> None:
    heavy = "import sys, idlewatch.snapshot; print([m for m in sys.modules if 'zstd' in m or m in ('psutil', 'httpx')])"
    assert subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.slow
def test_a_child_can_be_made_gentle() -> None:
    gentle = "import os, idlewatch.snapshot as s; s.be_gentle(); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", gentle], check=True, capture_output=True, text=True)
    assert int(done.stdout) >= 10


@pytest.mark.slow
def test_progress_tells_rate_and_time_left(tmp_path: Path) -> None:
    write(tmp_path / "root" / "big", os.urandom(24 * MIB))
    seen: list[Progress] = []
    saved_with(tmp_path / "root", tmp_path / "volume", seen.append)
    first, *_, last = (one for one in seen if one.stage == "write")
    assert (first.left_s, first.bytes_s) == (None, 0)
    assert last.bytes_s > 0
    assert last.left_s == pytest.approx((last.total_bytes - last.done_bytes) / last.bytes_s)
