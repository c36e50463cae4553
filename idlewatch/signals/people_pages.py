"""
What other machines send to the ports of this Pod: who works in a browser, or asks a server without known counters.

Counted by port and not by connection: a proxy opens a new connection for each request, or keeps a few for everybody.
A connection that came and went between two looks is not seen; whoever works in a page makes more than one. Ports of
SSH, of editors and of Jupyter are left out, whose people are told better elsewhere, and so are idlewatch's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from idlewatch.signals.jupyter_find import is_server
from idlewatch.signals.people_editors import editor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from idlewatch.kernel import Endpoint, Process, Socket, Tables
    from idlewatch.model import Json

_Connection: TypeAlias = "tuple[Endpoint, Endpoint, int]"


class Pages:
    """Remembers from look to look what has come to each port."""

    def __init__(self) -> None:
        self._at_s = float("-inf")
        self._before: dict[_Connection, int] = {}
        self._received: dict[int, int] = {}
        """Port -> payload that has come to it since its first connection was seen."""
        self._facts: list[dict[str, Json]] = []

    def facts(self, tables: Tables) -> list[dict[str, Json]]:
        """Return each port that is listened to and that another machine has reached. Raises as `tables.sockets`."""
        if tables.at_s > self._at_s:
            self._at_s = tables.at_s
            self._facts = self._look(tables)
        return self._facts

    def _look(self, tables: Tables) -> list[dict[str, Json]]:
        listening: dict[int, list[Socket]] = {}
        for each in tables.sockets.listening():
            listening.setdefault(each.local.port, []).append(each)
        came = [each for each in _from_elsewhere(tables) if each.local.port in listening]
        names = _names({each.local.port for each in came} | self._received.keys(), listening, tables)
        self._received = {port: self._received.get(port, 0) for port in names}
        now = {_key(each): each.bytes_received or 0 for each in came}
        for key, received in now.items():
            if (port := key[0].port) in self._received:
                before = self._before.get(key, 0)
                self._received[port] += received - before if received >= before else received
        self._before = now
        return [_fact(port, name, self._received[port], came) for port, name in sorted(names.items())]


def _from_elsewhere(tables: Tables) -> list[Socket]:
    """Open connections with other machines: a program of this one may go by its own address, too (Ray)."""
    own = {each.local.address for each in tables.sockets}
    return [
        each for each in tables.sockets.established() if not each.remote.is_loopback and each.remote.address not in own
    ]


def _names(ports: Iterable[int], listening: Mapping[int, list[Socket]], tables: Tables) -> dict[int, str]:
    """Return those of the ports whose people are told nowhere else, with what listens there."""
    wanted = {port: listening[port] for port in ports if port in listening}
    owners = tables.owners_of(*(each.inode for sockets in wanted.values() for each in sockets)) if wanted else {}
    named: dict[int, str] = {}
    for port, sockets in wanted.items():
        pids = sorted({pid for each in sockets for pid in owners[each.inode]})
        processes = [process for pid in pids if (process := tables.processes.get(pid)) is not None]
        if not any(_told_elsewhere(each, tables) for each in processes):
            named[port] = f"{processes[0].comm} on port {port}" if processes else f"port {port}"
    return named


def _told_elsewhere(process: Process, tables: Tables) -> bool:
    if process.pid in tables.processes.own or process.comm.startswith(("sshd", "dropbear")):
        return True
    command = tables.processes.command(process.pid)
    return is_server(command) or editor(process.comm, command) is not None


def _key(each: Socket) -> _Connection:
    return each.local, each.remote, each.inode


def _fact(port: int, name: str, received: int, came: list[Socket]) -> dict[str, Json]:
    there = [each for each in came if each.local.port == port]
    counted = all(each.bytes_received is not None for each in there)
    return {
        "id": f"port {port}",
        "kind": "page",
        "person": name,
        "open": len(there),
        "received_bytes": received if counted else None,
        "acked_bytes": None,
        "queued_bytes": 0,
        "retransmits": 0,
    }
