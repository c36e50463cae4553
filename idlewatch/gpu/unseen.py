"""Why it can't be said from the driver's readings that GPUs were idle: in words that stand alone in an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from idlewatch.gpu import UTILIZATION

if TYPE_CHECKING:
    from collections.abc import Mapping

Facts: TypeAlias = "Mapping[str, Any]"
"""Facts of a reading, or of one GPU in it."""
STANDS_ASIDE = "I will not stop this Pod on GPU evidence"


def of_pod(facts: Facts) -> list[str]:
    """Every reason once, with the GPUs that it is said of; empty where every GPU was seen."""
    gpus = facts.get("gpus", [])
    missing = of_missing(facts, len(gpus))
    said_of: dict[str, list[str]] = {}
    for place, gpu in enumerate(gpus):
        why = of_gpu(gpu)
        if why:
            said_of.setdefault(why, []).append(label(gpu, place))
    return [*([missing] if missing else []), *(f"{', '.join(labels)} {why}" for why, labels in said_of.items())]


def label(gpu: Facts, place: int) -> str:
    """`gpu0`; `place` is its place in the list, for recordings that number none."""
    return f"gpu{gpu.get('index', place)}"


def of_gpu(gpu: Facts) -> str | None:
    """Why it can't be said that this GPU was idle; None where it can."""
    if gpu.get("error"):
        return str(gpu["error"])
    why = gpu.get("not_readable", {}).get(UTILIZATION)
    if gpu.get("mig"):
        return _of_mig(gpu, why)
    if UTILIZATION in gpu.get("unsupported", []):
        virtual = f" of a {gpu['virtual']}" if gpu.get("virtual") else ""
        own_words = f" ({why})" if why else ""
        return f"utilization{virtual} can't be read: not supported or not permitted here{own_words}; {STANDS_ASIDE}"
    return "has no utilization reading" if gpu.get("util_max_pct") is None else None


def _of_mig(gpu: Facts, why: str | None) -> str | None:
    parts = gpu.get("instances", [])
    if why is None and parts and all(part.get("util_mean_pct") is not None for part in parts):
        return None
    if why is None and UTILIZATION not in gpu.get("unsupported", []):
        return "MIG: its counters have only begun"
    blind = why or "MIG: how busy its instances are is not told"
    return f"{blind}; {STANDS_ASIDE}"


def of_missing(facts: Facts, listed: int) -> str | None:
    """Why not every GPU that must be there was seen; None where all were."""
    if facts.get("lost"):
        return str(facts["lost"])
    if facts.get("found_error"):
        return f"GPUs can't be counted: {facts['found_error']}"
    found, expected = facts.get("found", listed), facts.get("expected", listed)
    found = listed if found is None else min(found, listed)
    if found >= max(expected, 1):
        return None
    gone = f": {', '.join(facts['gone'])} is gone" if facts.get("gone") else ""
    if not found:
        return f"the driver lists no GPU of {expected} expected{gone}"
    return f"only {found} of {expected} GPUs found{gone}"
