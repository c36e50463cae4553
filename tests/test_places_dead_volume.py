"""A network volume that has gone makes every call on it hang for ever: in child processes, never in the daemon."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from tests.waiting import comes
from tests.whole_path import POD_ID, QUIET_DAEMON, Place, simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = Path(__file__).parent / "dead_volume.c"
VOLUME = "/workspace"
MOUNTS = f"""\
20 1 0:30 / / rw,relatime - overlay overlay rw
30 20 0:40 / {VOLUME} rw,relatime - fuse mfs#volume.example:9421 rw
"""
REAL_DAEMON = ("-P", "-m", "idlewatch", "run", "--observe")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("dead_volume") / "dead_volume.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


@pytest.fixture
def dead(tmp_path: Path, library: Path) -> dict[str, str]:
    """The variables that make a process, and its children, find the volume dead."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    return {
        "LD_PRELOAD": str(library),
        "DEAD_VOLUME": VOLUME,
        "DEAD_VOLUME_LOG": str(tmp_path / "touches"),
        "DEAD_VOLUME_MOUNTS": str(tmp_path / "mountinfo"),
    }


@pytest.fixture
def pod(tmp_path: Path, dead: dict[str, str]) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        place.settings = {"IDLEWATCH_VOLUME": "auto", "IDLEWATCH_IDLE_AFTER": "1h", **dead}
        yield place


def touches(pod: Place) -> list[list[str]]:
    """Process, call and path of each touch."""
    log = pod.folder / "touches"
    return [line.split(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize(
    "call", ["Path({!r}).resolve()", "Path({!r}).exists()", "os.listdir({!r})", "open({!r} + '/x')"]
)
def test_the_stand_in_hangs_whatever_touches_the_volume(call: str, dead: dict[str, str]) -> None:
    code = f"import os; from pathlib import Path; print('begun', flush=True); {call.format(VOLUME)}; print('done')"
    with subprocess.Popen([sys.executable, "-c", code], env=dead, stdout=subprocess.PIPE) as process:
        log = Path(dead["DEAD_VOLUME_LOG"])
        assert comes(lambda: log.exists() and log.read_text().startswith(f"{process.pid} "), 30)
        process.kill()
        assert process.communicate()[0] == b"begun\n"


@pytest.mark.parametrize("command", [QUIET_DAEMON, REAL_DAEMON])
def test_the_daemon_watches_and_ends_although_the_volume_is_dead(pod: Place, command: tuple[str, ...]) -> None:
    pod.command = command
    daemon = pod.start()
    pod.until(lambda: "at_s" in pod.status())
    first_s = pod.status()["at_s"]
    pod.until(lambda: pod.status()["at_s"] != first_s and pod.status()["usd_per_hour"] is not None, within_s=90)
    pod.until(lambda: bool(touches(pod)))
    assert str(daemon.pid) not in {touch[0] for touch in touches(pod)}
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(90) == 0
    assert str(daemon.pid) not in {touch[0] for touch in touches(pod)}
    assert pod.status()["ended"] is True


def test_wrong_settings_are_said_although_the_volume_is_dead(tmp_path: Path, dead: dict[str, str]) -> None:
    names = {"STATE_DIR": tmp_path / "state", "SAVE_ROOT": tmp_path, "IDLE_AFTR": "1h"}
    told = {f"IDLEWATCH_{name}": str(value) for name, value in names.items()}
    pipe, command = subprocess.PIPE, [sys.executable, *REAL_DAEMON]
    started = subprocess.Popen(command, env=dead | told | {"RUNPOD_POD_ID": POD_ID}, stderr=pipe, text=True)
    with started:
        assert started.stderr is not None
        first = started.stderr.readline()
        rest = started.communicate(timeout=120)[1]
    assert first == "idlewatch: IDLEWATCH_IDLE_AFTR: there is no such setting; did you mean IDLEWATCH_IDLE_AFTER?\n"
    assert rest == f"idlewatch: no note on {VOLUME}: it does not answer\n"
    assert started.returncode == 2
    log = Path(dead["DEAD_VOLUME_LOG"]).read_text()
    assert log
    assert not any(line.startswith(f"{started.pid} ") for line in log.splitlines())
    assert (tmp_path / "state/status.json").exists()
