"""
What each process has used since the last look, also through children that ended in between.

A process's totals here hold those of the children it has waited for (proc_pid_stat(5): cutime, cstime; the kernel adds
a reaped child's /proc/PID/io to its parent's, too). So when a child ends, all that it ever used moves to its parent in
one step; what of it was counted while it lived is taken off there, or it would count twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from idlewatch.kernel import Process, ProcessTable

Total: TypeAlias = "Callable[[Process], float | None]"
"""What a process and the children it has waited for have used since it started; None where it is not shown."""


def cpu_s(process: Process) -> float:
    """CPU seconds."""
    return process.cpu_s + process.waited_cpu_s


def read_chars(process: Process) -> float | None:
    """Bytes through read calls."""
    return process.io.read_chars if process.io else None


def write_chars(process: Process) -> float | None:
    """Bytes through write calls."""
    return process.io.write_chars if process.io else None


def gains(before: ProcessTable, now: ProcessTable, total: Total) -> Mapping[int, float]:
    """Return by PID what each living process has used between the two looks; never negative."""
    owed = _owed(before, now, total)
    gained: dict[int, float] = {}
    for process in sorted(now, key=lambda each: each.pid == 1):
        used = total(process)
        if used is None:
            continue
        left = used - _base(before, process, used, total) - owed.pop(process.pid, 0.0)
        gained[process.pid] = max(0.0, left)
        if left < 0 and process.pid != 1:
            # Who should have waited did not: an orphan's parent is then PID 1.
            owed[1] = owed.get(1, 0.0) - left
    return gained


def own_reads(before: ProcessTable, now: ProcessTable, *, least_age_s: float) -> Mapping[int, float]:
    """
    Return by PID how many bytes each process has read itself between the two looks, through any read call.

    Only of those that were that old at the look before, and that have waited for no child in between: what a process
    reads while it starts is itself, and a loop of short ones would hand it on to who waits for them.
    """
    gained: dict[int, float] = {}
    for process in now:
        old = before.get(process.pid)
        if old is None or old.key != process.key or old.io is None or process.io is None:
            continue
        if process.waited_cpu_s == old.waited_cpu_s and before.at_s - process.started_s >= least_age_s:
            gained[process.pid] = process.io.read_chars - old.io.read_chars
    return gained


def _base(before: ProcessTable, process: Process, used: float, total: Total) -> float:
    """What it had used by the last look; a process that was there and was not shown has gained nothing."""
    old = before.get(process.pid)
    if old is not None and old.key == process.key:
        was = total(old)
        return used if was is None else was
    return 0.0 if process.started_s >= before.at_s - 1.0 else used


def _owed(before: ProcessTable, now: ProcessTable, total: Total) -> dict[int, float]:
    """Return by PID how much of its new total was counted already, in children that have ended."""
    owed: dict[int, float] = {}
    for old in before:
        if _lives(old, now) or not (was := total(old)):
            continue
        heir = next((above.pid for above in before.ancestors(old.pid) if _lives(above, now)), 1)
        owed[heir] = owed.get(heir, 0.0) + was
    return owed


def _lives(process: Process, now: ProcessTable) -> bool:
    found = now.get(process.pid)
    return found is not None and found.key == process.key
