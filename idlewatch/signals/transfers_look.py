"""
What has been moved since the last look, and by whom: over connections, by transfer tools, into growing files.

Connections: those that this Pod opened to others. What came to a port that is listened to belongs to a server's or a
person's own signal; an rsync, scp or sftp-server below sshd is seen by what it reads and writes. A tool's /proc/PID/io
tells one side at least of any transfer: bytes that it receives with recv() show in no counter there, but are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import SignalError
from idlewatch.kernel import Io, Socket, SocketState
from idlewatch.model import Json
from idlewatch.signals import transfers_names as names
from idlewatch.signals.jobs_places import Places
from idlewatch.signals.jobs_programs import STARTING_S, Program, Programs, Role, plain
from idlewatch.signals.transfers_files import GrowingFiles, Growth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from idlewatch.kernel import Process, ProcessTable, SocketTable, Tables

CONNECTIONS, TOOL_CONNECTIONS = "connections", "tool connections"
TOOL_READS, TOOL_WRITES = "tool reads", "tool writes"
FILE, TRANSCRIPT = "file", "transcript"

_LEAST_BYTES = 4 * 1024
"""A connection with less since the last look is nobody's transfer, and its owner is not looked for: that is dear."""
_ENTRIES_MAX = 48
_FILE_NAME_MAX = 60
_NOT_SHOWN = "a process that is not shown here"

LeavesHere: TypeAlias = Callable[[Socket], bool]


def leaves_here(socket: Socket) -> bool:
    """Whether a connection goes to another machine."""
    return not socket.remote.is_loopback and socket.remote.address != socket.local.address


@dataclass(frozen=True, slots=True)
class _Mover:
    """Who moved something, what kind of thing, and over which of their names it is summed."""

    id: str
    kind: str
    name: str
    pid: int | None = field(compare=False)
    """Of one of those that share its name and session: they are one mover."""
    file: str | None = None


@dataclass(slots=True)
class TransfersLook:
    """Looks again and again; remembers the last look."""

    leaves: LeavesHere = leaves_here
    _before: ProcessTable | None = None
    _sockets: dict[tuple[int, str], tuple[int, int]] | None = None
    """Bytes received and sent of each connection."""
    _programs: Programs = field(default_factory=Programs)
    _files: GrowingFiles = field(default_factory=GrowingFiles)

    def facts(self, tables: Tables) -> dict[str, Json]:
        """Return the facts of a reading, as `transfers` documents them."""
        processes, moved, sent = tables.processes, Counter[_Mover](), Counter[_Mover]()
        unseen = self._over_connections(tables, moved, sent)
        before, self._before = self._before, processes
        if before is not None:
            self._by_processes(before, processes, moved)
        self._programs.forget_ended(processes)
        most = [each for each in moved.most_common(_ENTRIES_MAX) if each[1] > 0]
        moving = list[Json](_entry(mover, count) | self._sent(mover, sent, processes) for mover, count in most)
        return {"moving": moving, "unseen": unseen}

    # ---------------------------------------------------------------- connections

    def _over_connections(self, tables: Tables, moved: Counter[_Mover], sent: Counter[_Mover]) -> str | None:
        """Count what went over connections; return why that is not seen, if it is not."""
        try:
            table = tables.sockets
        except SignalError as error:
            self._sockets = None
            return str(error)
        before = self._sockets
        if table.without_bytes is not None:
            self._sockets = None
            return f"bytes of connections are not counted: {table.without_bytes}"
        self._sockets = {_key(one): _bytes(one) for one in table if one.inode}
        if before is not None:
            gained = {one.inode: _gained(one, before) for one in _opened_here(table, self.leaves)}
            gained = {inode: ways for inode, ways in gained.items() if sum(ways) >= _LEAST_BYTES}
            self._owned(gained, tables, moved, sent)
        return None

    def _owned(
        self,
        gained: Mapping[int, tuple[int, int]],
        tables: Tables,
        moved: Counter[_Mover],
        sent: Counter[_Mover],
    ) -> None:
        if not gained:
            return
        for inode, pids in tables.owners_of(*gained).items():
            mover = self._of_owners(pids, tables.processes)
            if mover is not None:
                moved[mover] += sum(gained[inode])
                sent[mover] += gained[inode][1]

    def _of_owners(self, pids: Iterable[int], processes: ProcessTable) -> _Mover | None:
        """Return whose transfer a connection is; None where it is nobody's."""
        owners = [process for pid in pids if (process := processes.get(pid)) is not None]
        if not owners:
            return _Mover("?", CONNECTIONS, _NOT_SHOWN, None)
        if any(owner.pid in processes.own for owner in owners):
            return None
        places = Places(processes, self._programs)
        for owner in owners:
            for each in (owner, *self._ssh_for(owner, processes)):
                program = self._programs.of(each, processes)
                if program.role is Role.AGENT or _is_tool(each, program, places):
                    return _mover(each, program, TOOL_CONNECTIONS)
        program = self._programs.of(owners[0], processes)
        if names.has_habits(program) or names.is_tunnel(program):
            return None
        return _mover(owners[0], program, CONNECTIONS)

    def _ssh_for(self, owner: Process, processes: ProcessTable) -> tuple[Process, ...]:
        """Return who started an SSH client: rsync, scp, sftp and git move their bytes through one."""
        return processes.ancestors(owner.pid)[:1] if "ssh" in self._programs.of(owner, processes).words else ()

    def _sent(self, mover: _Mover, sent: Mapping[_Mover, int], processes: ProcessTable) -> dict[str, Json]:
        """What of it went out, of a tool that shows what it writes: else nobody knows whether it kept what came in."""
        process = None if mover.pid is None else processes.get(mover.pid)
        if mover.kind != TOOL_CONNECTIONS or process is None or process.io is None:
            return {}
        is_agent = self._programs.of(process, processes).role is Role.AGENT
        return {} if is_agent else {"sent_bytes": sent[mover]}

    # ---------------------------------------------------------------- tools and files

    def _by_processes(self, before: ProcessTable, processes: ProcessTable, moved: Counter[_Mover]) -> None:
        program, places = partial(self._programs.of, processes=processes), Places(processes, self._programs)
        read, wrote = _characters(before, processes)
        for pid, count in wrote.items():
            process = processes.by_pid[pid]
            if (
                pid not in processes.own
                and (count or read[pid])
                and _is_tool(process, known := program(process), places)
            ):
                moved[_mover(process, known, TOOL_READS)] += read[pid]
                moved[_mover(process, known, TOOL_WRITES)] += count
        for growth in self._files.grown(wrote, processes, program):
            moved[_of_file(growth, program(growth.process))] += growth.bytes


