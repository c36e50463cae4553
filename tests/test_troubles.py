"""What people hear of although nothing is stopped: who is all there is, told with what every signal saw."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import pytest

from idlewatch import logs
from idlewatch.deciding import troubles
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.tick import Tick
from idlewatch.deciding.troubles import ALONE_S, Blindness
from idlewatch.model import Activity, Finding, Reading
from idlewatch.watching.daemon import Daemon
from tests.fakes import FastClock, Rehearsed
from tests.policy_life import LIMITS

INTERVAL_S = 60.0
NOTICE = "train.py: the only job for more than 3h; if that is no work: IDLEWATCH_IGNORE=jobs,host"


def found(
    signal: str, activity: Activity = Activity.ACTIVE, *, at_s: float = 0.0, notice: str | None = None
) -> Finding:
    return Finding(
        signal=signal,
        activity=activity,
        reason=signal,
        seen_from_s=at_s - INTERVAL_S,
        seen_to_s=at_s,
        evidence_s=at_s if activity is Activity.ACTIVE else None,
        notice=notice,
        refines=signal not in ("gpu", "host"),
    )


LONELY_JOB = found("jobs", notice=NOTICE)


def heard(*findings: Finding, before: Blindness | None = None, now_s: float = 50_000.0) -> dict[str, str | None]:
    told = troubles.without_lonely(before or Blindness(), findings, now_s)
    assert [finding.signal for finding in told] == [finding.signal for finding in findings]
    return {finding.signal: finding.notice for finding in told}


def test_a_job_that_is_all_there_is_is_told_though_the_host_sees_it_too() -> None:
    others = [found(signal, Activity.QUIET) for signal in ("gpu", "people", "transfers")]
    assert heard(LONELY_JOB, found("host"), *others)["jobs"] == NOTICE


@pytest.mark.parametrize("other", ["gpu", "people", "jupyter", "servers", "transfers", "my_own"])
def test_a_job_beside_other_use_is_not_all_there_is(other: str) -> None:
    assert heard(LONELY_JOB, found(other))["jobs"] is None


def test_so_it_is_with_a_transfer_and_neither_says_it_of_the_other() -> None:
    moved = found("transfers", notice="the only transfer for more than 3h")
    assert heard(moved, found("host"))["transfers"] is not None
    assert heard(moved, LONELY_JOB) == {"transfers": None, "jobs": None}


@pytest.mark.parametrize(("ago_s", "told"), [(ALONE_S - 1, False), (ALONE_S, True)])
def test_use_within_three_hours_is_company(ago_s: float, *, told: bool) -> None:
    remembered = troubles.looked(Blindness(), [found("gpu")], 50_000.0 - ago_s)
    assert (heard(LONELY_JOB, found("gpu", Activity.QUIET), before=remembered)["jobs"] == NOTICE) is told


def test_what_a_job_only_bars_for_is_told_beside_any_use() -> None:
    asks = replace(found("jobs", Activity.QUIET, notice="train.py waits for input"), bars=True)
    assert heard(asks, found("gpu"))["jobs"] == "train.py waits for input"
    assert heard(replace(asks, pauses=True), found("gpu"))["jobs"] is None


def test_what_else_signals_have_to_say_is_told_beside_any_use() -> None:
    hung = found("gpu", notice="gpu0 busy, but maybe hung")
    assert heard(LONELY_JOB, hung, found("servers", notice="it may hang")) == {
        "jobs": None,
        "gpu": "gpu0 busy, but maybe hung",
        "servers": "it may hang",
    }


def standing(*notices: str | None) -> list[str | None]:
    """What stands after each of them."""
    standing: troubles.Troubles = {}
    stood = []
    for notice in notices:
        standing = troubles.of_notices(standing, [found("gpu", notice=notice)])
        stood.append(standing.get("notice:gpu"))
    return stood


def test_figures_that_change_are_no_news_and_another_meaning_is() -> None:
    hung = ["gpu0 100 % busy for 30 min: maybe hung", "gpu0 100 % busy for 31 min: maybe hung"]
    waste = "gpu1 worked 3 % of the last hour, gpu0 90 %: all 2 are billed"
    both = f"{waste}; {hung[1]}"
    assert standing(*hung, None, hung[1]) == [hung[0], hung[0], None, hung[1]]
    assert standing(waste, both, waste) == [waste, both, waste]


def test_time_in_which_no_daemon_looked_is_no_time_in_which_a_signal_was_blind() -> None:
    blind = troubles.looked(Blindness(looked_s=90.0), [found("gpu", Activity.UNKNOWN)], 100.0)
    stalled = troubles.looked(blind, [found("gpu", Activity.UNKNOWN)], 7300.0)
    assert stalled.since_s["gpu"] == 100.0, "a daemon that stood still was there to be told of"
    anew = troubles.looked(troubles.resumed(blind, 7300.0), [found("gpu", Activity.UNKNOWN)], 7305.0)
    assert anew.since_s["gpu"] == 7300.0
    assert troubles.resumed(Blindness(), 7300.0) == Blindness()


# ---------------------------------------------------------------- in a daemon


@dataclass
class Scripted:
    """A signal that says what it is told to say."""

    name: str
    hours: set[int] = field(default_factory=set)
    """Hours in which it sees use; empty: always."""
    notice: str | None = None

    def __post_init__(self) -> None:
        self.refines = self.name != "host"

    def read(self, now_s: float) -> Reading:
        return Reading(signal=self.name, at_s=now_s, covers_s=INTERVAL_S)

    def judge(self, reading: Reading) -> Finding:
        used = not self.hours or int(reading.at_s // 3600) in self.hours
        activity = Activity.ACTIVE if used else Activity.QUIET
        return found(self.name, activity, at_s=reading.at_s, notice=self.notice if used else None)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def silent_daemon() -> None:
    logs.set_up(least=logging.CRITICAL)


def alarms_at(hours_of_gpu: set[int], hours: int) -> list[int]:
    """Hours in which a job's notice is an alarm, beside a GPU that is used in some hours."""
    clock = FastClock()
    clock.sleep(1.0)
    signals = [Scripted("host"), Scripted("jobs", notice=NOTICE), Scripted("gpu", hours_of_gpu)]
    record = Told()
    watch = Daemon(
        clock=clock,
        signals=signals,
        actions=Rehearsed(),
        record=record,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=replace(LIMITS, interval_s=INTERVAL_S),
    )
    watch.run(until=lambda: clock.now_s() > hours * 3600)
    return record.hours


class Told:
    """A record that keeps the hours of alarms."""

    def __init__(self) -> None:
        self.hours: list[int] = []

    def tick(self, report: Tick) -> None:
        self.hours += [int(report.moment.now_s // 3600) for alarm in report.alarms if alarm.name == "notice:jobs"]


def test_a_training_that_rests_its_gpu_now_and_then_is_no_lonely_job() -> None:
    assert alarms_at({0, 2, 4, 6, 8}, 10) == []
    assert alarms_at({0, 1, 2}, 10) == [5]
