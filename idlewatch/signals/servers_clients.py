"""
Who is connected to a server: from outside, or only programs of this Pod itself.

A program of this Pod that serves others (a proxy, a chat page) or that carries connections in (an SSH tunnel) stands
for people outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlewatch.kernel import Socket, Tables

_CARRIES = ("sshd", "cloudflared", "ngrok", "tailscaled", "frpc", "dropbear")
"""What the names of programs begin with that bring connections in from outside without listening themselves."""


def clients_of(port: int, tables: Tables) -> tuple[int, bool]:
    """Return how many are connected to that port, ours left out, and whether all of them are of this Pod only."""
    sockets = tables.sockets
    accepted = [each for each in sockets.established() if each.local.port == port]
    by_ends = {(each.local, each.remote): each for each in sockets.established()}
    ends = [by_ends.get((each.remote, each.local)) for each in accepted]
    owners = tables.owners_of(*(each.inode for each in ends if each is not None))
    listeners = _listeners(tables) if any(ends) else frozenset()
    kinds = [_kind(each, owners, listeners, tables) for each in ends]
    theirs = [kind for kind in kinds if kind != "ours"]
    return len(theirs), bool(theirs) and all(kind == "inside" for kind in theirs)


def _kind(end: Socket | None, owners: dict[int, tuple[int, ...]], listeners: frozenset[int], tables: Tables) -> str:
    pids = () if end is None else owners.get(end.inode, ())
    if not pids:
        return "outside"
    if tables.processes.own.issuperset(pids):
        return "ours"
    names = [process.comm for pid in pids if (process := tables.processes.get(pid)) is not None]
    passes_on = bool(listeners.intersection(pids)) or any(name.startswith(_CARRIES) for name in names)
    return "outside" if passes_on else "inside"


def _listeners(tables: Tables) -> frozenset[int]:
    owners = tables.owners_of(*(each.inode for each in tables.sockets.listening()))
    return frozenset(pid for pids in owners.values() for pid in pids)
