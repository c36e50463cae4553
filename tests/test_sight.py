"""What the log says of signals that can't be seen: one line when that begins, one when it is over."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, MutableMapping
from contextlib import redirect_stderr
from typing import Any

import pytest
from structlog.testing import capture_logs

from idlewatch import logs
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import started
from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Activity, Decision, Finding
from idlewatch.watching.sight import AGAIN_AFTER_S, SightLog

BLIND_LIMIT_S = 600.0
CRASHED = "GPU reader crashed: SIGSEGV; starts again in {n} s"
Line = MutableMapping[str, Any]


def tick(now_s: float, activity: Activity, reason: str = "") -> Tick:
    return Tick(
        moment=Moment(now_s=now_s, uptime_s=now_s),
        readings=(),
        findings=[Finding(signal="gpu", activity=activity, reason=reason)],
        decision=Decision(action=Action.WAIT, reason=""),
        state=started(0.0),
        outcome=None,
        alarms=(),
    )


def told(ticks: Iterable[tuple[float, Activity, str]]) -> list[Line]:
    logs.set_up(least=logging.INFO)
    sight = SightLog(BLIND_LIMIT_S)
    with capture_logs() as lines:
        for now_s, activity, reason in ticks:
            sight.tick(tick(now_s, activity, reason.format(n=int(now_s) % 7)))
    return lines


def unknown(from_s: int, to_s: int, reason: str = CRASHED) -> list[tuple[float, Activity, str]]:
    return [(float(at_s), Activity.UNKNOWN, reason) for at_s in range(from_s, to_s, 5)]


SEEN = (0.0, Activity.QUIET, "")


def test_a_signal_that_fails_is_one_line_and_its_return_another() -> None:
    failed, back = told([SEEN, *unknown(5, 3600), (3600.0, Activity.ACTIVE, "busy"), (3605.0, Activity.QUIET, "")])
    assert (failed["event"], failed["log_level"], failed["signal"]) == ("signal_failed", "warning", "gpu")
    assert failed["reason"] == "GPU reader crashed: SIGSEGV; starts again in 5 s"
    assert (back["event"], back["log_level"], back["after_s"]) == ("signal_back", "info", 3595)
    assert (back["signal"], back["activity"]) == ("gpu", "active")


@pytest.mark.parametrize("end", [Activity.ABSENT, Activity.QUIET])
def test_it_is_back_whatever_it_then_sees(end: Activity) -> None:
    assert [line["event"] for line in told([SEEN, *unknown(5, 60), (60.0, end, "")])] == [
        "signal_failed",
        "signal_back",
    ]


def test_what_is_always_seen_or_absent_is_no_line() -> None:
    assert told([SEEN, (5.0, Activity.ACTIVE, ""), (10.0, Activity.ABSENT, ""), (15.0, Activity.QUIET, "")]) == []


def test_a_signal_has_a_minute_to_begin() -> None:
    assert told([*unknown(0, 60, "NVML was just opened: readings count in {n} s"), (60.0, Activity.QUIET, "")]) == []
    (failed,) = told(unknown(0, 600, "NVML can't be opened"))
    assert failed["reason"] == "NVML can't be opened"


def test_one_that_comes_and_goes_is_told_once_in_ten_minutes() -> None:
    flapping = [
        (float(at_s), Activity.UNKNOWN if at_s % 20 else Activity.QUIET, CRASHED) for at_s in range(0, 3600, 10)
    ]
    events = [line["event"] for line in told(flapping)]
    assert events == ["signal_failed", "signal_back"] * 6


def test_one_that_failed_again_and_stays_away_is_told_in_the_end() -> None:
    lines = told([SEEN, *unknown(5, 20), (20.0, Activity.QUIET, ""), *unknown(25, 2000)])
    assert [line["event"] for line in lines] == ["signal_failed", "signal_back", "signal_failed"]


def test_another_reason_is_told_at_once() -> None:
    lines = told([SEEN, *unknown(5, 20), (20.0, Activity.QUIET, ""), *unknown(25, 40, "gpu0: GPU is lost")])
    assert [line.get("reason") for line in lines][2] == "gpu0: GPU is lost"
    assert AGAIN_AFTER_S > 20


def test_no_secret_comes_into_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_SECRETOFATEST0000000000000000000001")
    written = io.StringIO()
    with redirect_stderr(written):
        logs.set_up(least=logging.INFO)
        sight = SightLog(BLIND_LIMIT_S)
        for now_s, activity in ((0.0, Activity.QUIET), (5.0, Activity.UNKNOWN)):
            sight.tick(tick(now_s, activity, "refused rpa_SECRETOFATEST0000000000000000000001"))
    assert "signal_failed" in written.getvalue()
    assert "SECRETOFATEST" not in written.getvalue()
