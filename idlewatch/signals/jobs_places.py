"""
Where a process runs, by those above it: in tmux, behind a closed terminal, under an agent, in an editor.

The nearest of them that means something decides: a language server below an editor is noise, the same program in a
terminal or below an agent is work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idlewatch.signals.adopted import real_ancestors
from idlewatch.signals.jobs_programs import Program, Programs, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idlewatch.kernel import Key, Process, ProcessTable

_HOUSES = {
    "sshd": "ssh",
    "sshd-session": "ssh",
    "tmux": "tmux",
    "screen": "screen",
    "zellij": "zellij",
    "cron": "cron",
    "crond": "cron",
}
_NEVER = frozenset({Role.EDITOR, Role.HOUSE, Role.OURS})
"""What such a process uses itself is no work; what it starts may be."""
_ANCHORS = frozenset({Role.EDITOR, Role.HOUSE, Role.SERVER})
"""What they start is a tree of its own each."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process runs."""

    where: str
    """One word for people."""
    counts: bool
    """Whether its CPU is anybody's work."""
    under_editor: bool
    """Started by an editor by itself, and in no terminal: what it does there is the editor's habit."""
    is_agents: bool = False
    """An AI coding agent, or started by one."""


class Places:
    """Finds where processes run, in one look at them."""

    def __init__(self, processes: ProcessTable, programs: Programs) -> None:
        self._processes, self._programs = processes, programs
        self._lines: dict[int, tuple[Process, ...]] = {}

    def program(self, process: Process) -> Program:
        """Return what it is."""
        return self._programs.of(process, self._processes)

    def line(self, process: Process) -> tuple[Process, ...]:
        """Return the process and those above it, the nearest first."""
        if process.pid not in self._lines:
            parent = self._processes.get(process.parent)
            alone = parent is None or parent.pid == process.pid
            above = () if alone else real_ancestors(process, self._processes, self.program)
            self._lines[process.pid] = (process, *above)
        return self._lines[process.pid]

    def of(self, process: Process) -> Place:
        """Return where it runs."""
        noise, role = False, self.program(process).role
        if process.pid in self._processes.own or _is_kernels_own(self.line(process)):
            return Place("itself", counts=False, under_editor=False)
        for each in self.line(process):
            above = self.program(each).role
            if above in {Role.SERVER, Role.VIEWER}:
                return Place(self.program(each).name, counts=False, under_editor=False)
            noise = noise or above is Role.NOISE
            if above in {Role.AGENT, Role.KERNEL}:
                where, is_agents = self._below(each, process), above is Role.AGENT
                return Place(where, counts=True, under_editor=False, is_agents=is_agents)
            if above is Role.EDITOR:
                return self._in_editor(process, each, role, noise=noise)
            if above is Role.HOUSE:
                break
        where = self._where(process)
        return Place(where, counts=role not in _NEVER and (not noise or process.terminal != 0), under_editor=False)

    def root(self, process: Process) -> Key:
        """Return the process at the top of the tree that this one belongs to."""
        root = process
        for above in self.line(process)[1:]:
            if above.pid == 1 or self.program(above).role in _ANCHORS or self.program(root).role in _ANCHORS:
                break
            root = above
        return root.key

    def _below(self, marker: Process, process: Process) -> str:
        program = self.program(marker)
        return program.role.value if marker.pid == process.pid or program.role is Role.KERNEL else program.name

    def _in_editor(self, process: Process, editor: Process, role: Role, *, noise: bool) -> Place:
        in_terminal = process.terminal not in {0, editor.terminal}
        where = "terminal" if in_terminal else self.program(editor).name
        return Place(where, counts=role not in _NEVER and (in_terminal or not noise), under_editor=not in_terminal)

    def _where(self, process: Process) -> str:
        line = self.line(process)
        if process.pid == 1:
            return "container"
        for each in line[1:]:
            for word in self.program(each).words:
                if (house := _HOUSES.get(word.removesuffix(": server"))) is not None:
                    return house
        top = _below_init(line)
        leader = self._processes.get(top.session)
        # PID 1 of a container (`sleep infinity`) may never wait for the shell that has ended.
        if leader is None or (leader.state == "Z" and leader.pid != top.pid):
            return "closed terminal"
        return "terminal" if process.terminal else "background"


def _below_init(line: Sequence[Process]) -> Process:
    """Return the highest of them that is not PID 1."""
    return next((each for each in reversed(line) if each.pid != 1), line[0])


def _is_kernels_own(line: Sequence[Process]) -> bool:
    """Whether it is a thread of the operating system: below PID 2 that nobody started."""
    return line[-1].pid == 2 and line[-1].parent == 0 and line[-1].comm == "kthreadd"
