"""
Files that grow under the processes that have them open, without ever touching a file system.

A volume may hang, so no path is opened, walked or asked for its size: the link /proc/PID/fd/N is read, never followed,
and /proc/PID/fdinfo/N tells from memory how far its writer has come (proc_pid_fdinfo(5): pos, flags). Only processes
that have written lately are looked at. A position may be moved without writing, so that a file never counts for more
than its process wrote; a writer that moves no position (pwrite) counts by what it wrote, if the file's name says that
it is half-way there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from idlewatch.signals import transfers_names as names
from idlewatch.signals.jobs_programs import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from idlewatch.kernel import Key, Process, ProcessTable
    from idlewatch.signals.jobs_programs import Program

WORTH_A_LOOK_BYTES = 16 * 1024
"""Written since the last look by a process whose files are not known yet: less makes no MiB in ten minutes."""
_PROCESSES_MAX, _DESCRIPTORS_MAX = 64, 4096
_FDINFO_BYTES = 512
_ONLY_PARTIAL = frozenset({Role.SERVER, Role.EDITOR, Role.HOUSE, Role.VIEWER, Role.NOISE})
"""What these write is their own book-keeping, unless its name says otherwise."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One descriptor that can be written to."""

    path: str
    position: int
    appends: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """What one file has gained since the last look."""

    process: Process
    path: str
    bytes: int
    by_position: bool
    """False: only how much its process wrote is known."""


@dataclass(slots=True)
class GrowingFiles:
    """Follows the files of processes that write; remembers how far each was."""

    _known: dict[Key, Mapping[int, OpenFile]] = field(default_factory=dict)

    def grown(
        self, wrote: Mapping[int, int], processes: ProcessTable, program: Callable[[Process], Program]
    ) -> list[Growth]:
        """Return what has grown; `wrote` is what each process that can be seen has written since the last look."""
        living = {process.key for process in processes}
        self._known = {key: files for key, files in self._known.items() if key in living}
        found: list[Growth] = []
        for process in self._worth_a_look(wrote, processes, program):
            files = open_files(processes.proc, process.pid)
            before = self._known.get(process.key)
            self._known[process.key] = files
            if before is not None:
                only_partial = program(process).role in _ONLY_PARTIAL
                found += _growths(process, before, files, wrote[process.pid], only_partial=only_partial)
        return found

    def _worth_a_look(
        self, wrote: Mapping[int, int], processes: ProcessTable, program: Callable[[Process], Program]
    ) -> Iterator[Process]:
        most = sorted(wrote.items(), key=lambda item: -item[1])[:_PROCESSES_MAX]
        for pid, count in most:
            process = processes.get(pid)
            if process is None or count <= 0 or pid in processes.own:
                continue
            known = bool(self._known.get(process.key)) or count >= WORTH_A_LOOK_BYTES
            role = program(process).role
            if role is not Role.OURS and (known or role is Role.AGENT):
                yield process


def _growths(
    process: Process,
    before: Mapping[int, OpenFile],
    now: Mapping[int, OpenFile],
    wrote: int,
    *,
    only_partial: bool,
) -> Iterator[Growth]:
    counted = {fd: one for fd, one in now.items() if names.is_partial(one.path) or not only_partial}
    moved = False
    for fd, one in counted.items():
        gained = _gained(before.get(fd), one)
        if gained > 0:
            moved = True
            yield Growth(process, one.path, min(gained, wrote), by_position=True)
    partial = next((one.path for one in counted.values() if names.is_partial(one.path)), None)
    if partial is not None and not moved:
        yield Growth(process, partial, wrote, by_position=False)


def _gained(before: OpenFile | None, now: OpenFile) -> int:
    if before is None or before.path != now.path:
        return 0
    # The first write of who appends moves the position from 0 to the end of all that was there before.
    return 0 if now.appends and before.position == 0 else now.position - before.position


def open_files(proc: Path, pid: int) -> dict[int, OpenFile]:
    """Return by descriptor the files that a process has open for writing, logs left out; none where it is denied."""
    found: dict[int, OpenFile] = {}
    for fd, path in _links(f"{proc}/{pid}/fd").items():
        one = _open_file(f"{proc}/{pid}/fdinfo/{fd}", path)
        if one is not None:
            found[fd] = one
    # What standard error goes to is a log, whatever its name, also where standard output goes there, too.
    log = found[2].path if 2 in found else None
    return {fd: one for fd, one in found.items() if one.path != log}


def _links(folder: str) -> dict[int, str]:
    links: dict[int, str] = {}
    with suppress(OSError), os.scandir(folder) as descriptors:
        for descriptor in islice(descriptors, _DESCRIPTORS_MAX):
            with suppress(OSError):  # closed in between
                path = os.readlink(descriptor.path)  # noqa: PTH115 -- thousands a look
                if names.is_partial(path) or not names.is_log(path):
                    links[int(descriptor.name)] = path
    return links


def _open_file(fdinfo: str, path: str) -> OpenFile | None:
    """Return what fdinfo tells; None where the file is only read, or was closed in between."""
    try:
        fd = os.open(fdinfo, os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(fd, _FDINFO_BYTES).decode(errors="replace").splitlines()
        finally:
            os.close(fd)
        told = dict(line.split(":", 1) for line in lines[:2])
        position, flags = int(told["pos"]), int(told["flags"], 8)
    except (OSError, ValueError, KeyError):
        return None
    return None if flags & os.O_ACCMODE == os.O_RDONLY else OpenFile(path, position, bool(flags & os.O_APPEND))
