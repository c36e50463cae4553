"""A restore into a fresh container: of the same image, and of another one that changed some of the same things."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import RestoreReport, Snapshot, note_image, restore, snapshots
from tests.snapshot_trees import POD, birth, saved, state, write

if TYPE_CHECKING:
    from collections.abc import Callable

OLD_NS = 1_600_000_000_000_000_000
FILES = (
    "etc/tool.conf",
    "usr/lib/a/one",
    "usr/lib/a/two",
    "usr/lib/b",
    "root/.bashrc",
    "var/lib/dpkg/status",
    "opt/x/y",
)


class Pod:
    """A root that stands for the containers of one Pod, one after the other."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.volume, self.state_dir = tmp_path / "root", tmp_path / "volume", tmp_path / "state"
        self.since_ns = 0

    def start(
        self, image: Callable[[Path], object] = lambda _: None, *, late: Callable[[], bool] = lambda: False
    ) -> None:
        """Begin a fresh container; `image` changes what the image holds, `late` what lies there an hour later."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.state_dir, ignore_errors=True)
        self.state_dir.mkdir()
        for name in FILES:
            write(self.root / name, f"image's {name}", OLD_NS)
        image(self.root)
        self.since_ns = birth(self.root)
        noted_ns = self.since_ns + (3600 * 10**9 if late() else 0)
        note_image(self.state_dir, self.root, since_ns=self.since_ns, now_ns=noted_ns, mounts=())

    def save(self) -> Snapshot:
        return saved(self.root, self.volume, since_ns=self.since_ns, state_dir=self.state_dir)

    def restore(self, snapshot: Snapshot, **options: object) -> RestoreReport:
        known = {"since_ns": self.since_ns, "state_dir": self.state_dir, **options}
        return restore(snapshot, self.root, **known)  # type: ignore[arg-type]  # a test's own options


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    pod = Pod(tmp_path)
    pod.start()
    return pod


def work(root: Path) -> None:
    """What a person did in the Pod."""
    write(root / "etc/tool.conf", "mine")
    write(root / "usr/local/lib/mine.py", "mine")
    write(root / "usr/bin/jq", "a package's")
    write(root / "var/lib/dpkg/status", "image's and jq")
    shutil.rmtree(root / "usr/lib/a")
    (root / "usr/lib/b").chmod(0o600)
    shutil.rmtree(root / "opt/x")
    write(root / "opt/x", "a file now")


def test_the_container_is_as_it_was(pod: Pod) -> None:
    work(pod.root)
    before, snapshot = state(pod.root), pod.save()
    assert (set(snapshot.deleted), snapshot.image is not None) == ({"usr/lib/a", "opt/x"}, True)
    pod.start()
    report = pod.restore(snapshot)
    after = state(pod.root)
    untouched = {"etc", "usr", "root", "var", "var/lib", "opt", "var/lib/dpkg", "usr/lib"}  # made anew by this test
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= untouched
    assert report.whole
    assert set(report.deleted) == {"usr/lib/a", "opt/x"}


def test_a_second_restore_finds_nothing_to_do(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start()
    pod.restore(snapshot)
    before = state(pod.root)
    report = pod.restore(snapshot)
    assert (report.files, report.deleted, report.conflicts, report.in_the_way) == (0, [], {}, {})
    assert state(pod.root) == before


@pytest.mark.parametrize("with_names", [True, False])
def test_a_restore_that_was_interrupted_goes_on(pod: Pod, *, with_names: bool) -> None:
    """Also where no names were noted: what the first run restored is not taken for another image's."""
    work(pod.root)
    write(pod.root / "var/lib/dpkg/status", "image's and jq")
    before, snapshot = state(pod.root), pod.save()
    pod.start()
    write(pod.root / "etc/tool.conf", "mine", before["etc/tool.conf"][4])  # type: ignore[arg-type]  # the mtime
    (pod.root / "usr/lib/a/one").unlink()
    report = pod.restore(snapshot, **({} if with_names else {"state_dir": None}))
    assert (report.conflicts, report.in_the_way, report.kept_newer) == ({}, {}, [])
    assert state(pod.root)["etc/tool.conf"][5] == before["etc/tool.conf"][5]
    assert not (pod.root / "usr/lib/a").exists()


def test_the_next_save_after_a_restore_is_whole_by_itself(pod: Pod) -> None:
    work(pod.root)
    first = pod.save()
    pod.start()
    pod.restore(first)
    again = pod.save()
    assert (again.base, set(again.deleted)) == (None, {"usr/lib/a", "opt/x"})
    assert again.files == first.files


def test_names_taken_late_are_known_to_be_of_the_same_image(pod: Pod) -> None:
    """What had been changed before the names were noted is no conflict where all else is the same."""

    def an_hour_of_work() -> bool:
        work(pod.root)
        return True

    pod.start(late=an_hour_of_work)
    snapshot = pod.save()
    assert snapshot.deleted == ()
    pod.start()
    report = pod.restore(snapshot)
    assert report.conflicts == {}
    assert (pod.root / "etc/tool.conf").read_text() == "mine"


