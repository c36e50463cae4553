"""The tasks as the daemon starts them: real child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from idlewatch.model import Json
from idlewatch.settings import environment_with
from idlewatch.snapshot import SaveRequest, snapshots

pytestmark = pytest.mark.slow


def answer(name: str, request: Json, folder: Path) -> dict[str, dict[str, str]]:
    places = {"IDLEWATCH_STATE_DIR": str(folder / "state"), "IDLEWATCH_HOOKS": str(folder / "hooks")}
    command = [sys.executable, "-m", "idlewatch", "_task", name]
    done = subprocess.run(
        command,
        input=json.dumps(request) + "\n",
        env=environment_with(places),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    said: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return said


@contextmanager
def rewritten_all_the_time(path: Path, size: int) -> Iterator[None]:
    """A program that writes faster than anyone can prove a copy of what it wrote."""
    over, block = threading.Event(), os.urandom(size)
    path.write_bytes(block)

    def write() -> None:
        with path.open("r+b") as file:
            while not over.is_set():
                os.pwrite(file.fileno(), block, 0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


@pytest.mark.parametrize(("size", "saved"), [(4 * 1024 * 1024, False), (4 * 1024, True)])
def test_a_disk_that_changes_faster_than_it_can_be_saved_is_not_saved_and_little_changes_are_no_matter(
    tmp_path: Path, size: int, *, saved: bool
) -> None:
    disk, volume = tmp_path / "disk", tmp_path / "volume"
    disk.mkdir()
    volume.mkdir()
    (disk / "ballast").write_bytes(os.urandom(60_000_000))
    request = SaveRequest(volume=volume, pod_id="p1", boot_key="p1@1", root=disk)
    with rewritten_all_the_time(disk / "journal", size):
        said = answer("save", {"save": request.as_json()}, tmp_path)
    if saved:
        assert said["result"]["snapshot"] == snapshots(volume, "p1")[0].id
    else:
        assert "error" in said, said
        assert "changed again while each of 3 saves was proven" in said["error"]["text"]
