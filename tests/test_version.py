"""Which commit this is, where somebody knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch import __version__
from idlewatch.version import COMMIT_FILE, commit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "idlewatch").mkdir()
    (tmp_path / ".git/refs/heads").mkdir(parents=True)
    return tmp_path / "idlewatch"


def test_without_anybody_who_knows_there_is_none(package: Path) -> None:
    assert commit(package) is None
    (package / COMMIT_FILE).write_text("HEAD\n")
    assert commit(package) is None


def test_where_it_was_copied_from_a_place_that_knew_it_lies_beside_it(package: Path) -> None:
    (package / COMMIT_FILE).write_text(f"{COMMIT}\n")
    assert commit(package) == COMMIT


@pytest.mark.parametrize("where", ["a file", "packed", "detached"])
def test_a_checkout_knows_it(package: Path, where: str) -> None:
    git = package.parent / ".git"
    (git / "HEAD").write_text(f"{COMMIT}\n" if where == "detached" else "ref: refs/heads/main\n")
    if where == "a file":
        (git / "refs/heads/main").write_text(f"{COMMIT}\n")
    if where == "packed":
        (git / "packed-refs").write_text(
            f"# pack-refs with: peeled\n{'f' * 40} refs/heads/x\n{COMMIT} refs/heads/main\n"
        )
    assert commit(package) == COMMIT


@pytest.mark.slow
def test_the_command_line_says_it() -> None:
    command = [sys.executable, "-m", "idlewatch", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.fullmatch(rf"idlewatch {re.escape(__version__)}( \([0-9a-f]{{12}}\))?\n", said)
