"""The whole path with the owner's hooks, programs that are asked, jobs that are ended, and an end from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackPod, StopEffect
from idlewatch.history.store import events_of
from idlewatch.hold import place, release
from idlewatch.model import Json
from idlewatch.snapshot import find, restore, snapshots
from idlewatch.stopping.notes import previous_stop, stop_note
from tests.waiting import comes
from tests.whole_path import POD_ID, QUIET_DAEMON, Place, proven, simulated

pytestmark = pytest.mark.slow

STAGES = ("before-save", "after-save", "before-stop")
UNTIL_ENDED = "sleep 600"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Place]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as place_:
        place_.settings = {"IDLEWATCH_IDLE_AFTER": "1s", "IDLEWATCH_WARN_FOR": "0.5s"}
        yield place_


def put(pod: Place, name: str, script: str) -> Path:
    path = pod.hooks / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def told(pod: Place) -> list[str]:
    """What hooks wrote down, in order."""
    path = pod.folder / "told"
    return path.read_text().splitlines() if path.exists() else []


def tell(pod: Place, what: str) -> str:
    return f"echo {what} >> {pod.folder}/told"


def events(pod: Place, kind: str) -> list[str]:
    return [str(event["text"]) for event in events_of(pod.state_dir) if event["kind"] == kind]


def note(pod: Place) -> dict[str, Json]:
    return stop_note(pod.volume, POD_ID) or {}


def nothing_half_done(pod: Place) -> bool:
    """No process of the end sequence, no part of a save, no request to a program."""
    parts = [path for path in pod.volume.rglob("*") if path.name.endswith(".part")]
    asked = list((pod.state_dir / "requests").glob("checkpoint-*"))
    return not pod.processes() and not parts and not asked


def test_hooks_run_around_the_save_in_order_and_are_told_why(pod: Place) -> None:
    saved = f"[ -e {pod.volume}/.idlewatch/{POD_ID}/snapshots/*.json ] && saved=yes || saved=no"
    for stage in STAGES:
        line = '"$IDLEWATCH_STAGE $IDLEWATCH_CAUSE ${IDLEWATCH_SNAPSHOT:+with-id} $IDLEWATCH_RUNPOD_API_KEY$saved"'
        put(pod, f"{stage}/10-a", f"{saved}; {tell(pod, line)}; echo out of {stage} {pod.folder}")
    put(pod, "before-save/20-b", f"{tell(pod, 'second')}; exit 4")
    pod.settings |= {"IDLEWATCH_RUNPOD_API_KEY": "rpa_test_key"}
    pod.start()
    pod.until(pod.stopped)
    first, second, after, last = told(pod)
    assert (first, second) == ("before-save idle  no", "second")
    assert after == "after-save idle with-id yes"
    assert last == "before-stop idle with-id yes"
    done = events(pod, "hook done")
    assert done == [f"{stage}/10-a: exit status 0" for stage in STAGES]
    outputs = [event["facts"] for event in events_of(pod.state_dir) if event["kind"] == "hook done"]
    assert isinstance(outputs[0], dict)
    assert outputs[0]["output"] == f"out of before-save {pod.folder}"
    assert events(pod, "hook failed") == ["before-save/20-b: exit status 4"]
    said = note(pod)["done"]
    assert isinstance(said, list)
    assert len(said) == 4
    proven(pod)


@pytest.mark.parametrize("required", [False, True])
def test_a_hook_that_hangs_is_ended_and_only_a_required_one_keeps_the_pod(pod: Place, *, required: bool) -> None:
    apart = f"setsid sh -c 'echo $$ > {pod.folder}/pid; exec {UNTIL_ENDED}' &"
    put(pod, f"before-save/10-hangs{'.required' if required else ''}", f"{apart} {UNTIL_ENDED}")
    pod.settings |= {"IDLEWATCH_HOOK_WITHIN": "2s"}
    pod.start()
    pod.until((lambda: "save failed" in pod.kinds()) if required else pod.stopped)
    assert "not done within 2s, so it was ended" in events(pod, "hook failed")[0]
    pid = (pod.folder / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    assert pod.stopped() is not required
    if required:
        pod.until(lambda: "a required hook failed" in str(pod.status().get("troubles")))
        assert snapshots(pod.volume, POD_ID) == []
    else:
        proven(pod)


@pytest.mark.parametrize("stage", STAGES)
def test_a_hold_during_a_hook_calls_it_off_and_nothing_remains(pod: Place, stage: str) -> None:
    apart = f"setsid sh -c 'echo $$ > {pod.folder}/pid; exec {UNTIL_ENDED}' &"
    hook = put(pod, f"{stage}/10-a", f"{tell(pod, 'begun')}; {apart} {UNTIL_ENDED}")
    (pod.state_dir / "holds").mkdir()
    pod.start()
    pod.until(lambda: (pod.folder / "pid").exists() and told(pod) == ["begun"])
    held = place("back again", for_s=600, who="ann", state_dir=pod.state_dir)
    pod.until(lambda: "cancel" in pod.kinds())
    assert comes(lambda: nothing_half_done(pod), 30), (pod.processes(), list(pod.volume.rglob("*")))
    pod.until(lambda: f"{stage}/10-a: called off" in events(pod, "hook failed"))
    assert not pod.stopped()
    put(pod, f"{stage}/{hook.name}", tell(pod, "again"))
    release(held)
    pod.until(pod.stopped)
    assert told(pod)[-1] == "again"
    proven(pod)


def test_a_hook_that_others_may_write_is_named_from_the_start_and_never_run(pod: Place) -> None:
    put(pod, "before-save/10-a", tell(pod, "ran")).chmod(0o777)
    put(pod, "after-save/10-b", tell(pod, "fine"))
    pod.start()
    pod.until(lambda: "10-a would not run" in str(pod.status().get("troubles")))
    pod.until(pod.stopped)
    assert told(pod) == ["fine"]
    assert "can be written by others" in events(pod, "hook refused")[0]


def test_a_required_hook_that_is_refused_keeps_the_pod_up_and_no_other_hook_runs(pod: Place) -> None:
    put(pod, "before-save/10-a", tell(pod, "ran"))
    put(pod, "before-stop/10-b.required", tell(pod, "ran")).chmod(0o777)
    pod.start()
    pod.until(lambda: "save failed" in pod.kinds())
    pod.until(lambda: "a required hook can't run: before-stop/10-b.required" in str(pod.status().get("troubles")))
    assert told(pod) == []
    assert not pod.stopped()


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from idlewatch import hold

disk, state_dir = Path(sys.argv[1]), sys.argv[2]
path = hold.ask_me("a simulation", who="simulation", state_dir=state_dir)
signal.signal(signal.SIGTERM, lambda *_: ((disk / "root/at-the-end").write_text("last words"), sys.exit(0)))
(Path(state_dir) / "program").write_text(str(os.getpid()))
while True:
    if hold.asked(path):
        (disk / "root/checkpoint").write_text("step 400")
        hold.answered(path, "step 400 is saved")
    time.sleep(0.05)
"""


