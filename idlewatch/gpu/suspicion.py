"""
A suspicion, never a verdict: a GPU that is 100 % busy at next to its idle power, with nothing changing, may hang.

A collective that waits for ever keeps a kernel running (utilization 100 %) that does no work (70 W, and 40 to 47 W of
250, were seen: NVIDIA/nccl#968, horovod/horovod#3611). It stays ACTIVE: only people can tell a hang from patience.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from idlewatch.gpu.floor import MARGIN_SHARE, MARGIN_W

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.gpu.floor import Idle
    from idlewatch.gpu.unseen import Facts

FULL_PCT = 99.0
SUSPECT_AFTER_S = 1800.0
GAP_S = 60.0
"""A longer stretch without a reading may hide a change."""
IDLE_SHARE = 0.2
"""Of the power limit: what counts as near idle where no idle power of this context is known."""


class _Same(NamedTuple):
    since_s: float
    watts: float
    mem_used_mib: int | None
    processes: int | None


class Suspicion:
    """Follows one GPU; forgets everything at the first change."""

    def __init__(self) -> None:
        self._same: _Same | None = None
        self._last_s = 0.0

    def look(self, gpu: Facts, at_s: float, idle: Callable[[], Idle | None]) -> str | None:
        """What to tell people; None where there is nothing to suspect. `idle`: what it draws then, None: not known."""
        watts = gpu.get("power_mean_w")
        if gpu.get("util_mean_pct") is None or watts is None or gpu.get("error"):
            return None
        busy = gpu["util_mean_pct"] >= FULL_PCT and not any(gpu.get("engines_max_pct", {}).values())
        near = _near_idle(watts, idle(), gpu.get("power_limit_w")) if busy else None
        if near is None:
            self._same = None
            return None
        now = _Same(at_s, watts, gpu.get("mem_used_mib"), gpu.get("processes"))
        if self._same is None or at_s - self._last_s > GAP_S or _changed(self._same, now):
            self._same = now
        self._last_s = at_s
        for_s = at_s - self._same.since_s
        if for_s < SUSPECT_AFTER_S:
            return None
        return (
            f"100 % busy at {watts:.0f} W, {near}, for {for_s / 60:.0f} min with nothing changing: busy, but maybe hung"
        )


def _changed(before: _Same, now: _Same) -> bool:
    steady = abs(now.watts - before.watts) <= max(MARGIN_W, MARGIN_SHARE * before.watts)
    return not steady or (before.mem_used_mib, before.processes) != (now.mem_used_mib, now.processes)


def _near_idle(watts: float, idle: Idle | None, power_limit_w: float | None) -> str | None:
    """How near to idle that power is, in words; None where it is not."""
    if idle is not None and watts <= idle.limit_w:
        return f"near its idle power of {idle.watts:.0f} W"
    if power_limit_w and watts <= IDLE_SHARE * power_limit_w:
        return f"{100 * watts / power_limit_w:.0f} % of the {power_limit_w:.0f} W that it may draw"
    return None
