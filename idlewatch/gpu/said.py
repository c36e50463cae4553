"""
What a line says of one GPU, before and after it was read.

Runs in the child process and imports next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idlewatch.gpu import METRICS
from idlewatch.gpu.words import listed

if TYPE_CHECKING:
    from idlewatch.gpu.words import MetricError

COVERS_AT_MOST_S = 15.0
"""The sample ring is 16 to 20 s deep: what a longer gap held is lost."""
TAP_S = 1.0
"""Seconds that one instant reading stands for on a GPU without a ring (cards seen average over 1/6 to 1 s)."""


def nothing_said(index: int, uuid: str, name: str, kind: str) -> dict[str, Any]:
    """What a line says of a GPU before anything of it was read."""
    return {
        "index": index,
        "uuid": uuid,
        "name": name,
        "kind": kind,
        "mig": False,
        "virtual": None,
        "instant": False,
        "instances": [],
        "util_max_pct": None,
        "util_second_pct": None,
        "util_mean_pct": None,
        "samples": 0,
        "covered_s": 0.0,
        "ring_span_s": None,
        "ring_period_s": None,
        "engines_max_pct": {},
        "energy_total_mj": None,
        "power_w": None,
        "power_limit_w": None,
        "mem_used_mib": None,
        "mem_total_mib": None,
        "processes": None,
        "not_readable": {},
        "unsupported": [],
        "error": None,
    }


class Troubles:
    """What went wrong in one poll: what makes the GPU unseen, and what each metric lacked."""

    def __init__(self) -> None:
        self.lost = False
        self._errors: dict[str, list[str]] = {}
        self._missing: dict[str, str] = {}
        self._unsupported: list[str] = []

    def failed(self, metric: str, error: MetricError) -> None:
        """A metric without which the GPU was not seen."""
        if error.lost:
            self.lost = True
            self._missing = {**dict.fromkeys(METRICS, str(error)), **self._missing}
        self._errors.setdefault(str(error), []).append(metric)
        self._missing.setdefault(metric, str(error))

    def lacks(self, metric: str, why: str, *, for_good: bool) -> None:
        """A metric that gave nothing."""
        self._missing.setdefault(metric, why)
        if for_good:
            self._unsupported.append(metric)

    def into(self, said: dict[str, Any]) -> dict[str, Any]:
        """The line's object with its troubles."""
        said.update(error=listed(self._errors), not_readable=self._missing, unsupported=self._unsupported)
        return said
