"""Slow effects in real child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from idlewatch.children.tasks import Task, TaskEnd, error_from_json, error_to_json
from idlewatch.errors import ProviderRefused, ProviderUnavailable, TaskError
from tests.waiting import until

SLEEPS = "import time; time.sleep(600)"
PRELUDE = "import json,sys,time\nfrom idlewatch.children.tasks import serve\nfrom idlewatch.errors import *\n"


def task(work: str, *, silent_limit_s: float = 60.0) -> Task:
    code = f"{PRELUDE}def work(request, progress):\n    {work}\nsys.exit(serve(work))"
    return Task([sys.executable, "-c", code], {"n": 2}, now_s=0.0, silent_limit_s=silent_limit_s)


def ended(one: Task, *, ticks_s: float = 0.01) -> TaskEnd:
    """Poll it until it has ended, each time `ticks_s` of its own time later."""
    times, ends = count(), list[TaskEnd]()

    def has_ended() -> bool:
        end = one.poll(next(times) * ticks_s)
        ends.extend([end] if end else [])
        return bool(ends)

    until(has_ended, "the task's end")
    return ends[0]


def is_gone(pid: str) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_the_result_and_the_progress_come_back() -> None:
    one = task("progress({'done': 1}); return {'twice': request['n'] * 2}")
    assert ended(one).result == {"twice": 4}
    assert one.progress == {"done": 1}


@pytest.mark.slow
def test_an_error_comes_back_as_the_error_it_was() -> None:
    error = ended(task("raise ProviderUnavailable('HTTP 429', 7.0)")).error
    assert isinstance(error, ProviderUnavailable)
    assert (str(error), error.retry_after_s) == ("HTTP 429", 7.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "says"),
    [
        ("raise SystemExit(4)", "exit status 4"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_child_that_dies_without_an_answer_is_an_error_and_never_a_result(work: str, says: str) -> None:
    end = ended(task(work))
    assert isinstance(end.error, TaskError)
    assert says in str(end.error)
    assert end.result is None


@pytest.mark.slow
def test_what_a_child_prints_beside_its_answer_is_not_taken_for_it() -> None:
    assert ended(task("print('junk'); print('[1]'); return 7")).result == 7


@pytest.mark.slow
def test_a_silent_child_is_ended() -> None:
    error = ended(task("time.sleep(600)", silent_limit_s=1.0), ticks_s=0.05).error
    assert isinstance(error, TaskError)


def test_a_child_that_ignores_the_request_to_end_is_ended_hard() -> None:
    work = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert ended(task(work, silent_limit_s=1.0), ticks_s=0.5).error is not None


class Unreached(Task):
    """What waits for a dead disk: no signal ends it."""

    def _send(self, number: signal.Signals) -> None: ...


@pytest.fixture
def unreached() -> Iterator[Callable[[], Unreached]]:
    begun: list[Unreached] = []

    def begin() -> Unreached:
        begun.append(Unreached([sys.executable, "-c", SLEEPS], None, now_s=0.0, silent_limit_s=1.0))
        return begun[-1]

    yield begin
    for one in begun:
        one._process.kill()
        one.end(60.0)


def given_up(one: Task) -> TaskEnd:
    for now_s in range(0, 60, 2):
        end = one.poll(float(now_s))
        if end:
            return end
    pytest.fail("it was waited for without an end")


def test_a_child_that_nothing_ends_is_given_up_and_told(unreached: Callable[[], Unreached]) -> None:
    one = unreached()
    error = given_up(one).error
    assert str(error) == "silent for 1 s, and can't be ended: it waits for a disk that does not answer"
    assert one.poll(1e6) == TaskEnd(error=error)
    assert one._process.poll() is None


@pytest.mark.slow
def test_after_some_that_hang_no_more_are_begun_until_one_has_ended(unreached: Callable[[], Unreached]) -> None:
    hanging = [unreached() for _ in range(3)]
    for one in hanging:
        given_up(one)
    with pytest.raises(TaskError, match="3 tries before wait for a disk"):
        unreached()
    assert ended(task("return 7")).result == 7
    hanging[0]._process.kill()
    hanging[0]._process.wait(60)
    assert unreached().poll(0.0) is None


def test_the_daemon_s_own_end_does_not_wait_for_what_nothing_ends(unreached: Callable[[], Unreached]) -> None:
    one = unreached()
    one.end(0.1)
    assert one._process.poll() is None
    assert one.poll(0.0) is not None


@pytest.mark.slow
def test_last_words_are_one_short_line_that_steers_no_terminal() -> None:
    error = ended(task("sys.stderr.write('first\\n\\x1b[31m' + 'x' * 5000); raise SystemExit(3)")).error
    text = str(error)
    assert "\x1b" not in text
    assert "first" not in text
    assert text.startswith("ended without an answer, exit status 3:  [31mxxx")
    assert len(text) < 260


def test_a_command_that_is_not_there_is_a_task_error() -> None:
    with pytest.raises(TaskError, match="can't start"):
        Task(["/nonexistent/program"], None, now_s=0.0, silent_limit_s=1.0)


@pytest.mark.slow
def test_what_belongs_into_the_timeline_is_kept_until_it_is_taken() -> None:
    one = task("[progress({'event': n}) for n in (1, 2)]; progress('left'); return 7")
    assert ended(one).result == 7
    assert (one.progress, one.take_events(), one.take_events()) == ("left", [1, 2], [])


@pytest.mark.slow
def test_what_a_task_that_is_killed_had_started_does_not_outlive_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    work = (
        "import os, subprocess, signal; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert ended(task(work)).error is not None
    until(partial(is_gone, pid.read_text()), "the end of what it had started")


@pytest.mark.parametrize("error", [ProviderRefused("403"), TaskError("x"), ProviderUnavailable("503")])
def test_errors_travel(error: TaskError) -> None:
    again = error_from_json(error_to_json(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_child_does_not_outlive_its_daemon(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    work = f"import os; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"{PRELUDE}def work(request, progress):\n    {work}\nsys.exit(serve(work))"
    daemon = (
        "import os, signal, sys, time\nfrom idlewatch.children.tasks import Task\n"
        f"Task([sys.executable, '-c', {code!r}], None, now_s=0.0, silent_limit_s=60.0)\n"
        f"while not os.path.exists({str(started)!r}): time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", daemon], check=False, timeout=60)
    until(partial(is_gone, started.read_text()), "the child's end")
