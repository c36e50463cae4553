"""What a tick leaves in the state folder."""

from __future__ import annotations

import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest

from idlewatch.deciding.moment import Moment, StopRequest
from idlewatch.history.store import STATE_MARK, History, events_of, status_of
from idlewatch.model import Action, Decision, Outcome, PodIdentity
from idlewatch.settings import Source, daemon_source, load
from idlewatch.show.status import status_lines
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord
from tests.fakes import FastClock, Rehearsed
from tests.test_daemon import Scripted

POD = PodIdentity(pod_id="abc", source="environment", started_s=0.0, boot_key="abc@1")


def watched(state_dir: Path, **variables: str) -> tuple[FastClock, History, DaemonRecord]:
    given = {"IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_RUNPOD_API_KEY": "sekret", **variables}
    loaded = load([Source(name="environment", variables=given)])
    clock, history = FastClock(), History(state_dir)
    return clock, history, DaemonRecord(history, clock, loaded, POD)


def daemon(
    clock: FastClock,
    record: DaemonRecord,
    actions: Rehearsed,
    signal: Scripted,
    *,
    request: StopRequest | None = None,
    observing: bool = False,
    **variables: str,
) -> Daemon:
    loaded = load([Source(name="environment", variables=variables)])
    return Daemon(
        clock=clock,
        signals=[signal],
        actions=actions,
        record=record,
        moment=lambda now_s: Moment(
            now_s=now_s, uptime_s=now_s, request=request, observing=observing, troubles=record.troubles()
        ),
        limits=loaded.settings.limits(),
    )


@pytest.mark.slow
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


def test_what_was_heard_of_late_keeps_the_time_at_which_it_happened(tmp_path: Path) -> None:
    _, history, record = watched(tmp_path)
    record.keep([{"kind": "saved by hand", "text": "as s1", "at": "2026-11-19T10:00:00+00:00"}, {"kind": "x"}])
    late, now = events_of(tmp_path)
    assert late["at"] == "2026-11-19T10:00:00+00:00"
    assert now["at"] != late["at"]
    assert now["at_s"] == late["at_s"], "both were heard of now"
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


@pytest.mark.slow
def test_an_alarm_that_an_outcome_raises_is_told_too(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, NoRoom(), Scripted()).run(until=lambda: clock.now_s() > 2200)
    told = [(event["kind"], event["text"]) for event in events_of(tmp_path)]
    assert ("alarm", "save failed: no space left on the volume") in told
    assert (status_of(tmp_path) or {})["troubles"] == {"save failed": "no space left on the volume"}
    history.close()


class Observed(Rehearsed):
    def carry_out(self, decision: Decision, now_s: float) -> None:
        if decision.action in (Action.SAVE, Action.STOP):
            self._outcome = Outcome(action=decision.action, ok=True, reason="only observing", observed=True)


@pytest.mark.slow
def test_the_timeline_of_a_daemon_that_only_observes_says_what_it_would_have_done(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path, IDLEWATCH_MODE="observe")
    daemon(clock, record, Observed(), Scripted(), observing=True).run(until=lambda: clock.now_s() > 9000)
    assert [event["kind"] for event in events_of(tmp_path)] == ["would warn", "would save", "would stop"]
    history.close()


def test_why_the_end_sequence_runs_stands_in_status_as_long_as_it_does(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted(), request=StopRequest(who="ann", warn_for_s=600)).tick()
    assert (status_of(tmp_path) or {})["why"] == "asked for by ann"
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    assert (status_of(tmp_path) or {})["why"] is None
    history.close()


def in_the_way(state_dir: Path) -> None:
    """No file can take the place of a folder that is not empty, and no database be opened: also not by root."""
    for name in ("history.db", "status.json", "login.txt", "settings.json", "history.db-wal", "history.db-shm"):
        (state_dir / name).unlink(missing_ok=True)
        (state_dir / name / "x").mkdir(parents=True, exist_ok=True)


