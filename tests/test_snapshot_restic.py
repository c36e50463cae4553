"""The hook of docs/snapshots.md for those who want restic: run as it stands there, with the real restic."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from idlewatch.snapshot import find, restore
from tests.snapshot_trees import POD, saved, state, write

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed: apt-get install restic"),
]
PAGE = Path(__file__).parent.parent / "docs/snapshots.md"


def script() -> str:
    found = re.search(r"```bash\n(#!/bin/bash\n.*?restic backup.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, "the page has no restic hook any more"
    return found[1]


def test_what_the_hook_copied_brings_the_pod_back_without_its_volume(tmp_path: Path) -> None:
    root, volume, repository = tmp_path / "root", tmp_path / "volume", tmp_path / "repository"
    write(root / "a", "first")
    write(root / "models/big", os.urandom(2_000_000))
    (tmp_path / "password").write_text("secret")
    (hook := tmp_path / "50-restic").write_text(script())
    environment = {
        **os.environ,
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD_FILE": str(tmp_path / "password"),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        "IDLEWATCH_VOLUME": str(volume),
    }

    def run(*call: str, **more: str) -> None:
        subprocess.run(call, env=environment | more, check=True, stdout=subprocess.DEVNULL)

    first = saved(root, volume)
    run("bash", str(hook), IDLEWATCH_SNAPSHOT=first.id)
    before = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
    write(root / "a", "second")
    second = saved(root, volume)
    assert second.base == first.id
    run("bash", str(hook), IDLEWATCH_SNAPSHOT=second.id)
    assert sum(path.stat().st_size for path in repository.rglob("*") if path.is_file()) - before < 500_000
    run("bash", str(hook), IDLEWATCH_SNAPSHOT="")
    shutil.rmtree(volume)
    run("restic", "restore", "latest", "--target", "/", "--include", str(volume))
    (target := tmp_path / "target").mkdir()
    restore(find(volume, POD), target)
    assert state(target) == state(root)
