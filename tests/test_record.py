"""What a tick leaves in the state folder."""

from __future__ import annotations

import stat
from pathlib import Path

from idlewatch.daemon import Daemon
from idlewatch.history import History, events_of, status_of
from idlewatch.model import Action, Decision, Outcome, PodIdentity
from idlewatch.policy import Moment
from idlewatch.record import DaemonRecord
from idlewatch.settings import Source, daemon_source, load
from idlewatch.show.status import status_lines
from tests.fakes import FastClock, Rehearsed
from tests.test_daemon import Scripted

POD = PodIdentity(pod_id="abc", source="environment", started_s=0.0, boot_key="abc@1")


def watched(state_dir: Path, **variables: str) -> tuple[FastClock, History, DaemonRecord]:
    given = {"IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_RUNPOD_API_KEY": "sekret", **variables}
    loaded = load([Source(name="environment", variables=given)])
    clock, history = FastClock(), History(state_dir)
    return clock, history, DaemonRecord(history, clock, loaded, POD)


def daemon(clock: FastClock, record: DaemonRecord, actions: Rehearsed, signal: Scripted) -> Daemon:
    loaded = load([Source(name="environment", variables={})])
    return Daemon(
        clock=clock,
        signals=[signal],
        actions=actions,
        record=record,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=loaded.settings.limits(),
    )


def test_a_life_leaves_status_timeline_readings_and_state(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    actions = Rehearsed()
    watch = daemon(clock, record, actions, Scripted())
    watch.run(until=lambda: actions.stopped)
    assert [event["kind"] for event in events_of(tmp_path)] == ["warn", "save", "save done", "stop"]
    status = status_of(tmp_path) or {}
    assert (status["phase"], status["action"], status["pod_id"]) == ("stopping", "stop", "abc")
    assert history.remembered("abc@1", record.settings_key) is not None
    assert history.remembered("abc@2", record.settings_key) is None
    assert len(history.readings_since(0)) > 100
    history.close()


def test_a_blind_signal_is_told_in_the_timeline_and_in_status(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted(fails=OSError("gone"))).run(until=lambda: clock.now_s() > 1000)
    assert [event["kind"] for event in events_of(tmp_path)] == ["alarm"]
    assert "blind:host" in str((status_of(tmp_path) or {})["troubles"])
    history.close()


def test_what_the_daemon_was_told_is_there_for_the_verbs_without_its_secrets(tmp_path: Path) -> None:
    _, history, _ = watched(tmp_path, IDLEWATCH_IDLE_AFTER="1h30m15s")
    history.close()
    path = tmp_path / "settings.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert daemon_source(tmp_path).variables["IDLEWATCH_IDLE_AFTER"] == "1h30m15s"
    assert not any("sekret" in file.read_bytes().decode(errors="replace") for file in tmp_path.iterdir())


def test_status_says_why_the_pod_was_stopped_before(tmp_path: Path) -> None:
    loaded = load([Source(name="environment", variables={"IDLEWATCH_STATE_DIR": str(tmp_path)})])
    clock, history = FastClock(), History(tmp_path)
    record = DaemonRecord(history, clock, loaded, POD, lambda: "confirmed by this start: idle for 30m")
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert "confirmed by this start" in status_lines(status_of(tmp_path) or {}, clock.now_s())[-1]
    history.close()


def test_other_settings_have_another_key(tmp_path: Path) -> None:
    keys = set()
    for minutes in ("30m", "40m"):
        _, history, record = watched(tmp_path, IDLEWATCH_IDLE_AFTER=minutes)
        history.close()
        keys.add(record.settings_key)
    assert len(keys) == 2


class NoRoom(Rehearsed):
    def carry_out(self, decision: Decision, now_s: float) -> None:
        super().carry_out(decision, now_s)
        if decision.action is Action.SAVE:
            self._outcome = Outcome(action=Action.SAVE, ok=False, reason="no space left on the volume")


def test_an_alarm_that_an_outcome_raises_is_told_too(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, NoRoom(), Scripted()).run(until=lambda: clock.now_s() > 2200)
    told = [(event["kind"], event["text"]) for event in events_of(tmp_path)]
    assert ("alarm", "save failed: no space left on the volume") in told
    assert (status_of(tmp_path) or {})["troubles"] == {"save failed": "no space left on the volume"}
    history.close()
