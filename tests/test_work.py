"""The tasks as the daemon starts them: real child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from idlewatch import hold
from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod, StopEffect
from idlewatch.doctor.drilled import LAST_DRILL, drill_text, in_state_folder
from idlewatch.history.store import History
from idlewatch.model import Json, Reading
from idlewatch.pod.assembled import assembled
from idlewatch.pod.keys import FoundKey
from idlewatch.settings import Source, environment_with, load
from idlewatch.snapshot import SaveRequest, Snapshot, restore, snapshots
from idlewatch.stopping import stop_note
from idlewatch.stopping.notes import LAST_STOP, Answer, write_note
from idlewatch.stopping.notes import stop_note as kept_note

pytestmark = pytest.mark.slow

KEY = "rpa_test_key"


def answer(name: str, request: Json, folder: Path, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    places = {"IDLEWATCH_STATE_DIR": str(folder / "state"), "IDLEWATCH_HOOKS": str(folder / "hooks")}
    command = [sys.executable, "-m", "idlewatch", "_task", name]
    done = subprocess.run(
        command,
        input=json.dumps(request) + "\n",
        env=environment_with({**places, **(settings or {})}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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


@dataclass
class Pod:
    """A disk, a volume, a state folder and hooks, as the save task finds them."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("disk", "volume", "state"):
            (self.folder / name).mkdir()
        (self.folder / "disk/work.txt").write_text("three days of work")

    def put(self, name: str, script: str) -> Path:
        path = self.folder / "hooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def save(self, **wanted: Json) -> dict[str, Any]:
        request = SaveRequest(
            volume=self.folder / "volume", pod_id="no-pod", boot_key="p1@1", root=self.folder / "disk"
        )
        return answer("save", {"save": request.as_json(), **wanted}, self.folder, self.settings)

    def told(self) -> list[str]:
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def tell(self) -> str:
        return f'echo "$IDLEWATCH_STAGE:$IDLEWATCH_DRILL:$IDLEWATCH_SNAPSHOT" >> {self.folder}/told'

    def saved(self) -> list[Snapshot]:
        return snapshots(self.folder / "volume", "no-pod")


STAGES = ("before-save", "after-save", "before-stop")


