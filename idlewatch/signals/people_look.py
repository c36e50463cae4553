"""
What the kernel's tables show of people: each terminal with what serves it, each logged-in SSH connection.

A logged-in session is told from a scanner that knocks by what OpenSSH writes over its own command line: `sshd: alice`
or `sshd: alice@pts/0` once somebody is in; `sshd: [accepted]`, `sshd: alice [net]`, `sshd: unknown [priv]` before
(setproctitle calls in sshd.c, sshd-session.c, auth2.c and session.c). Dropbear writes nothing; there, a session is one
whose process has started another program.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from idlewatch.errors import SignalError
from idlewatch.kernel import SocketState
from idlewatch.kernel.terminals import standard_terminal
from idlewatch.model import Json
from idlewatch.signals.people_editors import CONNECTIONS_MAX, RUNS_IN, TUNNELS_RUN_IN, editor, tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from idlewatch.kernel import Endpoint, Process, Socket, Tables, Terminal
    from idlewatch.signals.people_pages import Pages

_LOGGED_IN = re.compile(r"sshd(?:-session)?: (?P<user>[^\s\[\]]+)")
_TERMINALS = re.compile(r"@(?P<terminals>notty|(?:pts/\d+|tty\w+)(?:,(?:pts/\d+|tty\w+))*)\Z")
_PEERS_MAX = 8
"""Connections kept of one program that serves terminals: whether there is one matters, not how many."""
_NAME_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One logged-in SSH session."""

    process: Process
    user: str
    has_terminal: bool
    socket: Socket | None
    """None where the descriptors of its process, or the sockets, can't be seen."""

    @property
    def person(self) -> str:
        """Who it is, as far as can be told: two people behind one address and one account are one."""
        return f"{self.user} from {self.socket.remote.address}" if self.socket else self.user

    @property
    def id(self) -> str:
        """What tells it from any other connection."""
        return _id(self.socket) if self.socket else f"process {self.process.pid}.{self.process.started_ticks}"


class Users:
    """Names of user IDs, from the file of accounts alone: a name service may ask the network and wait."""

    def __init__(self, passwd: Path) -> None:
        self._passwd = passwd
        self._names: dict[int, str] = {}

    def name(self, user_id: int) -> str:
        """Return its name; `uid 1000` where it has none."""
        if user_id not in self._names:
            self._names[user_id] = self._looked_up(user_id)
        return self._names[user_id]

    def _looked_up(self, user_id: int) -> str:
        try:
            lines = self._passwd.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        accounts = (line.split(":") for line in lines)
        return next((plain(a[0]) for a in accounts if len(a) > 2 and a[2] == str(user_id)), f"uid {user_id}")


