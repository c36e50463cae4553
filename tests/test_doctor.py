"""The doctor as a person runs it: real child processes, real signals, RunPod's API on loopback."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod
from idlewatch.files import write_atomically
from idlewatch.history.store import status_of
from idlewatch.machine_clock import MachineClock
from idlewatch.pod.keys import marks
from idlewatch.settings import Source, environment_with, load
from idlewatch.snapshot import find, places, read_mounts, verify
from idlewatch.state_folder import only_daemon
from idlewatch.stopping.notes import LAST_STOP, write_note
from tests.nvml_stub import NvmlScript, build
from tests.nvml_stub import environment as nvml_environment
from tests.waiting import comes

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parent.parent
POD_ID, KEY = "pod123abc", "rpa_test_key"
STOPS = {"rest_stop", "graphql_stop", "terminate"}


@dataclass
class Ran:
    """One run of the doctor."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def standing(self, name: str) -> str:
        return str(self.line(name)["standing"])

    def line(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = [line for line in self.said["lines"] if line["name"] == name]
        assert len(found) == 1, f"{name}: {self.out} {self.err}"
        return found[0]


@dataclass
class Place:
    """A container by its variables: a disk, a volume, and RunPod's API."""

    folder: Path
    api: LoopbackApi
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variables = {
            "RUNPOD_POD_ID": POD_ID,
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_GPU_COUNT": "0",
            "IDLEWATCH_SIGNALS": "gpu,host",
            "IDLEWATCH_SAVE_ROOT": str(self.folder / "disk"),
            "IDLEWATCH_VOLUME": str(self.volume),
            "IDLEWATCH_STATE_DIR": str(self.state_dir),
            "IDLEWATCH_RUNPOD_API_URL": self.api.rest_url,
            "IDLEWATCH_RUNPOD_GRAPHQL_URL": self.api.graphql_url,
        }

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def kept(self) -> Path:
        """What idlewatch keeps of this Pod on the volume."""
        return self.volume / ".idlewatch" / POD_ID

    def environment(self) -> dict[str, str]:
        return environment_with({**self.variables, "PYTHONPATH": str(REPOSITORY)})

    def doctor(self, *options: str) -> Ran:
        """Run it, and see that it stopped nothing and told no secret."""
        command = [sys.executable, "-m", "idlewatch", "doctor", *options]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=110, check=False)
        assert KEY not in done.stdout + done.stderr
        assert not STOPS & {request.call for request in self.api.requests}
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    for name in ("disk/root", "volume", "state"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "disk/root/work.txt").write_text("three days of work")
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD_ID)], keys=[KEY]) as api:
        yield Place(tmp_path, api)


def test_a_pod_with_a_volume_and_no_daemon_lacks_nothing_but_the_daemon(place: Place) -> None:
    ran = place.doctor("--json")
    broken = [line["name"] for line in ran.said["lines"] if line["standing"] == "will not work"]
    assert (ran.code, broken) == (1, ["daemon"]), ran.out
    assert ran.said["pod_id"] == POD_ID
    assert ran.said["hung"] == []
    assert ran.standing("api:REST v2 with RUNPOD_API_KEY") == "ok"
    assert ran.standing("api:GraphQL with RUNPOD_API_KEY") == "ok"
    assert ran.standing("stop") == "unproven"
    assert "RUNNING by RunPod's API, $1.59 an hour, neither locked nor in a cluster" in ran.line("state")["text"]
    assert "nothing to see here: RUNPOD_GPU_COUNT=0" in ran.line("signal:gpu")["text"]
    assert "host sees" in ran.line("signal:host")["text"]
    assert "in 1 file;" in ran.line("room")["text"]
    assert ran.standing("clock") == "ok"
    assert [path.name for path in place.volume.iterdir()] == []
    assert [path.name for path in place.state_dir.iterdir()] == []


