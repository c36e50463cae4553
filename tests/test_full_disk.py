"""
A state folder that can't be written: real SQLite, real files, real daemons, and a kernel that really refuses.

Most use RLIMIT_FSIZE, also set from outside on a daemon that runs: it needs no root. Their log goes to a file and falls
under that limit, too. Where this is root, there is a file system of 1 MB as well.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from idlewatch.cli import main
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.errors import Refused
from idlewatch.history.store import STATE_MARK, events_of
from idlewatch.model import Json
from idlewatch.state_folder import KeptFolder, daemon_watches, only_daemon
from idlewatch.watching.unwritten import fault_of
from tests.whole_path import POD_ID, Place, proven, simulated

QUIET_DAEMON = Path(__file__).parent / "quiet_daemon.py"
NO_BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Half of a file of it, cut off by the limit, would break every program that is run from here later."""
NEVER = {**NO_BYTE_CODE, "IDLEWATCH_IDLE_AFTER": "1h"}
SMALL = 16 * 1024
"""Bytes: room for a status and a small save, and not for a history."""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        place.settings = NO_BYTE_CODE
        yield place


@pytest.fixture
def tiny(pod: Place) -> Iterator[Path]:
    """The state folder is a file system of 1 MB, without any room."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(pod.state_dir)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    filling = pod.state_dir / "filling"
    try:
        with suppress(OSError), filling.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield filling
    finally:
        pod.end()
        subprocess.run(["umount", "-l", str(pod.state_dir)], check=True)


def born_with(limit_bytes: int) -> tuple[str, str]:
    """What Python runs as a daemon whose files can't grow beyond this."""
    limit = (
        f"(limit := resource.RLIMIT_FSIZE), resource.setrlimit(limit, ({limit_bytes}, resource.getrlimit(limit)[1]))"
    )
    return "-c", f"import resource, runpy; {limit}; runpy.run_path({str(QUIET_DAEMON)!r}, run_name='__main__')"


def limit_files(daemon: subprocess.Popen[bytes], most_bytes: int) -> None:
    hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))


def give_room(daemon: subprocess.Popen[bytes]) -> None:
    limit_files(daemon, resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)[1])


def trouble(pod: Place) -> str:
    troubles: Json = pod.status().get("troubles")
    return str(troubles.get("state folder", "")) if isinstance(troubles, dict) else ""


def screen(pod: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(pod.state_dir))
    capsys.readouterr()
    code = main(["status"])
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_daemon_that_can_write_nothing_any_more_watches_on_and_records_again_by_itself(
    pod: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.settings = NEVER
    daemon = pod.start()
    pod.until((pod.state_dir / STATE_MARK).exists)
    limit_files(daemon, 0)
    pod.until(lambda: "NOT SHOWN: a daemon runs here" in screen(pod, capsys, monkeypatch)[1])
    assert screen(pod, capsys, monkeypatch)[0] == 1
    assert daemon.poll() is None
    assert not (pod.state_dir / STATE_MARK).exists(), "what is kept is older than what was seen since"
    pod.until(lambda: not list(pod.state_dir.glob(".*.part")))  # half a file takes up room
    give_room(daemon)
    pod.until(lambda: "not recorded" in pod.kinds())
    pod.until(lambda: "can't be written" in trouble(pod))
    texts = [str(event["text"]) for event in events_of(pod.state_dir) if event["kind"] == "alarm"]
    told = [text for text in texts if text.startswith("state folder")]
    assert len(told) == 1, "said once, however often it failed"
    assert str(pod.state_dir) in told[0]
    assert (pod.state_dir / STATE_MARK).exists()
    assert screen(pod, capsys, monkeypatch)[0] == 0


@pytest.mark.slow
def test_a_pod_is_saved_and_stopped_although_its_daemon_never_had_room_for_a_history(pod: Place) -> None:
    pod.command = born_with(SMALL)
    pod.start()
    pod.until(pod.stopped)
    assert "nothing is recorded" in trouble(pod)
    proven(pod)


@pytest.mark.slow
def test_a_pod_whose_state_folder_is_full_is_saved_and_stopped_and_says_so(
    pod: Place, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fault_of(pod.state_dir) == "no space is left"
    daemon = pod.start()
    pod.until(pod.stopped)
    code, said = screen(pod, capsys, monkeypatch)
    assert (code, daemon.poll()) == (1, None)
    assert "has shown nothing yet: its state folder can't be written (no space is left)" in said
    assert "make room on its file system" in said
    tiny.unlink()
    pod.until(lambda: "not recorded" in pod.kinds())
    assert pod.kinds()[:4] == ["alarm", "warn", "save", "save done"], "what happened meanwhile was kept in memory"
    proven(pod)


@pytest.mark.slow
def test_a_daemon_whose_folder_somebody_removes_makes_it_again_and_is_still_the_only_one(pod: Place) -> None:
    pod.settings = NEVER
    daemon = pod.start()
    pod.until(lambda: pod.phase() == "watching")
    pod.state_dir.rename(pod.folder / "removed")
    pod.until(lambda: "state folder removed" in str(pod.status().get("troubles")))
    assert daemon_watches(pod.state_dir)
    assert (pod.state_dir / "settings.json").exists()
    assert pod.start().wait(60) == 1, "a second one is refused"
    assert daemon.poll() is None


def test_a_daemon_whose_folder_another_one_has_taken_gives_way(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with only_daemon(state_dir):
        folder = KeptFolder(state_dir)
        assert not folder.made_again()
        state_dir.rename(tmp_path / "removed")
        with only_daemon(state_dir), pytest.raises(Refused, match="another idlewatch watches"):
            folder.made_again()
        assert folder.made_again(), "it is free again"
        assert daemon_watches(state_dir)
        folder.close()


def test_a_folder_that_cannot_be_made_is_refused_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "file" / "state"))
    assert main(["run", "--observe"]) == 3
    said = capsys.readouterr().err
    assert f"IDLEWATCH_STATE_DIR={tmp_path}/file/state" in said
    assert "set it to a folder that can be written" in said
