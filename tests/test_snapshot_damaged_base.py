"""A differential save is whole only with its base: that is read again, and not built upon where it isn't right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from idlewatch.cli import main
from idlewatch.snapshot import Key, SaveCancelled, Snapshot, new_key, restore, save, snapshots
from idlewatch.stopping.sequence import saved as saved_in_the_end
from tests.snapshot_trees import POD, request, saved, state, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "root/big", os.urandom(MIB))
    return tmp_path / "root"


def volume_of(root: Path) -> Path:
    return root.parent / "volume"


def flipped(snapshot: Snapshot, at: int = MIB // 2) -> None:
    """One bit of an archive, in the place, as a foreign hand or a rotten disk does it."""
    with snapshot.archive_path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def marked(snapshot: Snapshot) -> Path:
    return snapshot.archive_path.with_name(f"{snapshot.id}.damaged")


@pytest.mark.parametrize("at", [100, MIB // 2, -40])
def test_a_base_with_one_bit_wrong_is_not_built_upon_and_that_is_told(root: Path, at: int) -> None:
    first = saved(root, volume_of(root))
    flipped(first, at % first.archive_bytes)
    write(root / "more", "more")
    second = saved(root, volume_of(root))
    assert (second.base, second.files) == (None, 2)
    assert first.id in str(second.distrusted)
    (target := root.parent / "target").mkdir()
    restore(second, target)
    assert state(target) == state(root)
    assert [one.id for one in snapshots(volume_of(root), POD)] == [second.id]
    assert first.archive_path.exists()
    assert "digest" in marked(first).read_text()
    write(root / "more", "once more")
    third = saved(root, volume_of(root))
    assert (third.base, third.distrusted) == (second.id, None)


def test_what_was_built_upon_it_already_is_not_listed_any_more(root: Path) -> None:
    first = saved(root, volume_of(root))
    write(root / "more", "more")
    assert saved(root, volume_of(root)).base == first.id
    flipped(first)
    third = saved(root, volume_of(root))
    assert [one.id for one in snapshots(volume_of(root), POD)] == [third.id]


def test_a_base_that_can_t_be_trusted_counts_for_nothing_where_old_ones_are_removed(root: Path) -> None:
    first = saved(root, volume_of(root))
    flipped(first)
    saved(root, volume_of(root), keep=2)
    assert marked(first).exists()
    saved(root, volume_of(root), keep=1)
    assert not [path for path in first.archive_path.parent.iterdir() if path.name.startswith(first.id)]


def test_a_save_while_the_pod_is_in_use_trusts_what_nobody_has_touched(root: Path) -> None:
    """It is made often, and the base weighs more than what it writes; the last one before a stop reads it."""
    first = saved(root, volume_of(root))
    write(root / "more", "more")

    def base_read(**options: object) -> bool:
        seen: list[str] = []
        made = save(request(root, volume_of(root), **options), progress=lambda p: seen.append(p.stage))
        return made is not None and made.base == first.id and seen.count("verify") > 1

    assert not base_read(trust_untouched=True)
    assert base_read()
    os.utime(first.archive_path, ns=(1, 1))
    assert base_read(trust_untouched=True)
    flipped(first)
    made = save(request(root, volume_of(root), trust_untouched=True))
    assert made is not None
    assert made.base is None


def test_the_last_save_says_it(root: Path) -> None:
    first = saved(root, volume_of(root))
    flipped(first)
    made = saved_in_the_end(request(root, volume_of(root)), lambda _: None)
    assert made.text.endswith(f"; everything anew, because {first.id} is damaged")


def test_a_person_s_save_says_it(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, place in (("STATE_DIR", "state"), ("SAVE_ROOT", "root"), ("VOLUME", "volume")):
        monkeypatch.setenv(f"IDLEWATCH_{name}", str(tmp_path / place))
    first = saved(root, volume_of(root), pod_id="no-pod")
    flipped(first)
    assert main(["save"]) == 0
    assert f"everything anew, because {first.id} is damaged" in capsys.readouterr().out


def test_another_key_is_no_damage(root: Path) -> None:
    first = saved(root, volume_of(root), key=Key(new_key()))
    second = saved(root, volume_of(root), key=Key(new_key()))
    assert (second.base, second.distrusted, marked(first).exists()) == (None, None, False)
    flipped(second)
    third = saved(root, volume_of(root), key=Key(new_key()))
    assert (third.base, marked(second).exists()) == (None, True)


def test_a_save_that_is_cancelled_while_it_reads_its_base_says_nothing_of_it(root: Path) -> None:
    first = saved(root, volume_of(root))
    write(root / "more", "more")
    stages: list[str] = []

    def cancelled() -> bool:
        return "verify" in stages

    with pytest.raises(SaveCancelled):
        save(request(root, volume_of(root)), progress=lambda p: stages.append(p.stage), cancelled=cancelled)
    assert not marked(first).exists()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "shorter": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "a folder": a_folder,
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_base_that_can_t_be_read_is_written_anew(root: Path, how: str) -> None:
    first = saved(root, volume_of(root))
    UNREADABLE[how](first.archive_path)
    second = saved(root, volume_of(root))
    assert second.base is None
    assert first.id in str(second.distrusted)