@dataclass(frozen=True)
class _Look:
    """One look, with what several steps of it need."""

    tables: Tables
    users: Users
    served: dict[str, Socket] = field(default_factory=dict)
    """Connections to programs that serve terminals, as they are found."""
    _inodes: dict[int, frozenset[int] | None] = field(default_factory=dict)

    def sockets_of(self, pid: int) -> frozenset[int] | None:
        if pid not in self._inodes:
            self._inodes[pid] = self.tables.sockets_of(pid)
        return self._inodes[pid]

    @cached_property
    def sockets(self) -> dict[int, Socket]:
        try:
            return self.tables.sockets.by_inode()
        except SignalError:
            return {}

    @cached_property
    def accepted(self) -> frozenset[int]:
        """Inodes of connections that came in, but for our own requests to programs in this Pod."""
        try:
            accepted = self.tables.sockets.accepted()
        except SignalError:
            return frozenset()
        return frozenset(each.inode for each in accepted if each.remote not in self._own_endpoints)

    @cached_property
    def _own_endpoints(self) -> frozenset[Endpoint]:
        own = (inode for pid in self.tables.processes.own for inode in self.sockets_of(pid) or ())
        return frozenset(self.sockets[inode].local for inode in own if inode in self.sockets)

    @cached_property
    def sessions(self) -> dict[int, Session]:
        processes = self.tables.processes
        servers = (each for each in processes if each.comm.startswith(("sshd", "dropbear")))
        return {each.pid: session for each in servers if (session := self._session(each)) is not None}

    @cached_property
    def editors(self) -> dict[str, tuple[str, Socket]]:
        """Connections from browsers to editors' servers and of their tunnels: by id, whose each is; but not SSH's."""
        found: dict[str, tuple[str, Socket]] = {}
        for process in self.tables.processes:
            if process.comm.startswith((*RUNS_IN, *TUNNELS_RUN_IN)) and process.pid not in self.tables.processes.own:
                found |= {_id(each): (person, each) for person, each in self._of_editor(process)[:CONNECTIONS_MAX]}
        return found

    def _of_editor(self, process: Process) -> list[tuple[str, Socket]]:
        command = self.tables.processes.command(process.pid)
        relayed, name = tunnel(process.comm, command), editor(process.comm, command)
        if relayed is None and name is None:
            return []
        held = [self.sockets[inode] for inode in sorted(self.sockets_of(process.pid) or ()) if inode in self.sockets]
        if relayed is not None:
            return [(relayed, each) for each in held if self._went_out(each)]
        came = [each for each in held if each.inode in self.accepted and each.remote not in self._forwarded]
        return [(f"{each.remote.address} in {name}", each) for each in came]

    def _went_out(self, each: Socket) -> bool:
        open_to_elsewhere = each.state is SocketState.ESTABLISHED and not each.remote.is_loopback
        return open_to_elsewhere and each.inode not in self.accepted

    @cached_property
    def _forwarded(self) -> frozenset[Endpoint]:
        """Our ends of what logged-in sessions forward."""
        held = (self.sockets_of(pid) or () for pid in self.sessions)
        return frozenset(self.sockets[inode].local for inodes in held for inode in inodes if inode in self.sockets)

    @cached_property
    def entrypoint_terminals(self) -> frozenset[int | None]:
        init, proc = self.tables.processes.get(1), self.tables.processes.proc
        return frozenset({init.terminal if init and init.terminal else None, standard_terminal(proc, 1)} - {None})

    def _session(self, process: Process) -> Session | None:
        told = self._logged_in(process)
        if told is None:
            return None
        inodes = self.sockets_of(process.pid)
        if inodes is None or not self.sockets:
            return Session(process=process, user=told[0], has_terminal=told[1], socket=None)
        socket = self._connection(inodes)
        return Session(process=process, user=told[0], has_terminal=told[1], socket=socket) if socket else None

    def _logged_in(self, process: Process) -> tuple[str, bool] | None:
        """Return the user and whether there is a terminal; None where nobody is logged in there."""
        processes = self.tables.processes
        if process.comm.startswith("dropbear"):
            programs = [processes.by_pid[pid] for pid in processes.children(process.pid)]
            programs = [each for each in programs if not each.comm.startswith("dropbear")]
            user_id = processes.user_id(programs[0].pid) if programs else None
            return None if user_id is None else (self.users.name(user_id), any(each.terminal for each in programs))
        return logged_in(" ".join(processes.command(process.pid)))

    def _connection(self, inodes: frozenset[int]) -> Socket | None:
        """Return the connection of a session: not what it forwards, and not what it listens to for its client."""
        held = [self.sockets[inode] for inode in inodes if inode in self.sockets]
        forwarded = {each.local.port for each in held if each.state is SocketState.LISTEN}
        open_ones = [
            each for each in held if each.state is SocketState.ESTABLISHED and each.local.port not in forwarded
        ]
        came_in = [each for each in open_ones if each.inode in self.accepted]
        return min(came_in or open_ones, key=lambda each: each.inode, default=None)

    def terminal(self, terminal: Terminal) -> dict[str, Json]:
        kind, peers, person = self._whose(terminal)
        return {
            "name": terminal.name,
            "user": self.users.name(terminal.user_id),
            "leader": plain(terminal.leader.comm) if terminal.leader else None,
            "opened_at_s": terminal.opened_s,
            "input_at_s": terminal.input_s,
            "kind": kind,
            "peers": list(peers),
            "person": person,
        }

    def _whose(self, terminal: Terminal) -> tuple[str, Sequence[str], str | None]:
        """Return the kind of a terminal, the connections through which it is seen, and whose it is."""
        leader, processes = terminal.leader, self.tables.processes
        if terminal.number in self.entrypoint_terminals:
            return "entrypoint", (), None
        if leader is None:
            return ("hidden" if processes.hides else "detached"), (), None
        line = (leader, *processes.ancestors(leader.pid))
        session = next((self.sessions[each.pid] for each in line if each.pid in self.sessions), None)
        if session is not None:
            return "ssh", (session.id,), session.person
        if line[-1].pid != 1:
            return ("outside" if line[-1].parent == 0 else "hidden"), (), None
        # PID 1 serves only where it opened the terminal itself; else it merely took over whose parent has ended.
        return self._served(line[1:-1] or line[1:])

    def _served(self, line: Sequence[Process]) -> tuple[str, Sequence[str], str | None]:
        held = [self.sockets_of(each.pid) for each in line]
        came_in = [self.sockets[i] for inodes in held for i in sorted(inodes or ()) if i in self.accepted]
        peers = {_id(each): each for each in came_in[:_PEERS_MAX]}
        self.served.update(peers)
        if peers:
            return "served", tuple(peers), None
        return ("hidden" if None in held else "detached"), (), None