def out_of_the_way(state_dir: Path) -> None:
    for name in ("history.db", "status.json", "login.txt", "settings.json", "history.db-wal", "history.db-shm"):
        shutil.rmtree(state_dir / name)


def test_what_cannot_be_written_is_an_alarm_once_and_is_written_later(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    actions, heard = Rehearsed(), list[str]()
    watch = daemon(clock, record, actions, Scripted())

    def pass_until(at_s: float) -> None:
        while clock.now_s() < at_s:
            heard.extend(alarm.text for alarm in watch.tick().alarms if alarm.name == "state folder")
            clock.sleep(5.0)

    pass_until(100)
    in_the_way(tmp_path)
    pass_until(3000)
    assert actions.stopped, "the end sequence goes on"
    assert len(heard) == 1
    assert f"{tmp_path} can't be written" in heard[0]
    assert watch.state.troubles["state folder"] == heard[0]
    out_of_the_way(tmp_path)
    pass_until(3030)
    told = [(event["kind"], str(event["text"])) for event in events_of(tmp_path)]
    kinds = [kind for kind, _ in told]
    assert kinds[:5] == ["alarm", "warn", "save", "save done", "stop"], "what happened meanwhile"
    assert "its readings are missing" in dict(told)["not recorded"]
    assert (status_of(tmp_path) or {})["phase"] != "watching"
    assert watch.state.troubles["state folder"], "until it could be written for a while"
    pass_until(3120)
    assert "state folder" not in watch.state.troubles
    assert len(heard) == 1
    history.close()


def test_events_that_cannot_be_written_do_not_fill_the_memory(tmp_path: Path) -> None:
    clock, history, record = watched(tmp_path)
    daemon(clock, record, Rehearsed(), Scripted()).tick()
    in_the_way(tmp_path)
    for number in range(1000):
        record.happened("hook done", f"number {number}")
    out_of_the_way(tmp_path)
    clock.sleep(60.0)
    record.happened("hook done", "the last")
    told = [str(event["text"]) for event in events_of(tmp_path)]
    assert len(told) == 201
    assert told[0] == "number 801"
    assert told[-2] == "the last"
    assert "801 events are missing" in told[-1]
    history.close()


def test_a_folder_that_was_made_again_holds_everything_that_is_written_once(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    given = {"IDLEWATCH_STATE_DIR": str(state_dir)}
    clock, history = FastClock(), History(state_dir)
    again: list[bool] = []

    def made_again() -> bool:
        return again.pop() if again else False

    loaded = load([Source(name="environment", variables=given)])
    record = DaemonRecord(history, clock, loaded, POD, lambda: "confirmed: idle", made_again=made_again)
    watch = daemon(clock, record, Rehearsed(), Scripted())
    watch.tick()
    state_dir.rename(tmp_path / "removed")
    state_dir.mkdir()
    again.append(True)
    clock.sleep(5.0)
    watch.tick()
    clock.sleep(5.0)
    watch.tick()
    names = {path.name for path in state_dir.iterdir()}
    assert {"settings.json", "status.json", "history.db", "login.txt", STATE_MARK} <= names
    assert "place your holds again" in watch.state.troubles["state folder removed"]
    assert history.remembered("abc@1", record.settings_key) is not None
    history.close()


def test_another_key_is_another_chance(tmp_path: Path) -> None:
    def key_of(**variables: str) -> str:
        told = load([Source(name="environment", variables={"IDLEWATCH_STATE_DIR": str(tmp_path), **variables})])
        with closing(History(tmp_path)) as history:
            return DaemonRecord(history, FastClock(), told, POD).settings_key

    assert key_of(RUNPOD_API_KEY="a" * 20) != key_of(RUNPOD_API_KEY="b" * 20)
    assert key_of(RUNPOD_API_KEY="a" * 20) == key_of(RUNPOD_API_KEY="a" * 20)
