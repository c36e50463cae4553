"""Carries out nothing: answers at once that it only observes. That is the whole of IDLEWATCH_MODE=observe."""

from __future__ import annotations

from collections.abc import Callable

from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Decision, Json, Outcome


class ObservedActions:
    """Acts on nothing."""

    def __init__(self) -> None:
        """Nothing under way."""
        self._ready: Outcome | None = None

    def hear(self, report: Tick, pod_name: str | None = None) -> None:
        """Nobody is told."""

    def troubles(self) -> dict[str, str | None]:
        """None of telling."""
        return {}

    def ended(self, why: str, now_s: float) -> None:
        """Nobody is told."""

    def finish(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Nothing is under way."""

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Answer a save and a stop as observed; tell nobody anything."""
        del now_s
        if decision.action in (Action.SAVE, Action.STOP):
            reason = f"only observing: no {decision.action.value} was made"
            self._ready = Outcome(action=decision.action, ok=True, reason=reason, observed=True)

    def poll(self, now_s: float) -> Outcome | None:
        """The answer, once."""
        del now_s
        ready, self._ready = self._ready, None
        return ready

    def told(self) -> list[Json]:
        """Nothing happens."""
        return []

    def ask_to_end(self, now_s: float) -> None:
        """Nothing is under way."""

    def close(self, within_s: float = 0.0) -> None:
        """Nothing is under way."""
