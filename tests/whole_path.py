"""A simulated Pod with a real daemon in it: its disk, its volume, RunPod's API on loopback, and what it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod
from idlewatch.history.store import events_of, status_of
from idlewatch.model import Json
from idlewatch.settings import environment_with
from idlewatch.snapshot import find, restore, snapshots, verify
from tests.waiting import comes

POD_ID = "pod123abc"
KEY = "rpa_test_key"
QUIET_DAEMON = (str(Path(__file__).parent / "quiet_daemon.py"),)


@dataclass
class Place:
    """A simulated Pod: its disk, its volume, and the API that runs it."""

    folder: Path
    api: LoopbackApi
    command: Sequence[str] = QUIET_DAEMON
    """What Python is to run as the daemon."""
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Variables beside the usual ones, or instead of them."""
    log: Path | None = None
    """Where the daemons' log goes; else to the test's own stderr."""

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def hooks(self) -> Path:
        return self.folder / "hooks"

    def start(self) -> subprocess.Popen[bytes]:
        variables = {
            "RUNPOD_POD_ID": POD_ID,
            "RUNPOD_API_KEY": KEY,
            "IDLEWATCH_IDLE_AFTER": "2s",
            "IDLEWATCH_WARN_FOR": "1s",
            "IDLEWATCH_BOOT_GRACE": "0",
            "IDLEWATCH_INTERVAL": "0.1s",
            "IDLEWATCH_CONFIRM_WITHIN": "2s",
            "IDLEWATCH_SAVE_ROOT": str(self.disk),
            "IDLEWATCH_VOLUME": str(self.volume),
            "IDLEWATCH_STATE_DIR": str(self.state_dir),
            "IDLEWATCH_HOOKS": str(self.hooks),
            "IDLEWATCH_RUNPOD_API_URL": self.api.rest_url,
            "IDLEWATCH_RUNPOD_GRAPHQL_URL": self.api.graphql_url,
            **self.settings,
        }
        environment = environment_with({**variables, "PYTHONPATH": str(Path(__file__).parent.parent)})
        with self.log.open("ab") if self.log else contextlib.nullcontext() as log:
            daemon = subprocess.Popen(
                [sys.executable, *self.command], env=environment, stderr=log, start_new_session=True
            )
        self.daemons.append(daemon)
        return daemon

    def status(self) -> dict[str, Json]:
        """What the daemon last showed; empty before its first tick."""
        return status_of(self.state_dir) or {}

    def phase(self) -> str:
        return str(self.status().get("phase"))

    def stopped(self) -> bool:
        return self.api.pods[POD_ID].status == "EXITED"

    def logged(self) -> list[dict[str, Json]]:
        """The lines of the daemons' log, as far as each is whole."""
        lines = self.log.read_text().splitlines(keepends=True) if self.log and self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def kinds(self) -> list[str]:
        return [str(event["kind"]) for event in events_of(self.state_dir)]

    def lives(self) -> bool:
        """Whether a daemon runs here."""
        return any(daemon.poll() is None for daemon in self.daemons)

    def until(self, what: Callable[[], bool], within_s: float = 90.0) -> None:
        comes(lambda: what() or not self.lives(), within_s)
        if not what():
            daemon = "runs" if self.lives() else "ended"
            pytest.fail(f"it did not come; the daemon {daemon}: {self.status()} {self.kinds()}")

    def processes(self) -> list[int]:
        """The live processes of this Pod beside its daemons: each has the state folder in its environment."""
        mark = f"IDLEWATCH_STATE_DIR={self.state_dir}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return sorted(set(found) - {daemon.pid for daemon in self.daemons})

    def end(self) -> None:
        """End hard all that runs here."""
        for daemon in self.daemons:
            if daemon.poll() is None:
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def simulated(folder: Path, pod: LoopbackPod) -> Iterator[Place]:
    for name in ("disk/root", "volume", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "disk/root/work.txt").write_text("three days of work")
    with LoopbackApi(pods=[pod], keys=[KEY]) as api:
        place = Place(folder, api)
        try:
            yield place
        finally:
            place.end()


def proven(pod: Place) -> None:
    """Every listed snapshot is whole, and the newest brings the work back."""
    for snapshot in snapshots(pod.volume, POD_ID):
        verify(snapshot)
    back = pod.folder / "back"
    back.mkdir()
    restore(find(pod.volume, POD_ID), back)
    assert (back / "root/work.txt").read_text() == "three days of work"
