"""What the processes of one tree cost: CPU seconds so far, and memory now, from /proc."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MIB_PER_KB = 1 / 1024
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One living process of a tree."""

    pid: int
    command: str
    own_s: float
    """CPU seconds of its own threads, to the nanosecond."""
    waited_s: float
    """CPU seconds of children that it has waited for, to two clock ticks."""
    rss_mib: float
    pss_mib: float
    """Resident, with each shared page divided by the number of processes that share it."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds of it and of what it has waited for."""
        return self.own_s + self.waited_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A whole tree at one instant, its root first."""

    at_s: float
    parts: tuple[Part, ...]

    @property
    def cpu_s(self) -> float:
        """CPU seconds of everything that the tree has done so far."""
        return sum(part.cpu_s for part in self.parts)


def sample(root: int) -> Sample:
    """Look at `root` and its living descendants. Raises OSError where `root` has ended."""
    while True:
        try:
            return Sample(at_s=time.monotonic(), parts=tuple(_part(pid) for pid in _tree(root)))
        except (FileNotFoundError, ProcessLookupError):
            (PROC / str(root) / "stat").read_bytes()  # a child that ended meanwhile is no reason to give up


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdecimal() and (fields := _stat_or_none(int(path.name))):
            children.setdefault(int(fields[1]), []).append(int(path.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def _stat_or_none(pid: int) -> list[bytes] | None:
    try:
        return _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the state on: that is field 3 of proc_pid_stat(5)."""
    content = (PROC / str(pid) / "stat").read_bytes()
    return content[content.rindex(b")") + 1 :].split()


def _part(pid: int) -> Part:
    fields = _stat(pid)
    folder = PROC / str(pid)
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    sizes = dict(line.split(":") for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    return Part(
        pid=pid,
        command=command,
        own_s=_own_cpu_s(pid),
        waited_s=(int(fields[13]) + int(fields[14])) / _TICKS_PER_S,
        rss_mib=int(sizes["Rss"].split()[0]) * MIB_PER_KB,
        pss_mib=int(sizes["Pss"].split()[0]) * MIB_PER_KB,
    )


def _own_cpu_s(pid: int) -> float:
    """CPU seconds of all threads, ended ones included. /proc/PID/stat has the same, in clock ticks of 10 ms.

    Source: clock_getcpuclockid(3). Raises ProcessLookupError where the process has ended.
    """
    clock = ctypes.c_int()
    failed = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if failed:
        raise ProcessLookupError(failed, os.strerror(failed))
    return time.clock_gettime(clock.value)


def visible_processes() -> int:
    """How many processes /proc shows: everything that looks at all of them pays for each."""
    return sum(path.name.isdecimal() for path in PROC.iterdir())
