"""Judges which Pod this is, whether it may be stopped, and whether this shell and the daemon agree. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines
from idlewatch.doctor.looking import Seen
from idlewatch.history.status import mapping, number
from idlewatch.model import Json
from idlewatch.settings import written

_SAY = Lines(Group.POD)
_SHELL = "environment"
"""The source that is this shell's own environment, see `settings.pod_sources`."""
_RUNNING = "RUNNING"


def pod_lines(here: Here, api: Seen) -> Iterator[Line]:
    """What it is, its id, its state at the provider, and the variables here and there."""
    yield _kind(here)
    if here.pod.pod_id is not None:
        yield _identity(here)
        yield from _state(api)
    if not here.root:
        text = "you are not root, who would see more: what this user can't read or write says little of the daemon"
        yield _SAY.unproven("user", text, "run this as root")
    yield _environment(here)
    yield from _hours(here)


def _hours(here: Here) -> Iterator[Line]:
    """Working hours with their zone: one that was not named is easily taken for one's own."""
    settings = here.loaded.settings
    if settings.working_hours:
        quiet = settings.working_idle_after
        then = f"the warning comes after {written(quiet)} of quiet" if quiet else "idleness never stops this Pod"
        yield _SAY.ok("hours", f"working hours are {settings.working_hours}: in them {then}")


def _kind(here: Here) -> Line:
    if here.refusal is None:
        return _SAY.ok("kind", f"RunPod Pod {here.pod.pod_id}, which may be stopped from inside")
    if any(name.startswith("RUNPOD_") for name in here.loaded.pod_variables()):
        return _SAY.broken(
            "kind", f"nothing here will be stopped: {_before_remedy(here.refusal)}", _remedy(here.refusal)
        )
    text = "no Pod of RunPod's: none of its variables is set here, so nothing can be stopped and nothing is asked"
    remedy = (
        "on your own machine try `idlewatch demo`; inside a Pod run this as root, who finds them in /proc/1/environ"
    )
    return _SAY.broken("kind", text, remedy)


def _before_remedy(refusal: str) -> str:
    return refusal.rpartition(". ")[0] or refusal.rpartition("; ")[0] or refusal


def _remedy(refusal: str) -> str:
    return refusal.rpartition(". ")[2] if ". " in refusal else refusal.rpartition("; ")[2]


def _identity(here: Here) -> Line:
    pod_id, daemons = here.pod.pod_id, (here.status or {}).get("pod_id")
    if here.running and daemons != pod_id:
        text = f"two Pods: {pod_id} by {here.pod.source}, but the daemon watches {daemons or 'without a Pod id'}"
        return _SAY.broken("id", text, "restart the daemon where RUNPOD_POD_ID is right")
    daemon = "; the daemon has the same" if here.running else ""
    if here.pod.source == _SHELL:
        return _SAY.ok("id", f"its id is in this shell's environment{daemon}")
    return _SAY.ok("id", f"its id is not in this shell's environment, and was found in {here.pod.source}{daemon}")


def _state(api: Seen) -> Iterator[Line]:
    """What reading it at the provider says of it; nothing where it could not be read (that is another group's)."""
    facts, forbids = mapping(api.said.get("pod")), api.said.get("forbids")
    if not facts:
        return
    if forbids:
        what, _, remedy = str(forbids).rpartition("; ")
        yield _SAY.broken("state", what, remedy)
        return
    told = f"{facts.get('status')} by RunPod's API{_price(facts)}"
    if not api.said.get("lock_known"):
        text = f"{told}; whether it is locked or in a cluster only REST v2 tells, which did not let it be read"
        yield _SAY.warning("state", text, "see in RunPod's console that it is not locked")
        return
    if facts.get("status") != _RUNNING:
        text = f"{told}, but this machine runs: the id may be another Pod's, or the API is behind"
        yield _SAY.warning("state", text, "compare RUNPOD_POD_ID with the Pod in RunPod's console")
        return
    yield _SAY.ok("state", f"{told}, neither locked nor in a cluster")


def _price(facts: Mapping[str, Json]) -> str:
    price = facts.get("usd_per_hour")
    return f", ${number(price):.2f} an hour" if price else ""


def _environment(here: Here) -> Line:
    """Whether a daemon here was told the same as this shell would tell it."""
    if here.differs_because:
        text = f"this shell's own variables are wrong, though the daemon runs with others: {here.differs_because}"
        return _SAY.warning("environment", text, "correct or unset them here")
    differing = [f"{name} is {mine} here and {theirs} in the daemon" for name, mine, theirs in here.differing]
    if any(key.name.startswith("IDLEWATCH_") for key in here.keys) and here.daemon_own_key is False:
        differing.append("IDLEWATCH_RUNPOD_API_KEY is set here and not in the daemon")
    if differing:
        text = f"{'; '.join(differing)}: what is set in a shell does not reach a daemon that runs"
        return _SAY.warning("environment", text, "set it for the Pod (or where the daemon is started), and restart it")
    if here.unreadable:
        text = f"what the daemon was told can't be compared: this user can't read {here.unreadable}"
        return _SAY.unproven("environment", text, "run this as root")
    if here.daemon_told and here.unknown_secrets:
        text = f"the daemon was told the same as this shell knows, and has {', '.join(here.unknown_secrets)} besides"
        return _SAY.ok("environment", text)
    if here.daemon_told:
        return _SAY.ok("environment", "the daemon was told the same as this shell knows")
    sources = {source.name for source in here.loaded.sources if source.variables and source.name != _SHELL}
    return _SAY.ok("environment", f"variables come from {' and '.join(['this shell', *sorted(sources)])}")
