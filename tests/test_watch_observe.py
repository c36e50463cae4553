"""A daemon that only observes, in a process of its own: what it says, and that it touches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.requests.stop_requests import request_file
from idlewatch.telling.login import LOGIN_FILE
from tests.whole_path import POD_ID, Place, simulated

ROOT = Path(__file__).parent.parent
OBSERVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from idlewatch import logs
from idlewatch.pod.assembled import assembled
from idlewatch.watching import run
from idlewatch.settings import load, pod_sources
from idlewatch.state_folder import only_daemon
from tests.quiet_daemon import Quiet

logs.set_up()
here = assembled(load(pod_sources()))
with only_daemon(here.loaded.settings.state_dir):
    run.watch(here, signals=[Quiet()])
"""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        (place.disk / LOGIN_SCRIPT).parent.mkdir(parents=True)
        place.command = ("-c", OBSERVER)
        place.settings = {"IDLEWATCH_MODE": "observe"}
        yield place


def everything(*folders: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for folder in folders for path in folder.rglob("*")}


@pytest.mark.slow
def test_it_notes_what_it_would_do_and_touches_nothing_but_its_state_folder_and_its_history(pod: Place) -> None:
    before = everything(pod.disk, pod.volume)
    daemon = pod.start()
    pod.until(lambda: "would stop" in pod.kinds())
    pod.until(lambda: "only observing" in str(pod.status().get("reason")))
    assert everything(pod.disk, pod.volume) == before
    daemon.terminate()
    assert daemon.wait(60) == 0
    assert everything(pod.disk) == {path: content for path, content in before.items() if pod.disk in path.parents}
    written = [path.relative_to(pod.volume) for path in pod.volume.rglob("*") if path.is_file()]
    assert [path.parts[:3] for path in written] == [(".idlewatch", POD_ID, "history")]
    assert not pod.stopped()
    assert [kind for kind in pod.kinds() if kind != "shutdown"] == ["would warn", "would save", "would stop"]
    assert "nothing observes this Pod" in (pod.state_dir / LOGIN_FILE).read_text()


@pytest.mark.slow
def test_it_would_stop_once_for_a_request(pod: Place) -> None:
    pod.settings |= {"IDLEWATCH_IDLE_AFTER": "1h"}
    pod.start()
    pod.until(lambda: pod.phase() == "watching")
    at_s = pod.status()["at_s"]
    request = {"who": "ann", "warn_for_s": 1, "boot_key": pod.status()["boot_key"], "asked_s": at_s}
    request_file(pod.state_dir).parent.mkdir(exist_ok=True)
    request_file(pod.state_dir).write_text(json.dumps(request))
    pod.until(lambda: pod.status().get("reason") == "would have stopped it (asked for by ann); only observing")
    kinds = ["would warn", "would save", "would stop"]
    assert pod.kinds() == kinds
    seen_s = float(str(pod.status()["at_s"]))
    pod.until(lambda: float(str(pod.status()["at_s"])) > seen_s + 3)
    assert pod.kinds() == kinds, "and not again"
    request_file(pod.state_dir).unlink()
    pod.until(lambda: str(pod.status().get("reason")).startswith("quiet for"))
