"""A name of a file may hold anything, also what steers a terminal: nowhere is it printed as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from idlewatch.cli import main
from idlewatch.doctor import looks_volume
from idlewatch.errors import SnapshotError
from idlewatch.snapshot import snapshots
from idlewatch.snapshot.passes import refuse_unreadable
from tests.snapshot_trees import saved, write

RED = "\x1b[31m"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, place in (("STATE_DIR", "state"), ("SAVE_ROOT", "root"), ("VOLUME", "volume")):
        monkeypatch.setenv(f"IDLEWATCH_{name}", str(tmp_path / place))
    (tmp_path / "volume").mkdir()
    write(tmp_path / f"root/{RED}folder/{RED}file", "x" * 1000)
    write(tmp_path / f"root/{RED}repository/.git/HEAD", f"ref: refs/heads/{RED}main")
    write(tmp_path / f"root/{RED}repository/.git/config", "")
    (tmp_path / f"root/{RED}repository/.git/refs").mkdir()
    return tmp_path / "root"


def test_loss(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loss"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert f"{root}/\\x1b[31mfolder" in said


@pytest.mark.parametrize("dry", [True, False])
def test_restore(root: Path, capsys: pytest.CaptureFixture[str], *, dry: bool) -> None:
    """What is newer, what gives way and what stands in the way."""
    write(root / f"{RED}b", "saved"), write(root / f"{RED}c", "saved"), write(root / f"{RED}d", "saved")
    target = root.parent / "target"
    write(target / f"{RED}b", "older", 1)
    saved(root, root.parent / "volume", pod_id="no-pod")
    write(target / f"{RED}c", "newer")
    (target / f"{RED}d").mkdir()
    assert main(["restore", "--into", str(target), *(["--dry-run"] if dry else [])]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert said.out.count(f"{target}/\\x1b[31m") == 3


def test_errors_of_a_save(root: Path) -> None:
    with pytest.raises(SnapshotError) as error:
        refuse_unreadable({f"{RED}file": "Permission denied"})
    assert "\x1b" not in str(error.value)


def test_snapshots_and_doctor(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = saved(root, root.parent / "volume", pod_id="no-pod")
    folder = made.archive_path.parent
    (folder / f"{made.id}.damaged").write_text(f"{RED}damaged")
    (folder / f"{RED}.json").write_text("{")
    assert snapshots(root.parent / "volume", "no-pod") == []
    for verb in (["snapshots"], ["restore"]):
        main(verb)
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
        assert "\\x1b[31mdamaged" in said.out + said.err
    looked = looks_volume.volume(None, lambda _: None)
    assert isinstance(looked, dict)
    assert "\x1b" not in str(looked["unusable"])
