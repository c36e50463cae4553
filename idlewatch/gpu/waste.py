"""
A waste, never a verdict: GPUs that had little of the work of an hour while another one of this Pod was at it.

Any GPU at work keeps the Pod up, and all of them are billed. What decides is each GPU's `util_mean_pct` over its
`covered_s`, summed over an hour: below half of the busiest one's mean, which itself was at work. Nothing is said where
a GPU was not seen for most of that hour, as with MIG. Half is a guess that leaves out the unevenness of work that is
meant to be even: the eight GPUs of a recorded training (benchmarks/data) differ by 1 % of their mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.gpu.unseen import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idlewatch.gpu.unseen import Facts

HOUR_S = 3600.0
LEAST_SHARE = 0.5
"""Of the busiest GPU's mean: who worked less than that was hardly needed."""
WORKED_PCT = 5.0
"""The busiest GPU's mean above which the Pod's GPUs were at work."""
_LEAST_SEEN = 0.8
"""Of the hour."""
_LABELS_MAX = 3


class Waste:
    """Sums up one hour after the other; what an hour showed is said until the next one is over."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._worked: dict[str, tuple[float, float]] = {}
        """GPU -> percent times seconds, and seconds."""
        self._told: str | None = None

    def look(self, gpus: Sequence[Facts], at_s: float) -> str | None:
        """Return what people should hear of the last whole hour; None where every GPU had its share, or none any."""
        if self._since_s is None:
            self._since_s = at_s
        for place, gpu in enumerate(gpus):
            percent, span_s = gpu.get("util_mean_pct"), gpu.get("covered_s")
            done, seen_s = self._worked.get(label(gpu, place), (0.0, 0.0))
            if percent is not None and span_s is not None and not gpu.get("error"):
                done, seen_s = done + percent * span_s, seen_s + span_s
            self._worked[label(gpu, place)] = done, seen_s
        if at_s - self._since_s >= HOUR_S:
            self._told = _told(self._worked, at_s - self._since_s)
            self._since_s, self._worked = at_s, {}
        return self._told


def _told(worked: Mapping[str, tuple[float, float]], span_s: float) -> str | None:
    if len(worked) < 2 or any(seen_s < _LEAST_SEEN * span_s for _, seen_s in worked.values()):
        return None
    means = {name: done / seen_s for name, (done, seen_s) in worked.items()}
    busiest = max(means, key=lambda name: means[name])
    idle = [name for name, mean in means.items() if mean < LEAST_SHARE * means[busiest]]
    if means[busiest] <= WORKED_PCT or not idle:
        return None
    who = ", ".join(idle) if len(idle) <= _LABELS_MAX else f"{len(idle)} of {len(means)} GPUs"
    most = max(means[name] for name in idle)
    return (
        f"{who} worked {most:.0f} % of the last hour{' at most' if len(idle) > 1 else ''}, {busiest} "
        f"{means[busiest]:.0f} %: all {len(means)} are billed"
    )
