"""`--json` prints what docs/json.md says: every key, and no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.cli import main

DOC = Path(__file__).parent.parent / "docs" / "json.md"
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOC.read_text(), re.MULTILINE | re.DOTALL))


def documented(verb: str) -> set[str]:
    """The keys in the first column of the verb's table."""
    rows = re.findall(r"^\| (`[^|]*)\|", SECTIONS[verb], re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a daemon that watches a small disk, with something on it to lose and to save."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "disk/root").mkdir(parents=True)
    (folder / "disk/root/work.txt").write_text("work")
    (folder / "volume").mkdir()
    variables = {
        "IDLEWATCH_STATE_DIR": str(folder / "state"),
        "IDLEWATCH_SAVE_ROOT": str(folder / "disk"),
        "IDLEWATCH_VOLUME": str(folder / "volume"),
        "IDLEWATCH_MODE": "observe",
        "IDLEWATCH_INTERVAL": "1s",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.quiet_daemon"], env={**os.environ, **variables}, stderr=subprocess.DEVNULL
    )
    status = folder / "state/status.json"
    give_up_s = time.monotonic() + 60
    while not status.exists() and process.poll() is None and time.monotonic() < give_up_s:
        time.sleep(0.05)
    yield variables
    process.send_signal(signal.SIGTERM)
    process.wait(60)


@pytest.mark.slow
def test_every_verb_prints_the_keys_that_the_documents_name(
    told: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert main(["hold", "1h", "--reason", "demo"]) == 0
    (Path(told["IDLEWATCH_STATE_DIR"]) / "holds/odd.json").write_text("no hold")
    seen: dict[str, set[str]] = {}
    for verb in ("status", "why", "history", "holds", "settings", "loss", "save", "snapshots", "restore"):
        capsys.readouterr()
        assert main([verb, "--json"]) == 0, verb
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1, verb
        printed = json.loads(lines[0])
        assert printed["format"] == 1, verb
        seen[verb] = set(printed)
    assert seen == {verb: documented(verb) for verb in seen}


def test_status_is_an_object_also_where_no_daemon_ever_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    assert main(["status", "--json"]) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"format": 1, "running": False}
    assert "no daemon has watched here" in printed.err
