from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import Excludes, measure_loss, read_mounts
from idlewatch.snapshot.loss import summarize
from idlewatch.snapshot.mounts import (
    BirthFacts,
    Mount,
    choose_birth,
    container_birth_ns,
    parse_mounts,
    points_below,
    since_for,
)
from idlewatch.snapshot.scan import Entry, new_scan
from tests.snapshot_trees import write

if TYPE_CHECKING:
    from idlewatch.snapshot import Loss

S = 1_000_000_000
COARSE_CLOCK = 5
"""CLOCK_REALTIME_COARSE, which the kernel stamps ctime with."""


def mount(point: str, fs_type: str = "ext4", *options: str) -> Mount:
    return Mount(point=point, fs_type=fs_type, options=frozenset(options))


def loss_of(
    root: Path, *, mounts: tuple[Mount, ...] = (), since_ns: int | None = None, skip: tuple[Path, ...] = ()
) -> Loss:
    scan = new_scan(root, since_ns=since_ns, mounts=mounts, skip=skip)
    return summarize(scan, scan.entries())


def names(loss: Loss) -> set[str]:
    return {path.removeprefix(loss.root + "/") for path, _, _ in loss.newest}


def test_mountinfo_gives_points_types_and_options() -> None:
    text = (
        "700 600 0:51 / / rw,relatime master:1 shared:2 - overlay overlay rw,lowerdir=/l,redirect_dir=on\n"
        "701 700 0:52 / /my\\040data\\134x rw - fuse mfs#host:9421 rw\n"
        "half a line\n"
        "702 700 0:53 / /gone//deleted rw - tmpfs tmpfs rw\n"
    )
    root, data, gone = parse_mounts(text)
    assert (root.point, root.fs_type) == ("/", "overlay")
    assert {"redirect_dir=on", "relatime"} <= root.options
    assert data.point == "/my data\\x"
    assert gone.point == "/gone"


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1))
def test_every_mount_point_survives_the_kernels_escapes(name: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in name)
    (found,) = parse_mounts(f"1 2 0:3 / /mnt/{escaped} rw - ext4 dev rw")
    assert found.point == f"/mnt/{name}"


def test_points_below_are_relative_and_leave_out_lookalikes() -> None:
    mounts = [mount("/"), mount("/data"), mount("/data/a/b"), mount("/database")]
    assert points_below("/data", mounts) == {"a/b"}
    assert points_below("/", mounts) == {"data", "data/a/b", "database"}


@pytest.mark.parametrize(
    ("overlay", "dockerenv", "pid1", "chosen"),
    [
        (100 * S, 101 * S, 102 * S, 100 * S),
        (100 * S, 101 * S, 9000 * S, 100 * S),
        (None, 101 * S, 102 * S, 101 * S),
        (0, 101 * S, 102 * S, 101 * S),
        (500 * S, 101 * S, 102 * S, 101 * S),
        (500 * S, 400 * S, 102 * S, 100 * S),
        (100 * S, None, None, 100 * S),
        (None, None, 102 * S, 100 * S),
        (103 * S, None, 102 * S, 103 * S),
    ],
)
def test_the_birth_is_the_best_plausible_value(
    overlay: int | None, dockerenv: int | None, pid1: int | None, chosen: int
) -> None:
    assert choose_birth(BirthFacts(overlay_birth_ns=overlay, dockerenv_ns=dockerenv, pid1_ns=pid1)) == chosen


def test_without_any_birth_nothing_is_guessed() -> None:
    with pytest.raises(SnapshotError, match="when this container was made"):
        choose_birth(BirthFacts(overlay_birth_ns=0, dockerenv_ns=None, pid1_ns=None))


def test_the_birth_of_this_machine_lies_in_the_past() -> None:
    assert 0 < container_birth_ns(read_mounts()) < time.time_ns()
    assert 0 < container_birth_ns([mount("/", "overlay")]) < time.time_ns()


def test_only_the_root_of_the_container_has_a_birth(tmp_path: Path) -> None:
    assert since_for(tmp_path, read_mounts()) is None
    assert since_for(tmp_path / ".." / ".." / ".." / ".." / ".." / ".." / "..", read_mounts()) is not None


