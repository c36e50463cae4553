"""One round with all servers: they are asked at one instant, and it ends when the last has answered or failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idlewatch.model import Json
from idlewatch.servers.asking import Asker
from idlewatch.signals.servers_ask import Conversation, Said
from idlewatch.signals.servers_look import FoundServer

if TYPE_CHECKING:
    from idlewatch.kernel import Key, Tables


@dataclass(slots=True)
class Round:
    """What one round has given so far."""

    at_s: float
    servers: Sequence[FoundServer]
    missing: Sequence[str]
    said: dict[str, Said] = field(default_factory=dict)
    """Server's id -> what it said."""
    cores: dict[str, float | None] = field(default_factory=dict)
    """Server's id -> CPU of its processes since the last round, in cores."""


@dataclass(slots=True)
class _Cpu:
    at_s: float
    used_s: dict[Key, float]


class Rounds:
    """Leads the rounds; remembers each server's talk and CPU from one to the next."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._talks: dict[str, Conversation] = {}
        self._asked: dict[str, int] = {}
        self._cpu: dict[str, _Cpu] = {}

    def begin(self, servers: Sequence[FoundServer], missing: Sequence[str], tables: Tables, now_s: float) -> Round:
        """Ask every server its first question."""
        ids = {each.id for each in servers}
        self._talks = {id_: talk for id_, talk in self._talks.items() if id_ in ids}
        self._asked = {id_: asked for id_, asked in self._asked.items() if id_ in ids}
        self._cpu = {id_: cpu for id_, cpu in self._cpu.items() if id_ in ids}
        current = Round(now_s, servers, missing)
        for server in servers:
            current.cores[server.id] = self._cores(server, tables.at_s)
            talk = self._talks.setdefault(server.id, Conversation(server))
            self._take(current, server, talk.begin(server, self._asker, tables, now_s))
        return current

    def carry_on(self, current: Round, tables: Tables, now_s: float) -> bool:
        """Take what has come; whether the round has ended. Never waits."""
        for server in current.servers:
            if server.id not in current.said:
                self._take(current, server, self._talks[server.id].carry_on(self._asker, tables, now_s))
        return len(current.said) == len(current.servers)

    def facts(self, current: Round) -> dict[str, Json]:
        """Return the facts of a round that has ended."""
        return {
            "missing": list(current.missing),
            "servers": [self._facts(current, each) for each in current.servers],
        }

    def _take(self, current: Round, server: FoundServer, said: Said | None) -> None:
        if said is not None:
            current.said[server.id] = said
            self._asked[server.id] = self._asked.get(server.id, 0) + said.asked

    def _cores(self, server: FoundServer, at_s: float) -> float | None:
        before = self._cpu.get(server.id)
        now = _Cpu(at_s, {each.key: each.cpu_s for each in server.processes})
        self._cpu[server.id] = now
        if before is None or at_s <= before.at_s or not now.used_s:
            return None
        return sum(max(0.0, s - before.used_s.get(key, 0.0)) for key, s in now.used_s.items()) / (at_s - before.at_s)

    def _facts(self, current: Round, server: FoundServer) -> Json:
        said = current.said[server.id]
        first = server.processes[0] if server.processes else None
        return {
            "id": server.id,
            "name": server.name,
            "kind": server.kind,
            "state": _state(server, said),
            "error": said.error,
            "pid": None if first is None else first.pid,
            "pids": [each.pid for each in server.processes],
            "started_s": None if first is None else first.started_s,
            **said.counts.facts(),
            "asked": self._asked[server.id],
            "cpu_cores": current.cores[server.id],
            "clients": server.clients,
            "inside": server.inside,
        }


def _state(server: FoundServer, said: Said) -> str:
    if server.where is None and server.why_not is None:
        return "starting"
    return "serves nothing" if said.serves_nothing else "asked"
