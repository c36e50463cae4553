"""What `status.json` says, read as the untyped JSON that it is: it may be another version's, or torn."""

from __future__ import annotations

from collections.abc import Mapping

from idlewatch.model import Json

STALE_TICKS = 3


def is_stale(status: Mapping[str, Json], now_s: float) -> bool:
    """Whether the daemon that wrote it has missed ticks: then nothing in it is true of now."""
    age_s, interval_s = now_s - number(status.get("at_s")), number(status.get("interval_s"))
    return "problems" in status or bool(status.get("ended")) or not -5.0 <= age_s <= STALE_TICKS * interval_s + 5.0


def mapping(value: Json) -> Mapping[str, Json]:
    """An object of the status; empty where it has none."""
    return value if isinstance(value, dict) else {}


def number(value: Json) -> float:
    """A number of the status; 0 where it has none."""
    return float(value) if isinstance(value, int | float) else 0.0
