"""What the last stop wiped comes back once a container: by itself, or as an offer; never onto a container in use."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from idlewatch.amounts import amount
from idlewatch.children.tasks import Task, TaskEnd
from idlewatch.cli import main
from idlewatch.errors import SnapshotError, TaskError
from idlewatch.host import boot, restoring
from idlewatch.host.restoring import Became
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import Loaded, Source, load
from idlewatch.snapshot import SaveRequest, Snapshot, kept, save
from idlewatch.snapshot.manifest import to_manifest
from idlewatch.watching.background import Background
from idlewatch.watching.errands import errands
from idlewatch.watching.knowledge import Knowledge
from tests.fakes import FastClock

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60.0
WALL = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("disk/home", "volume", "state"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def variables(folder: Path, **more: str) -> dict[str, str]:
    places = {"STATE_DIR": "state", "SAVE_ROOT": "disk", "VOLUME": "volume"}
    told = {f"IDLEWATCH_{name}": str(folder / place) for name, place in places.items()}
    return {"RUNPOD_POD_ID": "p1", **told, **more}


def here_of(folder: Path, **more: str) -> Assembly:
    loaded: Loaded = load([Source(name="environment", variables=variables(folder, **more))])
    return assembled(loaded)


def wiped(folder: Path, *, boot_key: str = "an earlier start") -> Snapshot:
    """A snapshot of two files on the volume, made in another start; and the files gone."""
    for name in ("a", "b"):
        (folder / "disk/home" / name).write_text(f"content of {name}")
    made = save(
        SaveRequest(
            volume=folder / "volume", pod_id="p1", boot_key=boot_key, root=folder / "disk", state_dir=folder / "state"
        )
    )
    assert made is not None
    for name in ("a", "b"):
        (folder / "disk/home" / name).unlink()
    return made


def nothing(_said: Json) -> None: ...


# ---- whether it is done


def reason(here: Assembly, *, up_for_s: float = 1.0, in_front: bool = False) -> str | None:
    return restoring.why_not(here, here.pod.started_s + up_for_s, WALL, in_front=in_front)


def test_it_is_brought_back_only_where_the_owner_says_so(folder: Path) -> None:
    assert reason(here_of(folder)) is None
    for value in ("ask", "off"):
        assert "not auto" in str(reason(here_of(folder, IDLEWATCH_RESTORE=value)))
    assert "only observes" in str(reason(here_of(folder, IDLEWATCH_MODE="observe")))


def test_a_daemon_brings_nothing_back_onto_a_container_that_has_been_used(folder: Path) -> None:
    here = here_of(folder)
    assert reason(here, up_for_s=890.0) is None
    assert "used already" in str(reason(here, up_for_s=910.0))
    assert reason(here, up_for_s=910.0, in_front=True) is None


def test_nothing_is_brought_back_twice(folder: Path) -> None:
    here = here_of(folder)
    restoring.keep_mark(here, Became.DONE, "back")
    assert "given its files already" in str(reason(here, in_front=True))


def test_another_container_s_mark_is_none(folder: Path) -> None:
    here = here_of(folder)
    restoring.keep_mark(here, Became.DONE, "back")
    said = json.loads((folder / "state/restored.json").read_text())
    (folder / "state/restored.json").write_text(json.dumps({**said, "container": "another"}))
    assert restoring.mark_of(here) is None
    (folder / "state/restored.json").write_text("[")
    assert restoring.mark_of(here) is None


# ---- what becomes of it


def test_what_the_stop_wiped_is_back_and_said_once(folder: Path) -> None:
    made = wiped(folder)
    told: list[Json] = []
    here = here_of(folder)
    mark = restoring.bring_back(here, told.append)
    assert (folder / "disk/home/a").read_text() == "content of a"
    assert (mark.became, mark.snapshot) == (Became.DONE, made.id)
    assert mark.text == f"brought back 2 files (24 bytes) of {made.id}"
    assert {"event": {"kind": "restored", "text": mark.text}} in told
    (folder / "disk/home/a").unlink()
    assert restoring.bring_back(here, nothing) == mark
    assert not (folder / "disk/home/a").exists()


def test_nothing_that_is_newer_is_overwritten_and_that_is_said(folder: Path) -> None:
    wiped(folder)
    (folder / "disk/home/a").write_text("newer")
    os.utime(folder / "disk/home/a", (time.time() + 60, time.time() + 60))
    mark = restoring.bring_back(here_of(folder), nothing)
    assert (folder / "disk/home/a").read_text() == "newer"
    assert mark.text.endswith("left out: 1 newer here (`idlewatch restore` names them)")


def test_where_there_is_no_snapshot_nothing_is_wrong(folder: Path) -> None:
    mark = restoring.bring_back(here_of(folder), nothing)
    assert (mark.became, mark.snapshot) == (Became.DONE, None)


def test_what_this_very_start_saved_is_not_brought_back_and_not_offered(folder: Path) -> None:
    here = here_of(folder)
    wiped(folder, boot_key=here.pod.boot_key)
    assert restoring.newest_of(kept(folder / "volume", "p1"), here) is None
    assert restoring.offer(here) is None
    restoring.bring_back(here, nothing)
    assert not (folder / "disk/home/a").exists()


def damaged(folder: Path) -> Snapshot:
    made = wiped(folder)
    archive = made.archive_path
    archive.write_bytes(archive.read_bytes()[:-40] + b"x" * 40)
    return made


def test_one_that_fails_is_kept_as_failed_and_not_tried_again(folder: Path) -> None:
    damaged(folder)
    here = here_of(folder)
    with pytest.raises(SnapshotError):
        restoring.bring_back(here, nothing)
    mark = restoring.mark_of(here)
    assert mark is not None
    assert mark.became is Became.FAILED
    assert mark.text.startswith("NOT brought back: ")
    assert mark.text.endswith("`idlewatch restore` brings it back")
    assert restoring.bring_back(here, nothing) == mark


def test_one_that_takes_longer_than_is_set_has_failed(folder: Path) -> None:
    wiped(folder)
    here = here_of(folder)
    late = here.loaded.settings.model_copy(update={"restore_within": WALL - WALL})
    here = dataclasses.replace(here, loaded=dataclasses.replace(here.loaded, settings=late))
    with pytest.raises(SnapshotError):
        restoring.bring_back(here, nothing)
    assert "within 0 s" in str(restoring.mark_of(here))
    assert not (folder / "disk/home/a").exists()


def test_an_offer_names_what_there_is_unless_the_note_does_or_nobody_wants_it(folder: Path) -> None:
    made = wiped(folder)
    here = here_of(folder, IDLEWATCH_RESTORE="ask")
    assert restoring.offer(here) == (
        f"a saved copy of {made.created_at:.16} lies on the volume (2 files, {amount(made.archive_bytes)}): "
        "`idlewatch restore` brings it back"
    )
    assert restoring.offer(here, made.id) is None
    assert restoring.offer(here_of(folder, IDLEWATCH_RESTORE="off")) is None


# ---- another Pod's


def another(folder: Path, pod: str = "p0") -> Snapshot:
    """Another Pod's snapshot of two files on the same volume; and the files gone."""
    made = wiped(folder)
    (folder / "volume/.idlewatch/p1").rename(folder / "volume/.idlewatch" / pod)
    return made


