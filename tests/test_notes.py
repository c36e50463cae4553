"""The note of a stop: the page that people find, where it lies, and what the next start makes of it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idlewatch.children.tasks import Task
from idlewatch.history.store import STATUS_FILE, History
from idlewatch.model import Json, Reading
from idlewatch.notify import COLUMNS
from idlewatch.pod.storage import while_stopped
from idlewatch.settings import environment_with
from idlewatch.stopping.note_page import page
from idlewatch.stopping.notes import LAST_STOP, previous_stop, stop_note, write_note
from tests.waiting import comes

ROOT = Path(__file__).parent.parent
NOTE: dict[str, Json] = {
    "at": "2026-11-24T17:03:01.5+00:00",
    "pod_id": "p1",
    "boot_key": "p1@1",
    "reason": "nothing used this Pod for 30m",
    "idle_for_s": 2100.0,
    "evidence": {"gpu": "quiet: gpu0 0 %", "people": "quiet: nobody is connected"},
    "snapshot": "20261124-170230",
    "done": ["before-save/10-push: done"],
    "notebooks": ["a.ipynb"],
    "gpus": 1,
    "spent_usd": 12.345,
    "usd_per_hour": 2.5,
    "storage": "its volume disk's $0.20 per GB a month",
    "folder": "/workspace/.idlewatch/p1",
    "page": "/workspace/.idlewatch/p1/last-stop.txt",
    "answer": "accepted",
    "answer_text": "accepted by REST v2 with RUNPOD_API_KEY",
}
REFUSED: dict[str, Json] = {**NOTE, "answer": "refused", "answer_text": "REST v2: 401 Unauthorized"}


def test_the_page_says_all_that_the_next_person_needs() -> None:
    assert page(NOTE).splitlines() == [
        "idlewatch asked for the stop of Pod p1 at 2026-11-24 17:03 UTC.",
        "RunPod accepted it. That you read it in a newer start proves that it",
        "  stopped.",
        "",
        "Why: nothing used this Pod for 30m",
        "Nothing was seen to use it for 35m. What each signal saw last:",
        "  gpu: quiet: gpu0 0 %",
        "  people: quiet: nobody is connected",
        "",
        "Saved: 20261124-170230",
        "Done before it:",
        "  before-save/10-push: done",
        "Notebooks that were open, whose unsaved edits may still be in your browser:",
        "  a.ipynb",
        "",
        "To go on: start the Pod in RunPod's console.",
        "It may come back without a GPU where its machine has none free; its files",
        "  are there all the same.",
        "Then: idlewatch restore 20261124-170230",
        "What that holds, and how to unpack it without idlewatch:",
        "  /workspace/.idlewatch/p1/snapshots/20261124-170230.txt",
        "",
        "That start has cost $12.35, at $2.50 an hour.",
        "While stopped it costs its volume disk's $0.20 per GB a month.",
    ]


def test_a_stop_without_a_save_says_why_and_names_no_restore() -> None:
    lost = page({**NOTE, "snapshot": None, "unsaved": "disk full"})
    assert "Saved: nothing; disk full" in lost
    assert "restore" not in lost
    assert "Saved: nothing; there was nothing that a stop wipes" in page({**NOTE, "snapshot": None})


def test_an_end_from_outside_is_not_called_ours() -> None:
    told = page({**NOTE, "snapshot": None, "from_outside": True})
    assert told.startswith("Pod p1 was ended from outside, not by idlewatch, at 2026-11-24 17:03 UTC.")
    assert "idlewatch asked" not in told


json_values = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())
notes = st.dictionaries(st.sampled_from(sorted(NOTE)), json_values)


@given(notes)
@example({"at": None, "idle_for_s": float("inf")})
def test_any_note_gives_a_page_that_steers_nothing(note: dict[str, Json]) -> None:
    text = page(note)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in text.replace("\n", ""))
    assert all(len(line) <= COLUMNS or " " not in line.strip() for line in text.splitlines())


def test_the_next_start_tells_where_all_of_it_stands() -> None:
    told = str(previous_stop(NOTE, "p1@2"))
    assert told.startswith("confirmed by this start: a stop was asked for at 2026-11-24 17:03 UTC: nothing used")
    assert told.endswith("; all of it: /workspace/.idlewatch/p1/last-stop.txt")
    assert "all of it" not in str(previous_stop({**NOTE, "page": None}, "p1@2"))
    assert previous_stop({**NOTE, "from_outside": True}, "p1@1") is None
    assert "from outside" in str(previous_stop({**NOTE, "from_outside": True}, "p1@2"))
    assert "STOP NOT CONFIRMED" in str(previous_stop(NOTE, "p1@1"))


def test_a_stop_that_was_refused_is_never_called_confirmed() -> None:
    told = str(previous_stop(REFUSED, "p1@2"))
    assert told.startswith(
        "the stop of 2026-11-24 17:03 UTC (nothing used this Pod for 30m) was refused: REST v2: 401 "
        "Unauthorized; this Pod ended in some other way; `idlewatch restore 20261124-170230` brings back"
    )
    same_start = str(previous_stop(REFUSED, "p1@1"))
    assert same_start.endswith("was refused: REST v2: 401 Unauthorized")
    text = page(REFUSED)
    assert "That stop was refused: REST v2: 401 Unauthorized" in text
    assert "proves that it stopped" not in text


def test_a_stop_that_may_have_been_heard_all_the_same_most_likely_was_not() -> None:
    failed: dict[str, Json] = {**REFUSED, "answer": "failed", "answer_text": "REST v2: no whole answer"}
    told = str(previous_stop(failed, "p1@2"))
    assert "failed: REST v2: no whole answer; this Pod most likely ended in some other way" in told
    assert "it most likely ended in some other way" in " ".join(page(failed).split())


@pytest.mark.parametrize("answer", [None, "unknown", ["accepted"], "who knows"])
def test_where_no_answer_is_known_the_next_start_says_so(answer: Json) -> None:
    note = {**NOTE, "answer": answer}
    told = str(previous_stop(note, "p1@2"))
    assert told.startswith("a stop was asked for at 2026-11-24 17:03 UTC: nothing used")
    assert "RunPod's answer is not known" in told
    assert "confirmed" not in told
    assert "RunPod's answer is not known" in page(note)


def test_what_a_stopped_pod_costs_depends_on_its_volume() -> None:
    volume = Path("/workspace")
    assert while_stopped(None, volume, network=False) is None
    assert "nothing" in str(while_stopped("p1", None, network=False))
    assert "$0.20" in str(while_stopped("p1", volume, network=False))
    assert "$0.07" in str(while_stopped("p1", volume, network=True))


@dataclass
class Pod:
    """What the task that leaves the note finds."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("disk", "volume", "state"):
            (self.folder / name).mkdir()
        signals = {"gpu": {"activity": "quiet", "reason": "gpu0 0 %"}}
        shown = {"spent_usd": 1.5, "usd_per_hour": 3.0, "signals": signals}
        (self.folder / "state" / STATUS_FILE).write_text(json.dumps(shown))

    def saw_jupyter(self) -> None:
        history = History(self.folder / "state")
        facts: dict[str, Json] = {"servers": [{"name": "jupyter 8888", "kernels": []}]}
        history.saw([Reading(signal="jupyter", at_s=1.0, facts=facts)], datetime.now(UTC))
        history.close()

    def notes(self, request: Json) -> None:
        variables = environment_with(
            {
                "RUNPOD_POD_ID": "p1",
                "RUNPOD_GPU_COUNT": "2",
                "IDLEWATCH_VOLUME": str(self.folder / "volume"),
                "IDLEWATCH_SAVE_ROOT": str(self.folder / "disk"),
                "IDLEWATCH_STATE_DIR": str(self.folder / "state"),
                "PYTHONPATH": str(ROOT),
                **self.settings,
            }
        )
        command = [sys.executable, "-m", "idlewatch", "_task", "note"]
        task = Task(command, request, now_s=time.monotonic(), silent_limit_s=120.0, environment=variables)
        assert comes(lambda: task.poll(time.monotonic()) is not None)
        end = task.poll(time.monotonic())
        assert end is not None
        assert end.error is None, end.error

    @property
    def shown(self) -> Path:
        return self.folder / "volume/idlewatch-stopped-p1.txt"


