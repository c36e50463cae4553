"""What the daemon knows of its provider, and what people hear of a stop that may fail, long before it is due."""

from __future__ import annotations

from pathlib import Path

import pytest

from idlewatch.children.tasks import TaskEnd
from idlewatch.errors import IdlewatchError, ProviderRefused, ProviderUnavailable
from idlewatch.model import Json
from idlewatch.watching.errands import errands
from idlewatch.watching.knowledge import Knowledge
from idlewatch.work import TASKS
from tests.test_restoring import Started, here_of, known_of

REFUSED = ProviderRefused("RunPod's API did not let this Pod be read: 401")
NO_WAY = ProviderUnavailable("the CA bundle that SSL_CERT_FILE names is not there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("disk/home", "volume", "state"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def told(known: Knowledge, now_s: float) -> str | None:
    return known(now_s).troubles["RunPod's API"]


def fails(known: Knowledge, starter: Started, error: IdlewatchError, now_s: float) -> str | None:
    """The next try fails; what is then told of it."""
    known(now_s)
    starter.tasks["describe"].told = TaskEnd(error=error)
    return told(known, now_s + 1.0)


def test_a_key_that_is_refused_is_told_at_once(folder: Path) -> None:
    known, starter = known_of(here_of(folder))
    assert fails(known, starter, REFUSED, 0.0) == f"a stop may fail: {REFUSED}"


def test_an_api_out_of_reach_is_told_once_that_lasts_and_no_longer_than_it_does(folder: Path) -> None:
    known, starter = known_of(here_of(folder))
    assert fails(known, starter, NO_WAY, 0.0) is None
    assert told(known, 290.0) is None
    assert fails(known, starter, NO_WAY, 302.0) == f"a stop may fail: {NO_WAY}"
    known(10_000.0)
    assert told(known, 10_001.0) == f"a stop may fail: {NO_WAY}", "while it is tried again"
    starter.tasks["describe"].told = TaskEnd(result={})
    assert told(known, 10_002.0) is None


def unsaved(known: Knowledge, starter: Started, result: dict[str, Json]) -> str | None:
    """What is told of saves once it was looked whether the volume is there."""
    known(0.0)
    starter.tasks["look_for_volume"].told = TaskEnd(result=result)
    return known(1.0).troubles["no save"]


def test_a_named_volume_that_is_not_there_is_a_trouble_from_the_first_look(folder: Path) -> None:
    known, starter = known_of(here_of(folder, IDLEWATCH_VOLUME="/nope"))
    said = unsaved(known, starter, {"missing": "IDLEWATCH_VOLUME=/nope is not there"})
    assert said is not None
    assert said.startswith("IDLEWATCH_VOLUME=/nope is not there; so it is kept up, idle or not")
    known, starter = known_of(here_of(folder))
    assert unsaved(known, starter, {"missing": None}) is None


def test_only_what_acts_and_was_named_is_looked_for(folder: Path) -> None:
    asked = {one.name for one in errands(here_of(folder), None)}
    assert "look_for_volume" in asked
    assert "look_for_volume" not in {one.name for one in errands(here_of(folder, IDLEWATCH_MODE="observe"), None)}
    assert "look_for_volume" not in {one.name for one in errands(here_of(folder, IDLEWATCH_VOLUME="auto"), None)}


@pytest.mark.parametrize("name", ["volume", "gone"])
def test_the_look_finds_whether_the_named_volume_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(folder / name))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(folder / "disk"))
    said = TASKS["look_for_volume"](None, lambda _: None)
    gone = f"IDLEWATCH_VOLUME={folder / name} is not there"
    assert said == {"missing": gone if name == "gone" else None}
