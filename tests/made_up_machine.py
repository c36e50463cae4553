"""A machine made of processes and sockets that a test moves, for the signals that look at both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from idlewatch.kernel import Io, Process, ProcessTable, Socket, SocketTable, Tables
from idlewatch.kernel.owners import SocketOwners
from idlewatch.model import Finding, Reading

TICKS = 100
LOOK_S = 15.0
PTS = 34816
"""Device number of pts/0."""


class Owners(SocketOwners):
    """Sockets and who has them, as they are told."""

    def __init__(self, owners: Mapping[int, tuple[int, ...]]) -> None:
        super().__init__()
        self.told, self.asked = owners, 0

    def of(self, inodes: Iterable[int], processes: ProcessTable) -> Mapping[int, tuple[int, ...]]:
        self.asked += 1
        return {inode: self.told.get(inode, ()) for inode in inodes}


@dataclass
class Machine:
    """Processes and sockets that a test moves; a look at them every 15 s."""

    now_s: float = 10_000.0
    processes: dict[int, Process] = field(default_factory=dict)
    commands: dict[int, tuple[str, ...]] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    sockets: dict[int, Socket] = field(default_factory=dict)
    owners: dict[int, tuple[int, ...]] = field(default_factory=dict)
    sockets_denied: str | None = None
    proc: Path = Path("/nonexistent")
    scans: Owners = field(default_factory=lambda: Owners({}))

    def __post_init__(self) -> None:
        if not self.processes:
            self.start(1, 0, "bash /start.sh", since_s=100.0)

    def start(
        self,
        pid: int,
        parent: int,
        command: str | Sequence[str],
        *,
        comm: str | None = None,
        session: int | None = None,
        terminal: int = 0,
        since_s: float | None = None,
        shows_io: bool = True,
    ) -> int:
        words = tuple(command.split()) if isinstance(command, str) else tuple(command)
        self.commands[pid] = words
        self.processes[pid] = Process(
            pid=pid,
            parent=parent,
            session=pid if session is None else session,
            terminal=terminal,
            comm=(words[0].rpartition("/")[2] if words else "")[:15] if comm is None else comm,
            state="S",
            started_ticks=round((self.now_s if since_s is None else since_s) * TICKS),
            cpu_s=0.0,
            waited_cpu_s=0.0,
            io=Io(0, 0, 0, 0) if shows_io else None,
        )
        return pid

    def uses(self, pid: int, cpu: float = 0.0, *, reads: int = 0, writes: int = 0) -> None:
        old = self.processes[pid]
        io = old.io and replace(old.io, read_chars=old.io.read_chars + reads, write_chars=old.io.write_chars + writes)
        self.processes[pid] = replace(old, cpu_s=old.cpu_s + cpu, io=io)

    def ends(self, pid: int, *, waited: bool = True) -> None:
        """A process ends, its children fall to PID 1, and its parent (or else PID 1) waits for it."""
        old = self.processes.pop(pid)
        for child in [each for each in self.processes.values() if each.parent == pid]:
            self.processes[child.pid] = replace(child, parent=1)
        heir = self.processes.get(old.parent if waited else 1)
        if heir is not None:
            used = old.cpu_s + old.waited_cpu_s
            self.processes[heir.pid] = replace(heir, waited_cpu_s=heir.waited_cpu_s + used)

    def table(self) -> ProcessTable:
        children: dict[int, tuple[int, ...]] = {}
        for each in self.processes.values():
            children[each.parent] = (*children.get(each.parent, ()), each.pid)
        return ProcessTable(
            at_s=self.now_s,
            by_pid=dict(self.processes),
            own=frozenset(self.own),
            proc=self.proc,
            _children=children,
            _commands=dict(self.commands),
        )

    def at(self, now_s: float) -> Tables:
        self.scans.told = dict(self.owners)
        sockets = SocketTable(self.now_s, tuple(self.sockets.values()), self.sockets_denied)
        return Tables(self.now_s, self.table(), sockets, self.scans)


def tmux(machine: Machine) -> int:
    """A tmux server with a pane that has a shell; returns the shell."""
    machine.start(700, 1, "tmux new -d", comm="tmux: server", since_s=200.0)
    return machine.start(710, 700, "-bash", comm="bash", terminal=PTS, since_s=200.0)


def vscode(machine: Machine) -> int:
    """A VS Code server; returns its extension host."""
    node = "/root/.vscode-server/bin/abc/node /root/.vscode-server/bin/abc/out/server-main.js"
    machine.start(600, 1, node, since_s=200.0)
    host = "/root/.vscode-server/bin/abc/node /root/.vscode-server/bin/abc/out/bootstrap-fork --type=extensionHost"
    return machine.start(610, 600, host, session=600, since_s=200.0)


class Looks(Protocol):
    """A signal over such a machine."""

    def read(self, now_s: float) -> Reading: ...
    def judge(self, reading: Reading) -> Finding: ...


def looked(machine: Machine, signal: Looks, for_s: float, each: Callable[[float], object]) -> list[Finding]:
    """The findings of a look every 15 s; `each` moves the machine by so many seconds before each look."""
    found = [signal.judge(signal.read(machine.now_s))]
    for _ in range(round(for_s / LOOK_S)):
        each(LOOK_S)
        machine.now_s += LOOK_S
        found.append(signal.judge(signal.read(machine.now_s)))
    return found[1:]