def test_the_report_for_people_ends_with_what_it_comes_to(place: Place) -> None:
    ran = place.doctor()
    assert ran.code == 1
    assert ran.out.startswith("this Pod\n  ok             RunPod Pod pod123abc")
    assert ran.out.splitlines()[-1].endswith("will not work: daemon.")


def test_where_no_volume_is_mounted(place: Place) -> None:
    if places.volume("auto", read_mounts()):
        pytest.skip("a volume is mounted on this machine")
    place.variables["IDLEWATCH_VOLUME"] = "auto"
    ran = place.doctor("--json")
    assert ran.code == 1
    assert ran.standing("volume") == "will not work"
    assert "kept up, idle or not" in ran.line("volume")["text"]
    assert "wipes this Pod's disk at once" in ran.line("volume")["remedy"]


def test_a_plain_laptop_asks_nobody_and_says_so(place: Place) -> None:
    kept = ("IDLEWATCH_STATE_DIR", "IDLEWATCH_RUNPOD_API_URL", "IDLEWATCH_RUNPOD_GRAPHQL_URL")
    place.variables = {name: place.variables[name] for name in kept}
    ran = place.doctor("--json")
    assert ran.code == 1
    assert ran.standing("kind") == "will not work"
    assert "no Pod of RunPod's" in ran.line("kind")["text"]
    assert ran.said["pod_id"] is None
    assert place.api.requests == []
    assert ran.standing("signal:host") == "ok"


def test_a_serverless_worker_is_none_of_ours(place: Place) -> None:
    place.variables |= {"RUNPOD_ENDPOINT_ID": "ep1", "RUNPOD_WEBHOOK_GET_JOB": "https://example.invalid"}
    ran = place.doctor("--json")
    assert ran.code == 1
    assert "Serverless worker" in ran.line("kind")["text"]
    assert "idle timeout" in ran.line("kind")["remedy"]
    assert place.api.requests == []
    refused = place.doctor("--drill")
    assert refused.code == 3
    assert "nothing to drill: this is a Serverless worker" in refused.err


def test_a_refused_key_is_told_by_each_answer(place: Place) -> None:
    place.variables["RUNPOD_API_KEY"] = "rpa_of_another_account"
    ran = place.doctor("--json")
    assert ran.code == 1
    for api in ("REST v2", "GraphQL"):
        line = ran.line(f"api:{api} with RUNPOD_API_KEY")
        assert line["standing"] == "will not work"
        assert "401" in line["text"]
        assert "IDLEWATCH_RUNPOD_API_KEY" in line["remedy"]
    assert "rpa_of_another_account" not in ran.out


def test_a_key_that_only_graphql_accepts_will_do(place: Place) -> None:
    place.variables["IDLEWATCH_RUNPOD_API_KEY"] = "rpa_mine"
    place.variables["RUNPOD_API_KEY"] = ""
    place.api.grant("rpa_mine", ["graphql_read", "graphql_stop"])
    ran = place.doctor("--json")
    assert ran.standing("api:REST v2 with IDLEWATCH_RUNPOD_API_KEY") == "warning"
    assert "403" in ran.line("api:REST v2 with IDLEWATCH_RUNPOD_API_KEY")["text"]
    assert ran.standing("api:GraphQL with IDLEWATCH_RUNPOD_API_KEY") == "ok"
    assert ran.standing("state") == "warning"


def test_an_api_that_hangs_ends_the_doctor_in_time_all_the_same(place: Place) -> None:
    for call in ("rest_read", "graphql_read"):
        place.api.fail(call, "hang", times=None)
    ran = place.doctor("--json")
    assert ran.code == 1
    assert "no whole answer from 127.0.0.1" in ran.line("api:REST v2 with RUNPOD_API_KEY")["text"]
    assert ran.standing("volume") == "ok"
    assert ran.said["took_s"] < 60


