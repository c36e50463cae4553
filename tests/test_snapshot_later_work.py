"""What somebody has put into the target since the save stays there, whatever date it carries."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from idlewatch.cli import main
from idlewatch.snapshot import RestoreReport, Snapshot, note_image, restore
from tests.snapshot_trees import birth, saved, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD_NS, MIDDLE_NS = 1_500_000_000_000_000_000, 1_600_000_000_000_000_000


class Pod:
    """A root that stands for the containers of one Pod, one after the other."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.volume, self.state_dir = tmp_path / "root", tmp_path / "volume", tmp_path / "state"
        self.start()

    def start(self, *, noted: bool = True) -> None:
        for folder in (self.root, self.state_dir):
            shutil.rmtree(folder, ignore_errors=True)
        self.state_dir.mkdir()
        write(self.root / "etc/tool.conf", "the image's", MIDDLE_NS)
        write(self.root / "etc/other.conf", "the image's", MIDDLE_NS)
        self.since_ns = birth(self.root)
        if noted:
            self.note()

    def note(self) -> None:
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=self.since_ns, mounts=())

    def save(self) -> Snapshot:
        return saved(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir)

    def restore(self, snapshot: Snapshot, **options: object) -> RestoreReport:
        known = {"since_ns": self.since_ns, "state_dir": self.state_dir, **options}
        return restore(snapshot, self.root, **known)  # type: ignore[arg-type]  # a test's own options


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    pod = Pod(tmp_path)
    write(pod.root / "etc/tool.conf", "changed in the Pod")
    write(pod.root / "work/a", "saved"), write(pod.root / "work/b", "saved"), write(pod.root / "work/c", "saved")
    return pod


def made_again(path: Path) -> None:
    write(path, "MY WORK", OLD_NS)


def copied(path: Path) -> None:
    source = write(path.parent.parent.parent / "elsewhere", "MY WORK", OLD_NS)
    subprocess.run(["cp", "-p", source, path], check=True)


def unpacked(path: Path) -> None:
    write(path.parent.parent.parent / path.name, "MY WORK", OLD_NS)
    tar = path.parent.parent.parent / "my.tar"
    subprocess.run(["tar", "-cf", tar, "-C", tar.parent, path.name], check=True)
    subprocess.run(["tar", "-xf", tar, "-C", path.parent], check=True)


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("MY WORK")
    os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


WAYS = [made_again, copied, unpacked, a_link]


@pytest.mark.parametrize("way", WAYS)
def test_later_work_with_an_old_date_stays_and_is_named(pod: Pod, way: Callable[[Path], None]) -> None:
    """In the same container, in the next one after a restore, and where the root is an ordinary folder."""
    snapshot = pod.save()
    way(pod.root / "work/a")
    for known in ({}, {"since_ns": None}):
        report = pod.restore(snapshot, **known)
        assert (report.kept_newer, report.replaced, report.files) == (["work/a"], [], 0)
    pod.start()
    assert pod.restore(snapshot).kept_newer == []
    way(pod.root / "work/a")
    report = pod.restore(snapshot)
    assert (report.kept_newer, report.files) == (["work/a"], 0)
    work = pod.root / "work/a"
    assert (os.readlink(work) if work.is_symlink() else work.read_text()) == "MY WORK"  # noqa: PTH115 - a text
    assert pod.restore(snapshot, overwrite=True).kept_newer == []
    assert work.read_text() == "saved"


def test_a_fresh_container_gets_all_of_it_over_the_image_s_own(pod: Pod) -> None:
    """Its files have the ctime of its unpacking."""
    snapshot = pod.save()
    pod.start()
    report = pod.restore(snapshot)
    assert (report.kept_newer, report.replaced) == ([], ["etc/tool.conf"])
    assert (pod.root / "etc/tool.conf").read_text() == "changed in the Pod"


@pytest.mark.parametrize("noted", ["before", "after"])
def test_what_the_image_s_own_start_has_only_touched_is_still_the_image_s(pod: Pod, noted: str) -> None:
    """As `chown -R` at each start, or an overlay that copies up a file that was opened to be written."""
    snapshot = pod.save()
    pod.start(noted=noted == "before")
    (pod.root / "etc/tool.conf").chmod(0o600)
    if noted == "after":
        pod.note()
    report = pod.restore(snapshot)
    assert (report.kept_newer, report.replaced) == ([], ["etc/tool.conf"])
    assert (pod.root / "etc/tool.conf").read_text() == "changed in the Pod"


def test_what_a_service_has_written_before_stays(pod: Pod) -> None:
    snapshot = pod.save()
    pod.start()
    write(pod.root / "etc/tool.conf", "of this start", OLD_NS)
    report = pod.restore(snapshot)
    assert (report.kept_newer, (pod.root / "etc/tool.conf").read_text()) == (["etc/tool.conf"], "of this start")


def test_what_a_restore_put_there_is_nobody_s_later_work(pod: Pod) -> None:
    """Also what an interrupted one did, whatever the dates."""
    snapshot = pod.save()
    pod.start()
    pod.restore(snapshot, only=["work/a", "etc"])
    report = pod.restore(snapshot)
    assert (report.kept_newer, report.files, report.unchanged) == ([], 2, 2)
    assert (pod.restore(snapshot).files, pod.restore(snapshot).kept_newer) == (0, [])


def test_what_stood_in_a_folder_before_the_save_is_replaced_and_a_dry_run_names_it(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    write(target / "a", "of old", OLD_NS), write(target / "same", "saved", OLD_NS)
    write(root / "a", "saved"), write(root / "same", "saved"), write(root / "new", "saved")
    snapshot = saved(root, tmp_path / "volume")
    report = restore(snapshot, target, dry_run=True)
    assert (report.replaced, report.kept_newer, report.files) == (["a"], [], 2)
    assert (target / "a").read_text() == "of old"
    assert restore(snapshot, target).replaced == ["a"]
    assert restore(snapshot, target).replaced == []


def test_what_gives_way_to_a_folder_is_named_and_a_dry_run_says_the_same(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    write(root / "a/b/c", "saved"), write(root / "link/d", "saved")
    snapshot = saved(root, tmp_path / "volume")
    write(target / "a", "of somebody")
    (target / "link").symlink_to("/nowhere")
    dry = restore(snapshot, target, overwrite=True, dry_run=True)
    assert (target / "a").read_text() == "of somebody"
    assert (sorted(dry.replaced), dry.files, dry.folders, dry.in_the_way) == (["a", "link"], 2, 3, {})
    assert dry.as_json() == {**restore(snapshot, target, overwrite=True).as_json(), "dry_run": True}
    assert (target / "a/b/c").read_text() == (target / "link/d").read_text() == "saved"


def test_a_dry_run_says_what_it_would_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, place in (("STATE_DIR", "state"), ("SAVE_ROOT", "root"), ("VOLUME", "volume")):
        monkeypatch.setenv(f"IDLEWATCH_{name}", str(tmp_path / place))
    write(tmp_path / "target/work", "of old", OLD_NS), write(tmp_path / "root/work", "saved")
    saved(tmp_path / "root", tmp_path / "volume", pod_id="no-pod")
    assert main(["restore", "--dry-run", "--into", str(tmp_path / "target")]) == 0
    assert f"1 would replace other content:\n  {tmp_path}/target/work\n" in capsys.readouterr().out
