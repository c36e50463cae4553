from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import Progress, SaveCancelled, Snapshot, pax, restore, snapshots, verify
from idlewatch.snapshot.index import index_line
from idlewatch.snapshot.store import Store
from tests.snapshot_trees import POD, content_digest, hostile_tree, made_snapshot, saved, state, write

if TYPE_CHECKING:
    from collections.abc import Callable

OLD_NS, MIDDLE_NS, NEW_NS = 1_600_000_000_000_000_000, 1_650_000_000_000_000_000, 1_700_000_000_000_000_000
FOLDER = pax.Member(path="d", kind="folder", mode=0o755)


def file(path: str, **fields: object) -> pax.Member:
    return pax.Member(path=path, kind="file", **fields)  # type: ignore[arg-type]  # a test's own fields


def link(path: str, target: str, kind: str = "symlink") -> pax.Member:
    return pax.Member(path=path, kind=kind, target=target)


def digest_of(content: bytes) -> bytes:
    return content_digest(content)


def folder(path: str) -> pax.Member:
    return pax.Member(path=path, kind="folder", mode=0o755)


HOSTILE = {
    "absolute": [(file("/etc/evil"), b"x")],
    "dotdot": [(file("a/../../evil"), b"x")],
    "only dotdot": [(file(".."), b"x")],
    "empty name": [(file("a//b"), b"x")],
    "dot": [(file("./a"), b"x")],
    "through a symlink": [(link("d", "../outside"), b""), (file("d/evil"), b"x")],
    "through a symlink, folder first": [(folder("d"), b""), (file("d/evil"), b"x"), (link("d", "../outside"), b"")],
    "through a file": [(file("d"), b"x"), (file("d/evil"), b"x")],
    "through a hard link": [(link("s", "../outside"), b""), (link("d", "s", "hardlink"), b""), (file("d/evil"), b"x")],
    "hard link outside": [(link("evil", "../outside/secret", "hardlink"), b"")],
    "hard link absolute": [(link("evil", "/etc/passwd", "hardlink"), b"")],
    "hard link to a folder": [(folder("d"), b""), (link("evil", "d", "hardlink"), b"")],
    "hard link to a later member": [(link("evil", "late", "hardlink"), b""), (file("late"), b"x")],
    "symlink with content": [(link("a", "b"), b"content")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    write(tmp_path / "outside" / "secret", "secret")
    before = state(tmp_path / "outside")
    (target := tmp_path / "target").mkdir()
    good = (file("good"), bytes(300_000))  # large enough to be written at once
    snapshot = made_snapshot(tmp_path / "volume", [good, *[(dataclasses.replace(m), c) for m, c in HOSTILE[name]]])
    with pytest.raises(SnapshotError, match=r"refused|damaged"):
        restore(snapshot, target)
    assert list(target.iterdir()) == []
    assert state(tmp_path / "outside") == before
    assert not Path("/etc/evil").exists()


def test_a_made_archive_that_is_right_is_restored(tmp_path: Path) -> None:
    """The hostile ones are refused for what they hold, not for how they were made."""
    (target := tmp_path / "target").mkdir()
    restore(made_snapshot(tmp_path / "volume", [(folder("d"), b""), (file("d/a"), b"x")]), target)
    assert (target / "d" / "a").read_bytes() == b"x"


LIES: dict[str, Callable[[Snapshot], dict[str, Any]]] = {
    "shorter": lambda made: {"tar_bytes": made.tar_bytes - 512},
    "longer": lambda made: {"tar_bytes": made.tar_bytes + 512},
    "members": lambda made: {"members": made.members + 1},
    "index": lambda made: {"index_at": made.index_at - 1},
    "digest": lambda made: {"archive_digest": "00" * 32},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_does_not_fit_its_archive_is_refused(tmp_path: Path, lie: str) -> None:
    (target := tmp_path / "target").mkdir()
    made = made_snapshot(tmp_path / "volume", [(file("a"), b"0" * 100_000)])
    wrong = dataclasses.replace(made, **LIES[lie](made))
    with pytest.raises(SnapshotError, match="damaged"):
        restore(wrong, target)
    with pytest.raises(SnapshotError, match="damaged"):
        verify(wrong)
    # With the right digest it is the archive that was proven: a lie about its length shows while it is unpacked.
    assert lie in {"shorter", "longer"} or list(target.iterdir()) == []
    assert not list(target.rglob(".idlewatch-restoring*"))


def test_an_index_that_does_not_fit_its_archive_is_refused(tmp_path: Path) -> None:
    """A made one with the right digest: nobody's disk makes that, so it is found only where it is unpacked."""
    (target := tmp_path / "target").mkdir()
    lie = {"d/a": file("d/b", size=1)}
    made = made_snapshot(tmp_path / "volume", [(folder("d"), b""), (file("d/a"), b"x")], told=lie)
    with pytest.raises(SnapshotError, match="does not fit the index"):
        restore(made, target)
    with pytest.raises(SnapshotError, match="does not fit the index"):
        verify(made)
    assert [path.name for path in target.rglob("*")] == ["d"]


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"no json", b'["a"]', b'["a","file",1,2,"zz",3]', b'[1,"file",1,2,null,3]']
)
def test_an_index_that_is_no_list_of_members_is_refused(tmp_path: Path, line: bytes) -> None:
    (target := tmp_path / "target").mkdir()
    made = made_snapshot(tmp_path / "volume", [(file("a"), b"x")], lines=[line])
    with pytest.raises(SnapshotError, match="no list of members"):
        restore(made, target)
    assert list(target.iterdir()) == []


def test_an_archive_of_the_format_before_is_restored(tmp_path: Path) -> None:
    """Format 2, hashed with BLAKE2b; its index did not tell where hard links lead."""
    (target := tmp_path / "target").mkdir()
    old = [b'["a","file",1,0,"%s"]' % blake2b(b"x", digest_size=16).hexdigest().encode(), b'["b","hardlink",0,0,null]']
    members = [(file("a"), b"x"), (link("b", "a", "hardlink"), b"")]
    restore(made_snapshot(tmp_path / "volume", members, lines=old, archive_format=2), target)
    assert (target / "b").samefile(target / "a")


@pytest.mark.slow
def test_a_bomb_is_stopped_at_what_the_manifest_promised(tmp_path: Path) -> None:
    (target := tmp_path / "target").mkdir()
    bomb = made_snapshot(tmp_path / "volume", [(file("bomb"), bytes(300_000_000))], tar_bytes=10_240)
    assert bomb.archive_bytes < 100_000
    with pytest.raises(SnapshotError, match="unpacks to more"):
        restore(bomb, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_flipped_bit_anywhere_is_found_before_anything_is_written(tmp_path: Path, place: float) -> None:
    for number in range(50):
        write(tmp_path / "root" / f"{number}", os.urandom(500))
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    raw = bytearray(snapshot.archive_path.read_bytes())
    raw[int(place * len(raw))] ^= 1
    snapshot.archive_path.write_bytes(raw)
    (target := tmp_path / "target").mkdir()
    with pytest.raises(SnapshotError, match="damaged"):
        restore(snapshot, target)
    with pytest.raises(SnapshotError, match="damaged"):
        verify(snapshot)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_truncated_archive_is_not_listed_and_not_restored(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "root" / "a", os.urandom(20_000))
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    os.truncate(snapshot.archive_path, snapshot.archive_bytes - cut)
    assert snapshots(tmp_path / "volume", POD) == []
    (target := tmp_path / "target").mkdir()
    with pytest.raises(SnapshotError):
        restore(snapshot, target)
    assert list(target.iterdir()) == []


def test_a_damaged_or_foreign_manifest_is_not_listed(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "x")
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    path = snapshot.archive_path.with_name(f"{snapshot.id}.json")
    raw = json.loads(path.read_text())
    for change in ({"gone": ["a"]}, {"format": 99}, {"pod_id": 5}, {"archive": "../x"}):
        path.write_text(json.dumps({**raw, **change}))
        assert snapshots(tmp_path / "volume", POD) == []
    path.write_text(json.dumps(raw))
    assert [s.id for s in snapshots(tmp_path / "volume", POD)] == [snapshot.id]


def test_symlinks_of_the_target_are_never_followed(tmp_path: Path) -> None:
    write(tmp_path / "root" / "d" / "sub" / "file", "saved"), write(tmp_path / "root" / "other", "saved")
    (outside := tmp_path / "outside").mkdir()
    (target := tmp_path / "target").mkdir()
    (target / "d").symlink_to(outside)
    (target / "other").symlink_to(outside / "made")
    os.utime(target / "other", ns=(OLD_NS, OLD_NS), follow_symlinks=False)
    os.utime(target / "d", ns=(NEW_NS * 2, NEW_NS * 2), follow_symlinks=False)
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    report = restore(snapshot, target)
    assert list(outside.iterdir()) == []
    assert set(report.in_the_way) == {"d", "d/sub", "d/sub/file"}
    assert (target / "other").read_text() == "saved"
    assert not (target / "other").is_symlink()


def test_an_older_symlink_gives_way_to_the_saved_folder(tmp_path: Path) -> None:
    write(tmp_path / "root" / "d" / "file", "saved")
    (outside := tmp_path / "outside").mkdir()
    (target := tmp_path / "target").mkdir()
    (target / "d").symlink_to(outside)
    os.utime(target / "d", ns=(OLD_NS, OLD_NS), follow_symlinks=False)
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    restore(snapshot, target)
    assert list(outside.iterdir()) == []
    assert (target / "d" / "file").read_text() == "saved"


def test_a_folder_in_the_place_of_a_file_is_kept_and_told(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "saved"), write(tmp_path / "root" / "b", "saved")
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    (target := tmp_path / "target").mkdir()
    write(target / "a" / "precious", "here")
    report = restore(snapshot, target)
    assert report.in_the_way == {"a": "a folder stands there"}
    assert not report.whole
    assert sorted(p.name for p in target.rglob("*")) == ["a", "b", "precious"]


def two_ages(tmp_path: Path) -> tuple[Snapshot, Path]:
    write(tmp_path / "root" / "older", "saved", MIDDLE_NS), write(tmp_path / "root" / "newer", "saved", MIDDLE_NS)
    write(tmp_path / "root" / "same", "saved", MIDDLE_NS)
    target = tmp_path / "target"
    write(target / "older", "there", OLD_NS), write(target / "newer", "there", NEW_NS)
    write(target / "same", "saved", NEW_NS)
    return saved(tmp_path / "root", tmp_path / "volume"), target


def test_a_newer_file_of_the_target_is_kept_and_told(tmp_path: Path) -> None:
    snapshot, target = two_ages(tmp_path)
    report = restore(snapshot, target)
    assert [(target / name).read_text() for name in ("older", "newer", "same")] == ["saved", "there", "saved"]
    assert report.kept_newer == ["newer"]
    assert (report.files, report.unchanged, report.whole) == (1, 1, True)


def test_overwrite_takes_the_saved_one(tmp_path: Path) -> None:
    snapshot, target = two_ages(tmp_path)
    assert restore(snapshot, target, overwrite=True).whole
    assert state(target) == state(tmp_path / "root")


def test_a_file_of_the_image_is_never_newer_whatever_its_date(tmp_path: Path) -> None:
    snapshot, target = two_ages(tmp_path)
    time.sleep(0.02)
    report = restore(snapshot, target, since_ns=time.clock_gettime_ns(5))
    assert (target / "newer").read_text() == "saved"
    assert report.whole


def test_a_restore_that_is_interrupted_leaves_its_folders_as_they_were_saved(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    write(root / "open/big", "").write_bytes(os.urandom(20_000_000))
    (root / "open").chmod(0o755)
    snapshot = saved(root, tmp_path / "volume")
    target.mkdir()

    def interrupt(progress: Progress) -> None:
        if progress.stage == "restore" and (target / "open").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(snapshot, target, progress=interrupt)
    assert (target / "open").stat().st_mode & 0o777 == 0o755
    restore(snapshot, target)
    assert state(target) == state(root)


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path) -> None:
    snapshot, target = two_ages(tmp_path)
    write(target / ".ssh" / "x", "")
    before = state(target)
    report = restore(snapshot, target, dry_run=True)
    assert state(target) == before
    assert (report.files, report.unchanged, report.kept_newer) == (1, 1, ["newer"])


def test_keys_are_joined_and_nobody_is_locked_out(tmp_path: Path) -> None:
    write(tmp_path / "root" / ".ssh" / "authorized_keys", "old key\nboth\n", OLD_NS)
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    keys = write(tmp_path / "target" / ".ssh" / "authorized_keys", "both\nkey of this boot")
    keys.chmod(0o600)
    report = restore(snapshot, tmp_path / "target")
    assert keys.read_text() == "both\nkey of this boot\nold key\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert report.merged == [".ssh/authorized_keys"]
    restore(snapshot, tmp_path / "target")
    assert keys.read_text() == "both\nkey of this boot\nold key\n"


def test_what_each_start_makes_anew_is_never_written(tmp_path: Path) -> None:
    names = ("etc/rp_environment", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "etc/ld.so.cache")
    (target := tmp_path / "target").mkdir()
    members = [(folder("etc"), b""), *((file(name), b"old") for name in names), (file("etc/motd"), b"old")]
    report = restore(made_snapshot(tmp_path / "volume", members), target)
    assert [p.name for p in (target / "etc").iterdir()] == ["motd"]
    assert set(report.skipped) == set(names)


def test_a_second_restore_changes_nothing(tmp_path: Path) -> None:
    root = hostile_tree(tmp_path / "root")
    snapshot = saved(root, tmp_path / "volume")
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target)
    inode = (target / "plain.txt").stat().st_ino
    report = restore(snapshot, target)
    assert (report.files, report.folders) == (0, 0)
    assert (target / "plain.txt").stat().st_ino == inode
    assert state(target) == state(root)


@pytest.mark.slow
def test_an_interrupted_restore_is_simply_run_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(1300):
        write(root / f"d{number % 7}" / f"{number}", os.urandom(100))
    snapshot = saved(root, tmp_path / "volume")
    (target := tmp_path / "target").mkdir()

    def fail(progress: Progress) -> None:
        if progress.stage == "restore" and progress.entries > 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(snapshot, target, progress=fail)
    assert 0 < len(state(target)) < 1307
    for end in ("", "-1", "-3"):
        write(target / "d3" / f".idlewatch-restoring{end}", "left by a kill")
    with pytest.raises(SaveCancelled):
        restore(snapshot, target, cancelled=lambda: True)
    restore(snapshot, target)
    assert state(target) == state(root)


def test_what_does_not_match_its_checksum_afterwards_is_told(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "saved"), write(tmp_path / "root" / "b", "saved")
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    (target := tmp_path / "target").mkdir()

    def rot(progress: Progress) -> None:
        if progress.stage == "compare":
            write(target / "b", "other")

    with pytest.raises(SnapshotError, match="not as saved: b;"):
        restore(snapshot, target, progress=rot)


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_an_archive_that_holds_other_bytes_than_were_read_proves_nothing(tmp_path: Path, size: int) -> None:
    """Every digest but that of one file agrees: so would a bit that tipped in memory between reading and packing."""
    line = index_line(file("bad", size=size), digest_of(b"other")).strip()
    made = made_snapshot(tmp_path / "volume", [(file("bad"), bytes(size))], lines=[line])
    with pytest.raises(SnapshotError, match="the content of bad is not what was read"):
        verify(made)


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_what_was_written_wrong_is_told_however_large(tmp_path: Path, size: int) -> None:
    """The index knows another content than the archive: no disk does that, but to a restore it looks the same."""
    (target := tmp_path / "target").mkdir()
    wrong = f'"{digest_of(b"other").hex()}"'
    lines = [
        f'["bad","file",{size},0,{wrong},null]'.encode(),
        index_line(file("good", size=1), digest_of(b"x")).strip(),
    ]
    made = made_snapshot(tmp_path / "volume", [(file("bad"), bytes(size)), (file("good"), b"x")], lines=lines)
    with pytest.raises(SnapshotError, match="not as saved: bad;"):
        restore(made, target)
    assert (target / "good").read_bytes() == b"x"


def test_what_was_replaced_by_its_like_before_the_end_is_read_again(tmp_path: Path) -> None:
    """Another inode with the same bytes is right; one with other bytes is not, whatever its size and time."""
    for name in ("same", "other"):
        write(tmp_path / "root" / name, "saved", OLD_NS)
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    (target := tmp_path / "target").mkdir()

    def replace(progress: Progress) -> None:
        if progress.stage == "compare":
            for name, content in (("same", "saved"), ("other", "wrong")):
                write(target / "new", content, OLD_NS).rename(target / name)

    with pytest.raises(SnapshotError, match="not as saved: other;"):
        restore(snapshot, target, progress=replace)


def test_only_what_is_asked_for_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "a" / "one", "shared")
    (root / "b").mkdir()
    os.link(root / "a" / "one", root / "b" / "two")
    os.link(root / "a" / "one", root / "b" / "three")
    write(root / "bb", "no")
    snapshot = saved(root, tmp_path / "volume")
    (target := tmp_path / "target").mkdir()
    restore(snapshot, target, only=["/b"])
    assert {str(p.relative_to(target)) for p in target.rglob("*")} == {"b", "b/two", "b/three"}
    assert (target / "b" / "two").read_text() == "shared"
    assert (target / "b" / "two").stat().st_nlink == 2


