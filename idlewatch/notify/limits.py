"""How often people are told of the same: pure. A warning, and what becomes of it, is never left out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WITHIN_S = 3600.0
OF_ONE_NAME = 3
"""Alarms of one name within that time: a ceiling that comes near has three steps."""
OF_ALL = 20
"""Alarms of all names within that time."""


@dataclass(slots=True)
class _Told:
    at_s: deque[float] = field(default_factory=deque)
    text: str = ""
    left_out: int = 0


class AlarmLimits:
    """Remembers what was told when; instants are seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Told] = {}
        self._all_s: deque[float] = deque()

    def takes(self, name: str, text: str, now_s: float) -> int | None:
        """
        Whether an alarm may be told now: how often it was left out since it last was; None: leave it out.

        The same words are told once within the time, other words of the same name a few times.
        """
        told = self._by_name.setdefault(name, _Told())
        for instants in (told.at_s, self._all_s):
            _forget(instants, now_s)
        same = bool(told.at_s) and told.text == text
        if same or len(told.at_s) >= OF_ONE_NAME or len(self._all_s) >= OF_ALL:
            told.left_out += 1
            return None
        told.at_s.append(now_s)
        self._all_s.append(now_s)
        told.text, left_out, told.left_out = text, told.left_out, 0
        return left_out

    def due(self, name: str, text: str, now_s: float) -> bool:
        """Whether an alarm that was left out may be told by now."""
        told = self._by_name.get(name)
        if told is None or not told.left_out or told.text == text:
            return False
        for instants in (told.at_s, self._all_s):
            _forget(instants, now_s)
        return len(told.at_s) < OF_ONE_NAME and len(self._all_s) < OF_ALL


def _forget(instants: deque[float], now_s: float) -> None:
    while instants and instants[0] < now_s - WITHIN_S:
        instants.popleft()
