"""Notices, the note and the heartbeat on the whole path: a real daemon, its child processes, a webhook on loopback."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod, StopEffect
from idlewatch.history.store import events_of
from idlewatch.model import Json
from tests.notices import Hook, served
from tests.whole_path import POD_ID, Place, simulated

pytestmark = pytest.mark.slow


@pytest.fixture
def hook() -> Iterator[Hook]:
    with served() as server:
        yield server


@pytest.fixture
def pod(tmp_path: Path, hook: Hook) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place:
        place.settings = {"IDLEWATCH_NOTIFY": hook.url}
        yield place


def events(pod: Place) -> list[str]:
    return [f"{event['kind']}: {event['text']}" for event in events_of(pod.state_dir)]


def everything(pod: Place) -> str:
    """All that the daemon wrote, and may show."""
    files = [path for folder in (pod.state_dir, pod.volume) for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)


def test_a_team_hears_of_the_warning_the_save_and_the_stop_with_pod_and_reason(pod: Place, hook: Hook) -> None:
    pod.start()
    pod.until(pod.stopped)
    pod.until(lambda: "stop" in hook.kinds())
    assert hook.kinds()[:3] == ["warning", "saved", "stop"]
    stop = hook.sent[2]
    assert (stop["pod_id"], stop["cause"]) == (POD_ID, "idle")
    assert "nothing used this Pod" in stop["reason"]
    assert "$0.20 per GB" in stop["storage"]
    assert hook.kinds().count("stop") == 1
    page = (pod.volume / f".idlewatch/{POD_ID}/last-stop.txt").read_text()
    assert stop["snapshot"] in page
    assert "host: quiet: quiet" in page


def test_a_stop_that_is_not_confirmed_is_told(pod: Place, hook: Hook) -> None:
    pod.api.pods[POD_ID].stop_effect = StopEffect.ONLY_SAID
    pod.start()
    pod.until(lambda: any(notice.get("alarm") == "STOP NOT CONFIRMED" for notice in hook.sent))


def looked_since(pod: Place, before: Json) -> bool:
    return pod.status().get("at_s") != before


def ended_until(pod: Place, what: Callable[[], bool]) -> None:
    """End a daemon until that has come: on a busy machine its last seconds may be too few for a new process."""
    for _ in range(5):
        before = pod.status().get("at_s")
        daemon = pod.start()
        pod.until(partial(looked_since, pod, before))
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        if what():
            return
    pytest.fail(f"it did not come: {events(pod)}")


def test_the_daemons_end_is_told(pod: Place, hook: Hook) -> None:
    pod.settings["IDLEWATCH_IDLE_AFTER"] = "1h"
    ended_until(pod, lambda: "ended" in hook.kinds())
    ended = next(notice for notice in hook.sent if notice["kind"] == "ended")
    assert ended["reason"].endswith("ended idlewatch")
    assert ended["headline"].startswith("nothing guards this Pod")


def test_a_hanging_webhook_holds_up_neither_the_watch_nor_the_stop(pod: Place, hook: Hook) -> None:
    hook.hangs = True
    pod.start()
    pod.until(pod.stopped)
    assert pod.kinds()[:4] == ["warn", "save", "save done", "stop"]


@pytest.mark.timeout(300)
def test_a_failing_webhook_is_a_trouble_once_and_its_address_stands_nowhere(pod: Place, hook: Hook) -> None:
    hook.status = 500
    pod.settings |= {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_BUDGET_USD": "1"}  # no price: an alarm in 15 minutes
    (pod.hooks / "before-save").mkdir(parents=True)
    (pod.hooks / "before-save/10-a").write_text("not executable: a trouble at once")
    pod.start()
    pod.until(lambda: f"notices to {hook.url.rsplit('/', 2)[0]}" in str(pod.status().get("troubles")), within_s=240.0)
    told = [event for event in events(pod) if "takes no notices" in event]
    assert len(told) == 1
    assert "HTTP 500" in told[0]
    assert "SECRETTOKEN" not in everything(pod)


def test_while_observing_no_webhook_hears_anything(pod: Place, hook: Hook) -> None:
    pod.settings |= {"IDLEWATCH_MODE": "observe", "IDLEWATCH_HEARTBEAT_URL": hook.url}
    pod.command = ("-m", "idlewatch", "run")
    (pod.hooks / "before-save").mkdir(parents=True)
    (pod.hooks / "before-save/10-a").write_text("not executable: a trouble at once")
    pod.start()
    pod.until(lambda: "hooks" in str(pod.status().get("troubles")))
    seen_s = float(str(pod.status()["at_s"]))
    pod.until(lambda: float(str(pod.status()["at_s"])) > seen_s + 4.0)  # longer than a process takes to send one
    assert hook.asked == []


def test_the_heartbeat_is_written_and_given_and_says_when_the_daemon_ends(pod: Place, hook: Hook) -> None:
    pod.settings = {
        "IDLEWATCH_IDLE_AFTER": "1h",
        "IDLEWATCH_HEARTBEAT_EVERY": "1s",
        "IDLEWATCH_HEARTBEAT_URL": hook.url,
    }
    path = pod.volume / f".idlewatch/{POD_ID}/heartbeat.json"
    pod.start()
    pod.until(path.exists)
    first = json.loads(path.read_text())
    assert (first["phase"], first["ended"], first["pod_id"]) == ("watching", False, POD_ID)
    pod.until(lambda: json.loads(path.read_text())["at"] > first["at"] and len(hook.asked) >= 2)
    assert {method for method, _ in hook.asked} == {"GET"}
    pod.end()
    ended_until(pod, lambda: json.loads(path.read_text())["ended"] is True)
