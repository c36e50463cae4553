"""What somebody else may put among the snapshots on a shared volume: none of it holds up whoever looks, for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idlewatch.errors import SnapshotError
from idlewatch.pod import elsewhere
from idlewatch.snapshot import note_image, restore, save, snapshots
from idlewatch.snapshot.codec import packed, unpacked
from idlewatch.snapshot.shelf import MOST_READ_BYTES, FolderShelf
from tests.snapshot_trees import POD, birth, made_snapshot, request, saved, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.snapshot import Snapshot

ID = "20990101T000000Z-abcdef"
pytestmark = pytest.mark.timeout(60)


def a_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(f"{path}.pipe")
    path.symlink_to(f"{path}.pipe")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_READ_BYTES + 1)


ODD: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to("/dev/zero"),
    "a link to a pipe": a_link_to_a_pipe,
    "a socket": a_socket,
    "a folder": Path.mkdir,
    "one that is too large": sparse,
    "an empty one": Path.touch,
}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the snapshots lie."""
    monkeypatch.chdir(tmp_path)
    write(Path("root/a"), "content")
    path = Path("volume/.idlewatch") / POD / "snapshots"
    path.mkdir(parents=True)
    return path


def one(root: Path = Path("root")) -> Snapshot:
    return saved(root.absolute(), Path("volume").absolute())


@pytest.mark.parametrize("what", ODD)
def test_an_odd_manifest_holds_nobody_up(folder: Path, what: str) -> None:
    ODD[what](folder / f"{ID}.json")
    made = one()
    assert [each.id for each in snapshots(Path("volume"), POD)] == [made.id]
    assert [each.pod for each in elsewhere.others(Path("volume"), "another")] == [POD]


@pytest.mark.parametrize("what", ODD)
def test_an_odd_archive_or_base_holds_nobody_up(folder: Path, what: str) -> None:
    made = one()
    Path("target").mkdir()
    made.archive_path.unlink()
    ODD[what](made.archive_path)
    assert snapshots(Path("volume"), POD) == []
    with pytest.raises(SnapshotError):
        restore(made, Path("target"))
    assert one().base is None


@pytest.mark.parametrize("what", ODD)
def test_odd_names_of_an_image_are_written_anew(folder: Path, what: str) -> None:
    root, state_dir = Path("root").absolute(), Path("state").absolute()
    state_dir.mkdir()
    since_ns = birth(root)
    image = note_image(state_dir, root, since_ns=since_ns, now_ns=since_ns, mounts=())
    write(root / "own", "mine")
    names = folder / f"image-{image.fingerprint}.names"
    ODD[what](names)
    if what == "a folder":
        with pytest.raises(SnapshotError, match="directory"):
            save(request(root, Path("volume").absolute(), since_ns=since_ns, state_dir=state_dir))
        return
    made = saved(root, Path("volume").absolute(), since_ns=since_ns, state_dir=state_dir)
    assert made.image == image.fingerprint
    assert names.is_file()
    assert not names.is_symlink()


@pytest.mark.parametrize("what", ["a link", "a link to a pipe", "a socket", "a folder"])
def test_an_odd_lock_fails_the_save_in_words(folder: Path, what: str) -> None:
    ODD[what](folder / "save.lock")
    with pytest.raises(SnapshotError, match=r"the save failed: .*save\.lock"):
        save(request(Path("root").absolute(), Path("volume").absolute()))


def test_a_pipe_can_be_the_lock(folder: Path) -> None:
    os.mkfifo(folder / "save.lock")
    assert one().id


def test_what_could_not_be_read_again_is_not_written(folder: Path) -> None:
    with pytest.raises(SnapshotError, match="larger than"):
        FolderShelf(folder).put("x.json", bytes(MOST_READ_BYTES + 1))
    assert list(folder.iterdir()) == []


def test_packed_data_unpacks_to_no_more_than_there_can_be() -> None:
    assert unpacked(packed(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(SnapshotError, match="more than"):
        unpacked(packed(bytes(1001)), 1000)


def test_a_made_one_is_still_read(folder: Path) -> None:
    made = made_snapshot(Path("volume"), [])
    assert [each.id for each in snapshots(Path("volume"), POD)] == [made.id]
    assert folder.is_dir()