def test_a_new_pod_on_an_old_volume_is_told_of_the_copies_there_and_given_none(folder: Path) -> None:
    made = another(folder)
    told = f"of p0, {made.created_at:.16} ({amount(made.archive_bytes)}): `idlewatch restore --pod p0` brings it"
    assert told in str(restoring.offer(here_of(folder, IDLEWATCH_RESTORE="ask")))
    here = here_of(folder)
    mark = restoring.bring_back(here, nothing)
    assert (mark.became, mark.snapshot) == (Became.DONE, None)
    assert mark.text.startswith("there was nothing on the volume to bring back; saved copies of another Pod lie")
    assert not (folder / "disk/home/a").exists()
    assert told in str(restoring.offer(here))
    assert restoring.offer(here_of(folder, IDLEWATCH_RESTORE="off")) is None


def test_the_newest_of_several_is_named_and_what_is_no_pod_s_is_not(folder: Path) -> None:
    another(folder, "older")
    another(folder, "newer")
    (folder / "volume/.idlewatch/-rf").mkdir()
    (folder / "volume/.idlewatch/newer").rename(folder / "volume/.idlewatch/a name")
    assert "of older, " in str(restoring.offer(here_of(folder)))
    another(folder, "newer")
    said = str(restoring.offer(here_of(folder)))
    assert "of newer, " in said
    assert "and of 1 more (`idlewatch snapshots` names them): `idlewatch restore --pod newer` brings it back" in said


def test_a_pod_that_has_saved_itself_hears_of_no_other(folder: Path) -> None:
    another(folder)
    here = here_of(folder)
    wiped(folder, boot_key=here.pod.boot_key)
    assert restoring.offer(here) is None


