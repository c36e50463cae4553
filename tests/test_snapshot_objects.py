"""Snapshots in object storage, from the settings to the files that are back, against a small S3 on loopback."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch import assembly
from idlewatch.children.tasks import TaskEnd, task_starter
from idlewatch.cli import main
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.doctor.judge_saved import saved_lines
from idlewatch.doctor.looking import Seen
from idlewatch.errors import Refused, SettingsError, SnapshotError
from idlewatch.history.store import events_of
from idlewatch.host import restoring
from idlewatch.model import Json
from idlewatch.pod.assembled import assembled
from idlewatch.pod.saving import save_plan, with_key
from idlewatch.settings import Loaded, Source, environment_with, known_secrets, load, pod_sources, settings_record
from idlewatch.snapshot import (
    Key,
    Objects,
    SaveRequest,
    Snapshot,
    find,
    is_busy,
    new_key,
    note_image,
    restore,
    save,
    snapshots,
    verify,
)
from idlewatch.watching.errands import LOOK_BACK, errands
from idlewatch.watching.knowledge import _without_save
from tests.loopback_s3 import BUCKET, KEY_ID, SECRET, LoopbackS3, loopback_s3
from tests.snapshot_trees import POD, birth, hostile_tree, state, write
from tests.test_doctor_judging import pod as doctored
from tests.waiting import comes
from tests.whole_path import POD_ID, simulated

MIB = 1 << 20
SNAPSHOT_KEY = new_key()
KEY = Key(SNAPSHOT_KEY)
URL = f"s3://{BUCKET}/pods"


@pytest.fixture
def s3() -> Iterator[LoopbackS3]:
    with loopback_s3() as made:
        yield made


class Place:
    """A disk whose saves go to the bucket."""

    def __init__(self, folder: Path, s3: LoopbackS3) -> None:
        self.folder, self.s3, self.root = folder, s3, folder / "root"
        self.objects = Objects(url=URL, options=s3.variables(), lock=folder / "state/save.lock", retries=1)

    def save(self, **changes: object) -> Snapshot:
        values = {"objects": self.objects, "pod_id": POD, "boot_key": "b", "root": self.root, "key": KEY, **changes}
        made = save(SaveRequest(**values))  # type: ignore[arg-type]  # the changes are a test's own
        assert made is not None
        return made

    def names(self) -> set[str]:
        return {name.removeprefix(f"pods/{POD}/") for name in self.s3.objects}

    def snapshots(self) -> list[Snapshot]:
        return snapshots(self.objects, POD)


@pytest.fixture
def place(tmp_path: Path, s3: LoopbackS3) -> Place:
    return Place(tmp_path, s3)


@pytest.mark.slow
def test_a_hostile_tree_comes_back_from_a_bucket_that_knows_nothing_of_it(place: Place) -> None:
    hostile_tree(place.root)
    write(place.root / "telltale-name", b"telltale content" + random.Random(1).randbytes(20 * MIB))
    made = place.save()
    assert made.folder == f"{URL}/{POD}"
    assert [one.id for one in place.snapshots()] == [made.id]
    assert {f"{made.archive}.00000", f"{made.archive}.00001.last", f"{made.id}.json"} <= place.names()
    assert not [name for name, content in place.s3.objects.items() if b"telltale" in content]
    verify(found := find(place.objects, POD, made.id[:10]), key=KEY)
    back = place.folder / "back"
    back.mkdir()
    restore(found, back, key=KEY)
    assert state(back) == state(place.root)
    with pytest.raises(SnapshotError, match="encrypted"):
        restore(found, back)


@pytest.mark.slow
def test_what_changed_is_uploaded_alone_and_old_ones_go_with_all_their_pieces(place: Place) -> None:
    write(place.root / "big", random.Random(2).randbytes(20 * MIB))
    first = place.save()
    write(place.root / "small", "new")
    second = place.save()
    assert (second.base, second.archive_bytes < MIB) == (first.id, True)
    back = place.folder / "back"
    back.mkdir()
    restore(place.snapshots()[0], back, key=KEY)
    assert state(back) == state(place.root)
    third = place.save(incremental=False, keep=1)
    assert [one.id for one in place.snapshots()] == [third.id]
    assert {name.split(".")[0] for name in place.names()} == {third.id}


def test_what_they_weigh_together_is_limited(place: Place) -> None:
    write(place.root / "a", random.Random(3).randbytes(MIB))
    for _ in range(3):
        newest = place.save(incremental=False, keep=9)
    place.save(incremental=False, keep=9, keep_bytes=int(2.5 * newest.archive_bytes))
    assert len(place.snapshots()) == 2


def test_deletions_and_the_names_of_the_image_lie_there_too(place: Place) -> None:
    state_dir = place.folder / "state"
    state_dir.mkdir()
    write(place.root / "image", "of the image", 1_600_000_000_000_000_000)
    since_ns = birth(place.root)
    note_image(state_dir, place.root, since_ns=since_ns, now_ns=since_ns, mounts=())
    (place.root / "image").unlink()
    write(place.root / "own", "own")
    made = place.save(state_dir=state_dir, since_ns=since_ns)
    assert f"image-{made.image}.names.age" in place.names()
    write(place.root / "image", "of the image", 1_600_000_000_000_000_000)
    (place.root / "own").unlink()
    restore(find(place.objects, POD), place.root, key=KEY, since_ns=birth(place.root), state_dir=state_dir)
    assert [path.name for path in place.root.iterdir()] == ["own"]


# ---- what goes wrong


Spoils = Callable[[LoopbackS3], Callable[[str, str], tuple[int, str] | None]]


def refuse(method: str, end: str) -> Spoils:
    return lambda _: lambda verb, key: (403, "AccessDenied") if verb == method and key.endswith(end) else None


def spoil_piece(s3: LoopbackS3) -> Callable[[str, str], None]:
    def spoil(method: str, key: str) -> None:
        if method == "GET" and ".tar.zst" in key:
            s3.objects[key] = bytes(len(s3.objects[key]))

    return spoil


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoils", "said"),
    [
        (refuse("PUT", ".00001.last"), "the key may not do that"),
        (refuse("PUT", ".json"), "the key may not do that"),
        (refuse("GET", ".00001.last"), "the key may not do that"),
        (spoil_piece, "damaged"),
    ],
)
def test_a_save_that_fails_leaves_what_was_there_and_nothing_else(place: Place, spoils: Spoils, said: str) -> None:
    write(place.root / "big", random.Random(4).randbytes(20 * MIB))
    before = place.save()
    objects = dict(place.s3.objects)
    place.s3.instead = spoils(place.s3)
    with pytest.raises(SnapshotError, match=said) as caught:
        place.save(incremental=False)
    assert SECRET not in str(caught.value)
    place.s3.instead = lambda method, key: None
    assert place.s3.objects == objects
    verify(find(place.objects, POD, before.id), key=KEY)


CHILD = """
import sys
from pathlib import Path
from idlewatch.snapshot import Key, Objects, SaveRequest, save
options = {"AWS_ACCESS_KEY_ID": sys.argv[2], "AWS_SECRET_ACCESS_KEY": sys.argv[3], "AWS_ENDPOINT_URL": sys.argv[4]}
objects = Objects(url=sys.argv[1], options=options, lock=Path(sys.argv[5]) / "state/save.lock")
root = Path(sys.argv[5]) / "root"
save(SaveRequest(objects=objects, pod_id="pod1", boot_key="b", root=root, key=Key(sys.argv[6]), incremental=False))
"""


@pytest.mark.slow
def test_a_save_that_ends_suddenly_is_not_listed_and_swept_by_the_next(place: Place) -> None:
    write(place.root / "big", random.Random(5).randbytes(40 * MIB))
    first = place.save()
    place.s3.instead = lambda method, key: (0, "") if method == "PUT" and key.endswith(".last") else None
    argv = [URL, KEY_ID, SECRET, place.s3.address, str(place.folder), SNAPSHOT_KEY]
    with subprocess.Popen([sys.executable, "-c", CHILD, *argv]) as child:
        assert comes(
            lambda: any(m == "PUT" and first.id not in k and k.endswith(".last") for m, k in place.s3.asked), 60
        )
        assert is_busy(place.objects, POD)
        child.send_signal(signal.SIGKILL)
    place.s3.instead = lambda method, key: None
    assert not is_busy(place.objects, POD)
    assert [one.id for one in place.snapshots()] == [first.id]
    left = {name.split(".")[0] for name in place.names()} - {first.id}
    assert len(left) == 1
    second = place.save(keep=9)
    assert {name.split(".")[0] for name in place.names()} == {first.id, second.id}


def test_a_bucket_that_can_t_be_read_is_not_an_empty_one(place: Place) -> None:
    write(place.root / "a")
    made = place.save()
    place.s3.instead = refuse("GET", f"{made.id}.json")(place.s3)
    with pytest.raises(SnapshotError, match="the key may not do that"):
        place.snapshots()


# ---- the settings


def told(s3: LoopbackS3 | None = None, **variables: str) -> Loaded:
    """The settings; a variable that is given as empty is not set."""
    usual = {"IDLEWATCH_SAVE_TO": URL, "IDLEWATCH_SNAPSHOT_KEY": SNAPSHOT_KEY, "RUNPOD_POD_ID": "p1"}
    made = {**usual, **(s3.variables() if s3 else {}), **variables}
    return load([Source(name="environment", variables={name: value for name, value in made.items() if value})])


@pytest.mark.parametrize("url", ["s3://b", "s3://b/p/q/", "gs://b/p", "az://c/p", "volume"])
def test_where_snapshots_may_go(url: str) -> None:
    assert told(IDLEWATCH_SAVE_TO=url).settings.save_to == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["/volume", "ftp://b/p", "s3://", "s3:///p", "s3://key:secret@b/p", "s3://b/p?x=1", "s3://b/../q", "s3://b/a b"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="IDLEWATCH_SAVE_TO") as refused:
        told(IDLEWATCH_SAVE_TO=url)
    assert "secret@" not in str(refused.value)


def test_object_storage_wants_a_key_unless_plain_text_is_accepted() -> None:
    for encrypt in ("auto", "true"):
        with pytest.raises(SettingsError, match="needs IDLEWATCH_SNAPSHOT_KEY"):
            told(IDLEWATCH_SNAPSHOT_KEY="", IDLEWATCH_ENCRYPT=encrypt)
    assert told(IDLEWATCH_SNAPSHOT_KEY="", IDLEWATCH_ENCRYPT="false").settings.key() is None
    assert told(IDLEWATCH_SNAPSHOT_KEY="", IDLEWATCH_SAVE_TO="volume").settings.key() is None
    with pytest.raises(SettingsError, match="write true, false or auto"):
        told(IDLEWATCH_ENCRYPT="maybe")


def test_without_keys_or_library_the_daemon_does_not_start(s3: LoopbackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    here = assembled(told())
    with pytest.raises(SettingsError, match=r"IDLEWATCH_SAVE_TO: .* AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        assembly.actions(here)
    here = assembled(told(s3))
    assembly.actions(here)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"IDLEWATCH_SAVE_TO: .*\[objects\]"):
        assembly.actions(here)


def test_a_pod_without_a_volume_can_be_saved_then(s3: LoopbackS3) -> None:
    here = assembled(told(s3, IDLEWATCH_SAVE_ROOT="/"))
    assert here.volume is None
    plan = save_plan(here)
    assert plan.impossible is None
    assert URL in assembly.started_text(here)
    assert _without_save(here, plan.impossible) is None
    assert LOOK_BACK in [one.name for one in errands(here, None)]
    bare = assembled(told(s3, IDLEWATCH_SAVE_ROOT="/", IDLEWATCH_SAVE_TO="volume"))
    assert "kept up" in str(_without_save(bare, save_plan(bare).impossible))


def test_the_request_of_the_daemon_holds_no_secret_and_its_child_adds_them(s3: LoopbackS3) -> None:
    here = assembled(told(s3, IDLEWATCH_SAVE_ROOT="/disk"))
    raw = save_plan(here).request
    assert isinstance(raw, dict)
    assert not any(secret in json.dumps(raw) for secret in (SECRET, KEY_ID, SNAPSHOT_KEY))
    request = SaveRequest.from_json(raw)
    assert (str(request.place), request.objects and request.objects.options) == (URL, {})
    ready = with_key(here, request)
    assert ready.objects is not None
    assert ready.objects.options["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert SECRET not in repr(ready)
    with pytest.raises(Refused, match="is not where IDLEWATCH_SAVE_TO leads"):
        with_key(here, replace(request, objects=Objects(url="s3://another")))
    with pytest.raises(Refused, match="AWS_SECRET_ACCESS_KEY"):
        with_key(assembled(told(IDLEWATCH_SAVE_ROOT="/disk")), request)


def test_secrets_of_object_storage_may_lie_in_files_and_are_masked(tmp_path: Path, s3: LoopbackS3) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    loaded = told(AWS_ACCESS_KEY_ID=KEY_ID, AWS_SECRET_ACCESS_KEY_FILE=str(path))
    here = assembled(loaded)
    assert here.objects is not None
    assert here.objects.missing() is None
    assert SECRET in known_secrets(loaded.sources)
    assert SECRET not in json.dumps(settings_record(told(s3)))
    elsewhere = told(IDLEWATCH_SAVE_TO="volume", AWS_SECRET_ACCESS_KEY_FILE="/not/there")
    assert "AWS_SECRET_ACCESS_KEY" not in elsewhere.sources[0].variables


# ---- the verbs, the doctor, a start, a stop


def by_hand(folder: Path, s3: LoopbackS3, monkeypatch: pytest.MonkeyPatch) -> Path:
    disk = folder / "disk"
    write(disk / "work.txt", "three days of work")
    usual = {"SAVE_TO": URL, "SNAPSHOT_KEY": SNAPSHOT_KEY, "SAVE_ROOT": str(disk), "STATE_DIR": str(folder / "state")}
    for name, value in {**{f"IDLEWATCH_{key}": value for key, value in usual.items()}, **s3.variables()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNPOD_POD_ID", "p1")
    return disk


def test_the_same_verbs_save_list_and_bring_back(
    tmp_path: Path, s3: LoopbackS3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = by_hand(tmp_path, s3, monkeypatch)
    assert main(["loss"]) == 0
    assert f"saved to {URL} first" in capsys.readouterr().out
    assert main(["save"]) == 0
    made = capsys.readouterr().out.split()[2].strip(":")
    assert main(["snapshots"]) == 0
    assert made in capsys.readouterr().out
    (disk / "work.txt").unlink()
    assert main(["restore"]) == 0
    assert (disk / "work.txt").read_text() == "three days of work"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    assert main(["save"]) == 1
    said = capsys.readouterr().err
    assert "the secret of the key is wrong" in said
    assert "another-secret" not in said
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["snapshots"]) == 3
    assert "AWS_SECRET_ACCESS_KEY" in capsys.readouterr().err


def test_the_doctor_says_whether_it_answers() -> None:
    said: dict[str, Json] = {"objects": URL, "snapshots": 2, "newest": "x", "newest_at": "2026-01-01T00:00:00"}
    loss = Seen(said={"bytes": 5e9, "files": 7})

    def lines(volume: Seen, measured: Seen = loss) -> dict[str, str]:
        found = saved_lines(doctored(), volume, measured, Seen())
        return {one.name: f"{one.standing.value}: {one.text}" for one in found}

    told_ = lines(Seen(said=said))
    assert URL in told_["objects"]
    assert "5.0 GB in 7 files" in told_["upload"]
    assert "2 saved" in told_["snapshots"]
    assert "volume" not in told_
    refused = lines(Seen(said={**said, "snapshots_error": "the key may not do that"}))
    assert "the key may not do that" in refused["objects"]
    assert "kept up" in refused["objects"]
    hangs = lines(Seen(said=said, missing="it did not answer within 20 s", hung=True))
    assert "did not answer" in hangs["objects"]
    unreadable = lines(Seen(said=said), Seen(said={**loss.said, "unreadable": 1, "errors": ["/x: no right"]}))
    assert "/x: no right" in unreadable["upload"]


def test_the_next_container_is_offered_it_and_given_it(tmp_path: Path, place: Place) -> None:
    write(place.root / "work.txt", "three days of work")
    made = place.save(pod_id="p1", boot_key="an earlier start")
    (place.root / "work.txt").unlink()
    told_ = told(
        place.s3,
        IDLEWATCH_SAVE_ROOT=str(place.root),
        IDLEWATCH_STATE_DIR=str(tmp_path / "state"),
        IDLEWATCH_RESTORE="auto",
    )
    here = assembled(told_)
    assert f"lies in {URL}" in str(restoring.offer(here))
    mark = restoring.bring_back(here, lambda _: None)
    assert mark.snapshot == made.id
    assert (place.root / "work.txt").read_text() == "three days of work"


def test_a_new_pod_is_told_of_others_in_the_same_bucket_and_given_one_only_by_name(
    tmp_path: Path, s3: LoopbackS3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = by_hand(tmp_path, s3, monkeypatch)
    assert main(["save"]) == 0
    (disk / "work.txt").unlink()
    monkeypatch.setenv("RUNPOD_POD_ID", "p2")
    capsys.readouterr()
    assert main(["snapshots"]) == 0
    assert "1 of Pod p1" in capsys.readouterr().out
    assert main(["restore"]) == 1
    assert "idlewatch restore --pod p1" in capsys.readouterr().err
    assert f"lie in {URL}: of p1" in str(restoring.offer(assembled(load(pod_sources()))))
    assert main(["restore", "--pod", "p1"]) == 0
    assert (disk / "work.txt").read_text() == "three days of work"


@pytest.mark.slow
def test_a_service_that_hangs_hangs_only_the_child(tmp_path: Path, s3: LoopbackS3) -> None:
    write(tmp_path / "disk/work.txt", "three days of work")
    s3.instead = lambda method, key: (0, "")
    usual = {"SAVE_TO": URL, "SNAPSHOT_KEY": SNAPSHOT_KEY, "SAVE_ROOT": str(tmp_path / "disk")}
    variables = {f"IDLEWATCH_{name}": value for name, value in usual.items()}
    variables |= {"IDLEWATCH_STATE_DIR": str(tmp_path / "state"), "RUNPOD_POD_ID": "p1"}
    environment = environment_with(variables | s3.variables() | {"PYTHONPATH": str(Path(__file__).parent.parent)})
    task = task_starter(environment)("save_again", None, 0.0, 1.0)
    ends: list[TaskEnd] = []
    clock = itertools.count()

    def polled(now_s: float) -> bool:
        end = task.poll(now_s)
        ends.extend([end] if end else [])
        return bool(ends)

    try:
        assert comes(lambda: bool(s3.asked) or polled(0.0), 60.0)
        assert not ends
        assert comes(lambda: polled(0.2 * next(clock)), 60.0)
    finally:
        task.end()
    assert "silent for 1 s" in str(ends[0].error)


@pytest.mark.slow
def test_an_idle_pod_without_a_volume_is_saved_to_object_storage_and_stopped(tmp_path: Path, s3: LoopbackS3) -> None:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as pod:
        pod.settings = {
            "IDLEWATCH_VOLUME": "auto",
            "IDLEWATCH_SAVE_TO": URL,
            "IDLEWATCH_SNAPSHOT_KEY": SNAPSHOT_KEY,
            **s3.variables(),
        }
        pod.start()
        pod.until(pod.stopped)
        assert pod.kinds()[:4] == ["warn", "save", "save done", "stop"]
        assert not [event for event in events_of(pod.state_dir) if SECRET in json.dumps(event)]
        found = find(Objects(url=URL, options=s3.variables()), POD_ID)
        verify(found, key=KEY)
        back = tmp_path / "back"
        back.mkdir()
        restore(found, back, key=KEY)
        assert (back / "root/work.txt").read_text() == "three days of work"
        assert not any((pod.volume).iterdir())


@pytest.mark.slow
def test_a_bucket_that_refuses_keeps_the_pod_up_and_alarmed(tmp_path: Path, s3: LoopbackS3) -> None:
    s3.instead = lambda method, key: (403, "AccessDenied") if method == "PUT" else None
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as pod:
        pod.settings = {"IDLEWATCH_SAVE_TO": URL, "IDLEWATCH_SNAPSHOT_KEY": SNAPSHOT_KEY, **s3.variables()}
        pod.start()
        pod.until(lambda: "save failed" in pod.kinds())
        assert not pod.stopped()
        assert "the key may not do that" in str(pod.status()["troubles"])
