"""A real daemon whose volume fails in the middle of a save: no stop, it is said, and saved once the volume is back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.history.store import events_of
from idlewatch.snapshot import snapshots
from tests.faulty_volume import Faulty, build
from tests.whole_path import POD_ID, QUIET_DAEMON, Place, proven, simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IN_THE_MIDDLE_BYTES = 200_000
"""Only a save writes so much."""
PATIENCE_S = 3.0
IMPATIENT = f"""
import runpy
from idlewatch.effects import actions
from idlewatch.deciding import policy
actions.SAVE_SILENT_S = {PATIENCE_S}
policy._SAVE_BACK_OFF_S = ({PATIENCE_S},)
runpy.run_path({QUIET_DAEMON[0]!r}, run_name="__main__")
"""
"""The daemon, which waits less long for a save that is silent, and after one that has failed."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faulty_volume"))


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        (place.disk / "root/data.bin").write_bytes(os.urandom(3_000_000))
        yield place


@pytest.fixture
def faulty(pod: Place, library: Path) -> Faulty:
    return Faulty(library, pod.volume, pod.folder)


def why_not_saved(pod: Place) -> str:
    return " ".join(str(event["text"]) for event in events_of(pod.state_dir) if event["kind"] == "save failed")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("readonly", "Read-only file system"),
        ("full", "No space left on device"),
        ("hang", f"silent for {PATIENCE_S:.0f} s"),
    ],
)
def test_a_volume_that_fails_in_the_middle_of_a_save(pod: Place, faulty: Faulty, kind: str, says: str) -> None:
    pod.command = ("-c", IMPATIENT)
    pod.settings = faulty.variables(kind, at_bytes=IN_THE_MIDDLE_BYTES)
    daemon = pod.start()
    pod.until(lambda: "save failed" in pod.kinds(), within_s=90)
    assert says in why_not_saved(pod)
    assert snapshots(pod.volume, POD_ID) == []
    assert not pod.stopped()
    at_s = pod.status()["at_s"]
    pod.until(lambda: pod.status()["at_s"] != at_s)
    assert "save failed" in str(pod.status()["troubles"])
    faulty.mend(for_good=True)
    pod.until(pod.stopped, within_s=90)
    assert daemon.poll() is None
    proven(pod)
    assert not list(pod.volume.rglob("*.part"))


def test_a_volume_that_is_slow_only_takes_longer(pod: Place, faulty: Faulty) -> None:
    pod.settings = faulty.variables(slow_us=20_000)
    pod.start()
    pod.until(pod.stopped, within_s=90)
    assert "save failed" not in pod.kinds()
    assert any("snapshots" in one for one in faulty.operations())
    proven(pod)