def test_the_verb_brings_another_pod_s_back_when_it_is_named_and_only_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = another(folder)
    for name, value in variables(folder, IDLEWATCH_RESTORE="ask").items():
        monkeypatch.setenv(name, value)
    assert main(["restore"]) != 0
    assert "another Pod's are there: `idlewatch restore --pod p0`" in capsys.readouterr().err
    assert main(["restore", "--pod", "../p0"]) != 0
    assert main(["snapshots"]) == 0
    said = capsys.readouterr().out
    assert "no snapshot of p1" in said
    assert "1 of Pod p0" in said
    assert main(["snapshots", "--pod", "p0"]) == 0
    assert made.id in capsys.readouterr().out
    (folder / "disk/home/a").write_text("newer")
    os.utime(folder / "disk/home/a", (time.time() + 60, time.time() + 60))
    assert main(["restore", "--pod", "p0"]) == 0
    assert (folder / "disk/home/a").read_text() == "newer"
    assert (folder / "disk/home/b").read_text() == "content of b"
    mark = restoring.mark_of(here_of(folder))
    assert mark is not None
    assert f"of {made.id} of Pod p0" in mark.text


# ---- before the container's command


class Ends(Task):
    """A task that ends as the test says, or not at all."""

    def __init__(self, end: TaskEnd | None) -> None:
        self.told, self.was_ended = end, False

    def poll(self, now_s: float) -> TaskEnd | None:
        return self.told

    def take_events(self) -> list[Json]:
        return []

    def end(self, within_s: float = 0.0) -> None:
        self.was_ended = True


class Clock(FastClock):
    def ended(self) -> bool:
        return False


def fronted(here: Assembly, end: TaskEnd | None) -> tuple[bool, list[str], float]:
    clock, task = Clock(), Ends(end)
    said: list[str] = []
    began_s = clock.now_s()
    well = boot.brought_back(here, clock, lambda *_: task, said.append)
    assert task.was_ended
    return well, said, clock.now_s() - began_s


def test_a_dead_volume_costs_the_set_time_and_is_said_loudly(folder: Path) -> None:
    here = here_of(folder, IDLEWATCH_RESTORE_WITHIN="2m")
    well, said, took_s = fronted(here, None)
    assert not well
    assert 120 <= took_s < 140
    assert said[0].endswith("waits for that, 2m at most")
    assert said[1].startswith(
        "NOT brought back: the volume does not answer; `idlewatch restore` brings it back; the Pod"
    )
    mark = restoring.mark_of(here)
    assert mark is not None
    assert mark.became is Became.FAILED


def test_why_it_failed_is_said_and_kept(folder: Path) -> None:
    here = here_of(folder)
    well, said, _ = fronted(here, TaskEnd(error=TaskError("silent for 120 s")))
    assert not well
    assert "NOT brought back: silent for 120 s" in said[1]
    assert "silent for 120 s" in str(restoring.mark_of(here))


# ---- `idlewatch exec`


@pytest.fixture
def guarded(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(script: str, **more: str) -> subprocess.Popen[str]:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables(folder, **more)}
        code = "import sys; from idlewatch.host.exec_command import main; sys.exit(main(sys.argv[3:]))"
        command = [sys.executable, "-c", code, "idlewatch", "exec", "--", "sh", "-c", script]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.mark.slow
def test_exec_brings_it_back_before_the_command_and_once(
    folder: Path, guarded: Callable[..., subprocess.Popen[str]]
) -> None:
    made = wiped(folder)
    out, said = guarded("cat disk/home/a; rm disk/home/b; exit 3").communicate(timeout=100)
    assert out == "content of a"
    assert f"idlewatch exec: brought back 2 files (24 bytes) of {made.id}\n" in said
    _, said = guarded("test ! -e disk/home/b").communicate(timeout=100)
    assert "nothing is brought back: this container was given its files already" in said
    assert not (folder / "disk/home/b").exists()


@pytest.mark.slow
def test_a_restore_that_fails_keeps_no_pod_from_starting(
    folder: Path, guarded: Callable[..., subprocess.Popen[str]]
) -> None:
    damaged(folder)
    out, said = guarded("echo runs").communicate(timeout=100)
    assert out == "runs\n"
    assert "idlewatch exec: NOT brought back: " in said
    out, said = guarded("echo runs", IDLEWATCH_IDLE_AFTR="1h").communicate(timeout=100)
    assert out == "runs\n"
    assert "nothing is brought back: the settings are wrong" in said


@pytest.mark.slow
def test_without_auto_nothing_is_waited_for(folder: Path, guarded: Callable[..., subprocess.Popen[str]]) -> None:
    wiped(folder)
    _, said = guarded("test ! -e disk/home/a", IDLEWATCH_RESTORE="ask").communicate(timeout=100)
    assert "brought back" not in said
    assert not (folder / "state/restored.json").exists()


