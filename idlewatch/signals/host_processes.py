"""
What the processes of this PID namespace have used, and which part of it is idlewatch's own.

Every total here is a process's own plus that of the children it has waited for: when a child ends, its part moves to
its parent and the sum over a tree stays. That holds for CPU time (proc_pid_stat(5): utime stime cutime cstime) and
for /proc/PID/io (the kernel adds a reaped child's account to its parent's).

Most processes are strangers, and it is enough to know that they are: between two whole looks only ours, those that are
new and those that are asked for are read, a twentieth of the cost beside 200 strangers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import SignalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Key: TypeAlias = tuple[int, int]
"""A process: its PID and its start in clock ticks, because PIDs come back."""

_NOBODY: Mapping[int, Key] = {}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat."""

    parent: int
    cpu_s: float
    """Its own CPU time and that of the children it has waited for."""
    comm: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the own tree had used by one instant, and who belonged to it."""

    processes: Mapping[Key, Process] = field(default_factory=dict)
    """Those that were read; after a whole look, every process that was visible."""
    strangers: Mapping[int, Key] = field(default_factory=dict)
    """Those that are none of ours, by PID. A PID that has come back since the last whole look has its old key."""
    own: frozenset[Key] = frozenset()
    """The own process and its descendants, but for the adopted."""
    adopted: frozenset[Key] = frozenset()
    """Orphans of others that fell to our tree, and what is below them: their work is not ours."""
    io_bytes: Mapping[Key, tuple[int, int]] = field(default_factory=dict)
    """Bytes read from and written to disks, of each of ours."""
    memory_bytes: int = 0
    """Pages that only our tree holds."""
    others: Mapping[Key, frozenset[Key]] = field(default_factory=dict)
    """Processes of idlewatch's outside of the daemon's tree, with all below each; they are strangers, too."""
    others_memory: Mapping[Key, int] = field(default_factory=dict)
    """Bytes of memory of each of those."""


def usage(
    proc: Path,
    own_pid: int,
    before: Usage | None,
    *,
    wanted: Iterable[Key] = (),
    registered: Iterable[Key] = (),
    whole: bool = True,
) -> Usage:
    """
    Return what the tree of `own_pid` has used; `before` tells a child from an adopted orphan.

    `wanted` strangers are read, too, and so are the `registered`, who are idlewatch's. `whole`: so is everybody; else a
    stranger that was adopted since `before` may pass for one that nobody waits for. Raises SignalError where /proc
    shows no process.
    """
    known = {} if before is None or whole else before.strangers
    registered = frozenset(registered)
    others_before = _union(before.others.values()) if before else frozenset()
    read_anyway = {pid for pid, _ in (*wanted, *registered, *others_before, *(before.adopted if before else ()))}
    visible = _pids(proc)
    seen = processes(proc, [pid for pid in visible if pid not in known or pid in read_anyway])
    known_strangers = {} if before is None else before.strangers
    tree = _descendants(seen, own_pid)
    own = frozenset(_descendants(seen, own_pid, strangers=known_strangers))
    adopted = frozenset(tree - own)
    unread = {pid: known[pid] for pid in visible if pid in known and pid not in read_anyway}
    met = {pid: key for pid, key in known_strangers.items() if key not in others_before}
    others = {
        root: frozenset(_descendants(seen, root[0], strangers=met)) - own for root in registered - own & seen.keys()
    }
    return Usage(
        processes=seen,
        strangers=unread | {key[0]: key for key in seen if key not in own},
        own=own,
        adopted=adopted,
        io_bytes={key: _io_bytes(proc, key[0]) for key in own | _union(others.values())},
        memory_bytes=sum(_memory_bytes(proc, key[0]) for key in own),
        others=others,
        others_memory={key: _memory_bytes(proc, key[0]) for key in _union(others.values())},
    )


def own_cpu_s(before: Usage, now: Usage) -> float:
    """Return the CPU seconds that the own tree used between the two."""
    used = sum(now.processes[key].cpu_s for key in now.own)
    # An adopted orphan that has ended is in the totals of the one of ours that waited for it.
    counted = sum(
        before.processes[key].cpu_s for key in (*_kept(before, now), *(before.adopted - now.processes.keys()))
    )
    return max(0.0, used - counted)


def cpu_s_of(wanted: Iterable[Key], before: Usage, now: Usage) -> float:
    """Return the CPU seconds that these processes of others, and children they waited for, used between the two."""
    theirs = [key for key in wanted if key in now.processes and key in before.processes and key not in now.own]
    return sum(max(0.0, now.processes[key].cpu_s - before.processes[key].cpu_s) for key in theirs)


def busiest(before: Usage, now: Usage, most: int, *, left_out: frozenset[Key]) -> list[tuple[Key, str, float]]:
    """
    Return who used most CPU between two whole looks: process, name, seconds; without idlewatch's own and `left_out`.

    What was started and ended in between is in the figure of whoever waited for it.
    """
    ours = now.own | _union(now.others.values()) | left_out
    used = [
        (key, process.comm, process.cpu_s - (before.processes[key].cpu_s if key in before.processes else 0.0))
        for key, process in now.processes.items()
        if key not in ours
    ]
    return sorted((each for each in used if each[2] > 0), key=lambda each: -each[2])[:most]


def own_io_bytes(before: Usage, now: Usage) -> tuple[int, int]:
    """Return the bytes that the own tree read from and wrote to disks between the two."""
    kept = [before.io_bytes[key] for key in _kept(before, now)]
    used = [now.io_bytes[key] for key in now.own]
    reads, writes = (sum(io[way] for io in used) - sum(io[way] for io in kept) for way in (0, 1))
    others = _both(before, now)
    began, ended = [before.io_bytes[key] for key in others.before], [now.io_bytes[key] for key in others.now]
    more = [max(0, sum(io[way] for io in ended) - sum(io[way] for io in began)) for way in (0, 1)]
    return max(0, reads) + more[0], max(0, writes) + more[1]


def others_cpu_s(before: Usage, now: Usage) -> float:
    """
    Return the CPU seconds that idlewatch's processes outside of the daemon's tree used between the two.

    Only of those that were idlewatch's at both, and of what they started in between: whatever else they turn out to
    have below them counts as use. What has ended in a tree is in the totals of whoever waited for it.
    """
    trees = _both(before, now)
    used = sum(now.processes[key].cpu_s for key in trees.now)
    return max(0.0, used - sum(before.processes[key].cpu_s for key in trees.before))


def others_growth(before: Usage, now: Usage) -> int:
    """Return the bytes of memory that those processes have gained."""
    trees = _both(before, now)
    return sum(now.others_memory[key] for key in trees.now) - sum(before.others_memory[key] for key in trees.before)


@dataclass(frozen=True, slots=True)
class _Trees:
    """Whose totals are compared."""

    before: frozenset[Key]
    now: frozenset[Key]


def _both(before: Usage, now: Usage) -> _Trees:
    roots = before.others.keys() & now.others.keys()
    then, present = _union(before.others[root] for root in roots), _union(now.others[root] for root in roots)
    return _Trees(then - (now.processes.keys() - present), present)


def _union(sets: Iterable[frozenset[Key]]) -> frozenset[Key]:
    return frozenset().union(*sets)


def all_cpu_s(before: Usage, now: Usage) -> float:
    """Return the CPU seconds of everything visible between two whole looks, for where no cgroup counts them."""
    used = sum(process.cpu_s for process in now.processes.values())
    return max(0.0, used - sum(process.cpu_s for process in before.processes.values()))


def _kept(before: Usage, now: Usage) -> frozenset[Key]:
    """Return those of ours whose totals are still in our sum: they live in our tree, or have ended in it."""
    return before.own - (now.processes.keys() - now.own)


def processes(proc: Path, pids: Iterable[int]) -> dict[Key, Process]:
    """Return those of these processes that are there. Raises SignalError where none is."""
    found: dict[Key, Process] = {}
    folder = str(proc)
    for pid in pids:
        try:
            key, process = _parse_stat(pid, _content(f"{folder}/{pid}/stat"))
        except (OSError, ValueError, IndexError):
            continue
        found[key] = process
    if not found:
        raise SignalError(f"{proc} shows no process")
    return found


def allowed_cpus(proc: Path) -> int | None:
    """Return on how many processors this process may run, whatever the quota; None where /proc does not say."""
    try:
        status = (proc / "self/status").read_text(errors="replace")
        ranges = status.partition("Cpus_allowed_list:")[2].splitlines()[0].strip().split(",")
        ends = [(int(first), int(last or first)) for first, _, last in (part.partition("-") for part in ranges)]
    except (OSError, ValueError, IndexError):
        return None
    return sum(last - first + 1 for first, last in ends)


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _pids(proc: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208  (a Path each costs more than its file)
    except OSError as error:
        raise SignalError(f"{proc} cannot be read: {error.strerror}") from error


def _parse_stat(pid: int, stat: bytes) -> tuple[Key, Process]:
    """Return the process of one /proc/PID/stat; its name may hold anything, so fields count from the last `)`."""
    name_from, name_to = stat.index(b"(") + 1, stat.rindex(b")")
    fields = stat[name_to + 1 :].split()
    cpu_s = sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_S
    comm = stat[name_from:name_to].decode(errors="replace")
    return (pid, int(fields[19])), Process(parent=int(fields[1]), cpu_s=cpu_s, comm=comm)


def _descendants(seen: Mapping[Key, Process], root: int, strangers: Mapping[int, Key] = _NOBODY) -> set[Key]:
    """The tree of `root`, without the strangers that have fallen to it and what is below them."""
    children: dict[int, list[Key]] = {}
    for key, process in seen.items():
        children.setdefault(process.parent, []).append(key)
    tree: set[Key] = set()
    waiting = [key for key in seen if key[0] == root]
    while waiting:
        key = waiting.pop()
        if key not in tree:
            tree.add(key)
            waiting.extend(child for child in children.get(key[0], ()) if strangers.get(child[0]) != child)
    return tree


def _io_bytes(proc: Path, pid: int) -> tuple[int, int]:
    """Return what a process read from and wrote to disks; 0 where /proc hides it, so that it counts as use."""
    try:
        values = dict(line.split(b": ", 1) for line in _content(f"{proc}/{pid}/io").splitlines())
        return int(values[b"read_bytes"]), int(values[b"write_bytes"])
    except (OSError, ValueError, KeyError):
        return 0, 0


def _memory_bytes(proc: Path, pid: int) -> int:
    """Return the pages that only this process holds; 0 where /proc hides them."""
    try:
        fields = _content(f"{proc}/{pid}/statm").split()
        return max(0, int(fields[1]) - int(fields[2])) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
