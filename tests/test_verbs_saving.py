"""`loss`, `save`, `snapshots`, `restore`: what is left as it was is told, and every refusal has a remedy."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from idlewatch.cli import main
from idlewatch.doctor.looking import Seen
from idlewatch.history.timeline import taken
from idlewatch.model import Json
from idlewatch.snapshot import RestoreReport, measure_loss, snapshots
from idlewatch.snapshot.mounts import Mount
from idlewatch.verbs import losing, saving
from idlewatch.verbs.faults import remedy
from idlewatch.verbs.restored import missing, restored_lines

POD = "no-pod"
Said = pytest.CaptureFixture[str]
HOUR_NS = 3600 * 10**9


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("disk", "volume", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(tmp_path / "disk"))
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(tmp_path / "volume"))
    monkeypatch.delenv("RUNPOD_POD_ID", raising=False)
    (tmp_path / "disk/root").mkdir()
    return tmp_path / "disk"


def write(path: Path, text: str, *, hours_later: int = 0) -> None:
    path.write_text(text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + hours_later * HOUR_NS))


def test_files_that_are_newer_are_named_and_how_to_have_them(disk: Path, capsys: Said) -> None:
    for number in range(12):
        write(disk / f"root/{number:02}.txt", "old")
    assert main(["save"]) == 0
    for number in range(12):
        write(disk / f"root/{number:02}.txt", "newer", hours_later=1)
    capsys.readouterr()
    assert main(["restore"]) == 0, "what is newer is later work, and there"
    said = capsys.readouterr().out
    assert "12 left as they are" in said
    assert "--overwrite" in said
    assert "root/09.txt" in said
    assert "root/10.txt" not in said
    assert "and 2 more" in said
    assert main(["restore", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["kept_newer"]) == 12
    assert main(["restore", "--overwrite"]) == 0
    assert "left as they are" not in capsys.readouterr().out
    assert (disk / "root/11.txt").read_text() == "old"


def test_saves_and_restores_are_left_for_the_timeline_of_the_daemon_but_dry_runs(disk: Path) -> None:
    write(disk / "root/a", "work")
    assert main(["save"]) == 0
    assert main(["restore", "--dry-run"]) == 0
    assert main(["restore"]) == 0
    left = [event for event in taken(disk.parent / "state") if isinstance(event, dict)]
    assert [event["kind"] for event in left] == ["saved by hand", "restored"]
    assert str(left[0]["text"]).startswith("Saved as ")
    assert "Brought back" in str(left[1]["text"])


def test_what_stands_in_the_way_makes_it_a_failure(disk: Path, capsys: Said) -> None:
    write(disk / "root/a", "work")
    assert main(["save"]) == 0
    (disk / "root/a").unlink()
    (disk / "root/a/b").mkdir(parents=True)
    assert main(["restore"]) == 1
    said = capsys.readouterr()
    assert "1 NOT brought back" in said.out
    assert "root/a: a folder stands there" in said.out
    assert (
        said.err
        == "idlewatch: not all is back: something stands in the way of 1 path; move it away and run this again\n"
    )
    assert main(["restore", "--json", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["whole"] is False
    assert "not all would come back: something stands in the way of 1 path" in said.err


def test_what_the_image_has_changed_too_waits_for_a_person() -> None:
    report = RestoreReport(snapshot="s1", target="/", dry_run=False, kept_newer=["a"], conflicts={"b": "", "c": ""})
    assert not report.whole
    assert missing(report) == (
        "not all is back: the image has changed 2 paths, too; `--only PATH --overwrite` takes the saved one"
    )
    report.in_the_way["d"] = "a folder stands there"
    assert missing(report) == (
        "not all is back: something stands in the way of 1 path and the image has changed 2 paths, too; "
        "move it away and run this again; `--only PATH --overwrite` takes the saved one"
    )


def test_a_save_told_to_a_program_names_the_copy_or_none(disk: Path, capsys: Said) -> None:
    volume = disk.parent / "volume"
    (disk / "root").rmdir()
    assert main(["save", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": 1, "saved": False, "place": str(volume), "snapshot": None}
    write(disk / "a", "work")
    assert main(["save", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["snapshots", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["snapshots"]
    assert (made["saved"], made["place"], made["snapshot"]) == (True, str(volume), listed)


def test_all_that_a_restore_did_not_do_is_told_without_steering_the_terminal() -> None:
    report = RestoreReport(
        snapshot="s1",
        target="/",
        dry_run=True,
        merged=["root/.ssh/authorized_keys"],
        skipped={"dev/x\x1b[2J": "only root can make a device"},
        attributes={os.fsdecode(b"a\xff"): "security.x"},
        conflicts={"etc/x": "the image has another"},
        deleted=["usr/share/doc"],
        notes=["a note"],
    )
    lines = restored_lines(report)
    assert lines[0].startswith("Would bring back 0 files")
    assert "  /dev/x\\x1b[2J: only root can make a device" in lines
    assert "  /root/.ssh/authorized_keys" in lines
    assert "  /a\\xff: security.x" in lines
    assert "  /etc/x: the image has another" in lines
    assert "  /usr/share/doc" in lines
    assert lines[-1] == "a note"


def test_a_whole_restore_is_one_line() -> None:
    assert len(restored_lines(RestoreReport(snapshot="s1", target="/", dry_run=False, files=3))) == 1


def test_an_id_that_names_no_snapshot_or_several_is_told_the_way_out(disk: Path, capsys: Said) -> None:
    assert main(["restore"]) == 1
    assert "`idlewatch save` makes one" in capsys.readouterr().err
    for text in ("one", "two"):
        write(disk / "root/a", text)
        assert main(["save"]) == 0
    first, second = snapshots(disk.parent / "volume", POD)
    assert second.id.startswith(first.id[:2]), "ids begin with the century"
    assert main(["restore", first.id[:2]]) == 1
    said = capsys.readouterr().err
    assert first.id in said
    assert second.id in said
    assert "write more" in said
    assert main(["restore", "xyz"]) == 1
    assert "`idlewatch snapshots` lists them" in capsys.readouterr().err
    assert main(["restore", second.id]) == 0


def test_a_target_that_is_no_folder_is_refused_with_the_remedy(disk: Path, capsys: Said) -> None:
    write(disk / "root/a", "work")
    assert main(["save"]) == 0
    missing, file = disk.parent / "back", disk / "root/a"
    assert main(["restore", "--into", str(missing)]) == 3
    assert f"mkdir -p {missing}" in capsys.readouterr().err
    assert not missing.exists()
    assert main(["restore", "--into", str(file)]) == 3
    assert "it is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["snapshots"], ["snapshots", "--json"], ["restore"], ["save"]])
def test_a_volume_that_is_not_there_is_refused(
    disk: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(disk.parent / "unmounted"))
    assert main(verb) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{disk.parent}/unmounted is not there; mount it" in said.err


def test_no_snapshots_on_a_volume_that_is_there_are_none(disk: Path, capsys: Said) -> None:
    assert main(["snapshots"]) == 0
    assert f"no snapshot of {POD}" in capsys.readouterr().out


def test_a_part_of_a_snapshot_can_be_brought_back_alone(disk: Path, capsys: Said) -> None:
    for name in ("a", "b"):
        write(disk / f"root/{name}", name)
    assert main(["save"]) == 0
    for name in ("a", "b"):
        (disk / f"root/{name}").unlink()
    assert main(["restore", "--only", str(disk / "root/a")]) == 0
    assert ((disk / "root/a").exists(), (disk / "root/b").exists()) == (True, False)
    capsys.readouterr()
    assert main(["restore", "--only", "/elsewhere"]) == 3
    assert "--only /elsewhere does not lie below" in capsys.readouterr().err


def test_what_would_be_lost_is_told_by_what_it_is(disk: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    info = disk / "usr/lib/python3/dist-packages/einops-0.8.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: einops\nVersion: 0.8.0\n")
    (info / "RECORD").write_text("einops/__init__.py,,\n")
    write(disk / "big.ckpt", "x" * 5000)
    assert main(["loss"]) == 0
    said = capsys.readouterr().out
    assert "pip: einops 0.8.0" in said
    assert "5.1 KB" in said
    monkeypatch.setenv("IDLEWATCH_EXCLUDE", "*.ckpt")
    assert main(["loss"]) == 0
    assert "left out on purpose: 5.0 KB of /*.ckpt" in capsys.readouterr().out


def test_a_volume_that_leads_onto_the_wiped_disk_gets_no_save(
    disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    """The save task refuses it as well: what lies there would go with the stop."""
    write(disk / "root/a", "work")
    volume = disk.parent / "volume"
    mounted = (_mount("/", "overlay"), _mount(str(volume), "fuse"))
    monkeypatch.setattr(saving, "read_mounts", lambda: mounted)  # the kernel's table, which only root could change
    (volume / "link").symlink_to(disk)
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(volume / "link"))
    assert main(["save"]) == 3
    assert f"leads to {disk}, which a stop wipes" in capsys.readouterr().err
    assert not (disk / ".idlewatch").exists()


def _mount(point: str, fs_type: str) -> Mount:
    return Mount(point=point, fs_type=fs_type, options=frozenset())


def test_loss_does_not_promise_a_save_to_a_volume_that_is_not_there(
    disk: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(disk / "root/work.txt", "three days")
    assert main(["loss"]) == 0
    assert "saved to" in capsys.readouterr().out
    monkeypatch.setenv("IDLEWATCH_VOLUME", "/nope")
    assert main(["loss"]) == 0
    assert "it can't be saved: /nope is not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "changes", "told"),
    [
        ({"free_bytes": 100}, {}, "saved to /v first"),
        ({"free_bytes": 10}, {}, "a save of it hardly fits: /v has only 10 bytes free"),
        (
            {"free_bytes": 10, "snapshots": 2},
            {},
            "saved to /v first, as far as what changed since the last save fits into 10 bytes",
        ),
        ({"free_bytes": 100}, {"errors": (("a", "gone"),)}, "it can't be saved: 1 can't be read, as named below"),
        ({"free_bytes": 100, "read_only": True}, {}, "it can't be saved: /v is mounted read-only"),
        ({"there": False}, {}, "it can't be saved: /v is not there"),
        ({"objects": "s3://b", "free_bytes": None}, {}, "saved to /v first"),
    ],
)
def test_loss_promises_no_save_that_would_fail(
    disk: Path, said: dict[str, Json], changes: dict[str, Any], told: str
) -> None:
    found = replace(measure_loss(disk), total_bytes=100, **changes)
    assert losing.saved_first(found, Seen(said=said), "/v") == told


def test_loss_promises_no_save_above_the_limit_or_to_a_volume_that_hangs(disk: Path) -> None:
    found = replace(measure_loss(disk), total_bytes=100)
    limited = losing.saved_first(found, Seen(said={"free_bytes": 100}), "/v", limit=50)
    assert limited == "it can't be saved: that is more than IDLEWATCH_SAVE_MAX_BYTES=50 bytes"
    hung = Seen(said={"at": "looking at /v"}, missing="no answer", hung=True)
    assert losing.saved_first(found, hung, "/v") == "it can't be saved: /v does not answer"


def test_a_daemon_refuses_a_named_save_root_that_is_not_there(
    disk: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = disk.parent / "gone"
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(gone))
    watched: list[object] = []
    monkeypatch.setattr("idlewatch.watching.run.watch", watched.append)
    assert main(["run"]) == 2
    assert f"IDLEWATCH_SAVE_ROOT={gone} is not there" in capsys.readouterr().err
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(disk))
    assert main(["run"]) == 0
    assert len(watched) == 1


def test_paths_are_printed_as_only_takes_them(disk: Path, capsys: Said) -> None:
    write(disk / "root/a.txt", "old")
    assert main(["save"]) == 0
    write(disk / "root/a.txt", "newer", hours_later=1)
    capsys.readouterr()
    assert main(["restore"]) == 0
    said = capsys.readouterr().out
    (path,) = [line.strip() for line in said.splitlines() if line.endswith("root/a.txt")]
    assert main(["restore", "--only", path, "--overwrite"]) == 0
    assert "Brought back 1 file and" in capsys.readouterr().out
    assert main(["restore", "--only", str(disk / "root/nosuch")]) == 1
    assert f"nothing lies at {disk / 'root/nosuch'} in" in capsys.readouterr().err


def test_no_folder_is_advised_where_none_can_be_made(disk: Path, capsys: Said) -> None:
    write(disk / "root/a", "work")
    assert main(["save"]) == 0
    for into in ("/proc/foo", str(disk / "no/such")):
        assert main(["restore", "--into", into]) != 0
        assert "mkdir" not in capsys.readouterr().err
    assert main(["restore", "--into", str(disk / "new")]) != 0
    assert "mkdir -p" in capsys.readouterr().err


def test_a_volume_that_can_only_be_read_has_a_remedy(tmp_path: Path) -> None:
    told = remedy(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert told == f"{tmp_path} can only be read: mount it for writing, or name another place"
