"""Hand-written stand-ins that several test modules use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from idlewatch.model import Action, Activity, Decision, Finding, Outcome, Reading


class FastClock:
    """A clock that `sleep` moves."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    def wall(self) -> datetime:
        return datetime(2026, 11, 20, 17, 0, tzinfo=UTC) + timedelta(seconds=self._now_s)

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds


class Rehearsed:
    """Actions that answer at once and touch nothing."""

    def __init__(self) -> None:
        self.stopped = False
        self._outcome: Outcome | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        if decision.action is Action.SAVE:
            self._outcome = Outcome(action=Action.SAVE, ok=True, reason="rehearsed", save_began_s=now_s)
        if decision.action is Action.STOP:
            self._outcome = Outcome(action=Action.STOP, ok=True, reason="rehearsed")
            self.stopped = True

    def poll(self, now_s: float) -> Outcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def close(self) -> None: ...


def quiet(reading: Reading) -> Finding:
    """The verdict that nothing happened over what a reading covers."""
    return Finding(
        signal=reading.signal,
        activity=Activity.QUIET,
        reason="quiet",
        seen_from_s=reading.at_s - reading.covers_s,
        seen_to_s=reading.at_s,
    )
