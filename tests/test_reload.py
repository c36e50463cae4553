"""SIGHUP: right settings are taken by a new daemon, wrong ones are said, and the daemon goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.history.status import number
from idlewatch.history.store import events_of
from idlewatch.settings import Source
from idlewatch.watching.reload import REFUSED, sources_of_next_start
from tests.whole_path import POD_ID, Place, simulated


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Where the tests run under nohup, their children would never see one."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def pod(tmp_path: Path, hang_up: None) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        (tmp_path / "key").write_text("a key\n")
        place.settings = {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_RUNPOD_API_KEY_FILE": str(tmp_path / "key")}
        yield place


@pytest.mark.slow
def test_wrong_settings_are_said_and_the_daemon_goes_on_until_they_are_right(pod: Place, tmp_path: Path) -> None:
    daemon = pod.start()
    pod.until(lambda: pod.phase() == "watching")
    (tmp_path / "key").rename(tmp_path / "no key")
    daemon.send_signal(signal.SIGHUP)
    pod.until(lambda: REFUSED in pod.kinds())
    text = next(str(event["text"]) for event in events_of(pod.state_dir) if event["kind"] == REFUSED)
    assert "IDLEWATCH_RUNPOD_API_KEY_FILE" in text
    assert text.endswith("; the daemon goes on with those that it has")
    seen_s = number(pod.status()["at_s"])
    pod.until(lambda: number(pod.status()["at_s"]) > seen_s + 0.5)
    assert pod.kinds().count(REFUSED) == 1
    (tmp_path / "no key").rename(tmp_path / "key")
    daemon.send_signal(signal.SIGHUP)
    assert daemon.wait(60) == 0


@pytest.mark.slow
def test_with_wrong_settings_a_shutdown_request_ends_it_all_the_same(pod: Place, tmp_path: Path) -> None:
    daemon = pod.start()
    pod.until(lambda: pod.phase() == "watching")
    (tmp_path / "key").unlink()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0


def test_the_next_start_of_a_unit_has_what_the_file_says_now_and_elsewhere_nothing_is_another(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("IDLEWATCH_IDLE_AFTER=2h\n")
    own = {"PATH": "/bin", "IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_MODE": "observe"}
    others = [Source(name="/proc/1/environ", variables={"RUNPOD_POD_ID": "p1"})]
    here = [Source(name="environment", variables=own), *others]
    assert sources_of_next_start(here, tmp_path / "env") == here
    unit = [Source(name="environment", variables={**own, "INVOCATION_ID": "1"}), *others]
    found = sources_of_next_start(unit, tmp_path / "env")
    assert found[0].variables == {"PATH": "/bin", "INVOCATION_ID": "1", "IDLEWATCH_IDLE_AFTER": "2h"}
    assert found[1:] == others
