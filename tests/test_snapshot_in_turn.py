"""One save at a time: a person's `idlewatch save` must not fail the save before a stop, nor keep it for ever."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from idlewatch.snapshot import SaveUnderWay, is_busy, snapshots
from idlewatch.snapshot.store import Store
from idlewatch.stopping.sequence import _saved_in_turn
from tests.snapshot_trees import POD, request, write

if TYPE_CHECKING:
    from pathlib import Path

    from idlewatch.model import Json


def test_the_end_sequence_waits_for_another_save_and_then_makes_its_own(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "work")
    (tmp_path / "volume").mkdir()
    store = Store(tmp_path / "volume", POD)
    store.make()
    told: list[Json] = []
    with ExitStack() as other:
        other.enter_context(store.locked())
        assert is_busy(tmp_path / "volume", POD)

        def note(said: Json) -> None:
            told.append(said)
            other.close()

        _, made = _saved_in_turn(request(tmp_path / "root", tmp_path / "volume"), note, within_s=60)
    assert isinstance(told[0], dict)
    assert told[0]["stage"] == "another save"
    assert [one.id for one in snapshots(tmp_path / "volume", POD)] == [made.id if made else None]
    assert not is_busy(tmp_path / "volume", POD)


def test_one_that_does_not_end_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    write(tmp_path / "root" / "a", "work")
    (tmp_path / "volume").mkdir()
    assert not is_busy(tmp_path / "volume", POD)
    store = Store(tmp_path / "volume", POD)
    store.make()
    with store.locked(), pytest.raises(SaveUnderWay, match="under way"):
        _saved_in_turn(request(tmp_path / "root", tmp_path / "volume"), lambda _: None, within_s=0)
