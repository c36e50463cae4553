"""
Which servers of models run here, and whether their ports are theirs for sure.

The process comes first: a command line of a known product, then the port that this process itself listens on. A port
that somebody else listens on as well is asked by nobody. What only the owner knows comes from IDLEWATCH_SERVERS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from idlewatch.servers.asking import Question
from idlewatch.servers.known import KNOWN
from idlewatch.servers.named import NamedServer
from idlewatch.servers.recognise import known_server, own_port, with_tls
from idlewatch.signals.adopted import real_ancestors, real_descendants
from idlewatch.signals.servers_clients import clients_of

if TYPE_CHECKING:
    from idlewatch.kernel import Process, ProcessTable, Socket, Tables

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where others listen
_Owners = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundServer:
    """One server that runs here. `where` is None where it can't be asked: not yet, or for the reason `why_not`."""

    id: str
    """Another one after a restart."""
    name: str
    """For people: `vLLM on port 8000`."""
    kind: str | None = None
    """A key of KNOWN; None: only the owner knows it."""
    named: NamedServer | None = None
    where: Question | None = None
    why_not: str | None = None
    inodes: frozenset[int] = frozenset()
    """Its sockets that listen on that port."""
    processes: tuple[Process, ...] = ()
    """The first one first, then all below it; empty where they can't be seen."""
    argv: tuple[str, ...] = field(default=(), repr=False)
    clients: int = 0
    """Open connections to it, ours left out."""
    inside: bool = False
    """There are some, and all are of programs of this Pod that serve nobody else."""


class ServerFinder:
    """Looks for servers in the kernel's tables."""

    def __init__(self, named: Sequence[NamedServer]) -> None:
        """`named`: those of IDLEWATCH_SERVERS."""
        self._named = tuple(named)

    def look(self, tables: Tables) -> tuple[list[FoundServer], list[str]]:
        """
        Return the servers, and why some that the owner named are not there.

        Raises SignalError where sockets can't be read.
        """
        listening = tables.sockets.listening()
        owners = tables.owners_of(*(each.inode for each in listening))
        found, missing = list[FoundServer](), list[str]()
        for each in self._named:
            sockets = [socket for socket in listening if socket.local.port == each.port]
            if sockets:
                found.append(_named_server(each, sockets, owners, tables))
            else:
                missing.append(f"nothing listens on port {each.port}, which IDLEWATCH_SERVERS names")
        taken = {process.key for server in found for process in server.processes}
        for key, members in _families(tables.processes):
            if not taken.intersection(member.key for member in members):
                found.append(_known_server(key, members, listening, owners, tables))
        return [_with_clients(each, tables) for each in found], missing


def _families(table: ProcessTable) -> list[tuple[str, list[Process]]]:
    """The processes of known servers: a launcher, its router and what they started are one server."""
    keys: dict[int, str] = {}
    for process in table:
        key = known_server(table.command(process.pid), partial(_directory, table, process.pid))
        if key is not None:
            keys[process.pid] = key
    families: dict[int, list[Process]] = {}
    for pid in sorted(keys):
        above = [each.pid for each in real_ancestors(table.by_pid[pid], table) if keys.get(each.pid) == keys[pid]]
        families.setdefault(above[-1] if above else pid, []).append(table.by_pid[pid])
    return [(keys[top], members) for top, members in families.items()]


def _directory(table: ProcessTable, pid: int) -> str:
    """The process's working folder: a link of /proc, so nothing of the folder itself is touched."""
    try:
        return str((table.proc / str(pid) / "cwd").readlink())
    except OSError:
        return ""


def _known_server(
    key: str, members: list[Process], listening: Iterable[Socket], owners: _Owners, tables: Tables
) -> FoundServer:
    pids, known = {each.pid for each in members}, KNOWN[key]
    top = min(members, key=lambda each: (each.started_ticks, each.pid))
    argvs = [tables.processes.command(each.pid) for each in members]
    server = FoundServer(
        id=f"{key} {top.pid} {top.started_ticks}",
        name=f"{known.name} (process {top.pid})",
        kind=key,
        processes=_tree(top, tables.processes),
        argv=tuple(word for argv in argvs for word in argv),
    )
    own = [each for each in listening if pids.intersection(owners[each.inode])]
    port = own_port(known, argvs, (each.local.port for each in own))
    if port is None:
        return replace(server, why_not=_why_unasked(key, own, members, tables))
    server = replace(server, name=f"{known.name} on port {port}")
    sockets = [each for each in listening if each.local.port == port]
    if any(not pids.intersection(owners[each.inode]) for each in sockets):
        return replace(server, why_not="is not asked: another process listens on that port, too")
    tls = any(with_tls(argv) for argv in argvs)
    return replace(server, where=_question(sockets, tls=tls), inodes=frozenset(each.inode for each in sockets))


def _why_unasked(key: str, own: Sequence[Socket], members: Sequence[Process], tables: Tables) -> str | None:
    if own:
        ports = ", ".join(str(port) for port in sorted({each.local.port for each in own}))
        return f"listens on {ports} and not where it was told to or usually does: IDLEWATCH_SERVERS={key}=PORT names it"
    if all(tables.sockets_of(each.pid) is None for each in members):
        return f"does not show its sockets, as another user's process: IDLEWATCH_SERVERS={key}=PORT names it"
    return None


def _named_server(named: NamedServer, sockets: Sequence[Socket], owners: _Owners, tables: Tables) -> FoundServer:
    pids = sorted({pid for each in sockets for pid in owners[each.inode]})
    owner = tables.processes.get(pids[0]) if pids else None
    argv = () if owner is None else tables.processes.command(owner.pid)
    return FoundServer(
        id=f"{named.port} {'' if owner is None else owner.key}",
        name=f"{named.name} on port {named.port}",
        kind=named.kind,
        named=named,
        where=_question(sockets, tls=with_tls(argv)),
        inodes=frozenset(each.inode for each in sockets),
        processes=() if owner is None else _tree(owner, tables.processes),
        argv=argv,
    )


def _question(sockets: Iterable[Socket], *, tls: bool) -> Question:
    where = min((each.local for each in sockets), key=lambda each: ":" in each.address)
    return Question(host=_ANY.get(where.address, where.address), port=where.port, tls=tls)


def _tree(top: Process, table: ProcessTable) -> tuple[Process, ...]:
    return top, *(table.by_pid[pid] for pid in sorted(real_descendants(top, table)))


def _with_clients(server: FoundServer, tables: Tables) -> FoundServer:
    if server.where is None:
        return server
    clients, inside = clients_of(server.where.port, tables)
    return replace(server, clients=clients, inside=inside)
