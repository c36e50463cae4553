"""The file with the key of snapshots: refused beside them and within what they are made of, whatever leads to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch.pod.key_place import misplaced
from idlewatch.settings import environment_with
from idlewatch.snapshot import Excludes, new_key
from idlewatch.snapshot.excludes import excludes_of
from idlewatch.snapshot.mounts import Mount, parse_mounts
from tests.snapshot_trees import write

pytest.importorskip("cryptography")

MOUNTS = parse_mounts("""\
20 1 0:30 / / rw,relatime - overlay overlay rw
30 20 0:40 / /workspace rw,relatime - fuse mfs#volume.example:9421 rw
31 20 0:41 / /run/secrets ro,relatime - tmpfs tmpfs rw
32 20 0:42 / /etc/mounted-key ro,relatime - ext4 /dev/sda1 rw
""")


def why(
    path: str, *, volume: str | None = "/workspace", root: str | None = "/", excludes: Excludes | None = None
) -> str:
    folder = None if volume is None else Path(volume)
    place, skip = None if root is None else Path(root), [Path("/var/lib/idlewatch")]
    return misplaced(Path(path), folder, place, MOUNTS, excludes or Excludes(), skip) or ""


def test_beside_the_snapshots_it_is_refused() -> None:
    assert why("/workspace/.key").startswith("it lies on /workspace, beside the snapshots")
    assert "IDLEWATCH_SNAPSHOT_KEY itself" in why("/workspace/.key")
    assert why("/workspace/.key", volume=None, root=None) == "", "snapshots go elsewhere"


@pytest.mark.parametrize("path", ["/root/key", "/etc/idlewatch/key", "/srv/key.pid"])
def test_within_what_is_saved_it_is_refused(path: str) -> None:
    assert why(path).startswith("a stop wipes /, and the snapshot that would hold this file does not open without it")
    assert why(path, root=None) == "", "a disk that is kept"
    assert why(path, excludes=excludes_of(leave_out=[path])) == ""


@pytest.mark.parametrize(
    "path", ["/run/secrets/key", "/run/key", "/etc/mounted-key", "/tmp/key", "/var/lib/idlewatch/key"]
)
def test_where_nothing_is_saved_from_it_may_lie(path: str) -> None:
    assert why(path) == ""


def test_links_are_followed_and_what_may_hang_is_not_touched(tmp_path: Path) -> None:
    volume, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    volume.mkdir()
    write(volume / "key")
    write(elsewhere / "key")
    (tmp_path / "link").symlink_to("volume/key")
    (tmp_path / "folder").symlink_to("volume")
    (tmp_path / "its-name").symlink_to(volume)
    (volume / "out").symlink_to(elsewhere / "key")
    (elsewhere / "hangs").symlink_to("/workspace/key")
    kept = str(tmp_path / "its-name")
    for path in (tmp_path / "link", tmp_path / "folder/key", volume / "key", volume / "out", tmp_path / "its-name/key"):
        assert "beside the snapshots" in why(str(path), volume=kept, root=None), path
    assert why(str(elsewhere / "key"), volume=kept, root=None) == ""
    assert "a stop wipes" in why(str(tmp_path / "folder/key"), volume=None, root=str(volume))
    assert "a stop wipes" in why(str(elsewhere / "key"), volume=None, root=str(elsewhere))
    assert "beside the snapshots" in why(str(elsewhere / "hangs")), "told by its text: nothing is there to be touched"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["volume/key", "disk/root/key"])
@pytest.mark.parametrize("verb", [["run", "--observe"], ["save"]])
def test_neither_the_daemon_nor_a_save_by_hand_takes_a_misplaced_key(
    tmp_path: Path, verb: list[str], place: str
) -> None:
    for name in ("volume", "disk/root"):
        (tmp_path / name).mkdir(parents=True)
    path = write(tmp_path / place, new_key())
    told = {
        "IDLEWATCH_SNAPSHOT_KEY_FILE": path,
        "IDLEWATCH_VOLUME": tmp_path / "volume",
        "IDLEWATCH_SAVE_ROOT": tmp_path / "disk",
        "IDLEWATCH_STATE_DIR": tmp_path / "state",
        "RUNPOD_POD_ID": "pod1",
    }
    environment = environment_with({name: str(value) for name, value in told.items()})
    call = [sys.executable, "-P", "-m", "idlewatch", *verb]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"idlewatch: IDLEWATCH_SNAPSHOT_KEY_FILE={path}: ")
    assert path.read_text() not in done.stderr


def test_a_mount_over_another_counts() -> None:
    mounts = (*MOUNTS, Mount(point="/root", fs_type="ext4", options=frozenset()))
    assert misplaced(Path("/root/key"), None, Path("/"), mounts, Excludes(), []) is None