@pytest.mark.parametrize("forced", [False, True])
def test_a_program_is_asked_for_a_checkpoint_and_ended_only_where_the_stop_is_forced(
    pod: Place, *, forced: bool
) -> None:
    if forced:
        pod.settings |= {"IDLEWATCH_BUDGET_USD": "0.01", "IDLEWATCH_USD_PER_HOUR": "1000000"}
    command = [sys.executable, "-c", PROGRAM, str(pod.disk), str(pod.state_dir)]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent) as program:
        try:
            assert comes((pod.state_dir / "program").exists, 30)
            pod.start()
            pod.until(
                pod.stopped if forced else lambda: pod.phase() == "last look"
            )  # an idle Pod's takes a minute more
            assert (program.poll() is not None) is forced
        finally:
            program.kill()
    assert events(pod, "checkpoint done") == [f"simulation (pid {program.pid}, a simulation): step 400 is saved"]
    ended = events(pod, "job ended")
    assert (["asked to end, and did" in text for text in ended]) == ([True] if forced else [])
    back = pod.folder / "back"
    back.mkdir()
    restore(find(pod.volume, POD_ID), back)
    assert (back / "root/checkpoint").read_text() == "step 400"
    assert (back / "root/at-the-end").exists() is forced


def test_after_start_hooks_run_once_a_start_and_are_told_of_the_stop_before_it(pod: Place) -> None:
    put(pod, "after-start/10-a", tell(pod, '"$IDLEWATCH_STAGE $IDLEWATCH_CAUSE $IDLEWATCH_REASON"'))
    put(pod, "after-start/20-b", f"{tell(pod, 'fails')}; exit 1")
    pod.settings |= {"IDLEWATCH_IDLE_AFTER": "1h"}
    folder = pod.volume / ".idlewatch" / POD_ID
    folder.mkdir(parents=True)
    (folder / "last-stop.json").write_text(json.dumps({"reason": "idle for 30m", "boot_key": "another start"}))
    first = pod.start()
    pod.until(lambda: "after-start/20-b: exit status 1" in str(pod.status().get("troubles")))
    first.terminate()
    first.wait(30)
    pod.start()
    pod.until(lambda: pod.kinds().count("shutdown") == 1 and not pod.status().get("ended"))
    assert not comes(lambda: len(told(pod)) > 2, 3)
    assert told(pod) == ["after-start start started; stopped before because: idle for 30m", "fails"]