def facts_of(tables: Tables, terminals: Sequence[Terminal], users: Users, pages: Pages) -> dict[str, Json]:
    """Return the facts of a reading, as `people` documents them."""
    look = _Look(tables, users)
    own = tables.processes.own
    seen = [look.terminal(each) for each in terminals if each.leader is None or each.leader.pid not in own]
    connections = [_ssh(each) for each in look.sessions.values()]
    connections += [
        _of_socket(id_, socket) | {"kind": "editor", "person": person} for id_, (person, socket) in look.editors.items()
    ]
    served = {id_: socket for id_, socket in look.served.items() if id_ not in look.editors}
    connections += [_of_socket(id_, socket) | {"kind": "served"} for id_, socket in served.items()]
    with suppress(SignalError):  # `unseen` tells it
        connections += pages.facts(tables)
    return {
        "counted_at_s": tables.at_s,
        "unseen": _unseen(tables),
        "terminals": list[Json](seen),
        "connections": list[Json](connections),
    }


def logged_in(title: str) -> tuple[str, bool] | None:
    """Return the user and whether there is a terminal, from the title of an sshd process; None before the login."""
    match = _LOGGED_IN.fullmatch(title)
    if match is None:
        return None
    user, terminals = match["user"], _TERMINALS.search(match["user"])
    if terminals is None:
        return plain(user), False
    return plain(user[: terminals.start()]), terminals["terminals"] != "notty"


def plain(text: str) -> str:
    """Return `text` without anything that a terminal would take for more than a letter, at most 64 characters of it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_NAME_MAX])


def _ssh(session: Session) -> dict[str, Json]:
    facts = _of_socket(session.id, session.socket)
    return facts | {
        "kind": "ssh",
        "person": session.person,
        "started_at_s": session.process.started_s,
        "terminal": session.has_terminal,
    }


def _of_socket(id_: str, socket: Socket | None) -> dict[str, Json]:
    return {
        "id": id_,
        "received_bytes": socket.bytes_received if socket else None,
        "acked_bytes": socket.bytes_acked if socket else None,
        "queued_bytes": socket.send_queue if socket else None,
        "retransmits": socket.retransmits if socket else None,
    }


def _id(socket: Socket) -> str:
    return f"{socket.remote.address}:{socket.remote.port} to port {socket.local.port}"


def _unseen(tables: Tables) -> str | None:
    try:
        without = tables.sockets.without_bytes
    except SignalError as error:
        return str(error)
    return None if without is None else f"bytes are not counted: {without}"