@pytest.mark.slow
def test_a_request_to_end_meanwhile_ends_it_and_the_command_never_begins(folder: Path) -> None:
    child = Path(__file__).parent / "exec_child.py"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BEFORE": f"touch {folder}/waits; exec sleep 600"}
    asked = [sys.executable, str(child), "exec sleep 600", "--", "touch", str(folder / "began")]
    with subprocess.Popen(asked, env=env) as started:
        ends_s = time.monotonic() + DEADLINE_S
        while not (folder / "waits").exists():
            assert time.monotonic() < ends_s
            time.sleep(0.02)
        started.terminate()
        assert started.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert not (folder / "began").exists()


def test_a_snapshot_of_another_start_is_one(folder: Path) -> None:
    made = wiped(folder)
    manifest = made.archive_path.parent / f"{made.id}.json"
    here = here_of(folder)
    assert restoring.newest_of(kept(folder / "volume", "p1"), here) is not None
    manifest.write_bytes(to_manifest(dataclasses.replace(made, boot_key=here.pod.boot_key)))
    assert restoring.newest_of(kept(folder / "volume", "p1"), here) is None


# ---- what the daemon knows and says of it


class Started:
    """Starts no process; the test says how each task ended."""

    def __init__(self) -> None:
        self.tasks: dict[str, Ends] = {}

    def __call__(self, name: str, _request: Json, _now_s: float, _silent_s: float) -> Task:
        self.tasks[name] = Ends(None)
        return self.tasks[name]


def known_of(here: Assembly, *, restores: bool = True) -> tuple[Knowledge, Started]:
    starter = Started()
    background = Background(errands(here, None, restores=restores), starter)
    return Knowledge(here, background, None, lambda: WALL), starter


def test_the_image_is_noted_by_the_restore_and_the_owner_s_hooks_find_their_files(folder: Path) -> None:
    known, starter = known_of(here_of(folder))
    known(0.0)
    assert "restore" in starter.tasks
    assert not {"note_image", "after_start"} & set(starter.tasks)
    starter.tasks["restore"].told = TaskEnd(result={})
    known(1.0)
    known(2.0)
    assert {"note_image", "after_start"} <= set(starter.tasks)
    assert {"note_image", "after_start"} <= set(_begun(here_of(folder)))


def _begun(here: Assembly) -> list[str]:
    """What begins at once where nothing is to be brought back."""
    known, starter = known_of(here, restores=False)
    known(0.0)
    assert "restore" not in starter.tasks
    return list(starter.tasks)


def test_a_failed_restore_is_a_trouble_until_somebody_brings_everything_back(folder: Path) -> None:
    here = here_of(folder)
    known, starter = known_of(here)
    restoring.keep_mark(here, Became.BEGUN, "it did not end")
    assert known(0.0).troubles["restore"] is None
    starter.tasks["restore"].told = TaskEnd(error=TaskError("silent for 120 s"))
    assert known(1.0).troubles["restore"] == "it did not end"
    restoring.failed(here, "the archive is damaged")
    said = known(2.0).troubles["restore"]
    assert said == "NOT brought back: the archive is damaged; `idlewatch restore` brings it back"
    restoring.keep_mark(here, Became.DONE, "brought back 2 files", "s1")
    assert known(3.0).troubles["restore"] is None


def test_a_restore_that_leaves_no_mark_is_a_trouble_too(folder: Path) -> None:
    known, starter = known_of(here_of(folder))
    known(0.0)
    starter.tasks["restore"].told = TaskEnd(error=TaskError("can't start"))
    assert known(1.0).troubles["restore"] == "not brought back: can't start"


def test_status_and_login_say_what_can_be_had_back_and_then_that_it_is_back(folder: Path) -> None:
    here = here_of(folder, IDLEWATCH_RESTORE="ask")
    known, starter = known_of(here, restores=False)
    known(0.0)
    assert known.previous_stop() is None
    told: Json = {"text": "stopped; restore it", "brought_back": "stopped", "offer": "a copy lies there"}
    starter.tasks["look_back"].told = TaskEnd(result=told)
    known(1.0)
    assert known.previous_stop() == "stopped; restore it; a copy lies there"
    restoring.keep_mark(here, Became.DONE, "brought back 2 files", "s1")
    known(2.0)
    assert known.previous_stop() == "stopped; brought back 2 files"


def test_the_verb_that_brings_everything_back_ends_the_offer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = wiped(folder)
    here = here_of(folder, IDLEWATCH_RESTORE="ask")
    for name, value in variables(folder, IDLEWATCH_RESTORE="ask").items():
        monkeypatch.setenv(name, value)
    assert main(["restore", "--dry-run"]) == 0
    assert main(["restore", "--only", str(folder / "disk/home/a")]) == 0
    assert restoring.mark_of(here) is None
    assert main(["restore"]) == 0
    mark = restoring.mark_of(here)
    assert mark is not None
    assert (mark.became, mark.snapshot) == (Became.DONE, made.id)
    assert "Brought back" in capsys.readouterr().out