# ---------------------------------------------------------------- ended from outside

EXEC = """
import signal, subprocess, sys
daemon = subprocess.Popen([sys.executable, *sys.argv[2:]])
signal.signal(signal.SIGTERM, lambda *_: daemon.send_signal(signal.SIGTERM))
sys.exit(daemon.wait())
"""
on_systemd = pytest.mark.skipif(
    Path("/proc/1/comm").read_text().strip() == "systemd", reason="there systemd says whether the machine goes down"
)


def as_the_containers_command(pod: Place) -> subprocess.Popen[bytes]:
    """The daemon below a stand-in for `idlewatch exec`, which passes a shutdown request on."""
    wrapper = pod.folder / "idlewatch"
    wrapper.write_text(EXEC)
    pod.command = (str(wrapper), "exec", *QUIET_DAEMON)
    return pod.start()


@on_systemd
def test_where_the_container_is_being_ended_the_hooks_run_once_and_the_next_start_says_why(pod: Place) -> None:
    put(pod, "before-stop/10-a", tell(pod, '"$IDLEWATCH_CAUSE $IDLEWATCH_REASON"'))
    put(pod, "before-stop/20-b", f"{tell(pod, 'hangs')}; {UNTIL_ENDED}")
    pod.settings |= {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_SHUTDOWN_WITHIN": "6s"}
    wrapper = as_the_containers_command(pod)
    pod.until(lambda: pod.phase() == "watching")
    wrapper.terminate()
    wrapper.wait(60)
    reason = "this container is being ended: `idlewatch exec` passes that on"
    assert told(pod) == [f"shutdown {reason}", "hangs"]
    assert events(pod, "shutdown") == [reason]
    assert any(how in events(pod, "hook failed")[0] for how in ("so it was ended", "called off"))
    assert "was ended from outside, not by idlewatch" in str(previous_stop(note(pod), "another start"))
    assert not pod.processes()


@on_systemd
def test_before_stop_hooks_that_ran_in_the_end_sequence_are_not_run_again(pod: Place) -> None:
    put(pod, "before-stop/10-a", tell(pod, "once"))
    pod.api.pods[POD_ID].stop_effect = StopEffect.NOTHING
    pod.settings |= {"IDLEWATCH_CONFIRM_WITHIN": "10m"}
    wrapper = as_the_containers_command(pod)
    pod.until(lambda: pod.phase() == "stopping" and "stop done" in pod.kinds())
    own = note(pod)
    wrapper.terminate()
    wrapper.wait(60)
    assert told(pod) == ["once"]
    assert note(pod) == own, "our own stop is why it ended"


def test_a_person_who_ends_the_daemon_ends_nothing_else(pod: Place) -> None:
    put(pod, "before-stop/10-a", tell(pod, "ran"))
    pod.settings |= {"IDLEWATCH_IDLE_AFTER": "1h"}
    daemon = pod.start()
    pod.until(lambda: pod.phase() == "watching")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(60)
    assert told(pod) == []
    assert note(pod) == {}
    assert f"(pid {os.getpid()}) ended idlewatch" in events(pod, "shutdown")[0] or events(pod, "shutdown") == [
        "somebody ended idlewatch"
    ]
