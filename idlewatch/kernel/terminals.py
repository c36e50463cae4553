"""
Pseudo-terminals: when somebody last typed into each, and whose it is.

Input moves a terminal's access time; output, and a notice of ours, only its modification time. The kernel keeps those
times in coarse steps: it moves one only when the second it falls into differs from the old one above the lowest three
bits (tty_update_time in drivers/tty/tty_io.c), so that the time seen can be up to 8 s older than the truth, and what
is typed in the first 8 s of a terminal's life shows only with the next input. devpts does not obey relatime.

The kernel's times are wall time. They are turned into CLOCK_BOOTTIME once, when a terminal is first seen; from then on
an access time that has moved, whichever way, means input since the last look: no clock step makes or hides a person.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from idlewatch.kernel.processes import Process, ProcessTable

STEP_S = 8.0
"""How much older than the truth a terminal's access time may be."""

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Terminal:
    """One pseudo-terminal; instants are CLOCK_BOOTTIME seconds."""

    name: str
    """As in `pts/3`."""
    number: int
    """Its device number, as `Process.terminal` has it."""
    user_id: int
    """Whose it is."""
    opened_s: float
    input_s: float | None
    """When something was last typed into it; None where nothing was since it was opened."""
    leader: Process | None
    """The process whose session has it as its terminal; None where there is none, or none that is visible."""


@dataclass(frozen=True, slots=True)
class TerminalFile:
    """What the file of one terminal tells; times are wall time, nanoseconds since 1970."""

    number: int
    user_id: int
    access_ns: int
    change_ns: int
    """When its owner or mode was last set, which is done when it is opened."""


_Identity: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of one terminal."""

    identity: _Identity
    access_ns: int
    opened_s: float
    input_s: float | None


class TerminalTable:
    """The terminals of this Pod; remembers when each was last typed into."""

    def __init__(self, *, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._known: dict[str, _Known] = {}
        self._looked_s = float("-inf")

    def look(self, now_s: float, files: Mapping[str, TerminalFile], processes: ProcessTable) -> tuple[Terminal, ...]:
        """Return every terminal, in the order of `files`, with its leader among `processes`."""
        leaders = _leaders(processes)
        known: dict[str, _Known] = {}
        found: list[Terminal] = []
        for name, file in files.items():
            leader = leaders.get(file.number)
            known[name] = one = self._remembered(name, file, leader, now_s)
            found.append(
                Terminal(name, file.number, file.user_id, opened_s=one.opened_s, input_s=one.input_s, leader=leader)
            )
        self._known, self._looked_s = known, now_s
        return tuple(found)

    def _remembered(self, name: str, file: TerminalFile, leader: Process | None, now_s: float) -> _Known:
        before = self._known.get(name)
        identity = leader.key if leader else (0, file.change_ns)
        if before is None or before.identity != identity:
            return self._first_seen(identity, file, leader, now_s)
        if before.access_ns == file.access_ns:
            return before
        typed_s = min(now_s, max(self._looked_s, self._boottime(file.access_ns, now_s)))
        return _Known(identity, file.access_ns, before.opened_s, typed_s)

    def _first_seen(self, identity: _Identity, file: TerminalFile, leader: Process | None, now_s: float) -> _Known:
        opened_s = leader.started_s if leader else self._boottime(file.change_ns, now_s)
        typed_s = None if _untouched(file) else self._boottime(file.access_ns, now_s)
        return _Known(identity, file.access_ns, min(opened_s, now_s), typed_s)

    def _boottime(self, wall_ns: int, now_s: float) -> float:
        return now_s - max(0.0, self._wall_s() - wall_ns / _NS_PER_S)


def terminal_files(pts: Path) -> dict[str, TerminalFile]:
    """Return the terminals of a devpts by name, the lowest number first; none where there is no devpts."""
    try:
        numbers = sorted(int(path.name) for path in pts.iterdir() if path.name.isdecimal())
    except OSError:
        return {}
    found: dict[str, TerminalFile] = {}
    for number in numbers:
        with suppress(OSError):  # closed in between
            status = (pts / str(number)).stat()
            found[f"pts/{number}"] = TerminalFile(
                terminal_number(status.st_rdev), status.st_uid, status.st_atime_ns, status.st_ctime_ns
            )
    return found


def _untouched(file: TerminalFile) -> bool:
    """Whether its access time is that of its opening: in the same step as its last change of owner or mode."""
    access, change = file.access_ns // _NS_PER_S, file.change_ns // _NS_PER_S
    return access <= change or (access ^ change) & ~7 == 0


def _leaders(processes: ProcessTable) -> Mapping[int, Process]:
    """Return the session leader of each terminal; of two (another devpts has the same numbers) the first one."""
    leaders = (process for process in processes if process.terminal and process.pid == process.session)
    return {leader.terminal: leader for leader in sorted(leaders, key=lambda each: each.key, reverse=True)}


def terminal_number(device: int) -> int:
    """Return a device as /proc/PID/stat writes `tty_nr` (the kernel's new_encode_dev), from `st_rdev`."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def standard_terminal(proc: Path, pid: int) -> int | None:
    """Return the terminal that a process reads from, whoever leads the session there; None where there is none."""
    try:
        status = (proc / str(pid) / "fd/0").stat()
    except OSError:
        return None
    number = terminal_number(status.st_rdev)
    return number if stat.S_ISCHR(status.st_mode) and _is_pts(status.st_rdev) else None


def _is_pts(device: int) -> bool:
    """Whether it is a pseudo-terminal: majors 136 to 143 (Documentation/admin-guide/devices.txt)."""
    return 136 <= os.major(device) <= 143
