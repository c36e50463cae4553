"""
What the processes of kernels, and of their server, have used since the last look.

A kernel's process has its id in the connection file that it was given (`kernel-ID.json`). CPU is that of its whole
tree, a child's part moving to its parent when it ends; characters written are the kernel's own. A kernel without a
process here runs elsewhere, behind a gateway.

What a server itself writes are the files that somebody saves from the browser: its answers go out by `send`, which
counts nowhere, so a polled server writes nothing at all (JupyterLab 4, measured), but for a line of its log at times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlewatch.kernel import Key, Process, ProcessTable

_CONNECTION_FILE = re.compile(r"kernel-([0-9A-Za-z_-]{8,64})\.json$")


@dataclass(frozen=True, slots=True)
class Used:
    """What one kernel used over `span_s`; None where there is nothing to compare with, or it can't be read."""

    local: bool
    """Whether it has a process here."""
    span_s: float = 0.0
    cpu_s: float | None = None
    written_chars: int | None = None


@dataclass(frozen=True, slots=True)
class _Counted:
    at_s: float
    cpu_s: Mapping[Key, float] = field(default_factory=dict)
    """Of each process of the tree, with the children it has waited for."""
    written_chars: Mapping[Key, int | None] = field(default_factory=dict)
    """Of the kernel's own processes."""


class KernelProcesses:
    """Remembers the counters of each kernel from look to look."""

    def __init__(self) -> None:
        self._before: dict[str, _Counted] = {}

    def used(self, ids: Iterable[str], table: ProcessTable) -> dict[str, Used]:
        """Return what each of these kernels used since the last call; others are forgotten."""
        roots = _roots(table)
        now = {id_: _counted(roots[id_], table) if id_ in roots else None for id_ in ids}
        used = {id_: _used(self._before.get(id_), counted, table) for id_, counted in now.items()}
        self._before = {id_: counted for id_, counted in now.items() if counted is not None}
        return used


def _roots(table: ProcessTable) -> dict[str, list[Process]]:
    """The processes of each kernel: a wrapper that was given the connection file, and the kernel itself."""
    found: dict[str, list[Process]] = {}
    for process in table:
        for word in table.command(process.pid):
            match = _CONNECTION_FILE.search(word)
            if match:
                found.setdefault(match[1], []).append(process)
                break
    return found


def _counted(roots: list[Process], table: ProcessTable) -> _Counted:
    pids = {root.pid for root in roots}.union(*(table.descendants(root.pid) for root in roots))
    tree = [process for process in map(table.get, pids) if process is not None]
    return _Counted(
        at_s=table.at_s,
        cpu_s={process.key: process.cpu_s + process.waited_cpu_s for process in tree},
        written_chars={root.key: root.io.write_chars if root.io else None for root in roots},
    )


def _used(before: _Counted | None, now: _Counted | None, table: ProcessTable) -> Used:
    if now is None:
        return Used(local=False)
    if before is None or now.at_s <= before.at_s:
        return Used(local=True)
    if not before.written_chars.keys() & now.written_chars.keys():  # the kernel was restarted
        before = _Counted(at_s=before.at_s)
    left = {key for key in before.cpu_s if key not in now.cpu_s and _lives(key, table)}
    cpu_s = sum(now.cpu_s.values()) - sum(value for key, value in before.cpu_s.items() if key not in left)
    return Used(
        local=True,
        span_s=now.at_s - before.at_s,
        cpu_s=max(0.0, cpu_s),
        written_chars=_written(before.written_chars, now.written_chars),
    )


def _lives(key: Key, table: ProcessTable) -> bool:
    process = table.get(key[0])
    return process is not None and process.key == key


def _written(before: Mapping[Key, int | None], now: Mapping[Key, int | None]) -> int | None:
    gained = [value - (before.get(key) or 0) for key, value in now.items() if value is not None]
    return max(0, sum(gained)) if gained else None


class ServerWrites:
    """Remembers what one server's process has written."""

    def __init__(self) -> None:
        self._before: tuple[int, frozenset[Key]] | None = None

    def since(self, server: Key, table: ProcessTable) -> int | None:
        """
        Return the characters that it wrote since the last call; None where that can't be told.

        What its children wrote becomes its own once they have ended (wait(2)): a kernel, a terminal.
        """
        process = table.get(server[0])
        if process is None or process.key != server or process.io is None:
            self._before = None
            return None
        children = frozenset(each.key for pid in table.children(server[0]) if (each := table.get(pid)) is not None)
        before, self._before = self._before, (process.io.write_chars, children)
        if before is None or any(not _lives(child, table) for child in before[1]):
            return None
        return max(0, process.io.write_chars - before[0])