@pytest.mark.slow
def test_the_note_and_its_page_lie_on_the_volume_with_what_the_daemon_last_showed(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"RUNPOD_VOLUME_ID": "v1"})
    pod.notes({"reason": "idle", "cause": "idle", "idle_for_s": 60.0, "snapshot": "s1"})
    note = stop_note(tmp_path / "volume", "p1")
    assert note is not None
    assert (note["evidence"], note["spent_usd"], note["cause"]) == ({"gpu": "quiet: gpu0 0 %"}, 1.5, "idle")
    assert "$0.07" in str(note["storage"])
    text = Path(str(note["page"])).read_text()
    assert "Then: idlewatch restore s1" in text
    assert "may come back without a GPU" in text
    assert not pod.shown.exists()


@pytest.mark.slow
def test_where_a_jupyter_ran_the_page_lies_where_its_file_browser_opens(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.saw_jupyter()
    pod.notes({"reason": "the first stop"})
    assert "the first stop" in pod.shown.read_text()
    (tmp_path / "state/history.db").unlink()
    pod.notes({"reason": "the second stop"})
    assert "the second stop" in pod.shown.read_text()


def test_the_pods_folder_is_its_owners_only_and_a_mistyped_volume_is_never_made(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    write_note(tmp_path / "volume", "abc", LAST_STOP, {})
    folder = tmp_path / "volume/.idlewatch/abc"
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder)] == [0o700, 0o700]
    with pytest.raises(FileNotFoundError):
        write_note(tmp_path / "typo", "abc", LAST_STOP, {})
    assert not (tmp_path / "typo").exists()