def test_only_what_changed_since_counts_and_a_mtime_put_back_hides_nothing(tmp_path: Path) -> None:
    image, touched = write(tmp_path / "image", "old"), write(tmp_path / "lib" / "touched", "same size")
    mtime_ns = touched.stat().st_mtime_ns
    time.sleep(0.02)
    since_ns = time.clock_gettime_ns(COARSE_CLOCK)
    write(touched, "SAME SIZE", mtime_ns)
    write(tmp_path / "new", "four")
    loss = loss_of(tmp_path, since_ns=since_ns)
    assert names(loss) == {"lib/touched", "new"}
    assert loss.total_bytes == len("SAME SIZE") + 4
    assert image.exists()


def test_what_is_left_out_is_named_with_its_bytes(tmp_path: Path) -> None:
    write(tmp_path / "tmp" / "a" / "b", b"12345")
    write(tmp_path / "root" / ".cache" / "pip" / "wheel", b"123")
    write(tmp_path / "opt" / "miniconda3" / "pkgs" / "p", b"1")
    write(tmp_path / "srv" / "run.pid", "77\n")
    write(tmp_path / "srv" / "big.pid", b"p" * 100)
    write(tmp_path / "etc" / "rp_environment", "export X=1")
    write(tmp_path / "home" / "tmp", "a file of that name elsewhere")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind("srv/s")
    loss = loss_of(tmp_path)
    assert names(loss) == {"srv/big.pid", "home/tmp"}
    rules = {rule: (size, entries) for rule, size, entries in loss.excluded}
    assert rules["/tmp"] == (5, 3)
    assert rules[".cache/pip"] == (3, 2)
    assert rules["miniconda3/pkgs"] == (1, 2)
    assert rules["pid files"] == (3, 1)
    assert rules["sockets"] == (0, 1)
    assert rules["/etc/rp_environment"][1] == 1


def test_an_owner_can_exclude_other_trees(tmp_path: Path) -> None:
    write(tmp_path / "data" / "x", b"1"), write(tmp_path / "tmp" / "y", b"22")
    loss = measure_loss(tmp_path, excludes=Excludes(trees=frozenset({"data"})))
    assert (names(loss), loss.total_bytes) == ({"tmp/y"}, 2)


def test_mount_points_are_left_out_without_being_touched(tmp_path: Path) -> None:
    write(tmp_path / "workspace" / "kept", "elsewhere")
    write(tmp_path / "etc" / "hosts", "mounted file")
    write(tmp_path / "workspace2" / "lost", "x")
    loss = loss_of(tmp_path, mounts=(mount(f"{tmp_path}/workspace"), mount(f"{tmp_path}/etc/hosts")))
    assert names(loss) == {"workspace2/lost"}
    assert loss.mounts == (f"{tmp_path}/etc/hosts", f"{tmp_path}/workspace")


def test_links_to_the_driver_go_and_links_to_a_volume_stay(tmp_path: Path) -> None:
    driver = write(tmp_path / "usr" / "lib" / "libcuda.so.550", "driver")
    (driver.parent / "libcuda.so.1").symlink_to("libcuda.so.550")
    (driver.parent / "libcuda.so").symlink_to("libcuda.so.1")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "data").symlink_to("workspace")
    (tmp_path / "other").symlink_to("usr/lib/other.so")
    loss = loss_of(tmp_path, mounts=(mount(str(driver)), mount(f"{tmp_path}/workspace")))
    assert names(loss) == {"data", "other"}
    assert ("links to the driver's files", 0, 2) in loss.excluded


def test_our_own_folders_are_no_loss(tmp_path: Path) -> None:
    write(tmp_path / "volume" / ".idlewatch" / "archive", b"1" * 1000)
    write(tmp_path / "state" / "status.json", "{}")
    loss = loss_of(tmp_path, skip=(tmp_path / "volume", tmp_path / "state", tmp_path / "missing"))
    assert loss.nothing
    assert f"{tmp_path}/volume" in loss.skipped


