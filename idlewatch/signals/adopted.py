"""
Who is really above a process: PID 1 takes over every orphan, and is above none of those.

The kernel tells no longer whose child an orphan was. Its session does in most cases: what a program starts stays in
that program's session, and what a shell, a terminal, sshd or `setsid` started has another. So PID 1 is above those
alone that share its session, and what is below them. A child that PID 1 itself put into a session of its own passes
for adopted: its CPU then counts as somebody's work, which is the safe side.

A start script that leaves a job behind and becomes another program (`train.py & exec tail -f /dev/null`, `job.sh & exec
vllm serve`) has the same PID and session as before. What `tail` and its like could never have started is none of
theirs; nor, of any program, is somebody's own script, unless PID 1 runs that very script: workers of servers are the
server itself once more, a module, or another installed program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.signals.jobs_programs import Program, Role, is_own_script, program

if TYPE_CHECKING:
    from idlewatch.kernel import Process, ProcessTable

ProgramOf: TypeAlias = "Callable[[Process], Program]"
"""Tells what a process is: `jobs_programs.Programs`, where one remembers."""

_STARTS_OTHERS = frozenset({"watch"})
"""Of the viewers."""


def real_ancestors(process: Process, table: ProcessTable, program_of: ProgramOf | None = None) -> tuple[Process, ...]:
    """Return parent, grandparent and so on, the nearest first, without PID 1 where it only took over."""
    above = table.ancestors(process.pid)
    line = (process, *above)
    took_over = len(line) > 1 and _took_over(line[-1], line[-2], program_of or _reading(table))
    return above[:-1] if took_over else above


def real_descendants(top: Process, table: ProcessTable, program_of: ProgramOf | None = None) -> frozenset[int]:
    """Return the PIDs below `top`, itself left out, without what PID 1 only took over."""
    told = program_of or _reading(table)
    own = [pid for pid in table.children(top.pid) if not _took_over(top, table.by_pid[pid], told)]
    return frozenset(own).union(*(table.descendants(pid) for pid in own)) - {top.pid}


def _reading(table: ProcessTable) -> ProgramOf:
    return lambda process: program(process.comm, table.command(process.pid))


def _took_over(parent: Process, child: Process, program_of: ProgramOf) -> bool:
    return parent.pid == 1 and (child.session != parent.session or _is_of_before(program_of(parent), program_of(child)))


def _is_of_before(first: Program, child: Program) -> bool:
    """Whether the program that was PID 1 before must have started `child`."""
    if first.role is Role.VIEWER and not first.words & _STARTS_OTHERS:
        return True
    return is_own_script(child) and child.command != first.command