def test_without_certificates_the_bundle_that_is_missing_is_named(place: Place) -> None:
    place.variables["SSL_CERT_FILE"] = "/nowhere/ca-certificates.crt"
    ran = place.doctor("--json")
    line = ran.line("certificates")
    assert line["standing"] == "warning"
    assert ran.standing("api:REST v2 with RUNPOD_API_KEY") == "ok"
    assert "SSL_CERT_FILE=/nowhere/ca-certificates.crt is not there" in line["text"]
    assert "take SSL_CERT_FILE out of this Pod's variables" in line["remedy"]


@pytest.fixture
def script(place: Place) -> NvmlScript:
    """Two GPUs of a driver that follows a script."""
    (place.folder / "driver").mkdir()
    script = NvmlScript(place.folder / "nvml", gpus=2)
    place.variables |= nvml_environment(build(place.folder / "driver"), script)
    place.variables |= {"RUNPOD_GPU_COUNT": "2", "IDLEWATCH_SIGNALS": "gpu"}
    return script


def test_gpus_are_read_by_a_reader_of_its_own_where_no_daemon_does(place: Place, script: NvmlScript) -> None:
    ran = place.doctor("--json")
    assert ran.line("signal:gpu")["text"].startswith("gpu sees, ")
    assert ran.standing("driver") == "ok"
    assert "2 of 2 GPUs are read by driver" in ran.line("driver")["text"]


@pytest.mark.system  # a driver is waited for as long as the slowest may take: half a minute
def test_a_driver_that_hangs_is_said_and_ends_the_doctor_in_time_all_the_same(place: Place, script: NvmlScript) -> None:
    script.stall("init", 300.0)
    ran = place.doctor("--json")
    assert ran.code == 1
    assert ran.standing("signal:gpu") == "will not work"
    assert ran.standing("volume") == "ok"
    assert ran.said["took_s"] < 60
    assert comes(lambda: not _named_in_proc(str(place.folder)), 60.0)


def _named_in_proc(folder: str) -> list[str]:
    """Processes that have this folder among their variables: what a run left behind."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if folder.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_a_locked_pod_will_not_be_stopped(place: Place) -> None:
    place.api.pods[POD_ID].locked = True
    ran = place.doctor("--json")
    assert ran.standing("state") == "will not work"
    assert "locked" in ran.line("state")["text"]


@pytest.fixture
def daemon(place: Place) -> Iterator[Callable[[], None]]:
    """Starts a real daemon on a quiet host, which ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        place.variables |= {"IDLEWATCH_INTERVAL": "0.2s"}
        command = [sys.executable, str(REPOSITORY / "tests/quiet_daemon.py")]
        started.append(subprocess.Popen(command, env=place.environment(), start_new_session=True))
        assert comes(lambda: "phase" in (status_of(place.state_dir) or {}), 60.0)

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_a_daemon_that_watches_is_seen_and_its_own_readings_are_told(place: Place, daemon: Callable[[], None]) -> None:
    place.variables["IDLEWATCH_SIGNALS"] = "host"
    daemon()
    ran = place.doctor("--json")
    assert ran.code == 0, ran.out
    assert ran.standing("daemon") == "ok"
    assert ran.line("signal:host")["text"].endswith(": quiet")
    assert ran.line("environment")["text"] == "the daemon was told the same as this shell knows"
    place.variables["IDLEWATCH_IDLE_AFTER"] = "2h"
    ran = place.doctor("--json")
    assert ran.code == 0
    assert ran.standing("environment") == "warning"
    assert "IDLEWATCH_IDLE_AFTER is 2h here and not set in the daemon" in ran.line("environment")["text"]


def test_a_shell_without_variables_learns_them_from_the_daemon(place: Place, daemon: Callable[[], None]) -> None:
    place.variables["IDLEWATCH_SIGNALS"] = "host"
    daemon()
    place.variables = {"IDLEWATCH_STATE_DIR": str(place.state_dir), "RUNPOD_API_KEY": KEY}
    ran = place.doctor("--json")
    assert ran.code == 0, ran.out
    assert ran.said["pod_id"] == POD_ID
    assert "not in this shell's environment, and was found in" in ran.line("id")["text"]


