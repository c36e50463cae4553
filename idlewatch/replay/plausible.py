"""What no GPU can have done. A figure that is none is a mistake in the file, and would be judged like any other."""

from __future__ import annotations

from typing import Any

from idlewatch.model import Reading

MOST_PCT = 101.0
"""A ratio of two counters can come out a hair above 1."""


def refuse_percent(value: float, name: str = "utilization") -> None:
    """Raise ValueError where this is no utilization; NaN is one that is not known."""
    if value < 0 or value > MOST_PCT:
        raise ValueError(f"{name}: {value:g} is no utilization in percent of one GPU, 0 to 100")


def refuse_facts(facts: Any, above: str = "") -> None:
    """As `refuse_percent`, for all that a reading of the GPUs says; `above`: the name of what it stands in."""
    if isinstance(facts, dict):
        for name, value in facts.items():
            refuse_facts(value, name if name.endswith("_pct") or not above.endswith("_pct") else above)
    elif isinstance(facts, list):
        for one in facts:
            refuse_facts(one)
    elif above.endswith("_pct") and isinstance(facts, int | float):
        refuse_percent(facts, above)


def refuse_reading(reading: Reading) -> None:
    """As `refuse_percent`, for a reading of any signal."""
    if reading.signal == "gpu":
        refuse_facts(dict(reading.facts))
