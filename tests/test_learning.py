"""IDLEWATCH_IDLE_AFTER=auto: from ticks to a wait, over restarts of the daemon and of the Pod."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlewatch.deciding import policy, remembered
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.patience import Gap, Stakes
from idlewatch.deciding.tick import Tick
from idlewatch.errors import SettingsError
from idlewatch.model import Action, Activity, Decision, Finding, Json
from idlewatch.settings import Loaded, Source, load
from idlewatch.watching import gaps
from idlewatch.watching.gaps import GAPS_FILE
from idlewatch.watching.learning import Learner
from tests.policy_life import LIMITS, finding
from tests.test_work import Pod, answer

T0 = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DAY_S = 86400.0
WARN_S = 60.0


def stakes(usd_per_hour: float) -> Stakes:
    return Stakes(usd_per_hour=usd_per_hour, restart_usd=usd_per_hour, least_s=300.0, most_s=7200.0, warn_s=WARN_S)


class World:
    """A learner and its clock."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.learner = Learner(folder, stakes=stakes, wall=self.wall, default_s=1800.0, warn_s=WARN_S)

    def wall(self) -> datetime:
        return T0 + timedelta(seconds=self.now_s)

    def tick(self, seconds: float, activity: Activity, usd_per_hour: float | None = 2.0) -> None:
        self.now_s += seconds
        idle_for_s = 0.0 if activity is Activity.ACTIVE else seconds
        self.learner.tick(
            Tick(
                moment=Moment(now_s=self.now_s, uptime_s=self.now_s, usd_per_hour=usd_per_hour),
                readings=(),
                findings=[Finding(signal="gpu", activity=activity, reason="")],
                decision=Decision(action=Action.WAIT, reason="", idle_for_s=idle_for_s),
                state=remembered.started(0.0),
                outcome=None,
                alarms=(),
            )
        )

    def live(self, days: int) -> None:
        """Each day ten pauses of ten minutes, and a night."""
        for _ in range(days):
            for _ in range(10):
                self.tick(5.0, Activity.ACTIVE)
                self.tick(595.0, Activity.QUIET)
            self.tick(5.0, Activity.ACTIVE)
            self.tick(DAY_S - 6005.0, Activity.QUIET)
        self.tick(5.0, Activity.ACTIVE)


