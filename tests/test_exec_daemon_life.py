"""When a daemon that ended is started again."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from idlewatch.host.daemon_life import DaemonLife


def exited(code: int) -> int:
    return code << 8


def lived(life: DaemonLife, status: int, *, from_s: float, for_s: float) -> str | None:
    life.started(7, from_s)
    return life.ended(status, from_s + for_s)


def test_it_is_wanted_from_the_start_and_not_while_it_runs() -> None:
    life = DaemonLife()
    assert life.wanted(1.0)
    life.started(7, 1.0)
    assert not life.wanted(1e9)


def test_one_that_dies_at_once_is_started_again_ever_more_rarely_and_never_given_up() -> None:
    life, now_s, waits = DaemonLife(), 100.0, []
    for _ in range(12):
        lived(life, exited(1), from_s=now_s, for_s=0.1)
        waits.append(round(life.due_s - now_s - 0.1))
        now_s = life.due_s
        assert not life.wanted(now_s - 0.01)
        assert life.wanted(now_s)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-3:] == [300, 300, 300]


def test_one_that_lived_long_is_started_again_at_once() -> None:
    life = DaemonLife()
    for start_s in range(10, 20):
        lived(life, exited(1), from_s=float(start_s), for_s=0.1)
    lived(life, exited(1), from_s=1000.0, for_s=700.0)
    assert life.due_s == pytest.approx(1701.0)


@pytest.mark.parametrize("status", [exited(1), exited(0), int(signal.SIGKILL)])
def test_it_says_how_it_ended_and_when_it_is_started_again(status: int) -> None:
    said = lived(DaemonLife(), status, from_s=1.0, for_s=1.0)
    how = "signal 9" if status == signal.SIGKILL else f"status {os.waitstatus_to_exitcode(status)}"
    assert said is not None
    assert how in said
    assert said.endswith("started again in 1 s")


def test_wrong_settings_are_said_once_and_tried_again_rarely() -> None:
    life = DaemonLife()
    said = lived(life, exited(2), from_s=1.0, for_s=1.0)
    assert said is not None
    assert "NOTHING GUARDS" in said
    assert life.due_s == pytest.approx(302.0)
    assert lived(life, exited(2), from_s=302.0, for_s=1.0) is None
    assert life.due_s == pytest.approx(603.0)


def test_a_refusal_is_tried_again_rarely_and_said_once() -> None:
    life = DaemonLife()
    first = lived(life, exited(3), from_s=1.0, for_s=1.0)
    assert first is not None
    assert life.due_s == pytest.approx(302.0)
    assert lived(life, exited(3), from_s=302.0, for_s=1.0) is None
    other = lived(life, exited(1), from_s=700.0, for_s=1.0)
    assert other is not None


def test_one_that_can_t_be_started_is_tried_again() -> None:
    life = DaemonLife()
    said = life.not_started(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), 1.0)
    assert said is not None
    assert os.strerror(errno.EAGAIN) in said
    assert life.wanted(2.0)


def test_after_a_shutdown_request_it_is_started_again_only_where_life_goes_on() -> None:
    life = DaemonLife()
    life.started(7, 1.0)
    life.shutdown_requested(10.0)
    assert life.ended(exited(0), 12.0) is None
    assert not life.wanted(69.0)
    assert life.wanted(70.0)
