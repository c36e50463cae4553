"""
What one GPU of this Pod draws while it does nothing: the floor that the energy vote is held against.

No table of idle watts per card is right: a context alone adds 26 to 66 W, and clocks, cooling and the driver move it.
So the floor is learned in this Pod, from its own readings at utilization 0, apart for the empty GPU and for what it
holds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTEXT_MIB = 200
"""A bare CUDA context takes 250 to 530 MiB; an empty GPU reads up to 3 MiB, or its reserve with old libraries."""
WINDOW_S = 60.0
MEMORY_S = 900.0
MARGIN_W = 6.0
MARGIN_SHARE = 0.05
GRAIN_S = 5.0
"""Readings that are closer together are kept as one segment."""
GAP_S = 0.5


@dataclass(slots=True)
class _Segment:
    from_s: float
    to_s: float
    joules: float
    mean_w: float | None = None
    """Mean over the 60 s up to its end; reckoned once, when the next segment begins."""


class PowerFloor:
    """The lowest 60 s mean power of the last 15 min at utilization 0; instants are the readings' own."""

    def __init__(self) -> None:
        self._segments: deque[_Segment] = deque()
        self._floor: tuple[float | None] | None = None
        """What `floor_w` said last; None since something was noted."""

    def note(self, at_s: float, span_s: float, watts: float) -> None:
        """Add `span_s` seconds up to `at_s` in which nothing ran."""
        self._floor = None
        new = _Segment(at_s - span_s, at_s, watts * span_s)
        last = self._segments[-1] if self._segments else None
        if last and new.from_s - last.to_s <= GAP_S and last.to_s - last.from_s < GRAIN_S:
            last.to_s, last.joules = new.to_s, last.joules + new.joules
        else:
            if last:
                last.mean_w = self._mean_w()
            self._segments.append(new)
        while self._segments and self._segments[0].to_s < at_s - MEMORY_S:
            self._segments.popleft()

    def forget(self) -> None:
        """Begin anew: what the GPU holds has changed, and with it what it draws."""
        self._floor = None
        self._segments.clear()

    def floor_w(self) -> float | None:
        """The floor in watts; None before 60 s in a row were seen at utilization 0."""
        if self._floor is None:
            closed = [segment.mean_w for segment in self._segments if segment.mean_w is not None]
            newest = self._mean_w()
            self._floor = (min(closed if newest is None else [*closed, newest], default=None),)
        return self._floor[0]

    def limit_w(self) -> float | None:
        """The mean power above which the GPU worked: the floor and max(6 W, 5 %); None without a floor."""
        floor_w = self.floor_w()
        return None if floor_w is None else floor_w + max(MARGIN_W, MARGIN_SHARE * floor_w)

    def _mean_w(self) -> float | None:
        """Mean over the shortest run of adjoining segments up to the newest that is 60 s long."""
        joules = seconds = 0.0
        following: _Segment | None = None
        for segment in reversed(self._segments):
            if following and following.from_s - segment.to_s > GAP_S:
                return None
            joules, seconds = joules + segment.joules, seconds + segment.to_s - segment.from_s
            if seconds >= WINDOW_S:
                return joules / seconds
            following = segment
        return None


class Idle(NamedTuple):
    """What an idle GPU of this Pod draws, and the power above which it worked."""

    watts: float
    limit_w: float


class Floors:
    """
    One floor for the empty GPU and one for what it holds now.

    A context alone adds up to 66 W: with another process or another 200 MiB what it holds has changed, and that floor
    is learned anew. That of the empty GPU stays, for when it is empty again.
    """

    def __init__(self) -> None:
        self._empty, self._held = PowerFloor(), PowerFloor()
        self._processes: int | None = None
        self._held_mib: float | None = None

    def follow(self, gpu: Mapping[str, Any]) -> None:
        """Take notice of what the GPU holds; what can't be read has not changed."""
        processes, mib = gpu.get("processes"), gpu.get("mem_used_mib")
        changed = processes is not None and processes != self._processes
        changed = changed or (mib is not None and (self._held_mib is None or abs(mib - self._held_mib) > CONTEXT_MIB))
        if not changed:
            return
        self._processes = self._processes if processes is None else processes
        self._held_mib = self._held_mib if mib is None else mib
        if not self.empty:
            self._held.forget()

    @property
    def empty(self) -> bool:
        """Whether it is known that no process holds the GPU."""
        return self._held_mib is not None and self._held_mib < CONTEXT_MIB and not self._processes

    def note(self, at_s: float, span_s: float, watts: float) -> None:
        """Add a stretch in which nothing ran; see PowerFloor."""
        self._now.note(at_s, span_s, watts)

    def limit_w(self) -> float | None:
        """The mean power above which the GPU worked, as it is now; None where it is not known."""
        return self._now.limit_w()

    def idle(self) -> Idle | None:
        """What it draws when idle as it is now, or else when empty; None where neither is known."""
        for floor in (self._now, self._empty):
            watts, limit_w = floor.floor_w(), floor.limit_w()
            if watts is not None and limit_w is not None:
                return Idle(watts, limit_w)
        return None

    @property
    def _now(self) -> PowerFloor:
        return self._empty if self.empty else self._held
