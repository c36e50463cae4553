"""The owner's own signs of use: real commands, a real HTTP server, and a Python signal out of the documentation."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch import assembly
from idlewatch.children.tasks import Task, TaskEnd, task_starter
from idlewatch.errors import SettingsError, TaskError
from idlewatch.model import Activity, Finding, Json, Question, Signal, Surroundings
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import Source, load
from idlewatch.signals.asked import AskedSignal
from idlewatch.watching.daemon import judge, read
from idlewatch.work.questions import answer_of, ask_prometheus, judged_result


def unchanged(text: str) -> str:
    """Where nothing is secret."""
    return text


DOCUMENTED = Path(__file__).parent.parent / "docs/signals.md"


@pytest.mark.parametrize(
    ("status", "out", "activity", "reason"),
    [
        (0, "", "active", "the command ended with 0"),
        (0, "working\n2 renders\n\n", "active", "2 renders"),
        (1, "nothing queued", "quiet", "nothing queued"),
        (0, '{"activity": "quiet", "reason": "drained"}\n', "quiet", "drained"),
        (9, 'log\n{"activity": "active"}', "active", "so the command says"),
        (0, "{not json", "active", "{not json"),
    ],
)
def test_what_a_command_answers_is_understood(status: int, out: str, activity: str, reason: str) -> None:
    assert answer_of(status, out, unchanged) == {"activity": activity, "reason": reason}


@pytest.mark.parametrize(
    ("status", "out", "says"),
    [
        (2, "no such file", "ended with 2, which is neither 0 nor 1: no such file"),
        (-9, "", "ended by signal 9"),
        (0, '{"activity": "busy"}', "no `activity` among"),
        (0, '{"activity": "unknown", "reason": "queue unreachable"}', "queue unreachable"),
    ],
)
def test_what_it_cannot_tell_is_an_error_and_never_quiet(status: int, out: str, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        answer_of(status, out, unchanged)


@given(st.integers(-20, 255), st.text())
def test_no_output_whatever_makes_an_unclear_status_quiet(status: int, out: str) -> None:
    try:
        activity = str(answer_of(status, out, unchanged)["activity"])
    except TaskError:
        return
    assert status in (0, 1) or activity in out


def vector(*values: str) -> Json:
    rows: list[Json] = [{"metric": {"__name__": "up", "job": str(i)}, "value": [1.0, v]} for i, v in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": rows}}


def test_a_query_is_in_use_where_one_value_is_above_0() -> None:
    assert judged_result(vector("0", "3.5"), unchanged) == {"activity": "active", "reason": 'up{job="1"} is 3.5 > 0'}
    assert judged_result(vector("0", "-1"), unchanged)["activity"] == "quiet"
    scalar: Json = {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "2"]}}
    assert judged_result(scalar, unchanged)["activity"] == "active"


@pytest.mark.parametrize(
    "said", [vector(), vector("NaN"), {"status": "error", "error": "parse error"}, [], None, {"status": "success"}]
)
def test_a_query_without_a_value_is_unknown_and_never_quiet(said: Json) -> None:
    with pytest.raises(TaskError):
        judged_result(said, unchanged)


@contextmanager
def prometheus(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_prometheus_is_asked_over_http() -> None:
    with prometheus(json.dumps(vector("1")).encode()) as (url, asked):
        assert ask_prometheus(f"{url}/", "max(up) > 0", 5)["activity"] == "active"
    assert asked == ["/api/v1/query?query=max%28up%29+%3E+0"]


def test_a_server_that_is_none_is_told_as_such() -> None:
    with prometheus(b"<html>", status=502) as (url, _), pytest.raises(TaskError, match="answers 502, and no JSON"):
        ask_prometheus(url, "up", 5)
    with pytest.raises(TaskError, match="can't be asked: ConnectError"):
        ask_prometheus("http://127.0.0.1:1", "up", 5)


def until_answered(signal: Signal) -> Finding:
    """The first finding of a real child process."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        finding = judge(signal, read(signal, time.monotonic()))
        if "not answered yet" not in finding.reason:
            return finding
        time.sleep(0.02)
    pytest.fail("no answer")


def asked(command: str, within_s: float = 20.0) -> Finding:
    request: Json = {"command": command, "within_s": within_s}
    question = Question(task="command", request=request, every_s=60, within_s=within_s)
    signal = AskedSignal("command", question, start_task=task_starter())
    try:
        return until_answered(signal)
    finally:
        signal.close()


