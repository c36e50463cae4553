"""
Holds in the timeline: who placed one, why and until when; and when and why it ended.

A program that places and releases a hold again and again is told of once in ten minutes. What was placed is known
from the history after a restart, so no hold is told twice, and one that ended while no daemon watched is told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from idlewatch.durations import format_duration
from idlewatch.history.store import facts_of
from idlewatch.model import Hold, Json
from idlewatch.requests.holds import EndedHold

PLACED, ENDED = "hold placed", "hold ended"
_AGAIN_S = 600.0


class HoldEvents:
    """What is told of the holds of each tick, as events: `kind`, `text`, `facts`."""

    def __init__(
        self,
        happened: Callable[[str, str, Mapping[str, Json]], object],
        wall: Callable[[], datetime],
        known: Iterable[Hold] = (),
    ) -> None:
        """`known`: holds that were told of and have not ended, as `standing_in` finds them."""
        self._happened, self._wall = happened, wall
        self._told = {hold.id: hold for hold in known}
        self._lately: dict[tuple[str, str, int], tuple[float, int]] = {}
        """Program -> when a hold of its own was told of, and how many were not since."""
        self._untold: set[str] = set()

    @property
    def known(self) -> tuple[Hold, ...]:
        """Holds that stand as far as was told."""
        return tuple(self._told.values())

    def look(self, active: Iterable[Hold], ended: Iterable[EndedHold], now_s: float) -> None:
        """Tell what has changed since the last look."""
        for hold in active:
            if hold.id not in self._told and (more := self._worth_telling(hold, now_s)) is not None:
                self._placed(hold, more, now_s)
        for one in ended:
            self._untold.discard(one.id)
            if self._told.pop(one.id, None):
                facts: Mapping[str, Json] = {"id": one.id, "who": one.who, "reason": one.reason, "why": one.why}
                self._happened(ENDED, f"{one.who}: {one.why}{_for(one.reason)}", facts)

    def _worth_telling(self, hold: Hold, now_s: float) -> int | None:
        """How many like it were not told of since the last one; None: it is not told of either."""
        if hold.pid is None:
            return 0
        program = (hold.who, hold.reason, hold.pid)
        told_s, more = self._lately.get(program, (float("-inf"), 0))
        if now_s - told_s < _AGAIN_S:
            self._lately[program] = told_s, more + (hold.id not in self._untold)
            self._untold.add(hold.id)
            return None
        self._lately = {key: value for key, value in self._lately.items() if now_s - value[0] < _AGAIN_S}
        self._lately[program] = now_s, 0
        return more

    def _placed(self, hold: Hold, more: int, now_s: float) -> None:
        self._told[hold.id] = hold
        left_s = hold.until_s - now_s
        until = self._wall() + timedelta(seconds=left_s)
        with_ = f", or as long as process {hold.pid} runs" if hold.pid is not None else ""
        before = f"; {more} like it before" if more else ""
        span = f"until {until:%Y-%m-%d %H:%M} UTC ({format_duration(left_s)})"
        text = f"{hold.who} {span}{with_}{_for(hold.reason)}{before}"
        facts: Mapping[str, Json] = {
            "id": hold.id,
            "who": hold.who,
            "reason": hold.reason,
            "until_s": hold.until_s,
            "until": until.isoformat(),
            "pid": hold.pid,
        }
        self._happened(PLACED, text, facts)


def standing_in(state_dir: Path) -> Iterator[Hold]:
    """The holds that the history tells of as placed and not as ended."""
    standing: dict[str, Hold] = {}
    for kind, facts in facts_of(state_dir, (PLACED, ENDED)):
        id_, until_s, pid = str(facts.get("id")), facts.get("until_s"), facts.get("pid")
        if kind == ENDED:
            standing.pop(id_, None)
        elif isinstance(until_s, int | float):
            standing[id_] = Hold(
                id=id_,
                who=str(facts.get("who")),
                reason=str(facts.get("reason")),
                until_s=float(until_s),
                pid=pid if isinstance(pid, int) else None,
            )
    yield from standing.values()


def _for(reason: str) -> str:
    return f": {reason}" if reason else ""
