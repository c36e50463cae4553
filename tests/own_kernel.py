"""The kernel's tables as far as one test started what is in them: other tests on this machine run servers, too."""

from __future__ import annotations

import os
from dataclasses import replace

from idlewatch.kernel import KernelTables, Tables

_NOBODY = 2**30
"""A PID that nobody has: in a Pod, neither servers nor their clients are children of the daemon."""


class OwnKernel:
    """Real tables: this process, those below it, and PID 1, without which /proc would seem to hide some."""

    def __init__(self) -> None:
        self._tables = KernelTables(own_pid=lambda: _NOBODY)

    def at(self, now_s: float) -> Tables:
        tables = self._tables.at(now_s)
        table = tables.processes
        pids = {1, os.getpid(), *table.descendants(os.getpid())}
        ours = {pid: process for pid, process in table.by_pid.items() if pid in pids}
        return replace(tables, processes=replace(table, by_pid=ours))