def test_without_a_price_the_default_is_waited_for_and_that_is_said(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick(5.0, Activity.QUIET, usd_per_hour=None)
    assert world.learner.wait_s == 1800.0
    assert world.learner.chosen.why.startswith("the price of this Pod is not known (IDLEWATCH_USD_PER_HOUR sets it)")
    world.tick(5.0, Activity.QUIET, usd_per_hour=2.0)
    assert (world.learner.wait_s, world.learner.chosen.why[:6]) == (3540.0, "0 gaps")


def test_it_learns_from_what_it_sees_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tick(5.0, Activity.QUIET)
    assert world.learner.wait_s == 3540.0, "with the warning the break-even"
    world.live(days=4)
    assert world.learner.wait_s == pytest.approx(541.0), "and then a second after the longest pause"
    assert world.learner.gaps[0].waited_s == 3600.0, "the warning was waited for, too"
    assert "you came back within 10m" in world.learner.chosen.why


def test_within_a_gap_the_wait_stands_still(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.live(days=4)
    before = world.learner.chosen
    world.tick(5 * 3600.0, Activity.QUIET)
    assert world.learner.chosen is before


def test_what_was_learned_outlives_the_daemon_and_a_file_that_can_not_be_written_ends_nothing(tmp_path: Path) -> None:
    World(tmp_path).live(days=4)
    again = World(tmp_path)
    again.tick(5.0, Activity.QUIET)
    assert again.learner.wait_s == pytest.approx(541.0)
    gone = World(tmp_path / "no" / "folder")
    gone.live(days=4)
    assert gone.learner.wait_s == pytest.approx(541.0)


def test_the_policy_waits_as_long_as_was_learned_and_the_working_hours_stay_the_owners() -> None:
    def reason(idle_s: float, **changes: object) -> str:
        state = remembered.started(0.0)
        now_s = 0.0
        while now_s < idle_s:
            now_s += 5.0
            moment = replace(Moment(now_s=now_s, uptime_s=now_s + 5000.0), **changes)  # type: ignore[arg-type]
            state, decision = policy.decide(state, [finding(now_s)], moment, LIMITS)
            if decision.action is Action.WARN:
                return f"warned at {now_s:.0f}"
        return decision.reason

    assert reason(3000.0, learned_idle_after_s=900.0) == "warned at 900"
    assert reason(2500.0, learned_idle_after_s=3600.0) == "quiet for 41m 40s of 1h"
    limits = replace(LIMITS, working_idle_after_s=7200.0)
    _, decision = policy.decide(
        remembered.started(0.0),
        [finding(5.0)],
        Moment(now_s=5.0, uptime_s=5000.0, learned_idle_after_s=900.0, working=True),
        limits,
    )
    assert decision.reason == "quiet for 5s of 2h in working hours"


def loaded(**variables: str) -> Loaded:
    return load([Source(name="environment", variables=variables)])


def test_auto_is_a_setting_with_bounds() -> None:
    settings = loaded(IDLEWATCH_IDLE_AFTER="auto", IDLEWATCH_RESTART_UNLUCKY="12.5%").settings
    assert (settings.learns, settings.limits().idle_after_s, settings.restart_unlucky) == (True, 1800.0, 0.125)
    assert not loaded(IDLEWATCH_IDLE_AFTER="20m").settings.learns
    with pytest.raises(SettingsError, match="IDLEWATCH_AUTO_MOST=5m is shorter than IDLEWATCH_AUTO_LEAST=10m"):
        loaded(IDLEWATCH_AUTO_MOST="5m")
    with pytest.raises(SettingsError, match=r"IDLEWATCH_AUTO_LEAST=8s is shorter than two looks at .*INTERVAL=5s"):
        loaded(IDLEWATCH_IDLE_AFTER="auto", IDLEWATCH_AUTO_LEAST="8s")
    assert not loaded(IDLEWATCH_AUTO_LEAST="8s").settings.learns, "where nothing is learned it does not matter"
    with pytest.raises(SettingsError, match="IDLEWATCH_RESTART_UNLUCKY"):
        loaded(IDLEWATCH_RESTART_UNLUCKY="150%")


# ---------------------------------------------------------------- over the volume


@pytest.mark.slow
def test_gaps_go_to_the_volume_and_come_back_with_the_one_over_the_stop(tmp_path: Path) -> None:
    pod = Pod(tmp_path, {"IDLEWATCH_VOLUME": str(tmp_path / "volume"), "IDLEWATCH_SAVE_ROOT": str(tmp_path / "disk")})
    kept = Gap(began_s=1e9, lasted_s=600.0, waited_s=1800.0)
    (tmp_path / "state").mkdir(exist_ok=True)
    gaps.keep(tmp_path / "state" / GAPS_FILE, [kept])
    answer("archive", None, tmp_path, pod.settings)
    note: dict[str, Json] = {"boot_key": "another", "at": "2026-01-01T00:00:00+00:00", "idle_for_s": 2100.0}
    (tmp_path / "volume/.idlewatch/no-pod/last-stop.json").write_text(json.dumps(note))
    found = answer("look_back", None, tmp_path, pod.settings)["result"]["gaps"]
    assert found[0] == {"began_s": 1e9, "lasted_s": 600.0, "waited_s": 1800.0}
    assert (len(found), found[1]["waited_s"]) == (2, 2100.0)
    assert gaps.over_a_stop({**note, "answer": "refused"}, "now", datetime.now(UTC)) is None
