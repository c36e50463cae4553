"""Holds in the timeline: placed and ended are told once, with who, why and until when, also over a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from idlewatch import hold as placing
from idlewatch.history.store import History, events_of
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Hold, Json, PodIdentity
from idlewatch.requests.hold_events import HoldEvents, standing_in
from idlewatch.requests.holds import EndedHold
from idlewatch.watching.moments import Known, Moments

WALL = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
POD = PodIdentity(pod_id="p", source="environment", started_s=0.0, boot_key="p@1")


def hold(id_: str, reason: str = "a long upload", pid: int | None = None, until_s: float = 7300.0) -> Hold:
    return Hold(id=id_, who="ann (pts/0)", reason=reason, until_s=until_s, pid=pid)


class Timeline:
    """A daemon's history and its clock."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir, self.now_s = state_dir, 100.0
        self.history = History(state_dir)
        self.events = self.begun()

    def begun(self) -> HoldEvents:
        """As a daemon begins with what the history knows."""
        return HoldEvents(self.happened, lambda: WALL + timedelta(seconds=self.now_s), standing_in(self.state_dir))

    def happened(self, kind: str, text: str, facts: Mapping[str, Json]) -> None:
        self.history.happened(kind, text, at_s=self.now_s, wall=WALL, facts=facts)

    def look(self, *active: Hold, ended: tuple[EndedHold, ...] = ()) -> None:
        self.events.look(active, ended, self.now_s)
        self.now_s += 5.0

    def told(self) -> list[tuple[str, str]]:
        return [(str(event["kind"]), str(event["text"])) for event in events_of(self.state_dir)]


def test_a_hold_is_told_with_who_until_and_why_and_its_end_with_its_cause(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    timeline.look(hold("a"))
    timeline.look(hold("a"))
    timeline.look(ended=(EndedHold(id="a", who="ann (pts/0)", reason="a long upload", why="released"),))
    timeline.look()
    assert timeline.told() == [
        ("hold placed", "ann (pts/0) until 2026-11-24 14:01 UTC (2h): a long upload"),
        ("hold ended", "ann (pts/0): released: a long upload"),
    ]
    facts = events_of(tmp_path)[0]["facts"]
    assert json.loads(json.dumps(facts)) == {
        "id": "a",
        "who": "ann (pts/0)",
        "reason": "a long upload",
        "until_s": 7300.0,
        "until": "2026-11-24T14:01:40+00:00",
        "pid": None,
    }


def test_after_a_restart_no_hold_is_told_again_and_one_that_is_gone_is_told_as_ended(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    timeline.look(hold("a"), hold("b"))
    timeline.look(hold("a"), hold("b"), ended=(EndedHold(id="b", who="ann (pts/0)", reason="", why="expired"),))
    timeline.events = timeline.begun()
    assert [one.id for one in timeline.events.known] == ["a"]
    timeline.look(hold("a"))
    timeline.look(ended=(EndedHold(id="a", who="ann (pts/0)", reason="", why="released"),))
    assert [kind for kind, _ in timeline.told()] == ["hold placed", "hold placed", "hold ended", "hold ended"]


def test_a_program_that_holds_again_and_again_is_told_once_in_ten_minutes(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    for number in range(150):
        name = f"h{number}"
        timeline.look(hold(name, "a step", pid=77))
        timeline.look(ended=(EndedHold(id=name, who="ann (pts/0)", reason="a step", why="released"),))
    told = timeline.told()
    assert [kind for kind, _ in told] == ["hold placed", "hold ended"] * 3
    assert "or as long as process 77 runs: a step" in told[0][1]
    assert told[2][1].endswith("; 59 like it before")


def test_a_programs_second_hold_that_lasts_is_told_late_and_counted_once(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    timeline.look(hold("a", "a step", pid=77))
    timeline.look(ended=(EndedHold(id="a", who="ann (pts/0)", reason="a step", why="released"),))
    for _ in range(200):
        timeline.look(hold("b", "a step", pid=77))
    assert [kind for kind, _ in timeline.told()] == ["hold placed", "hold ended", "hold placed"]
    assert timeline.told()[-1][1].endswith("; 1 like it before")


def test_what_people_do_again_is_told_again(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    for name in ("a", "b", "c"):
        timeline.look(hold(name))
    assert len(timeline.told()) == 3


def test_the_daemon_tells_of_real_files_without_secrets(tmp_path: Path) -> None:
    clock, told = MachineClock(), list[tuple[str, str]]()
    events = HoldEvents(lambda kind, text, _facts: told.append((kind, text)), clock.wall)
    moments = Moments(
        state_dir=tmp_path,
        pod=POD,
        hold_max_s=86400.0,
        known=lambda _now_s: Known(),
        clean=lambda text: text.replace("s3cret", "…"),
        hold_events=events,
    )
    kept = placing.place("train --token s3cret", for_s=3600, who="bob", state_dir=tmp_path, pid=os.getpid())
    assert moments(clock.now_s()).holds[0].reason == "train --token …"
    placing.release(kept)
    assert moments(clock.now_s()).holds == []
    assert [kind for kind, _ in told] == ["hold placed", "hold ended"]
    assert told[1] == ("hold ended", "bob: released: train --token …")
    assert "s3cret" not in str(told)
