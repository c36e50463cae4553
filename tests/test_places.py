"""What a stop wipes and what survives it: a folder's name proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from idlewatch.history.status import is_stale
from idlewatch.model import Json
from idlewatch.pod.assembled import assembled
from idlewatch.pod.saving import save_plan
from idlewatch.requests.stop_requests import request_file, stop_request
from idlewatch.settings import Source, load
from idlewatch.show.status import status_lines
from idlewatch.snapshot.mounts import Mount
from idlewatch.snapshot.places import leads_away, save_root, survives, volume


def mount(point: str, fs_type: str = "ext4") -> Mount:
    return Mount(point=point, fs_type=fs_type, options=frozenset())


ROOT = mount("/", "overlay")


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ((ROOT, mount("/workspace", "fuse")), "/workspace"),
        ((ROOT, mount("/runpod-volume")), "/runpod-volume"),
        ((ROOT,), None),
        ((ROOT, mount("/workspace", "tmpfs")), None),
        ((ROOT, mount("/workspace-old")), None),
    ],
)
def test_only_a_mounted_volume_is_found(mounts: tuple[Mount, ...], found: str | None) -> None:
    assert volume("auto", mounts) == (Path(found) if found else None)


def test_a_folder_on_the_wiped_disk_or_in_memory_does_not_survive() -> None:
    mounts = (ROOT, mount("/no-such/vol"), mount("/no-such/shm", "tmpfs"))
    assert survives(Path("/no-such/vol/deep/er"), mounts)
    assert not survives(Path("/no-such/volume"), mounts)
    assert not survives(Path("/no-such/shm/x"), mounts)
    assert not survives(Path("/no-such"), mounts)


def test_links_on_the_wiped_disk_are_followed(tmp_path: Path) -> None:
    mounts = (ROOT, mount("/no-such/vol"))
    for name, target in (
        ("kept", "/no-such/vol/x"),
        ("wiped", "/no-such"),
        ("loop", "loop"),
        ("up", "/no-such/vol/../x"),
    ):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "twice").symlink_to("kept")
    assert survives(tmp_path / "kept", mounts)
    assert survives(tmp_path / "twice/deeper", mounts)
    assert survives(tmp_path / ".." / tmp_path.name / "kept", mounts)
    assert not any(survives(tmp_path / name, mounts) for name in ("wiped", "loop", "up", "none"))


def test_a_link_on_the_volume_is_not_touched_by_the_daemon_and_found_out_by_the_save(tmp_path: Path) -> None:
    mounts = (ROOT, mount(str(tmp_path)))
    (tmp_path / "link").symlink_to("/no-such")
    (tmp_path / "folder").mkdir()
    (tmp_path / "fine").symlink_to("folder")
    assert survives(tmp_path / "link", mounts)
    assert "leads to /no-such, which a stop wipes" in str(leads_away(tmp_path / "link", mounts))
    assert leads_away(tmp_path / "fine", mounts) is None
    assert leads_away(tmp_path / "folder", mounts) is None
    assert leads_away(Path("/no-such"), mounts) is None


def test_of_two_mounts_on_one_point_the_later_one_counts() -> None:
    assert survives(Path("/no-such/vol"), (ROOT, mount("/no-such/vol", "tmpfs"), mount("/no-such/vol", "nfs4")))
    assert not survives(Path("/no-such/vol"), (ROOT, mount("/no-such/vol", "nfs4"), mount("/no-such/vol", "tmpfs")))


def test_a_pods_disk_is_wiped_whatever_its_root_looks_like(tmp_path: Path) -> None:
    strange, dockerenv = (mount("/", "fuse.fuse-overlayfs"),), tmp_path / "none"
    assert save_root("auto", strange, in_pod=True, dockerenv=dockerenv) == Path("/")
    assert save_root("auto", strange, in_pod=False, dockerenv=dockerenv) is None
    assert save_root("auto", (ROOT,), in_pod=False, dockerenv=dockerenv) == Path("/")


def test_a_pod_whose_volume_lies_on_its_own_disk_has_no_place_to_save_to() -> None:
    variables = {"RUNPOD_POD_ID": "pod1", "IDLEWATCH_VOLUME": "/no-such-mount/workspac"}
    plan = save_plan(assembled(load([Source(name="environment", variables=variables)])))
    assert plan.request is None
    assert plan.needless is None
    assert "/no-such-mount/workspac" in str(plan.impossible)


def test_a_request_of_another_start_stops_nothing(tmp_path: Path) -> None:
    path = request_file(tmp_path)
    path.parent.mkdir()
    path.write_text('{"who": "ann", "warn_for_s": 30, "boot_key": "pod1@first"}')
    assert stop_request(tmp_path, "pod1@first") is not None
    assert stop_request(tmp_path, "pod1@second") is None
    path.write_text('{"who": "ann", "warn_for_s": 30}')
    assert stop_request(tmp_path, "pod1@first") is None


@pytest.mark.parametrize(("at_s", "stale"), [(100.0, False), (60.0, True), (500.0, True)])
def test_a_status_of_another_boot_or_of_long_ago_is_not_shown_as_now(at_s: float, stale: bool) -> None:  # noqa: FBT001
    status: dict[str, Json] = {"at_s": at_s, "interval_s": 5.0, "phase": "watching"}
    assert is_stale(status, 101.0) is stale
    assert ("NOT RUNNING" in status_lines(status, 101.0)[0]) is stale
