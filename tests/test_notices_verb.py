"""`idlewatch notify`: what is said of where notices go, and the test of each way."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.errors import SettingsError
from idlewatch.notify.terminals import Delivery
from idlewatch.verbs import notifying
from tests.notices import Heard, Hook, served


@pytest.fixture
def hook() -> Iterator[Hook]:
    with served() as server:
        yield server


@pytest.fixture(autouse=True)
def quiet_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody on this machine wants to hear of a test: no tmux is found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(tmp_path / "volume"))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(tmp_path / "disk"))


def run(*, test: bool) -> bool:
    return notifying.notify(argparse.Namespace(test=test), Heard())


def test_the_ways_are_listed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_NOTIFY", "ntfy://SECRET/x https://hooks.example/SECRET")
    assert run(test=False)
    said = capsys.readouterr().out
    assert said.splitlines()[1:] == ["  and to ntfy://…", "  and to https://hooks.example"]


def test_a_misspelt_kind_is_said_without_a_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_NOTIFY", "slak://SECRET/x")
    assert not run(test=False)
    said = capsys.readouterr().out
    assert "NOT sendable: IDLEWATCH_NOTIFY: slak://…: Apprise knows no slak://, but slack://" in said
    assert "SECRET" not in said


def test_without_an_address_it_says_where_one_may_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(test=False)
    assert "this shell does not know it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_test_is_sent_every_way_and_fails_where_one_does_not_take_it(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_NOTIFY", f"{hook.url} {hook.url}/2")
    assert run(test=True)
    assert hook.kinds() == ["test", "test"]
    assert "nothing is being stopped" in hook.sent[0]["text"].replace("\n  ", " ")
    label = hook.url.rsplit("/", 2)[0]
    said = capsys.readouterr().out
    assert f"{label}: taken" in said
    assert f"{label} (2): taken" in said
    assert "tmux: 0 clients shown it" in said
    hook.status = 403
    assert not run(test=True)
    said = capsys.readouterr().out
    assert f"{label}: NOT taken: it answered HTTP 403" in said
    assert "SECRETTOKEN" not in said


def test_what_is_no_address_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDLEWATCH_NOTIFY", "hooks.example/SECRET")
    with pytest.raises(SettingsError, match="IDLEWATCH_NOTIFY") as raised:
        run(test=True)
    assert "SECRET" not in str(raised.value)


def test_a_test_that_reaches_nobody_is_a_failure_and_one_terminal_is_somebody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class People:
        def __init__(self, *told: str) -> None:
            self.told = told

        def tell(self, _text: str) -> Delivery:
            return Delivery(told=self.told)

    assert not notifying.notify(argparse.Namespace(test=True), People())
    assert "nobody was reached" in capsys.readouterr().out
    assert notifying.notify(argparse.Namespace(test=True), People("pts/3"))
    assert "nobody was reached" not in capsys.readouterr().out
