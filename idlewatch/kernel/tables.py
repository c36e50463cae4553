"""
One cheap pass over the kernel's tables for all signals that read them.

Whoever asks first pays; whoever asks again within the period gets the same answer, so that four signals cause one
pass. Terminals are looked at whenever they are asked for: they are few, and a keystroke cancels a countdown at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from idlewatch.errors import SignalError
from idlewatch.kernel import netlink, sockets
from idlewatch.kernel import processes as process_look
from idlewatch.kernel.owners import SocketOwners
from idlewatch.kernel.processes import Key, Ours, ProcessTable
from idlewatch.kernel.sockets import Dump, SocketTable
from idlewatch.kernel.terminals import Terminal, TerminalTable, terminal_files

PERIOD_S = 15.0
"""How old an answer may be before it is read anew."""

_SOCKETS_FEW = 1000
"""Up to so many are looked at at every tick: that takes some milliseconds."""
_JITTER_S = 1.0
"""A tick that comes so much too early starts a new pass all the same: ticks are never exactly 5 s apart."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What one pass saw, at `at_s` (CLOCK_BOOTTIME seconds)."""

    at_s: float
    processes: ProcessTable
    socket_table: SocketTable | SignalError
    owners: SocketOwners

    @property
    def sockets(self) -> SocketTable:
        """The TCP sockets. Raises SignalError where they could not be read."""
        if isinstance(self.socket_table, SignalError):
            raise SignalError(str(self.socket_table))
        return self.socket_table

    def owners_of(self, *inodes: int) -> dict[int, tuple[int, ...]]:
        """Return for each socket inode the PIDs that have it open, the lowest first; () where none is visible."""
        return dict(self.owners.of(inodes, self.processes))

    def sockets_of(self, pid: int) -> frozenset[int] | None:
        """Return the inodes of one process's sockets; None where that is denied or it has ended."""
        return self.owners.sockets_of(pid)


class KernelTables:
    """The shared reader. Making one does no I/O."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        pts: Path = Path("/dev/pts"),
        own_pid: Callable[[], int] = os.getpid,
        wall_s: Callable[[], float] = time.time,
        dump: Dump = netlink.dump,
        period_s: float = PERIOD_S,
    ) -> None:
        self._proc, self._pts, self._own_pid = proc, pts, own_pid
        self._dump, self._period_s = dump, period_s
        self._terminals = TerminalTable(wall_s=wall_s)
        self._owners = SocketOwners(proc=proc)
        self._ours: Ours | None = None
        self._newest: Tables | None = None
        self._names: frozenset[str] = frozenset()
        self._seen: tuple[float, tuple[Terminal, ...]] | None = None
        self.registered: Callable[[], Iterable[Key]] = tuple
        """Tells idlewatch's processes outside of the daemon's tree."""

    def at(self, now_s: float) -> Tables:
        """
        Return the tables, at most about `period_s` old at `now_s` (CLOCK_BOOTTIME seconds).

        Raises SignalError where /proc shows no process; the next call tries again.
        """
        newest = self._newest
        if newest is not None and now_s - newest.at_s < max(self._period_s - _JITTER_S, 0.0):
            return newest
        return self._pass(now_s)

    def terminals(self, now_s: float) -> tuple[Terminal, ...]:
        """
        Return the pseudo-terminals as they are now, the lowest number first. Raises as `at`.

        A terminal that was not there before causes a pass: somebody has come, and whose it is can't wait.
        """
        if self._seen is not None and now_s <= self._seen[0]:
            return self._seen[1]
        files = terminal_files(self._pts)
        known = self._names
        self._names = frozenset(files)
        tables = self.at(now_s) if self._names <= known else self._pass(now_s)
        self._seen = (now_s, self._terminals.look(now_s, files, tables.processes))
        return self._seen[1]

    def sockets_now(self, now_s: float) -> SocketTable:
        """
        Return the TCP sockets as they are now; as `at` saw them where they are many, or where bytes are not counted.

        Raises SignalError where they can't be read.
        """
        before = self.at(now_s).sockets
        if now_s <= before.at_s or before.without_bytes is not None or len(before.sockets) > _SOCKETS_FEW:
            return before
        return sockets.look(self._proc, now_s, self._dump)

    def _pass(self, now_s: float) -> Tables:
        if self._newest is not None and now_s <= self._newest.at_s:
            return self._newest
        table, self._ours = process_look.look(
            self._proc, now_s, self._own_pid(), self._ours, registered=self.registered()
        )
        self._newest = Tables(now_s, table, self._sockets(now_s), self._owners)
        return self._newest

    def _sockets(self, now_s: float) -> SocketTable | SignalError:
        try:
            return sockets.look(self._proc, now_s, self._dump)
        except SignalError as error:
            return error
