"""
What other machines send to the ports of this Pod: who works in a browser, or asks a server without known counters.

Counted by port and not by connection: a proxy opens a new connection for each request, or keeps a few for everybody.
Ports of SSH, of editors and of Jupyter are left out, whose people are told better elsewhere, and idlewatch's own.

A server closes a connection when nothing has come over it for 2 to 5 s (gunicorn, uvicorn, node), so sockets are
looked at at every tick; many close each at once (Flask, gunicorn's default), and of those only the end is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.kernel import SocketState
from idlewatch.signals.jupyter_find import is_server
from idlewatch.signals.people_editors import editor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idlewatch.kernel import Endpoint, Process, Socket, SocketTable, Tables
    from idlewatch.model import Json

ENDED_BYTES = 500
"""What came over a connection of which only the end was seen: at least a request with few headers."""


class Pages:
    """Remembers from look to look what has come to each port."""

    def __init__(self) -> None:
        self._at_s = float("-inf")
        self._before: dict[tuple[Endpoint, Endpoint], int] = {}
        """Connections of the look before: what had come over each."""
        self._received: dict[int, int] = {}
        """Port -> payload that has come to it since its first connection was seen."""
        self._open: dict[int, int] = {}
        self._counted = True
        self._told: tuple[float, list[dict[str, Json]]] = float("-inf"), []

    def count(self, table: SocketTable) -> None:
        """Take in the sockets of now; the same table again changes nothing."""
        if table.at_s <= self._at_s:
            return
        self._at_s = table.at_s
        self._counted = table.without_bytes is None
        ports = {each.local.port for each in table.listening()}
        self._received = {port: received for port, received in self._received.items() if port in ports}
        self._open = dict.fromkeys(self._received, 0)
        before, self._before = self._before, {}
        for each in _from_elsewhere(table):
            if each.local.port in ports:
                self._take(each, before.get((each.local, each.remote)))

    def _take(self, each: Socket, before: int | None) -> None:
        port, is_open = each.local.port, each.state is SocketState.ESTABLISHED
        received = (each.bytes_received or 0) if is_open else (ENDED_BYTES if before is None else before)
        gained = received if before is None or received < before else received - before
        self._received[port] = self._received.get(port, 0) + gained
        self._open[port] = self._open.get(port, 0) + is_open
        self._before[each.local, each.remote] = received

    def facts(self, tables: Tables) -> list[dict[str, Json]]:
        """
        Return each port that is listened to and that another machine has reached, once for each pass.

        Raises as `tables.sockets`.
        """
        if tables.at_s > self._told[0]:
            facts = [self._fact(port, name) for port, name in sorted(self._names(tables).items())]
            self._told = tables.at_s, facts
        return self._told[1]

    def _names(self, tables: Tables) -> dict[int, str]:
        """Return the ports whose people are told nowhere else, with what listens there."""
        wanted: dict[int, list[Socket]] = {}
        for each in tables.sockets.listening():
            if each.local.port in self._received:
                wanted.setdefault(each.local.port, []).append(each)
        named: dict[int, str] = {}
        for port, processes in _owners(wanted, tables).items():
            if not any(_told_elsewhere(each, tables) for each in processes):
                named[port] = f"{processes[0].comm} on port {port}" if processes else f"port {port}"
        return named

    def _fact(self, port: int, name: str) -> dict[str, Json]:
        return {
            "id": f"port {port}",
            "kind": "page",
            "person": name,
            "open": self._open[port],
            "received_bytes": self._received[port] if self._counted else None,
            "acked_bytes": None,
            "queued_bytes": 0,
            "retransmits": 0,
        }


def _from_elsewhere(table: SocketTable) -> list[Socket]:
    """Connections with other machines: a program of this one may go by its own address, too (Ray)."""
    own = {each.local.address for each in table}
    there = (SocketState.ESTABLISHED, SocketState.TIME_WAIT)
    came = (each for each in table if each.state in there and not each.remote.is_loopback)
    return [each for each in came if each.remote.address not in own]


def _owners(wanted: Mapping[int, list[Socket]], tables: Tables) -> dict[int, list[Process]]:
    inodes = [each.inode for sockets in wanted.values() for each in sockets]
    owners = tables.owners_of(*inodes) if inodes else {}
    pids = {port: sorted({pid for each in sockets for pid in owners[each.inode]}) for port, sockets in wanted.items()}
    processes = tables.processes
    return {port: [found for pid in of_port if (found := processes.get(pid))] for port, of_port in pids.items()}


def _told_elsewhere(process: Process, tables: Tables) -> bool:
    if process.pid in tables.processes.own or process.comm.startswith(("sshd", "dropbear")):
        return True
    command = tables.processes.command(process.pid)
    return is_server(command) or editor(process.comm, command) is not None