def _is_tool(process: Process, program: Program, places: Places) -> bool:
    """
    Whether little that it moves counts: a transfer tool that no editor started by itself.

    An editor's own (VS Code fetches each three minutes, 0.7 MB from a large repository) is a program like any other.
    """
    return names.is_tool(program) and not places.of(process).under_editor


def _of_file(growth: Growth, program: Program) -> _Mover:
    kind = TRANSCRIPT if names.is_transcript(growth.path) else FILE
    kind = kind if growth.by_position else TOOL_WRITES
    file = plain(growth.path.rpartition("/")[2], _FILE_NAME_MAX)
    whose = _mover(growth.process, program, kind)
    return _Mover(f"{whose.id}:{file}", kind, whose.name, whose.pid, file)


def _mover(process: Process, program: Program, kind: str) -> _Mover:
    """A loop of short-lived tools is one mover: they share their name and their session."""
    return _Mover(f"{kind}:{program.name}@{process.session}", kind, program.name, process.pid)


def _entry(mover: _Mover, count: int) -> dict[str, Json]:
    return {
        "id": mover.id,
        "kind": mover.kind,
        "name": mover.name,
        "pid": mover.pid,
        "file": mover.file,
        "bytes": count,
    }


def _opened_here(sockets: SocketTable, leaves: LeavesHere) -> Iterable[Socket]:
    """Return the connections to other machines that did not come to a port which is listened to."""
    ports = {each.local.port for each in sockets.listening()}
    return (
        each
        for each in sockets
        if each.inode and each.state is not SocketState.LISTEN and each.local.port not in ports and leaves(each)
    )


def _key(socket: Socket) -> tuple[int, str]:
    return socket.inode, f"{socket.local}{socket.remote}"


def _bytes(socket: Socket) -> tuple[int, int]:
    return socket.bytes_received or 0, socket.bytes_acked or 0


def _gained(socket: Socket, before: Mapping[tuple[int, str], tuple[int, int]]) -> tuple[int, int]:
    (received, sent), (old_received, old_sent) = _bytes(socket), before.get(_key(socket), (0, 0))
    return received - old_received, sent - old_sent


def _characters(before: ProcessTable, now: ProcessTable) -> tuple[dict[int, int], dict[int, int]]:
    """
    Return by PID what each process has read and written since the last look, those left out that hide it.

    What a process reads while it starts is itself (`aws` 30 MB of Python): a loop of them moves nothing by that.
    """
    read: dict[int, int] = {}
    wrote: dict[int, int] = {}
    for process in now:
        io, base = process.io, _base(process, before)
        if io is not None and base is not None:
            is_starting = before.at_s - process.started_s < STARTING_S
            read[process.pid] = 0 if is_starting else io.read_chars - base.read_chars
            wrote[process.pid] = io.write_chars - base.write_chars
    return read, wrote


def _base(process: Process, before: ProcessTable) -> Io | None:
    """What it had read and written by the last look; None where that is not known."""
    old = before.get(process.pid)
    if old is not None and old.key == process.key:
        return old.io
    return Io(0, 0, 0, 0) if process.started_s >= before.at_s - 1.0 else None
