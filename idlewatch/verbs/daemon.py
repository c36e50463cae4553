"""The daemon as the verbs see it: whether one watches here, and what a hold or a stop comes to with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from idlewatch.deciding.remedies import to_keep_up
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Cause, Json, Phase
from idlewatch.requests.stop_requests import request_file
from idlewatch.settings import Mode
from idlewatch.state_folder import daemon_watches, said_by_daemon
from idlewatch.watching.unwritten import fault_of, remedy_for

NONE_WATCHES = (
    "no daemon watches here now: the hold is kept for one that is started before it ends; `idlewatch run` starts it"
)
_HANGS = (
    "a daemon runs here, but has not looked at this Pod lately: it hangs or is only starting; see `idlewatch status`"
)


def watching(state_dir: Path) -> Mapping[str, Json] | None:
    """What the daemon that watches here says; None where none does, or where it has not looked lately."""
    return said_by_daemon(state_dir, MachineClock().now_s())


def only_observes(said: Mapping[str, Json]) -> bool:
    """Whether that daemon acts on nothing."""
    return said.get("mode") == Mode.OBSERVE


def not_looking(state_dir: Path) -> str:
    """Why nothing is heard of a daemon that lives, as far as that can be told from here."""
    fault = fault_of(state_dir)
    if fault is None:
        return _HANGS
    return f"{state_dir} can't be written ({fault}), so nothing can be asked of the daemon: {remedy_for(fault)}"


def in_vain(state_dir: Path) -> str | None:
    """What to tell somebody whose hold does not keep this Pod up now; None where it does."""
    if not daemon_watches(state_dir):
        return NONE_WATCHES
    said = watching(state_dir)
    if said is None:
        return not_looking(state_dir)
    if only_observes(said) or said.get("phase") == Phase.WATCHING:
        return None
    being_stopped, cause = f"this Pod is being stopped ({said.get('reason')})", said.get("cause")
    if cause == Cause.REQUEST:
        if not request_file(state_dir).exists():
            return None  # taken back since the daemon looked
        return f"{being_stopped}; a hold does not help here: {to_keep_up(cause)}"
    if cause == Cause.CEILING:
        why = str(said.get("why") or said.get("reason"))
        return f"{being_stopped}; {to_keep_up(cause, why)}"
    if said.get("phase") == Phase.STOPPING:
        return f"{being_stopped}, and RunPod has been asked already: the hold may come too late"
    return None