def test_what_cannot_be_read_is_an_error_and_never_nothing(tmp_path: Path) -> None:
    """A path longer than the kernel takes can't be read even by root."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    loss = loss_of(tmp_path, since_ns=1)
    assert [error for _, error in loss.errors] == ["File name too long"]
    assert not loss.nothing


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    assert not loss_of(tmp_path / "missing").nothing


def test_an_idle_container_with_moved_folders_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert loss_of(tmp_path, since_ns=1).nothing
    assert not loss_of(tmp_path).nothing


def test_bytes_are_what_is_on_the_disk(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    write(tmp_path / "one", b"1" * 1000)
    os.link(tmp_path / "one", tmp_path / "two")
    loss = loss_of(tmp_path)
    assert (loss.files, loss.total_bytes) == (3, 1000)


def test_a_file_shared_with_a_package_cache_weighs_in_the_environment(tmp_path: Path) -> None:
    """Uv links the files of an environment to its cache; a save holds them whole."""
    write(tmp_path / ".cache" / "uv" / "wheel", b"1" * 1000)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "module").hardlink_to(tmp_path / ".cache" / "uv" / "wheel")
    loss = loss_of(tmp_path)
    assert (names(loss), loss.total_bytes) == ({"venv/module"}, 1000)
    assert loss.excluded == ((".cache/uv", 1000, 2),)


def test_the_summary_is_json_with_the_newest_and_the_heaviest_first(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / "data" / f"d{number % 2}" / f"f{number:02}", b"x" * (number + 1))
        time.sleep(0.005)
    raw = json.loads(json.dumps(loss_of(tmp_path).as_json()))
    assert [item["path"][-3:] for item in raw["newest"]] == [f"f{n:02}" for n in range(29, 9, -1)]
    assert [item["bytes"] for item in raw["largest"]] == list(range(30, 10, -1))
    assert raw["by_folder"][0] == {"path": f"{tmp_path}/data/d1", "bytes": sum(range(2, 31, 2)), "files": 15}


def test_the_blind_spot_of_redirect_dir_is_said(tmp_path: Path) -> None:
    overlay = mount("/", "overlay", "redirect_dir=on")
    assert "redirect_dir" in loss_of(tmp_path, mounts=(overlay,), since_ns=1).notes[1]
    assert len(loss_of(tmp_path, mounts=(mount("/", "overlay"),), since_ns=1).notes) == 1


def test_a_scan_can_be_ended(tmp_path: Path) -> None:
    def ended() -> None:
        raise KeyError

    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(KeyError):
        measure_loss(tmp_path, pause=ended)


def test_a_folder_that_became_a_symlink_meanwhile_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "root" / "d" / "inside", "x"), write(tmp_path / "elsewhere" / "outside", "x")
    scan = new_scan(tmp_path / "root", since_ns=None, mounts=())
    entries = scan.entries()
    assert next(entries).path == "d"
    (tmp_path / "root" / "d").rename(tmp_path / "moved")
    (tmp_path / "root" / "d").symlink_to(tmp_path / "elsewhere")
    assert list(entries) == []
    assert scan.errors == {}


def test_a_scan_that_is_given_up_closes_its_folder(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "root" / f"{number}", "x")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted
    entries = new_scan(tmp_path / "root", since_ns=None, mounts=()).entries()
    next(entries)
    entries.close()  # type: ignore[attr-defined]  # a generator
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - only counted


def test_mount_points_and_our_own_lie_at_any_depth(tmp_path: Path) -> None:
    for name in ("a/mnt/x", "a/b/mnt/x", "mnt/x", "a/own/x", "a/stays"):
        write(tmp_path / name, "x")
    mounts = tuple(mount(f"{tmp_path}/{point}") for point in ("mnt", "a/b/mnt"))
    loss = loss_of(tmp_path, mounts=mounts, skip=(tmp_path / "a" / "own",))
    assert names(loss) == {"a/mnt/x", "a/stays"}
    assert loss.mounts == (f"{tmp_path}/a/b/mnt", f"{tmp_path}/mnt")


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 40)), max_size=60))
def test_the_newest_and_the_largest_of_any_entries_are_shown(facts: list[tuple[int, int]]) -> None:
    entries = [Entry(f"d/{n:02}", "file", size, size, ctime) for n, (size, ctime) in enumerate(facts)]
    loss = summarize(new_scan(Path("/nowhere"), since_ns=None, mounts=()), entries)
    newest = sorted(entries, key=lambda one: (one.ctime_ns, one), reverse=True)[:20]
    largest = sorted(entries, key=lambda one: (one.disk_bytes, one), reverse=True)[:20]
    assert [path for path, _, _ in loss.newest] == [f"/nowhere/{one.path}" for one in newest]
    assert [path for path, _, _ in loss.largest] == [f"/nowhere/{one.path}" for one in largest]
    assert loss.total_bytes == sum(size for size, _ in facts)
