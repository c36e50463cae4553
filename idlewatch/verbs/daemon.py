"""The daemon as the verbs see it: whether one watches here, and what a hold or a stop comes to with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from idlewatch.history import status_of
from idlewatch.model import Cause, Json, Phase
from idlewatch.settings import Mode
from idlewatch.show.status import is_stale
from idlewatch.watch import MachineClock

NONE_WATCHES = (
    "no daemon watches here now: the hold is kept for one that is started before it ends; `idlewatch run` starts it"
)


def watching(state_dir: Path) -> Mapping[str, Json] | None:
    """What the daemon that watches here says; None where none does."""
    said = status_of(state_dir)
    return None if said is None or is_stale(said, MachineClock().now_s()) else said


def only_observes(said: Mapping[str, Json]) -> bool:
    """Whether that daemon acts on nothing."""
    return said.get("mode") == Mode.OBSERVE


def in_vain(state_dir: Path) -> str | None:
    """What to tell somebody whose hold does not keep this Pod up now; None where it does."""
    said = watching(state_dir)
    if said is None:
        return NONE_WATCHES
    if only_observes(said) or said.get("phase") == Phase.WATCHING:
        return None
    being_stopped = f"this Pod is being stopped ({said.get('reason')})"
    if said.get("cause") == Cause.REQUEST:
        return f"{being_stopped}, and a hold does not keep it up: `idlewatch stop --cancel` takes the request back"
    if said.get("cause") == Cause.CEILING:
        return (
            f"{being_stopped}, and a hold does not keep it up: only a higher IDLEWATCH_MAX_UPTIME or"
            " IDLEWATCH_BUDGET_USD does, and the daemon started again with it"
        )
    if said.get("phase") == Phase.STOPPING:
        return f"{being_stopped}, and RunPod has been asked already: the hold may come too late"
    return None