def test_members_of_a_later_pass_win(tmp_path: Path) -> None:
    (target := tmp_path / "target").mkdir()
    members = [
        *((file("a"), b"first"), (link("b", "a", "hardlink"), b""), (link("d", "elsewhere"), b"")),
        *((file("a"), b"second"), (folder("d"), b""), (file("d/x"), b"x"), (file("gone"), b"g")),
    ]
    restore(made_snapshot(tmp_path / "volume", members, gone=("gone",)), target)
    assert (target / "a").read_text() == "second"
    assert (target / "b").read_text() == "first"
    assert (target / "d" / "x").read_text() == "x"
    assert not (target / "gone").exists()


def test_a_target_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    snapshot = made_snapshot(tmp_path / "volume", [(file("a"), b"x")])
    with pytest.raises(SnapshotError, match="cannot restore into"):
        restore(snapshot, tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give up being root")
def test_without_root_no_owner_no_setuid_and_no_device(tmp_path: Path) -> None:
    device = pax.Member(path="null", kind="char", device=(1, 3), mode=0o666)
    snapshot = made_snapshot(tmp_path / "volume", [(file("su", mode=0o4755, uid=0), b"x"), (device, b"")])
    (target := tmp_path / "target").mkdir()
    os.chown(target, 65534, 65534)
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    for path in (tmp_path / "volume").rglob("*"):
        os.chown(path, 65534, 65534)
    for path in (tmp_path / "volume", tmp_path / "volume" / ".idlewatch"):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        report = restore(snapshot, target)
    finally:
        os.seteuid(0)
    status = (target / "su").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 65534)
    assert "only root" in report.attributes["su"]
    assert report.skipped == {"null": "only root can make a device"}


