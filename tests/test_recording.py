"""What outlives the Pod: one file a boot on the volume."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from idlewatch.history import recording
from idlewatch.history.store import History, reading_from_json
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Reading

WALL = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
HEAD: dict[str, Json] = {"pod_id": "p1", "boot_key": "p1@1", "started_s": 0.0, "settings": {}}


def seen(state_dir: Path) -> Reading:
    reading = Reading(signal="gpu", at_s=5.0, covers_s=5.0, facts={"util_max_pct": 87})
    history = History(state_dir)
    history.saw([reading], WALL)
    history.judged([Span("gpu", 0.0, 5.0, "active", reason="gpu0 87 %")])
    history.happened("warn", "quiet", at_s=4.0, wall=WALL, facts={})
    history.close()
    return reading


def lines(path: Path) -> list[dict[str, Json]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def test_a_recording_has_a_head_and_all_that_was_seen(tmp_path: Path) -> None:
    reading = seen(tmp_path)
    kept = recording.keep_on_volume(tmp_path / "pod", tmp_path, recording.name_of(WALL, "p1@1"), HEAD)
    head, *others = lines(kept)
    assert head == {"recording": 1, **HEAD}
    assert [next(iter(line)) for line in others] == ["reading", "verdict", "event"]
    said = others[0]["reading"]
    assert isinstance(said, dict)
    assert reading_from_json(said) == reading
    assert others[1]["verdict"] == {
        "name": "gpu",
        "from_s": 0.0,
        "to_s": 5.0,
        "verdict": "active",
        "bars": False,
        "pauses": False,
        "refines": False,
        "reason": "gpu0 87 %",
    }


def test_one_boot_has_one_file_however_its_start_is_reckoned_and_the_oldest_of_many_go(tmp_path: Path) -> None:
    seen(tmp_path)
    pod = tmp_path / "pod"
    first = recording.keep_on_volume(pod, tmp_path, recording.name_of(WALL, "p1@1"), HEAD)
    again = recording.keep_on_volume(pod, tmp_path, recording.name_of(WALL + timedelta(seconds=1), "p1@1"), HEAD)
    assert first == again
    assert first.name.startswith("20261120T170000Z-")
    for day in range(1, 60):
        recording.keep_on_volume(pod, tmp_path, recording.name_of(WALL + timedelta(days=day), f"p1@{day * 100}"), HEAD)
    kept = sorted(path.name for path in (pod / "history").iterdir())
    assert len(kept) == 50
    assert first.name not in kept
    assert kept[-1].startswith("20270118")


def test_a_recording_grows_by_what_is_new_and_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    seen(tmp_path)
    pod, name = tmp_path / "pod", recording.name_of(WALL, "p1@1")
    path = recording.keep_on_volume(pod, tmp_path, name, HEAD)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\x1f\x8b torn")
    history = History(tmp_path)
    history.saw([Reading(signal="gpu", at_s=10.0)], WALL)
    history.judged([Span("gpu", 0.0, 10.0, "active", reason="gpu0 90 %")])
    history.close()
    recording.keep_on_volume(pod, tmp_path, name, HEAD)
    told = lines(path)
    assert [str(line["reading"]).count("'at_s': 10.0") for line in told if "reading" in line] == [0, 1]
    assert [line["verdict"]["to_s"] for line in told if "verdict" in line] == [5.0, 10.0]  # type: ignore[call-overload, index]
    assert sum("event" in line for line in told) == 1
    assert sum("recording" in line for line in told) == 1
    assert path.stat().st_size > size


def test_a_file_that_is_shorter_than_it_was_is_written_anew(tmp_path: Path) -> None:
    seen(tmp_path)
    pod, name = tmp_path / "pod", recording.name_of(WALL, "p1@1")
    path = recording.keep_on_volume(pod, tmp_path, name, HEAD)
    whole = lines(path)
    path.write_bytes(path.read_bytes()[:20])
    recording.keep_on_volume(pod, tmp_path, name, HEAD)
    assert lines(path) == whole