@pytest.mark.slow
def test_a_real_command_keeps_the_pod_up_or_not() -> None:
    busy = asked("echo 2 renders; exit 0")
    assert (busy.activity, busy.reason, busy.refines) == (Activity.ACTIVE, "2 renders", True)
    assert asked("exit 1").activity is Activity.QUIET
    lost = asked("no-such-program")
    assert lost.activity is Activity.UNKNOWN
    assert "not found" in lost.reason


@pytest.mark.slow
def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hung = asked(
        f"echo $$ > {pids}; (setsid sh -c 'echo $$ >> {pids}; exec sleep 600' &) ; exec sleep 600", within_s=1.5
    )
    assert hung.activity is Activity.UNKNOWN
    assert "did not end within" in hung.reason
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert not any(psutil.pid_exists(pid) for pid in started)


class Answering(Task):
    """A task whose end the test has in hand."""

    def __init__(self) -> None:
        self.answer: TaskEnd | None = None

    def poll(self, now_s: float) -> TaskEnd | None:
        return self.answer

    def end(self, within_s: float = 0.0) -> None: ...


def test_one_question_at_a_time_and_an_old_answer_proves_nothing() -> None:
    begun: list[Answering] = []

    def start(_name: str, _request: Json, _now_s: float, _silent_s: float) -> Task:
        begun.append(Answering())
        return begun[-1]

    signal = AskedSignal("command", Question(task="command", request=None, every_s=60, within_s=30), start_task=start)
    assert "not answered yet" in str(read(signal, 0).error)
    read(signal, 5)
    assert len(begun) == 1
    begun[0].answer = TaskEnd(result={"activity": "active", "reason": "busy"})
    reading = read(signal, 10)
    finding = judge(signal, reading)
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, 0.0)
    assert len(begun) == 1
    read(signal, 69)
    assert len(begun) == 1
    read(signal, 70)
    assert len(begun) == 2
    assert judge(signal, read(signal, 300)).activity is Activity.UNKNOWN
    begun[1].answer = TaskEnd(error=TaskError("queue unreachable"))
    assert judge(signal, read(signal, 301)).reason == "queue unreachable"


def loaded(**variables: str) -> Assembly:
    return assembled(load([Source(name="environment", variables=variables)]))


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example of the documentation, importable."""
    code = DOCUMENTED.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "own_signals.py").write_text(code.replace("/workspace/.render.lock", str(tmp_path / "lock")))
    (tmp_path / "own_broken.py").write_text("def other(pod): return 3\n1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("own_signals", "own_broken"):
        sys.modules.pop(name, None)
    return str(tmp_path / "lock")


def test_the_documented_python_signal_works(own_module: str) -> None:
    signals = assembly.signals(loaded(IDLEWATCH_EXTRA_SIGNALS="own_signals:lockfile", IDLEWATCH_SIGNALS="host"))
    own = signals[-1]
    assert judge(own, read(own, 1000.0)).activity is Activity.QUIET
    Path(own_module).touch()
    finding = judge(own, read(own, 1005.0))
    assert finding.activity is Activity.ACTIVE
    assert finding.refines
    os.utime(own_module, (1, 1))
    assert judge(own, read(own, 1010.0)).activity is Activity.QUIET


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("name", ["own_signals:other", "own_broken:other", "nowhere:lockfile", "own_signals"])
def test_an_own_signal_that_cannot_be_made_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        assembly.signals(loaded(IDLEWATCH_EXTRA_SIGNALS=name))


def test_signals_that_nothing_is_set_for_are_left_out_or_refused_where_they_are_named() -> None:
    assert "command" not in [signal.name for signal in assembly.signals(loaded())]
    with_command = assembly.signals(loaded(IDLEWATCH_COMMAND="true", IDLEWATCH_SIGNALS="command"))
    assert [signal.name for signal in with_command] == ["command"]
    with pytest.raises(SettingsError, match="IDLEWATCH_COMMAND is not set"):
        assembly.signals(loaded(IDLEWATCH_SIGNALS="command"))


def test_surroundings_hold_what_the_owner_wants_asked() -> None:
    found: Surroundings = assembly.surroundings(
        loaded(IDLEWATCH_PROMQL="up", IDLEWATCH_PROMETHEUS_URL="http://p:9090", IDLEWATCH_COMMAND_EVERY="5m")
    )
    assert found.questions["promql"].every_s == 300
    assert found.questions["promql"].request == {"url": "http://p:9090", "query": "up", "within_s": 30.0}
