"""The promises, held against a `pod_world.World` while it lives: by the truth of its story alone."""

from __future__ import annotations

from collections.abc import Sequence

from idlewatch.deciding.policy import NOT_CONFIRMED, SAVE_FAILED
from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Activity, Cause
from tests.pod_story import BORN_S, SIGNALS, Story, touch, within
from tests.pod_world import LIMITS, LONGEST_TICK_S, REQUEST_WARN_S, World, WorldTask

BLIND_SAID_S = 900.0
FORCED_SAVE_MAX_AGE_S = 900.0


class Promises:
    """Watches one life, and notes each promise that is not kept."""

    def __init__(self, told: Story) -> None:
        self.story = told
        self.broken: list[str] = []
        self.stops: list[float] = []
        self.last: Tick | None = None
        self._warned: tuple[float, Cause | None] | None = None
        self._save: WorldTask | None = None
        self._saved: tuple[float, float] | None = None
        self._accepted_s: float | None = None
        self._unknown_from_s: dict[str, float] = {}
        self._people_unknown_s = 0.0

    # ---------------------------------------------------------------- 2 and 3: at the stop call

    def stop_called(self, cause: Cause | None, now_s: float) -> None:
        self.stops.append(now_s)
        if self._warned is None:
            self._break(now_s, "a stop without a warning before it")
            return
        least_s = LIMITS.warn_for_s if cause is Cause.IDLE else min(REQUEST_WARN_S, LIMITS.warn_for_s)
        if now_s - self._warned[0] < least_s:
            self._break(now_s, f"a stop only {now_s - self._warned[0]:.0f} s after its warning")
        if self._saved is None or self._saved[1] > now_s:
            self._break(now_s, "a stop without a save")
        elif cause is Cause.IDLE:
            self._stopped_for_idleness(now_s, self._saved[0])
        else:
            self._stopped_all_the_same(cause, now_s, self._saved[1])

    def _stopped_for_idleness(self, now_s: float, saved_from_s: float) -> None:
        if within(self.story.holds, now_s - LONGEST_TICK_S) and within(self.story.holds, now_s):
            self._break(now_s, "a stop while a hold stands")
        for name in SIGNALS:
            newest_s = self._seen_use(name, now_s)
            if newest_s is None:
                continue
            if now_s - newest_s < LIMITS.idle_after_s:
                self._break(now_s, f"a stop {now_s - newest_s:.0f} s after {name} was used")
            if saved_from_s < newest_s:
                self._break(now_s, f"a stop on a save that is older than the use of {name}")

    def _seen_use(self, name: str, now_s: float) -> float | None:
        """
        The newest use that some reading must have told of; None where there is none.

        What is used only while no daemon lives is nobody's to see; a refining signal is not waited for without end.
        """
        if name == "people" and self._people_unknown_s >= LIMITS.connected_for_s:
            return None
        seen = [
            (from_s, min(to_s, now_s))
            for from_s, to_s in self.story.used[name]
            if from_s < now_s - LONGEST_TICK_S and not touch(self.story.deaths, from_s - 2 * LONGEST_TICK_S, to_s)
        ]
        return max((to_s for _, to_s in seen), default=None)

    def _stopped_all_the_same(self, cause: Cause | None, now_s: float, saved_to_s: float) -> None:
        reached = self.story.ceiling_s and now_s - BORN_S >= max(self.story.ceiling_s, 900.0) - LIMITS.warn_for_s
        if not reached and not touch(self.story.requests, now_s - LONGEST_TICK_S, now_s + LONGEST_TICK_S):
            self._break(now_s, f"a stop for {cause}, for which nobody asked")
        whole_to_s = [to_s for from_s, to_s in self.story.suspensions if from_s <= saved_to_s < to_s]
        if now_s - max([saved_to_s, *whole_to_s]) > FORCED_SAVE_MAX_AGE_S:  # no save ends while nothing runs
            self._break(now_s, "a stop on an old save")

    # ---------------------------------------------------------------- 4 and 5: at each tick

    def ticked(self, report: Tick, told: Sequence[str]) -> None:
        now_s, decision = report.moment.now_s, report.decision
        self.last = report
        if not decision.reason.strip() or decision.reason.rstrip().endswith(":"):
            self._break(now_s, f"no reason is given: {decision}")
        if decision.action is Action.WARN:
            self._warned = now_s, decision.cause
            if not any("will be stopped in" in text for text in told):
                self._break(now_s, "nobody was told the warning")
        if decision.action is Action.CANCEL:
            self._called_off(now_s, told)
        self._failed_loudly(report)
        self._says_it_lives(report)
        self._says_it_is_blind(report)

    def _called_off(self, now_s: float, told: Sequence[str]) -> None:
        self._warned = None
        if self._save is not None and self._save.under_way(now_s):
            self._break(now_s, "called off, and the save goes on")
        if not any("off" in text for text in told):
            self._break(now_s, "nobody was told that the stop is off")

    def _failed_loudly(self, report: Tick) -> None:
        outcome, now_s = report.outcome, report.moment.now_s
        if outcome is None or outcome.ok:
            return
        if outcome.action is Action.SAVE and SAVE_FAILED not in report.state.troubles:
            self._break(now_s, "a failed save is no trouble")
        if outcome.action is Action.STOP and not report.state.troubles:
            self._break(now_s, "a failed stop is no trouble")

    def _says_it_lives(self, report: Tick) -> None:
        """Once, at the first tick after the limit; whatever came between has ended that sequence."""
        now_s = report.moment.now_s
        if self._accepted_s is None or now_s < self._accepted_s:
            return
        if now_s - self._accepted_s > LIMITS.confirm_within_s + 2 * LONGEST_TICK_S:
            self._accepted_s = None
            if NOT_CONFIRMED not in report.state.troubles:
                self._break(now_s, "it lives on after an accepted stop, and does not say so")

    def _says_it_is_blind(self, report: Tick) -> None:
        now_s = report.moment.now_s
        for one in report.findings:
            if one.activity is not Activity.UNKNOWN:
                self._unknown_from_s.pop(one.signal, None)
                continue
            if one.signal == "people":
                self._people_unknown_s += LONGEST_TICK_S
            from_s = self._unknown_from_s.setdefault(one.signal, now_s)
            if (
                now_s - from_s > BLIND_SAID_S + 2 * LONGEST_TICK_S
                and f"blind:{one.signal}" not in report.state.troubles
            ):
                self._break(now_s, f"{one.signal} is blind for {now_s - from_s:.0f} s, and nobody is told")

    # ---------------------------------------------------------------- what the world says

    def save_began(self, task: WorldTask, now_s: float, ends_ok_s: float | None) -> None:
        self._save = task
        self._saved = None if ends_ok_s is None else (now_s, ends_ok_s)

    def accepted(self, at_s: float) -> None:
        self._accepted_s = at_s

    def daemon_died(self) -> None:
        """Its successor must warn and save anew."""
        self._warned = self._saved = self._save = self._accepted_s = None
        self._unknown_from_s = {}

    def over(self, world: World) -> None:
        """1: at the end of the life."""
        if world.ended_s is None and not (self.last and self.last.state.troubles):
            self._break(world.clock.at_s, "idle for hours, not stopped, and nothing is said")
        if not self.story.faulty and not self.story.requests:
            self._stopped_on_time(world)

    def _stopped_on_time(self, world: World) -> None:
        latest_s = self.story.calm_s + LIMITS.idle_after_s + LIMITS.warn_for_s + 240.0 + 120.0 + 160.0
        if world.ended_s is None or world.ended_s > latest_s:
            self._break(world.clock.at_s, f"all was well, and it was not stopped by {latest_s - BORN_S:.0f} s")

    def _break(self, at_s: float, text: str) -> None:
        self.broken.append(f"seed {self.story.seed}, {at_s - BORN_S:.0f} s after the start: {text}")