def test_where_nothing_is_to_be_saved_the_hooks_run_all_the_same(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    for stage in STAGES:
        pod.put(f"{stage}/10-a", pod.tell)
    assert (
        pod.save(save=None, needless="this machine keeps its disk")["result"]["text"] == "this machine keeps its disk"
    )
    assert pod.told() == [f"{stage}::" for stage in STAGES]


def test_where_nothing_can_be_saved_no_hook_runs_for_nothing_will_be_stopped(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.put("before-save/10-a", pod.tell)
    assert pod.save(save=None, impossible="no volume")["error"]["text"] == "no volume"
    assert pod.told() == []


@pytest.mark.parametrize("wanted", [{"save": None, "impossible": "no volume"}, {"save": {"volume": "/proc/nowhere"}}])
def test_an_owner_who_stops_without_a_save_gets_the_hooks_before_that_stop(
    tmp_path: Path, wanted: dict[str, Json]
) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_ON_SAVE_FAILURE": "stop"})
    pod.put("before-save/10-a.required", f"{pod.tell}; exit 1")
    pod.put("after-save/10-a", pod.tell)
    pod.put("before-stop/10-a", pod.tell)
    assert "error" in pod.save(**wanted)
    assert pod.told() == ["before-save::", "before-stop::"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_required_hook_that_fails_is_a_failed_save(tmp_path: Path, stage: str) -> None:
    pod = Pod(tmp_path)
    pod.put(f"{stage}/10-a.required", "exit 3")
    assert pod.save()["error"]["text"] == f"a required hook failed: {stage}/10-a.required: exit status 3"
    assert bool(pod.saved()) is (stage != "before-save")


@pytest.mark.parametrize(
    ("stage", "size", "saves"), [("after-save", 3, 2), ("before-stop", 3, 2), ("before-stop", 0, 1)]
)
def test_what_a_hook_writes_after_the_save_is_saved_as_well(tmp_path: Path, stage: str, size: int, saves: int) -> None:
    pod = Pod(tmp_path)
    pod.put(f"{stage}/10-a", f"head -c {size}000000 /dev/urandom > {tmp_path}/disk/written; {pod.tell}")
    result = pod.save()["result"]
    assert len(pod.told()) == 1
    newest = pod.saved()[0]
    assert (result["snapshot"], len(pod.saved())) == (newest.id, saves)
    back = tmp_path / "back"
    back.mkdir()
    restore(newest, back)
    assert (back / "written").exists() is (saves == 2)


def test_a_drill_tells_hooks_so_and_touches_nobodys_processes(tmp_path: Path) -> None:
    name = f"job_{os.getpid()}_{tmp_path.name}.sh.py"
    (tmp_path / name).write_text("import time\ntime.sleep(600)\n")
    with subprocess.Popen([sys.executable, str(tmp_path / name)]) as job:
        try:
            pod = Pod(tmp_path, {"IDLEWATCH_END_JOBS": name})
            hold.ask_me("a job", who="job", pid=job.pid, state_dir=tmp_path / "state")
            pod.put("before-stop/10-a", pod.tell)
            result = pod.save(drill=True, cause="request")["result"]
            assert pod.told() == [f"before-stop:1:{result['snapshot']}"]
            assert f"would ask for a checkpoint: job (pid {job.pid}, a job)" in result["done"]
            assert job.poll() is None
            left = {path.name for path in (tmp_path / "state").rglob("*") if path.is_file()}
            assert all(one.startswith("ask-") for one in left), left
        finally:
            job.kill()


def test_a_request_that_is_none_is_refused(tmp_path: Path) -> None:
    assert answer("save", [1], tmp_path)["error"]["text"] == "not a request for a save"
    assert answer("save", {}, tmp_path)["error"]["text"] == "not a request for a save"


def test_what_would_not_run_is_told_beforehand(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.put("before-save/10-a", "true").chmod(0o644)
    assert "10-a is not executable" in answer("hooks", None, tmp_path)["result"]["refused"][0]


def test_the_note_names_the_notebooks_that_had_a_kernel(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_VOLUME": str(tmp_path / "volume"), "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk")})
    kernels: list[Json] = [{"path": "b.ipynb"}, {"path": "a.ipynb"}, {"path": None}, {"path": "a.ipynb"}]
    reading = Reading(signal="jupyter", at_s=1.0, facts={"servers": [{"kernels": kernels}, {"kernels": None}, 7]})
    history = History(tmp_path / "state")
    history.saw([reading, Reading(signal="host", at_s=2.0)], datetime.now(UTC))
    history.close()
    answer("note", {"reason": "idle", "done": ["a hook"]}, tmp_path, pod.settings)
    note = json.loads((tmp_path / "volume/.idlewatch/no-pod/last-stop.json").read_text())
    assert (note["notebooks"], note["done"]) == (["a.ipynb", "b.ipynb"], ["a hook"])


def test_before_a_shutdown_the_hooks_of_the_end_sequence_under_way_are_not_run_again(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.put("before-stop/10-a", pod.tell)

    def shutdown(*, under_way: bool, left_s: float = 60.0) -> int:
        wanted: Json = {
            "reason": "x",
            "under_way": under_way,
            "ends_s": time.clock_gettime(time.CLOCK_BOOTTIME) + left_s,
        }
        answer("shutdown", wanted, tmp_path)
        return len(pod.told())

    assert shutdown(under_way=False, left_s=-1.0) == 0
    pod.save()
    assert shutdown(under_way=True) == 1
    assert shutdown(under_way=False) == 2
    pod.put("before-save/10-a.required", "exit 1")
    pod.save()
    assert shutdown(under_way=True) == 3


def test_the_note_marks_the_keys_that_a_stop_was_asked_with_and_holds_none(tmp_path: Path) -> None:
    secret = "rpa_0123456789abcdef"
    pod = Pod(
        tmp_path,
        {
            "IDLEWATCH_VOLUME": str(tmp_path / "volume"),
            "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk"),
            "IDLEWATCH_RUNPOD_API_KEY": secret,
        },
    )
    answer("note", {"reason": "idle"}, tmp_path, pod.settings)
    text = (tmp_path / "volume/.idlewatch/no-pod/last-stop.json").read_text()
    key = FoundKey(name="IDLEWATCH_RUNPOD_API_KEY", source="environment", secret=secret)
    assert json.loads(text)["keys"][0] == key.mark
    assert secret not in text


@pytest.mark.parametrize(
    ("key", "fault", "answered", "told"),
    [
        ("rpa_of_somebody_else", 0, "refused", "was refused: RunPod's API did not accept the stop"),
        (KEY, 503, "failed", "this Pod most likely ended in some other way"),
        (KEY, 0, "accepted", "confirmed by this start: a stop was asked for at"),
    ],
)
def test_the_next_start_calls_only_an_accepted_stop_confirmed(
    tmp_path: Path, key: str, fault: int, answered: str, told: str
) -> None:
    with LoopbackApi(pods=[LoopbackPod(pod_id="p1", stop_effect=StopEffect.ONLY_SAID)], keys=[KEY]) as api:
        pod = Pod(
            tmp_path,
            {
                "RUNPOD_POD_ID": "p1",
                "RUNPOD_API_KEY": key,
                "IDLEWATCH_VOLUME": str(tmp_path / "volume"),
                "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk"),
                "IDLEWATCH_RUNPOD_API_URL": api.rest_url,
                "IDLEWATCH_RUNPOD_GRAPHQL_URL": api.graphql_url,
            },
        )
        shown = tmp_path / "volume/idlewatch-stopped-p1.txt"
        shown.write_text("an earlier one")
        for name in ("rest_stop", "graphql_stop") if fault else ():
            api.fail(name, status=fault)
        said = answer("stop", {"reason": "asked for by root"}, tmp_path, pod.settings)
        assert ("result" in said) is (answered == "accepted")
        kept = tmp_path / "volume/.idlewatch/p1/last-stop.json"
        note = json.loads(kept.read_text())
        assert (note["answer"], note["reason"]) == (answered, "asked for by root")
        for page in (kept.with_suffix(".txt"), shown):
            assert ("RunPod accepted it." in page.read_text()) is (answered == "accepted")
        kept.write_text(json.dumps({**note, "boot_key": "the start before"}))
        again = answer("look_back", None, tmp_path, pod.settings)["result"]["text"]
    assert told in again
    assert ("confirmed" in again) is (answered == "accepted")


def test_an_answer_is_not_added_to_the_note_of_another_stop(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    places = {"STATE_DIR": "state", "SAVE_ROOT": "disk", "VOLUME": "volume"}
    told = {f"IDLEWATCH_{name}": str(tmp_path / place) for name, place in places.items()}
    here = assembled(load([Source(name="environment", variables=told)]))
    write_note(tmp_path / "volume", here.pod_name, LAST_STOP, {"call": "an earlier one", "answer": "refused"})
    stop_note.answered(here, "this one", Answer.ACCEPTED, "accepted")
    assert (kept_note(tmp_path / "volume", here.pod_name) or {})["answer"] == "refused"
    stop_note.answered(here, "an earlier one", Answer.ACCEPTED, "accepted")
    assert (kept_note(tmp_path / "volume", here.pod_name) or {})["answer"] == "accepted"


def test_the_last_drill_is_known_again_after_a_start(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_VOLUME": str(tmp_path / "volume"), "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk")})
    note = tmp_path / "volume/.idlewatch/no-pod" / LAST_DRILL
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"at": "2026-11-24T17:03:01+00:00"}))
    answer("look_back", None, tmp_path, pod.settings)
    assert drill_text(in_state_folder(tmp_path / "state")) == "last drill 2026-11-24 17:03 UTC, nothing to save"


def test_a_save_while_in_use_runs_no_hook(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_VOLUME": str(tmp_path / "volume"), "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk")})
    pod.put("before-save/10-a", pod.tell)
    (tmp_path / "disk").mkdir(exist_ok=True)
    (tmp_path / "disk/work.txt").write_text("work")
    said = answer("save_again", None, tmp_path, pod.settings)["result"]
    assert (said["text"][:12], pod.told()) == ("saved 1 file", [])
    assert snapshots(tmp_path / "volume", "no-pod")[0].id == said["snapshot"]


def test_an_ordinary_folder_has_no_image_to_note(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk")})
    assert answer("note_image", None, tmp_path, pod.settings)["result"] == {}


def test_the_owners_command_gets_no_secret_of_idlewatchs(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_RUNPOD_API_KEY": "rpa_0123456789", "OWN": "own"})
    wanted: Json = {"command": 'echo "${IDLEWATCH_RUNPOD_API_KEY:-none} $OWN"', "within_s": 10.0}
    assert "none own" in answer("command", wanted, tmp_path, pod.settings)["result"]["reason"]
