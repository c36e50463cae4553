"""
What servers of models did between two readings: pure, from readings of the servers signal in their order.

Requests and tokens that were counted are use; a model in memory is not, nor are health polls. What a server says of
now (one request runs) counts only while tokens, steps or CPU of its processes move with it; else it bars up to the
cap, with a notice, and then stands aside. A server that was asked something from outside bars for the cap since then,
because nothing but a person starts a stopped Pod again.
"""

from __future__ import annotations

from dataclasses import dataclass

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding
from idlewatch.servers.known import KNOWN
from idlewatch.signals.servers_gain import Facts, Gain, gain

STILL_S = 600.0
"""Requests that run without anything moving for so long are told to people."""
STARTING_S = 1800.0
"""A server that does not listen for so long after its start is told to people."""
_CLAUSES_MAX = 3


@dataclass(slots=True)
class _Memory:
    """What is remembered of one server."""

    facts: Facts
    """As they were read last."""
    seen_s: float
    moved_s: float
    """When nothing was asked of it, or something moved."""
    came_s: float | None = None
    """When a request from outside came last."""
    idle_cores: float | None = None
    """The least CPU that its processes used while nothing was asked of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """On one server."""

    activity: Activity
    clause: str
    bars: bool = False
    notice: str | None = None
    idle_pids: frozenset[int] = frozenset()
    """Its processes, where its own counters were read and did not move."""


class ServersJudge:
    """Remembers each server from reading to reading."""

    def __init__(self, *, connected_for_s: float) -> None:
        self._connected_for_s = connected_for_s
        self._memory: dict[str, _Memory] = {}
        self.idle_pids: frozenset[int] = frozenset()
        """Processes of the servers whose own counters were read and did not move at the last reading."""

    def finding(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        """Return the verdict on one reading. Raises KeyError, TypeError, ValueError or AttributeError on garbage."""
        servers = {str(each["id"]): each for each in facts["servers"]}
        self._memory = {id_: memory for id_, memory in self._memory.items() if id_ in servers}
        verdicts = [self._of_one(id_, server, at_s) for id_, server in servers.items()]
        self.idle_pids = frozenset(pid for verdict in verdicts for pid in verdict.idle_pids)
        return _finding(verdicts, at_s, covers_s)

    def forget(self) -> None:
        """No server runs any more."""
        self._memory, self.idle_pids = {}, frozenset()

    def _of_one(self, id_: str, server: Facts, at_s: float) -> _Verdict:
        memory, name = self._memory.get(id_), server["name"]
        if server["state"] == "starting":
            return self._starting(server, at_s)
        if server["state"] == "serves nothing":
            return _Verdict(activity=Activity.QUIET, clause=f"{name} only hands requests on")
        if server["error"] is not None:
            return self._unknown(memory, f"{name} {server['error']}", at_s)
        if memory is None:
            self._memory[id_] = _Memory(server, at_s, at_s)
            return self._unknown(None, f"{name}: nothing to compare its counters with yet", at_s)
        before, gained = memory.facts, gain(memory.facts, server, at_s - memory.seen_s, memory.idle_cores)
        memory.facts, memory.seen_s = server, at_s
        if gained.went_back:
            return self._unknown(memory, f"{name}: its counters went back, it was restarted", at_s)
        return self._compared(memory, before, gained)

    def _compared(self, memory: _Memory, before: Facts, gained: Gain) -> _Verdict:
        server = memory.facts
        kind = KNOWN.get(str(server["kind"]))
        running = bool(server["running"]) and (gained.stepped or gained.works)
        silent = kind is not None and kind.cpu_is_work and gained.works and server["clients"] > 0
        if gained.is_use or running or silent:
            memory.moved_s = memory.seen_s
            if not server["inside"] and _came(before, server, gained, queues=kind is not None and kind.queues):
                memory.came_s = memory.seen_s
            return _Verdict(activity=Activity.ACTIVE, clause=_worked(server, gained))
        if server["running"]:
            return self._still(memory)
        memory.moved_s = memory.seen_s
        cores = server["cpu_cores"]
        if cores is not None:
            memory.idle_cores = cores if memory.idle_cores is None else min(cores, memory.idle_cores)
        return self._quiet(memory, gained)

    # ---------------------------------------------------------------- not in use

    def _unknown(self, memory: _Memory | None, clause: str, at_s: float) -> _Verdict:
        bars = memory is not None and memory.came_s is not None and self._left_s(memory.came_s, at_s) > 0
        return _Verdict(activity=Activity.UNKNOWN, clause=clause, bars=bars)

    def _quiet(self, memory: _Memory, gained: Gain) -> _Verdict:
        server, polls = memory.facts, bool(gained.requests or gained.tokens)
        clause = f"{server['name']}: {'only health polls' if polls else 'no requests'}"
        pids = frozenset(int(pid) for pid in server["pids"])
        if memory.came_s is None:
            return _Verdict(activity=Activity.QUIET, clause=clause, idle_pids=pids)
        left_s = self._left_s(memory.came_s, memory.seen_s)
        clause = f"{clause} for {format_duration(memory.seen_s - memory.came_s)}{_barring(left_s)}"
        return _Verdict(activity=Activity.QUIET, clause=clause, bars=left_s > 0, idle_pids=pids)

    def _still(self, memory: _Memory) -> _Verdict:
        server, still_s = memory.facts, memory.seen_s - memory.moved_s
        what = f"{server['name']} says that {_running(server)}, and nothing moves"
        left_s, notice = self._left_s(memory.moved_s, memory.seen_s), None
        if still_s >= STILL_S:
            limit = format_duration(self._connected_for_s)
            notice = f"{what}: it may hang; it keeps this Pod for {limit} at the most"
        clause = f"{what} for {format_duration(still_s)}{_barring(left_s)}"
        return _Verdict(activity=Activity.QUIET, clause=clause, bars=left_s > 0, notice=notice)

    def _starting(self, server: Facts, at_s: float) -> _Verdict:
        age_s, left_s = max(0.0, at_s - server["started_s"]), self._left_s(server["started_s"], at_s)
        clause = f"{server['name']} was started {format_duration(age_s)} ago and does not listen yet{_barring(left_s)}"
        notice = f"{server['name']} was started long ago and listens on no port" if age_s >= STARTING_S else None
        return _Verdict(activity=Activity.QUIET, clause=clause, bars=left_s > 0, notice=notice if left_s > 0 else None)

    def _left_s(self, since_s: float, at_s: float) -> float:
        return max(0.0, since_s + self._connected_for_s - at_s)


def _came(before: Facts, now: Facts, gained: Gain, *, queues: bool) -> bool:
    """Whether a request came, and not only one that had waited was worked on."""
    if not queues:
        return True
    waited, waits = before["running"] or 0.0, now["running"] or 0.0
    return bool(waits > waited or ((gained.marked or gained.requests) and waits >= waited))


# ---------------------------------------------------------------- words


def _worked(server: Facts, gained: Gain) -> str:
    parts = []
    if gained.requests:
        parts.append(_plural(gained.requests, "request"))
    elif gained.marked:
        parts.append("a request")
    elif server["running"]:
        parts.append(_running(server))
    if gained.tokens:
        parts.append(_plural(gained.tokens, "token"))
    if not (gained.requests or gained.marked or gained.tokens):
        parts.append(f"CPU {gained.cores:.0%} of a core" if gained.works else "its steps move")
    return f"{server['name']}: {', '.join(parts)} in the last {format_duration(gained.span_s)}"


def _running(server: Facts) -> str:
    return f"{_plural(server['running'], 'request')} {'runs' if server['running'] == 1 else 'run'}"


def _plural(number: float, noun: str) -> str:
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}".replace(",", " ")


def _barring(left_s: float) -> str:
    return f"; bars the warning for {format_duration(left_s)} more" if left_s > 0 else ""


def _finding(verdicts: list[_Verdict], at_s: float, covers_s: float) -> Finding:
    present = {verdict.activity for verdict in verdicts}
    order = (Activity.ACTIVE, Activity.UNKNOWN, Activity.QUIET)
    activity = next(each for each in order if each in present)
    deciding = [each for each in verdicts if each.activity is activity]
    deciding.sort(key=lambda each: not each.bars)
    clauses = [each.clause for each in deciding[:_CLAUSES_MAX]]
    if len(deciding) > _CLAUSES_MAX:
        clauses.append(f"and {len(deciding) - _CLAUSES_MAX} more")
    return Finding(
        signal="servers",
        activity=activity,
        reason="; ".join(clauses),
        seen_from_s=at_s - covers_s,
        seen_to_s=at_s,
        evidence_s=at_s if activity is Activity.ACTIVE else None,
        bars=any(each.bars for each in verdicts),
        notice="; ".join(each.notice for each in verdicts if each.notice is not None) or None,
    )