def test_the_drill_does_all_but_the_stop_and_is_remembered(place: Place) -> None:
    ran = place.doctor("--drill", "--json")
    drill, lines = ran.said["drill"], [line for line in ran.said["lines"] if line["group"] == "the drill"]
    assert [(line["name"], line["standing"]) for line in lines] == [
        ("warning", "ok"),
        ("save", "ok"),
        ("note", "ok"),
        ("api", "ok"),
    ]
    assert not [line for line in ran.said["lines"] if line["name"] == "drill"], "no word of none before this one"
    assert drill["done"]
    assert not drill["told"]
    assert "this Pod will be stopped in" in drill["warning"]
    snapshot = find(place.volume, POD_ID, drill["snapshot"])
    verify(snapshot)
    for kept in (place.kept / "last-drill.json", place.state_dir / "last-drill.json"):
        assert json.loads(kept.read_text())["snapshot"] == snapshot.id
    assert sorted(path.name for path in place.kept.iterdir()) == ["last-drill.json", "snapshots"]
    again = place.doctor("--json")
    assert again.standing("drill") == "ok"
    assert f"saved as {snapshot.id}" in again.line("drill")["text"]


def test_hooks_of_a_drill_are_told_that_it_is_one(place: Place) -> None:
    hooks = place.folder / "hooks/before-save"
    hooks.mkdir(parents=True)
    hook = hooks / "10-look"
    hook.write_text(f'#!/bin/sh\necho "$IDLEWATCH_DRILL" > {place.folder}/heard\n')
    hook.chmod(0o755)
    place.variables["IDLEWATCH_HOOKS"] = str(place.folder / "hooks")
    ran = place.doctor("--drill", "--json")
    assert "before-save/10-look" in ran.line("hooks")["text"]
    assert (place.folder / "heard").read_text() == "1\n"
    assert "before-save/10-look" in ran.line("hook")["text"]
    assert ran.said["drill"]["done"]


def test_a_drill_that_can_not_save_fails_and_leaves_no_trace_of_success(place: Place) -> None:
    place.variables["IDLEWATCH_VOLUME"] = str(place.folder / "not there")
    ran = place.doctor("--drill", "--json")
    assert ran.code == 1
    assert not ran.said["drill"]["done"]
    assert ran.standing("save") == "will not work"
    assert not (place.state_dir / "last-drill.json").exists()


@pytest.mark.parametrize("phase", ["warned", "saving", "last look", "stopping"])
def test_no_drill_in_the_middle_of_the_real_thing(place: Place, phase: str) -> None:
    now_s = MachineClock().now_s()
    shown: dict[str, Any] = {
        "at_s": now_s,
        "interval_s": 1000.0,
        "phase": phase,
        "reason": "everything quiet",
        "mode": "stop",
    }
    write_atomically(place.state_dir / "status.json", json.dumps(shown))
    with only_daemon(place.state_dir):
        ran = place.doctor("--drill")
    assert ran.code == 3
    assert f"in the middle of an end sequence ({phase}: everything quiet)" in ran.err
    assert list(place.volume.iterdir()) == []
    assert place.api.requests == []


def test_a_stop_with_this_key_that_a_later_start_followed_is_proof(place: Place) -> None:
    told = load([Source(name="environment", variables={"RUNPOD_API_KEY": KEY})])
    note: dict[str, Any] = {
        "at": "2026-11-22T10:00:00+00:00",
        "reason": "quiet",
        "keys": marks(told),
        "boot_key": "another",
    }
    write_note(place.volume, POD_ID, LAST_STOP, {**note, "answer": "accepted"})
    assert place.doctor("--json").standing("stop") == "ok"
    write_note(place.volume, POD_ID, LAST_STOP, {**note, "answer": "refused", "answer_text": "401"})
    assert place.doctor("--json").standing("stop") == "will not work"


def test_to_tell_without_a_drill_is_a_wrong_use(place: Place) -> None:
    ran = place.doctor("--tell")
    assert ran.code == 2
    assert "--tell goes with --drill" in ran.err
