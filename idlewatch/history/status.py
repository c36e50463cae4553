"""What `status.json` says, read as the untyped JSON that it is: it may be another version's, or torn."""

from __future__ import annotations

from collections.abc import Mapping

from idlewatch.deciding.tick import longest_gap_s
from idlewatch.model import Json

_SLACK_S = 5.0
"""What another process's reading of the clock may lie ahead."""


def is_stale(status: Mapping[str, Json], now_s: float) -> bool:
    """Whether the daemon that wrote it has missed ticks: then nothing in it is true of now."""
    age_s, longest_s = now_s - number(status.get("at_s")), longest_gap_s(number(status.get("interval_s")))
    return "problems" in status or bool(status.get("ended")) or not -_SLACK_S <= age_s <= longest_s


def mapping(value: Json) -> Mapping[str, Json]:
    """An object of the status; empty where it has none."""
    return value if isinstance(value, dict) else {}


def number(value: Json) -> float:
    """A number of the status; 0 where it has none."""
    return float(value) if isinstance(value, int | float) else 0.0
