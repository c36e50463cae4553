"""
Who is really above a process: PID 1 takes over every orphan, and is above none of those.

The kernel tells no longer whose child an orphan was. Its session does in most cases: what a program starts stays in
that program's session, and what a shell, a terminal, sshd or `setsid` started has another. So PID 1 is above those
alone that share its session, and what is below them. A child that PID 1 itself put into a session of its own passes
for adopted: its CPU then counts as somebody's work, which is the safe side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlewatch.kernel import Process, ProcessTable


def real_ancestors(process: Process, table: ProcessTable) -> tuple[Process, ...]:
    """Return parent, grandparent and so on, the nearest first, without PID 1 where it only took over."""
    above = table.ancestors(process.pid)
    line = (process, *above)
    return above[:-1] if len(line) > 1 and _took_over(line[-1], line[-2]) else above


def real_descendants(top: Process, table: ProcessTable) -> frozenset[int]:
    """Return the PIDs below `top`, itself left out, without what PID 1 only took over."""
    own = [pid for pid in table.children(top.pid) if not _took_over(top, table.by_pid[pid])]
    return frozenset(own).union(*(table.descendants(pid) for pid in own)) - {top.pid}


def _took_over(parent: Process, child: Process) -> bool:
    return parent.pid == 1 and child.session != parent.session
