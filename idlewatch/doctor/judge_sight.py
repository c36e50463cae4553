"""Judges what each signal sees of this Pod's use, and what this container shows of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines
from idlewatch.doctor.looking import Seen
from idlewatch.history.status import mapping, number
from idlewatch.model import FIRST_READING, Activity, Json

_SAY = Lines(Group.SIGHT)


def sight_lines(here: Here, signals: Seen, machine: Seen) -> Iterator[Line]:
    """Each signal, the GPUs' driver, the cgroup's counters, and whose processes are seen."""
    found = mapping((here.status or {}).get("signals")) if here.running else mapping(signals.said.get("signals"))
    for name, refines in here.watched.items():
        yield _signal(name, mapping(found.get(name)), refines=refines, why=signals.missing)
    ignored = here.loaded.settings.ignore
    if ignored:
        text = f"left out by IDLEWATCH_IGNORE: {', '.join(ignored)}; what they would see is not seen"
        yield _SAY.warning("ignored", text, "unset IDLEWATCH_IGNORE once they are not wanted out any more")
    gpu = here.gpu if here.running else mapping(found.get("gpu")).get("gpu")
    yield from _driver(mapping(gpu))
    yield from _machine(machine)


def _signal(name: str, found: Mapping[str, Json], *, refines: bool, why: str | None) -> Line:
    key, reason = f"signal:{name}", str(found.get("reason") or why or "it gave no reading")
    match found.get("activity"):
        case Activity.ABSENT:
            return _SAY.ok(key, f"{name} has nothing to see here: {reason}")
        case Activity.ACTIVE | Activity.QUIET as activity:
            return _SAY.ok(key, f"{name} sees, {activity}: {reason}")
    if reason == FIRST_READING:
        return _SAY.unproven(
            key, f"{name} has only just begun to look: two readings tell", "run this again in a minute"
        )
    if refines:
        text = (
            f"{name} is blind: {reason}; that keeps the warning away for IDLEWATCH_CONNECTED_FOR, then it is left aside"
        )
        return _SAY.warning(key, text, f"mend it, or leave it out: IDLEWATCH_IGNORE={name}")
    text = f"{name} is blind: {reason}; as long as it is, this Pod is kept up and billed"
    return _SAY.broken(key, text, f"mend it, or set IDLEWATCH_MAX_UPTIME; IDLEWATCH_IGNORE={name} goes without it")


def _driver(gpu: Mapping[str, Json]) -> Iterator[Line]:
    """What the driver lets be read, as far as a reading was had."""
    listed = gpu.get("gpus")
    cards = [mapping(card) for card in listed] if isinstance(listed, list) else []
    if not cards:
        return
    expected, found = int(number(gpu.get("expected"))), len(cards)
    names = ", ".join(sorted({str(card.get("name")) for card in cards}))
    driver = f" by driver {gpu['driver']}" if gpu.get("driver") else ""
    text = f"{found} of {max(expected, found)} GPUs are read{driver}: {names}"
    if found < expected:
        yield _SAY.broken("driver", text, "restart the Pod; RunPod may have to move it to another machine")
        return
    split = [card for card in cards if card.get("mig")]
    unread = sorted({str(metric) for card in cards for metric in _list(card.get("not_readable"))})
    if split:
        parts = sum(int(number(card.get("instances"))) for card in split)
        text = f"{text}; split by MIG, {parts} instances seen: the driver tells no utilization of those"
        remedy = (
            "IDLEWATCH_GPU_GPM=true asks in another way, where the container may; energy and memory are read anyway"
        )
        yield _SAY.warning("driver", text, remedy)
    elif "utilization" in unread:
        yield _SAY.warning("driver", f"{text}; not readable: {', '.join(unread)}", "energy and memory have to tell")
    else:
        yield _SAY.ok("driver", text + (f"; not readable: {', '.join(unread)}" if unread else ""))


def _machine(machine: Seen) -> Iterator[Line]:
    cgroup = mapping(machine.said.get("cgroup"))
    if not cgroup:
        yield _SAY.warning("machine", f"this machine could not be looked at: {machine.missing}", "try again")
        return
    yield _cgroup(cgroup)
    if "namespace" in machine.said:
        yield _processes(machine.said)
    else:
        text = f"processes could not be looked at: {machine.missing}"
        yield _SAY.warning("processes", text, "a process that hangs in the kernel may be in the way; see `ps`")


def _cgroup(cgroup: Mapping[str, Json]) -> Line:
    if cgroup.get("error"):
        text = f"this container's cgroup can't be found: {cgroup['error']}"
        return _SAY.warning(
            "cgroup", text, "use of CPU, disk and memory can't be told from the host's; see signal host"
        )
    names = {"cpu": "CPU", "memory": "memory", "disk": "disk"}
    missing = [words for name, words in names.items() if not cgroup.get(name)]
    version = f"cgroup v{cgroup['version']}" if cgroup.get("version") else "no cgroup"
    if missing == list(names.values()):
        text = f"{version} counts here; CPU time is summed over the visible processes instead"
        return _SAY.warning("cgroup", text, "none is needed; disk and memory stay unseen")
    if missing:
        text = f"{version} counts, but not {' and '.join(missing)}"
        return _SAY.warning("cgroup", text, "none is needed; the other signs still count")
    return _SAY.ok("cgroup", f"{version} counts CPU, memory and disk")


def _processes(said: Mapping[str, Json]) -> Line:
    """In a PID namespace of its own the numbers that the driver tells of its processes fit nothing here."""
    seen = f"{int(number(said.get('processes')))} processes are seen"
    if said.get("hidden"):
        text = f"{seen}, but /proc hides those of other users (hidepid)"
        return _SAY.warning("processes", text, "run the daemon as root")
    if said.get("namespace") == "own":
        return _SAY.ok("processes", f"{seen}, in a PID namespace of its own: the driver's process numbers are not used")
    return _SAY.ok("processes", f"{seen}, in the machine's own PID namespace")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
