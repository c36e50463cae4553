"""
Whose socket it is: from a socket's inode to the processes that have it open, through /proc/PID/fd.

Asked lazily, because it is the dearest look of all: one process is cheap, all of them are read at most once a look
and only where somebody asks for an inode that was not known before.

Source: proc_pid_fd(5): a socket's link reads `socket:[INODE]`.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from idlewatch.kernel.processes import Key, ProcessTable

_DESCRIPTORS_MAX = 4096
"""Of one process: a data loader may have a hundred thousand, and a server opens its sockets early."""
_SOCKET = "socket:["


class SocketOwners:
    """
    Who has which socket; remembers from look to look what it has found.

    A socket that nobody visible has, or whose processes hide their descriptors from us, has no owners: ().
    """

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[int, tuple[Key, ...]] = {}
        self._scanned_s = float("-inf")

    def of(self, inodes: Iterable[int], processes: ProcessTable) -> Mapping[int, tuple[int, ...]]:
        """Return for each inode the PIDs that have it, the lowest first."""
        wanted = [inode for inode in inodes if inode]
        if any(not self._stands(inode, processes) for inode in wanted) and self._scanned_s < processes.at_s:
            self._scan(processes)
        return {inode: tuple(pid for pid, _ in self._known.get(inode, ())) for inode in wanted}

    def sockets_of(self, pid: int) -> frozenset[int] | None:
        """Return the inodes of the sockets that one process has now; None where that is denied or it has ended."""
        found = set()
        try:
            with os.scandir(f"{self._proc}/{pid}/fd") as descriptors:
                for descriptor in islice(descriptors, _DESCRIPTORS_MAX):
                    inode = _inode(descriptor.path)
                    if inode is not None:
                        found.add(inode)
        except OSError:
            return None
        return frozenset(found)

    def _stands(self, inode: int, processes: ProcessTable) -> bool:
        """Whether what is known of it can still be true: each of its processes still lives."""
        keys = self._known.get(inode, ())
        return bool(keys) and all((p := processes.get(pid)) is not None and p.key == (pid, t) for pid, t in keys)

    def _scan(self, processes: ProcessTable) -> None:
        self._scanned_s = processes.at_s
        found: dict[int, list[Key]] = {}
        for process in processes:
            for inode in self.sockets_of(process.pid) or ():
                found.setdefault(inode, []).append(process.key)
        self._known = {inode: tuple(sorted(keys)) for inode, keys in found.items()}


def _inode(path: str) -> int | None:
    try:
        target = os.readlink(path)  # noqa: PTH115 -- thousands a look
    except OSError:  # closed in between
        return None
    return int(target[len(_SOCKET) : -1]) if target.startswith(_SOCKET) else None
