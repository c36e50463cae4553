"""
Who keeps the Pod: pure, from readings of the people signal in their order.

A *sign* is something that a person did at an instant: typed, sent payload, arrived. Each person (a user at an address;
all who come in from outside; a served terminal) has a newest sign, and a live connection bars until it is
`connected_for_s` old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding, Json
from idlewatch.signals.people_flow import (
    PAGE_BURST_BYTES,
    Facts,
    Flow,
    number,
    number_or_none,
)

RECENT_S = 60.0
"""How long after a sign the signal is still called active; the idle clock counts from the sign itself."""

_CLAUSES_MAX = 3
_OUTSIDE = "outside"
"""All who come in from outside the container are one person: nothing there tells them apart."""


@dataclass(slots=True)
class _Person:
    """Somebody, and their newest sign; `connected_s` is when they were last seen connected."""

    sign_s: float
    connected_s: float


@dataclass(frozen=True, slots=True)
class _Sign:
    at_s: float
    what: str


@dataclass(slots=True)
class _Verdict:
    """What one reading shows."""

    signs: list[_Sign] = field(default_factory=list)
    barring: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    """Connections that bar nothing, and why."""


class PeopleJudge:
    """Remembers people and connections from reading to reading."""

    def __init__(self, *, started_s: float, connected_for_s: float) -> None:
        self._started_s, self._connected_for_s = started_s, connected_for_s
        self._flows: dict[str, Flow] = {}
        self._people: dict[str, _Person] = {}
        self._pages: dict[str, float] = {}
        """When each port was last sent something by a person, as it seems."""
        self._recent: dict[str, _Sign] = {}
        """Newest payload of each connection and arrival of each person, as long as it is recent or new."""
        self._counted_s: float | None = None
        self._reported_s = float("-inf")

    def finding(self, facts: Facts, at_s: float) -> Finding:
        """Return the verdict on the facts of one reading. Raises KeyError, TypeError or ValueError on garbage."""
        counted_s = number(facts["counted_at_s"])
        terminals, connections = list(_objects(facts["terminals"])), list(_objects(facts["connections"]))
        verdict = _Verdict()
        self._count(connections, counted_s)
        self._arrive(connections, terminals, at_s)
        self._typed(connections, terminals, at_s, verdict)
        self._bar(connections, terminals, at_s, verdict)
        seen_from_s, self._counted_s = (counted_s if self._counted_s is None else self._counted_s), counted_s
        return self._worded(verdict, facts, at_s, (seen_from_s, counted_s))

    # ---------------------------------------------------------------- signs

    def _count(self, connections: list[Facts], counted_s: float) -> None:
        """Take in the bytes of each connection, and forget those that are gone."""
        flows: dict[str, Flow] = {}
        for one in connections:
            id_ = str(one["id"])
            flow = self._flows.get(id_)
            received = number_or_none(one["received_bytes"])
            if flow is None or (received is not None and flow.received is not None and received < flow.received):
                flow = self._begun(one, received, counted_s)
            flows[id_] = flow
            rate = flow.add(counted_s, one)
            if rate is not None and one["kind"] != "served" and not flow.is_even:
                self._sent(id_, one, rate, counted_s)
        self._flows = flows

    def _begun(self, one: Facts, received: float | None, counted_s: float) -> Flow:
        """A port that nobody had reached until now begins with nothing; of a connection the past is not known."""
        if one["kind"] != "page":
            return Flow(counted_s, received, number_or_none(one["acked_bytes"]))
        flow = Flow(counted_s, received, None, of_port=True)
        if self._counted_s is not None:
            flow.at_s, flow.received = self._counted_s, None if received is None else 0.0
        elif received is not None and received >= PAGE_BURST_BYTES:
            self._pages[str(one["person"])] = counted_s  # what came before the first look may have been anything
        return flow

    def _sent(self, id_: str, one: Facts, rate: float, counted_s: float) -> None:
        """Somebody's payload. A browser's connection makes nobody known before it: robots open pages, too."""
        person, by = str(one["person"]), ""
        if one["kind"] == "page":
            self._pages[person] = counted_s
            return
        if one["kind"] == "ssh":
            by = "ssh "
        else:
            self._people.setdefault(person, _Person(counted_s, counted_s))
        self._signed(person, counted_s)
        self._recent[id_] = _Sign(counted_s, f"{by}{person}: {_rate(rate)} from the client")

    def _arrive(self, connections: list[Facts], terminals: list[Facts], at_s: float) -> None:
        """Somebody who was not here for longer than the cap has come: a sign. Coming back sooner is none."""
        here = [(str(one["person"]), one, number(one["started_at_s"])) for one in connections if one["kind"] == "ssh"]
        here += [(_OUTSIDE, one, number(one["opened_at_s"])) for one in terminals if one["kind"] == "outside"]
        for person, one, since_s in here:
            if one["kind"] == "ssh" and not self._is_live(str(one["id"])):
                continue
            known = self._people.get(person)
            if known is None or since_s - known.connected_s >= self._connected_for_s:
                came_s = self._clamped(since_s, at_s)
                self._recent[person] = _Sign(came_s, f"{_named(one)} connected")
                self._people[person] = _Person(came_s, at_s)
            self._people[person].connected_s = at_s
            if self._counted_s is None and one["kind"] == "ssh" and not one["terminal"]:
                # What came over it before the first look was not counted: it may have been anything.
                self._signed(person, at_s)
        self._forget(at_s)

    def _typed(self, connections: list[Facts], terminals: list[Facts], at_s: float, verdict: _Verdict) -> None:
        live = [str(one["person"]) for one in connections if one["kind"] == "ssh" and self._is_live(str(one["id"]))]
        for one in terminals:
            typed_s = number_or_none(one["input_at_s"])
            if typed_s is None:
                continue
            typed_s = self._clamped(typed_s, at_s)
            verdict.signs.append(_Sign(typed_s, f"{_named(one)} typed"))
            # Who types into a terminal that a program serves can't be told: it may be any of those who are connected.
            for person in {"ssh": [str(one["person"])], "outside": [_OUTSIDE]}.get(str(one["kind"]), live):
                self._signed(person, typed_s)

    def _signed(self, person: str, at_s: float) -> None:
        if person in self._people:
            self._people[person].sign_s = max(self._people[person].sign_s, at_s)

    def _forget(self, at_s: float) -> None:
        gone = [p for p, known in self._people.items() if at_s - known.connected_s >= self._connected_for_s]
        for person in gone:
            del self._people[person]
        self._pages = {page: sign_s for page, sign_s in self._pages.items() if at_s - sign_s < self._connected_for_s}

    # ---------------------------------------------------------------- bars

    def _bar(self, connections: list[Facts], terminals: list[Facts], at_s: float, verdict: _Verdict) -> None:
        for one in connections:
            if one["kind"] == "ssh":
                live = self._is_live(str(one["id"]))
                self._connected(_named(one), self._people.get(str(one["person"])), at_s, verdict, live=live)
        self._bar_by_editors(connections, at_s, verdict)
        self._bar_by_pages(connections, at_s, verdict)
        for one in terminals:
            if one["kind"] == "outside":
                self._connected(_named(one), self._people.get(_OUTSIDE), at_s, verdict, live=True)
            elif one["kind"] in {"served", "hidden"} and (typed_s := number_or_none(one["input_at_s"])) is not None:
                peers = [str(peer) for peer in _list(one["peers"])]
                live = not peers or any(self._is_live(peer) for peer in peers)
                self._connected(_named(one), _Person(self._clamped(typed_s, at_s), at_s), at_s, verdict, live=live)

    def _bar_by_pages(self, connections: list[Facts], at_s: float, verdict: _Verdict) -> None:
        """Whoever was in a page, or asked a server: connected or not, they can't start a stopped Pod."""
        for person in [str(one["person"]) for one in connections if one["kind"] == "page"]:
            if person in self._pages:
                quiet_s = max(0.0, at_s - self._pages[person])
                left = format_duration(self._connected_for_s - quiet_s)
                verdict.barring.append(
                    f"{person} was used from outside {_ago(quiet_s)}; bars the warning for {left} more"
                )

    def _bar_by_editors(self, connections: list[Facts], at_s: float, verdict: _Verdict) -> None:
        """An editor's page has several connections, and is one."""
        pages = [(str(one["person"]), str(one["id"])) for one in connections if one["kind"] == "editor"]
        for person in dict.fromkeys(person for person, _ in pages if person in self._people):
            live = any(self._is_live(id_) for whose, id_ in pages if whose == person)
            self._people[person].connected_s = at_s if live else self._people[person].connected_s
            self._connected(person, self._people[person], at_s, verdict, live=live)

    def _connected(self, name: str, person: _Person | None, at_s: float, verdict: _Verdict, *, live: bool) -> None:
        if not live or person is None:
            verdict.idle.append(f"{name}: the peer no longer answers")
            return
        quiet_s = max(0.0, at_s - person.sign_s)
        if quiet_s < self._connected_for_s:
            left = format_duration(self._connected_for_s - quiet_s)
            verdict.barring.append(
                f"{name} is connected, quiet for {format_duration(quiet_s)}; bars the warning for {left} more"
            )
        else:
            verdict.idle.append(f"{name} is connected, quiet for {format_duration(quiet_s)}")

    def _is_live(self, id_: str) -> bool:
        return id_ not in self._flows or self._flows[id_].is_live

    # ---------------------------------------------------------------- words

    def _worded(self, verdict: _Verdict, facts: Facts, at_s: float, seen: tuple[float, float]) -> Finding:
        signs = sorted([*verdict.signs, *self._recent.values()], key=lambda sign: sign.at_s, reverse=True)
        newest_s = signs[0].at_s if signs else float("-inf")
        active = newest_s > self._reported_s or at_s - newest_s <= RECENT_S
        self._reported_s = max(self._reported_s, newest_s)
        self._recent = {key: sign for key, sign in self._recent.items() if at_s - sign.at_s <= RECENT_S}
        recent = [f"{s.what} {_ago(at_s - s.at_s)}" for s in signs if s is signs[0] or at_s - s.at_s <= RECENT_S]
        clauses = recent if active else verdict.barring or verdict.idle or ["nobody is connected"]
        return Finding(
            signal="",
            activity=Activity.ACTIVE if active else Activity.QUIET,
            reason="; ".join(_few(clauses, facts["unseen"])),
            seen_from_s=seen[0],
            seen_to_s=seen[1],
            evidence_s=newest_s if active else None,
            bars=bool(verdict.barring),
        )

    def _clamped(self, instant_s: float, at_s: float) -> float:
        return min(max(instant_s, self._started_s), at_s)


def _named(one: Facts) -> str:
    if "name" not in one:
        return str(one["person"])
    where = {"ssh": f" ({one['person']})", "outside": " (web terminal or proxied SSH)", "entrypoint": " (entrypoint)"}
    return f"{one['user']} on {one['name']}{where.get(str(one['kind']), '')}"


def _few(clauses: list[str], unseen: Json) -> Iterator[str]:
    yield from clauses[:_CLAUSES_MAX]
    if len(clauses) > _CLAUSES_MAX:
        yield f"and {len(clauses) - _CLAUSES_MAX} more"
    if unseen is not None:
        yield str(unseen)


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{format_duration(round(seconds))} ago"


def _rate(bytes_per_s: float) -> str:
    for unit, size in (("MB/s", 1e6), ("kB/s", 1e3)):
        if bytes_per_s >= size:
            return f"{bytes_per_s / size:.1f} {unit}"
    return f"{bytes_per_s:.0f} B/s"


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _objects(value: Json) -> Iterator[Facts]:
    for one in _list(value):
        if not isinstance(one, dict):
            raise TypeError(f"{one!r} is not an object")
        yield one
