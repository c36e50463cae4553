"""What was deleted, renamed or given another mode since the start, told by the names of the image."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import Loss, excludes_of, known_image, measure_loss, note_image
from idlewatch.snapshot.excludes import Excludes
from idlewatch.snapshot.image import Image, image_bytes, image_of, take_image
from idlewatch.snapshot.loss import summarize
from idlewatch.snapshot.scan import new_scan
from tests.snapshot_trees import birth, write


def made_image(root: Path) -> tuple[Image, int]:
    """Fill a root with what an image holds, and let the container begin."""
    for name in ("etc/motd", "usr/lib/a/one", "usr/lib/a/two", "usr/lib/b/three", "root/.bashrc", "tmp/old"):
        write(root / name, name)
    (root / "usr/lib/empty").mkdir()
    (root / "usr/link").symlink_to("lib")
    write(root / "odd" / os.fsdecode(b"n\xff\nline /x".replace(b"/", b"|")), "odd")
    since_ns = birth(root)
    return take_image(root, since_ns=since_ns, now_ns=since_ns, mounts=()), since_ns


def loss_of(root: Path, image: Image | None, since_ns: int, excludes: Excludes | None = None) -> Loss:
    return measure_loss(root, since_ns=since_ns, image=image, excludes=excludes)


def relative(root: Path, paths: tuple[str, ...]) -> set[str]:
    return {os.path.relpath(path, root) for path in paths}


def test_a_container_at_rest_has_lost_nothing(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    loss = loss_of(tmp_path, image, since_ns)
    assert loss.nothing
    assert (loss.deleted, loss.altered, loss.notes) == ((), (), ())
    assert loss.image == image.fingerprint


def test_what_is_deleted_is_named_by_its_topmost_path(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    shutil.rmtree(tmp_path / "usr/lib/a")
    (tmp_path / "usr/lib/b/three").unlink()
    (tmp_path / "usr/lib/empty").rmdir()
    (tmp_path / "usr/link").unlink()
    next((tmp_path / "odd").iterdir()).unlink()
    loss = loss_of(tmp_path, image, since_ns)
    odd = "odd/" + os.fsdecode(b"n\xff\nline |x")
    assert relative(tmp_path, loss.deleted) == {"usr/lib/a", "usr/lib/b/three", "usr/lib/empty", "usr/link", odd}
    assert not loss.nothing


def test_a_folder_made_anew_has_lost_its_old_children(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    shutil.rmtree(tmp_path / "usr/lib/a")
    write(tmp_path / "usr/lib/a/one", "new")
    loss = loss_of(tmp_path, image, since_ns)
    assert relative(tmp_path, loss.deleted) == {"usr/lib/a/two"}


@pytest.mark.parametrize("instead", ["file", "symlink"])
def test_a_folder_that_became_something_else_is_gone(tmp_path: Path, instead: str) -> None:
    image, since_ns = made_image(tmp_path)
    shutil.rmtree(tmp_path / "usr/lib/a")
    if instead == "file":
        write(tmp_path / "usr/lib/a", "a file now")
    else:
        (tmp_path / "usr/lib/a").symlink_to("b")
    loss = loss_of(tmp_path, image, since_ns)
    assert relative(tmp_path, loss.deleted) == {"usr/lib/a"}
    assert loss.files == 1


def test_a_renamed_folder_of_the_image_is_found_with_all_in_it(tmp_path: Path) -> None:
    """rename(2) leaves the ctimes below alone: so does an overlay with redirect_dir=on."""
    image, since_ns = made_image(tmp_path)
    (tmp_path / "usr/lib").rename(tmp_path / "usr/moved")
    loss = loss_of(tmp_path, image, since_ns)
    assert {"usr/moved/a/one", "usr/moved/a/two", "usr/moved/b/three"} == relative(
        tmp_path, tuple(path for path, _, _ in loss.newest)
    )
    assert relative(tmp_path, loss.deleted) == {"usr/lib"}
    assert loss_of(tmp_path, None, since_ns).files == 0


def test_a_folder_with_another_mode_or_a_new_empty_one_is_a_loss(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    (tmp_path / "usr/lib/a").chmod(0o700)
    (tmp_path / "usr/lib/new").mkdir()
    loss = loss_of(tmp_path, image, since_ns)
    assert relative(tmp_path, loss.altered) == {"usr/lib/a", "usr/lib/new"}
    assert not loss.nothing


def test_what_is_left_out_is_not_missed(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    (tmp_path / "tmp/old").unlink()
    (tmp_path / "etc/motd").unlink()
    loss = loss_of(tmp_path, image, since_ns, excludes_of(leave_out=["/etc"]))
    assert loss.nothing


def test_names_taken_late_are_fewer_and_that_is_said(tmp_path: Path) -> None:
    _, since_ns = made_image(tmp_path)
    (tmp_path / "etc/motd").unlink()
    write(tmp_path / "own", "mine")
    late = take_image(tmp_path, since_ns=since_ns, now_ns=since_ns + 3600 * 10**9, mounts=())
    assert late.signature("own") is None
    loss = loss_of(tmp_path, late, since_ns)
    assert loss.deleted == ()
    assert "60 min after the start" in loss.notes[0]


def test_without_names_it_is_said_that_deletions_are_not_known(tmp_path: Path) -> None:
    _, since_ns = made_image(tmp_path)
    assert "deleted is not known" in loss_of(tmp_path, None, since_ns).notes[0]


def test_names_of_another_container_do_not_count(tmp_path: Path) -> None:
    image, since_ns = made_image(tmp_path)
    (tmp_path / "etc/motd").unlink()
    assert loss_of(tmp_path, image, since_ns - 1).deleted == ()


def test_the_same_image_has_the_same_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
    first, _ = made_image(one)
    shutil.copytree(one, other, symlinks=True)
    assert take_image(other, since_ns=birth(other), now_ns=0, mounts=()).fingerprint == first.fingerprint
    shutil.copytree(one, third, symlinks=True)
    write(third / "etc/motd", "another")
    assert take_image(third, since_ns=birth(third), now_ns=0, mounts=()).fingerprint != first.fingerprint


def test_an_image_comes_back_from_its_bytes_and_damage_is_found(tmp_path: Path) -> None:
    image, _ = made_image(tmp_path)
    raw = image_bytes(image)
    assert image_of(raw).sections == image.sections
    assert image_of(raw).below("usr/lib/a").keys() == {"usr/lib/a", "usr/lib/a/one", "usr/lib/a/two"}
    for broken in (raw[:-3], raw[:20] + bytes([raw[20] ^ 4]) + raw[21:], b"", b"no list"):
        with pytest.raises(SnapshotError):
            image_of(broken)


def test_it_is_noted_once_a_container(tmp_path: Path) -> None:
    root, state_dir = tmp_path / "root", tmp_path / "state"
    state_dir.mkdir()
    _, since_ns = made_image(root)
    first = note_image(state_dir, root, since_ns=since_ns, now_ns=time.time_ns(), mounts=())
    (root / "etc/motd").unlink()
    again = note_image(state_dir, root, since_ns=since_ns, now_ns=time.time_ns(), mounts=())
    assert again.fingerprint == first.fingerprint
    assert known_image(state_dir, since_ns + 1) is None
    (state_dir / "image.names").write_bytes(b"damaged")
    assert known_image(state_dir, since_ns) is None


def test_mount_points_and_our_own_folders_are_not_the_images(tmp_path: Path) -> None:
    _, since_ns = made_image(tmp_path)
    image = take_image(tmp_path, since_ns=since_ns, now_ns=0, mounts=(), skip=[tmp_path / "usr/lib/a"])
    assert image.children("usr/lib").keys() == {"b", "empty"}


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("/data/checkpoints", {"data/checkpoints/1.ckpt", "data/checkpoints/deep/2.ckpt"}),
        ("*.ckpt", {"data/checkpoints/1.ckpt", "data/checkpoints/deep/2.ckpt"}),
        ("deep", {"data/checkpoints/deep/2.ckpt"}),
        ("/data/*/deep/", {"data/checkpoints/deep/2.ckpt"}),
        ("/deep", set()),
    ],
)
def test_an_owner_leaves_out_more(tmp_path: Path, pattern: str, left_out: set[str]) -> None:
    everything = {"data/checkpoints/1.ckpt", "data/checkpoints/deep/2.ckpt", "data/code.py"}
    for name in everything:
        write(tmp_path / name, name)
    scan = new_scan(tmp_path, since_ns=None, mounts=(), excludes=excludes_of(leave_out=[pattern]))
    loss = summarize(scan, scan.entries())
    assert everything - relative(tmp_path, tuple(path for path, _, _ in loss.newest)) == left_out
    assert bool(loss.excluded) == bool(left_out)


def test_an_owner_takes_a_rule_back(tmp_path: Path) -> None:
    write(tmp_path / "tmp/work", "work")
    assert measure_loss(tmp_path).files == 0
    assert measure_loss(tmp_path, excludes=excludes_of(keep=["/tmp"])).files == 1


@pytest.mark.parametrize("wrong", ["/", "*", "  ", "**/"])
def test_a_pattern_for_everything_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="everything"):
        excludes_of(leave_out=[wrong])


@pytest.mark.parametrize("wrong", ["/proc", "/home", "etc/hosts"])
def test_only_rules_that_can_be_taken_back_are(wrong: str) -> None:
    with pytest.raises(ValueError, match="no rule that can be taken back"):
        excludes_of(keep=[wrong])
