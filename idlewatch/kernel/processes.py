"""
The processes of this PID namespace at one instant: who they are, whose child each is, what each has used so far.

A look never fails because a process ended in the middle of it, nor because /proc hides something: what another user's
process does not show (/proc/PID/io, descriptors) is None, never 0 and never an error; under hidepid whole processes
are missing, which `ProcessTable.hides` tells.

Source: proc_pid_stat(5) and proc_pid_io(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import SignalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Key: TypeAlias = tuple[int, int]
"""A process for good: its PID and its start in clock ticks, because PIDs come back."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STAT_BYTES = 4096
_COMMAND_BYTES = 64 * 1024
_IO_NAMES = (b"rchar", b"wchar", b"read_bytes", b"write_bytes")


@dataclass(frozen=True, slots=True)
class Io:
    """What a process has read and written since it started, with the part of the children it has waited for; bytes."""

    read_chars: int
    """Through any read call: files, page cache, pipes, sockets."""
    write_chars: int
    read_bytes: int
    """From disks."""
    write_bytes: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as its /proc/PID/stat and /proc/PID/io tell."""

    pid: int
    parent: int
    """0: it was put into this PID namespace from outside (or is PID 1 or the kernel's own)."""
    session: int
    """PID of its session's leader."""
    terminal: int
    """Device number of its controlling terminal as the kernel writes it (`terminals.terminal_number`); 0: none."""
    comm: str
    state: str
    """One letter: R running, S sleeping, D waiting for a disk, T stopped, Z ended and not yet waited for."""
    started_ticks: int
    cpu_s: float
    """CPU seconds that it has used itself."""
    waited_cpu_s: float
    """CPU seconds of the children it has waited for."""
    io: Io | None
    """None where /proc/PID/io is denied."""
    in_foreground: bool = False
    """Whether its controlling terminal's input is for it: its process group is the terminal's foreground one."""

    @property
    def key(self) -> Key:
        """What tells it from a later process of the same PID."""
        return self.pid, self.started_ticks

    @property
    def started_s(self) -> float:
        """When it started, CLOCK_BOOTTIME seconds."""
        return self.started_ticks / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Ours:
    """Which processes were idlewatch's own at one instant; tells a child of ours from an orphan that fell to us."""

    seen: frozenset[Key] = frozenset()
    own: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """All visible processes at `at_s` (CLOCK_BOOTTIME seconds), by PID."""

    at_s: float
    by_pid: Mapping[int, Process]
    own: frozenset[int] = frozenset()
    """The daemon and its descendants, without adopted orphans of others."""
    proc: Path = Path("/proc")
    _children: Mapping[int, tuple[int, ...]] = field(default_factory=dict, repr=False)
    _commands: dict[int, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[Process]:
        return iter(self.by_pid.values())

    @property
    def hides(self) -> bool:
        """Whether /proc hides other users' processes (hidepid): PID 1 always exists and is not ours."""
        return 1 not in self.by_pid

    def get(self, pid: int) -> Process | None:
        """Return the process of this PID, None where none is visible."""
        return self.by_pid.get(pid)

    def children(self, pid: int) -> tuple[int, ...]:
        """Return the PIDs whose parent is `pid`."""
        return self._children.get(pid, ())

    def descendants(self, pid: int) -> frozenset[int]:
        """Return the PIDs below `pid`, itself left out."""
        found: set[int] = set()
        waiting = list(self.children(pid))
        while waiting:
            child = waiting.pop()
            if child not in found and child != pid:
                found.add(child)
                waiting.extend(self.children(child))
        return frozenset(found)

    def ancestors(self, pid: int) -> tuple[Process, ...]:
        """Return parent, grandparent and so on, the nearest first, as far as they are visible."""
        line: list[Process] = []
        process = self.by_pid.get(pid)
        while process is not None and len(line) < len(self.by_pid):
            process = self.by_pid.get(process.parent)
            if process is not None:
                line.append(process)
        return tuple(line)

    def is_below(self, pid: int, ancestor: int) -> bool:
        """Whether `pid` descends from `ancestor`; nobody descends from himself."""
        return any(process.pid == ancestor for process in self.ancestors(pid))

    def command(self, pid: int) -> tuple[str, ...]:
        """Return its command line, read when first asked for at this look; empty where there is none to be read."""
        if pid not in self._commands:
            self._commands[pid] = _command(self.proc / str(pid) / "cmdline")
        return self._commands[pid]

    def user_id(self, pid: int) -> int | None:
        """Return whose process it is (effective user ID), None where it has ended."""
        try:
            return (self.proc / str(pid)).stat().st_uid
        except OSError:
            return None


def look(
    proc: Path, now_s: float, own_pid: int, before: Ours | None = None, *, registered: Iterable[Key] = ()
) -> tuple[ProcessTable, Ours]:
    """
    Return every visible process, and what the next look wants as `before`. Raises SignalError where there is none.

    Without `before` every descendant of `own_pid` counts as ours. So do the `registered`, and what they have started
    since they were seen as ours.
    """
    by_pid = {process.pid: process for process in _processes(proc)}
    if not by_pid:
        raise SignalError(f"{proc} shows no process")
    children: dict[int, list[int]] = {}
    for process in by_pid.values():
        children.setdefault(process.parent, []).append(process.pid)
    table = ProcessTable(at_s=now_s, by_pid=by_pid, proc=proc, _children={k: tuple(v) for k, v in children.items()})
    roots = frozenset(key for key in registered if key[0] in by_pid and by_pid[key[0]].key == key)
    seen = frozenset(process.key for process in by_pid.values())
    strangers = frozenset[Key]() if before is None else before.seen - before.own
    own = _below(table, {own_pid, *(pid for pid, _ in roots)}, strangers - roots)
    return _with_own(table, frozenset(pid for pid, _ in own)), Ours(seen=seen, own=own)


def _below(table: ProcessTable, tops: Iterable[int], strangers: frozenset[Key]) -> frozenset[Key]:
    """These processes with their trees, but for strangers that have fallen to one, and what is below them."""
    found: set[Key] = set()
    waiting = [process for pid in tops if (process := table.get(pid))]
    while waiting:
        process = waiting.pop()
        if process.key not in found and process.key not in strangers:
            found.add(process.key)
            waiting += [child for pid in table.children(process.pid) if (child := table.get(pid))]
    return frozenset(found)


def _with_own(table: ProcessTable, own: frozenset[int]) -> ProcessTable:
    return ProcessTable(at_s=table.at_s, by_pid=table.by_pid, own=own, proc=table.proc, _children=table._children)  # noqa: SLF001 -- the same class


def _processes(proc: Path) -> Iterator[Process]:
    try:
        names = [name for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208 -- names only, four times as fast
    except OSError as error:
        raise SignalError(f"{proc} cannot be read: {error.strerror}") from error
    for name in names:
        try:
            yield _parsed(int(name), _bytes(f"{proc}/{name}/stat", _STAT_BYTES), _io(f"{proc}/{name}/io"))
        except (OSError, ValueError, IndexError):
            continue


def _parsed(pid: int, stat: bytes, io: Io | None) -> Process:
    """Return the process of one /proc/PID/stat; its name may hold anything, so fields count from the last `)`."""
    name_from, name_to = stat.index(b"(") + 1, stat.rindex(b")")
    fields = stat[name_to + 1 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        terminal=int(fields[4]) & 0xFFFFFFFF,
        comm=stat[name_from:name_to].decode(errors="replace"),
        state=fields[0].decode(),
        started_ticks=int(fields[19]),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        waited_cpu_s=(int(fields[13]) + int(fields[14])) / _TICKS_PER_S,
        io=io,
        in_foreground=fields[2] == fields[5],
    )


def _io(path: str) -> Io | None:
    try:
        lines = (line.partition(b": ") for line in _bytes(path, _STAT_BYTES).splitlines())
        values = {name: int(value) for name, _, value in lines}
        return Io(*(values[name] for name in _IO_NAMES))
    except (OSError, ValueError, KeyError):
        return None


def _command(path: Path) -> tuple[str, ...]:
    try:
        text = _bytes(str(path), _COMMAND_BYTES)
    except OSError:
        return ()
    return tuple(word.decode(errors="replace") for word in text.rstrip(b"\0 ").split(b"\0")) if text else ()


def _bytes(path: str, limit: int) -> bytes:
    """Return the start of a file of /proc in one system call: a process that ends meanwhile is an OSError, no more."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)