def newer(root: Path) -> None:
    """Another image: a newer tool, and one more file in a folder that the person had deleted."""
    write(root / "etc/tool.conf", "the newer image's", OLD_NS + 10**12)
    write(root / "usr/lib/a/three", "the newer image's", OLD_NS)


def test_another_image_keeps_what_it_changed_itself(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start(newer)
    report = pod.restore(snapshot)
    assert set(report.conflicts) == {"etc/tool.conf", "usr/lib/a"}
    assert not report.whole
    assert (pod.root / "etc/tool.conf").read_text() == "the newer image's"
    assert (pod.root / "usr/lib/a/three").exists()
    assert (pod.root / "usr/local/lib/mine.py").read_text() == "mine"
    assert (pod.root / "usr/lib/b").stat().st_mode & 0o777 == 0o600
    assert (pod.root / "usr/bin/jq").exists()
    assert (pod.root / "opt/x").is_file()


def test_overwrite_takes_what_was_saved_all_the_same(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start(newer)
    report = pod.restore(snapshot, overwrite=True)
    assert report.conflicts == {}
    assert (pod.root / "etc/tool.conf").read_text() == "mine"
    assert not (pod.root / "usr/lib/a").exists()


def test_packages_are_not_mixed_with_those_of_another_image(pod: Pod) -> None:
    """Files of a package without its entry in dpkg's database would be a system that nobody can mend."""
    work(pod.root)
    snapshot = pod.save()
    pod.start(lambda root: write(root / "var/lib/dpkg/status", "image's and curl"))
    report = pod.restore(snapshot)
    assert {"usr/bin/jq", "var/lib/dpkg/status"} <= set(report.conflicts)
    assert not (pod.root / "usr/bin/jq").exists()
    assert (pod.root / "var/lib/dpkg/status").read_text() == "image's and curl"
    assert (pod.root / "usr/local/lib/mine.py").exists()
    assert (pod.root / "etc/tool.conf").read_text() == "mine"


def test_another_image_whose_names_then_are_lost_loses_nothing_of_its_own(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    for path in Path(snapshot.folder).glob("image-*.names"):
        path.unlink()
    pod.start(newer)
    report = pod.restore(snapshot)
    assert {"etc/tool.conf", "usr/lib/a"} <= set(report.conflicts)
    assert (pod.root / "etc/tool.conf").read_text() == "the newer image's"


def test_what_somebody_wrote_into_a_deleted_folder_stays(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start()
    write(pod.root / "usr/lib/a/new", "since this start")
    write(pod.root / "usr/lib/a/one", "changed since this start")
    report = pod.restore(snapshot)
    assert (pod.root / "usr/lib/a/new").read_text() == "since this start"
    assert (pod.root / "usr/lib/a/one").read_text() == "changed since this start"
    assert not (pod.root / "usr/lib/a/two").exists()
    assert "usr/lib/a" in report.in_the_way
    assert report.kept_newer == ["usr/lib/a/one"]


def test_deletions_lead_through_no_symlink(pod: Pod, tmp_path: Path) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start()
    outside = tmp_path / "outside"
    write(outside / "a/one", "image's usr/lib/a/one", OLD_NS)
    before = state(outside)
    shutil.rmtree(pod.root / "usr/lib")
    (pod.root / "usr/lib").symlink_to(outside)
    pod.restore(snapshot)
    assert state(outside) == before


def test_a_dry_run_tells_of_deletions_and_conflicts_and_does_nothing(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start(newer)
    before = state(pod.root)
    report = pod.restore(snapshot, dry_run=True)
    assert set(report.conflicts) == {"etc/tool.conf", "usr/lib/a"}
    assert state(pod.root) == before


def test_only_what_is_asked_for_is_deleted(pod: Pod) -> None:
    work(pod.root)
    snapshot = pod.save()
    pod.start()
    report = pod.restore(snapshot, only=["/opt"])
    assert report.deleted == ["opt/x"]
    assert (pod.root / "usr/lib/a/one").exists()
    with pytest.raises(SnapshotError, match=r"nothing lies at /\S+/nowhere"):
        pod.restore(snapshot, only=["nowhere"])


def test_a_plain_folder_is_no_container(pod: Pod, tmp_path: Path) -> None:
    work(pod.root)
    snapshot = pod.save()
    write(tmp_path / "elsewhere/usr/lib/a/one", "not the image's")
    report = restore(snapshot, tmp_path / "elsewhere")
    assert (report.deleted, report.conflicts) == ([], {})
    assert (tmp_path / "elsewhere/usr/lib/a/one").exists()


def test_the_names_of_an_image_are_kept_as_long_as_a_snapshot_needs_them(pod: Pod) -> None:
    work(pod.root)
    first = pod.save()
    pod.start(newer)
    write(pod.root / "own", os.urandom(100))
    second = pod.save()
    assert first.image != second.image
    names = {path.name for path in Path(first.folder).glob("image-*")}
    assert names == {f"image-{first.image}.names", f"image-{second.image}.names"}
    for number in range(3):
        write(pod.root / "own", str(number))
        pod.save()
    assert first.id not in {one.id for one in snapshots(pod.volume, POD)}
    assert {path.name for path in Path(first.folder).glob("image-*")} == {f"image-{second.image}.names"}
