"""The tick: what it makes of signals that fail, and the order in which it writes down and acts."""

from __future__ import annotations

import pytest

from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import started
from idlewatch.deciding.tick import Tick
from idlewatch.kernel import KernelTables
from idlewatch.model import Action, Activity, Decision, Finding, Reading, Surroundings
from idlewatch.signals.servers import ServersSignal
from idlewatch.watching.daemon import Daemon, judge
from tests.fakes import FastClock, Rehearsed, quiet
from tests.policy_life import LIMITS
from tests.test_signal_servers import server


class Scripted:
    name = "host"
    refines = False

    def __init__(self, *, fails: Exception | None = None, judges: bool = True, absent: str | None = None) -> None:
        self.fails, self.judges, self.absent = fails, judges, absent

    def read(self, now_s: float) -> Reading:
        if self.fails:
            raise self.fails
        return Reading(signal=self.name, at_s=now_s, covers_s=LIMITS.interval_s, absent=self.absent)

    def judge(self, reading: Reading) -> Finding:
        if not self.judges:
            raise KeyError("cpu_busy_s")
        return quiet(reading)

    def close(self) -> None: ...


class Remembering(Scripted):
    """Writes down what it is asked to judge."""

    def __init__(self, *, judges: bool = True, absent: str | None = None) -> None:
        super().__init__(judges=judges, absent=absent)
        self.judged: list[float] = []

    def judge(self, reading: Reading) -> Finding:
        self.judged.append(reading.at_s)
        return super().judge(reading)


class Ordered(Rehearsed):
    """Writes down, as the record and the actions, what came first."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def tick(self, report: Tick) -> None:
        self.order.append(f"wrote {report.decision.action.value}")

    def carry_out(self, decision: Decision, now_s: float) -> None:
        self.order.append(f"did {decision.action.value}")
        super().carry_out(decision, now_s)


def daemon(signal: Scripted, clock: FastClock, actions: Ordered) -> Daemon:
    return Daemon(
        clock=clock,
        signals=[signal],
        actions=actions,
        record=actions,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=LIMITS,
    )


@pytest.mark.parametrize(
    ("signal", "activity", "reason"),
    [
        (Scripted(fails=OSError("no such file")), Activity.UNKNOWN, "OSError: no such file"),
        (Scripted(judges=False), Activity.UNKNOWN, "can't be judged: KeyError: 'cpu_busy_s'"),
        (Scripted(absent="RUNPOD_GPU_COUNT=0"), Activity.ABSENT, "RUNPOD_GPU_COUNT=0"),
        (Scripted(), Activity.QUIET, "quiet"),
    ],
)
def test_a_signal_that_fails_is_unknown_and_never_quiet(signal: Scripted, activity: Activity, reason: str) -> None:
    found = daemon(signal, FastClock(), Ordered()).tick().findings[0]
    assert (found.activity, found.reason) == (activity, reason)


@pytest.mark.slow
def test_a_signal_that_fails_for_ever_never_stops_the_pod() -> None:
    clock, actions = FastClock(), Ordered()
    daemon(Scripted(fails=OSError("gone")), clock, actions).run(until=lambda: clock.now_s() > 86400)
    assert not actions.stopped
    assert set(actions.order) == {"wrote wait", "did wait"}


def test_an_idle_pod_is_stopped_and_each_step_is_written_down_before_it_is_begun() -> None:
    clock, actions = FastClock(), Ordered()
    daemon(Scripted(), clock, actions).run(until=lambda: actions.stopped)
    acted = [entry for entry in actions.order if not entry.endswith("wait")]
    steps = [Action.WARN.value, Action.SAVE.value, Action.STOP.value]
    assert acted == [entry for step in steps for entry in (f"wrote {step}", f"did {step}")]
    assert clock.now_s() == pytest.approx(LIMITS.idle_after_s + LIMITS.warn_for_s, abs=30)


def test_a_daemon_that_is_started_again_keeps_the_quiet_time() -> None:
    clock, actions = FastClock(), Ordered()
    first = daemon(Scripted(), clock, actions)
    first.run(until=lambda: clock.now_s() > 1000)
    again = Daemon(
        clock=clock,
        signals=[Scripted()],
        actions=actions,
        record=actions,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=LIMITS,
        state=first.state,
    )
    assert again.tick().decision.idle_for_s >= 990
    assert started(0.0).phase is again.state.phase


def test_the_judges_see_again_what_an_earlier_daemon_read() -> None:
    signal = Remembering()
    watch = daemon(signal, FastClock(), Ordered())
    watch.look_back(
        [Reading(signal="host", at_s=1.0), Reading(signal="gone", at_s=2.0), Reading(signal="host", at_s=3.0)]
    )
    assert signal.judged == [1.0, 3.0]


@pytest.mark.parametrize("judges", [True, False])
def test_a_judge_is_told_what_is_absent_so_that_it_forgets_and_the_verdict_stands(*, judges: bool) -> None:
    signal = Remembering(judges=judges, absent="no server runs here")
    found = daemon(signal, FastClock(), Ordered()).tick().findings[0]
    assert (found.activity, found.reason) == (Activity.ABSENT, "no server runs here")
    assert len(signal.judged) == 1


def test_an_idle_server_that_has_gone_lends_its_processes_to_nobody() -> None:
    signal = ServersSignal(Surroundings(), kernel=KernelTables())
    for at_s in (50_000.0, 50_030.0):
        judge(signal, Reading(signal="servers", at_s=at_s, covers_s=30.0, facts={"missing": [], "servers": [server()]}))
    assert signal._judge.idle_pids == {7, 8}
    judge(signal, Reading(signal="servers", at_s=50_060.0, absent="vLLM on port 8000 has ended, its port is closed"))
    assert signal._judge.idle_pids == frozenset()