def test_reports_are_json(tmp_path: Path) -> None:
    snapshot, target = two_ages(tmp_path)
    raw = json.loads(json.dumps(restore(snapshot, target).as_json()))
    assert (raw["snapshot"], raw["kept_newer"], raw["whole"]) == (snapshot.id, ["newer"], True)


NAMES = st.binary(min_size=1, max_size=12).filter(lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b".."))
KINDS = st.one_of(
    st.binary(max_size=2000),
    st.just("folder"),
    st.just("hard"),
    st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target),
)
TREES = st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.integers(0, 3), KINDS, st.integers(0, 0o777)))


def grow(root: Path, tree: list[tuple[list[bytes], int, object, int]]) -> None:
    """Make what can be made of a random tree; names that clash are left out."""
    files: list[Path] = []
    for names, what, content, mode in tree:
        path = root.joinpath(*map(os.fsdecode, names))
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if what == 0 and isinstance(content, bytes) and content and b"\0" not in content[:300]:
                path.symlink_to(os.fsdecode(content[:300]))
            elif what == 1:
                path.mkdir()
            elif what == 2 and files:
                path.hardlink_to(files[0])
            elif not os.path.lexists(path):
                write(path, content if isinstance(content, bytes) else b"", mode * 10**15 + 7)
                path.chmod(mode | 0o600)
                files.append(path)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(TREES)
def test_any_tree_comes_back(tree: list[tuple[list[bytes], int, object, int]]) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        (base / "target").mkdir()
        write(base / "root" / "never-empty", "x")
        grow(base / "root", tree)
        restore(saved(base / "root", base / "volume"), base / "target")
        assert state(base / "target") == state(base / "root")
    finally:
        shutil.rmtree(base)


def test_the_store_of_a_missing_volume_is_empty(tmp_path: Path) -> None:
    assert Store(tmp_path / "missing", POD).snapshots() == []
