"""
Which folders are other file systems, and since when this container has lived.

Both are read from the kernel's own tables: comparing st_dev file by file would drop every file of an overlay whose
layers lie on different disks (kernel documentation, overlayfs, `xino`).
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NS = 1_000_000_000
_ESCAPE = re.compile(r"\\([0-7]{3})")
_START_SLACK_NS = 2 * _NS
"""`btime` in /proc/stat is cut to whole seconds and moves with corrections of the wall clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo; see proc_pid_mountinfo(5)."""

    point: str
    fs_type: str
    options: frozenset[str]
    """Per-mount and per-superblock options together."""


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Return the mounts in the kernel's order; lines that do not fit the format are left out."""
    return tuple(mount for line in text.split("\n") if (mount := _parse_line(line)) is not None)


def _parse_line(line: str) -> Mount | None:
    left, dash, right = line.partition(" - ")
    fields, more = left.split(" "), right.split(" ")
    if not dash or len(fields) < 6 or len(more) < 3:
        return None
    options = frozenset(fields[5].split(",")) | frozenset(more[2].split(","))
    return Mount(point=_unescape(fields[4]), fs_type=more[0], options=options)


def _unescape(field: str) -> str:
    r"""Undo the octal escapes of space, tab, newline, backslash and number sign (`\040`)."""
    raw = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
    return raw.removesuffix("//deleted")


def read_mounts() -> tuple[Mount, ...]:
    """Return what is mounted in this mount namespace. Raises SnapshotError: without it a volume can't be left out."""
    try:
        raw = Path("/proc/self/mountinfo").read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot read /proc/self/mountinfo: {error.strerror}") from error
    return parse_mounts(os.fsdecode(raw))


def root_mount(mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that `/` shows: the last one there, which covers the others."""
    return next((mount for mount in reversed(mounts) if mount.point == "/"), None)


def points_below(root: str, mounts: Sequence[Mount]) -> frozenset[str]:
    """Return the mount points under `root`, relative to it; `root` itself is not among them."""
    prefix = root.rstrip("/") + "/"
    below = (mount.point.removeprefix(prefix) for mount in mounts if mount.point.startswith(prefix))
    return frozenset(point for point in below if point)


@dataclass(frozen=True, slots=True, kw_only=True)
class BirthFacts:
    """What can tell when this container was made; wall clock nanoseconds, None where it can't be read."""

    overlay_birth_ns: int | None
    """Birth time of `/`, where `/` is an overlay: the creation of its upper layer; survives `docker restart`."""
    dockerenv_ns: int | None
    """ctime of `/.dockerenv`."""
    pid1_ns: int | None
    """Start of PID 1; later than the birth once the container has been restarted."""


def choose_birth(facts: BirthFacts) -> int:
    """
    Return the instant from which changes are this container's own, in wall clock nanoseconds.

    A value that is 0 or later than the start of PID 1 can't be it, and the next best is taken. Raises SnapshotError
    where none is left.
    """
    limit = None if facts.pid1_ns is None else facts.pid1_ns + _START_SLACK_NS
    for value in (facts.overlay_birth_ns, facts.dockerenv_ns):
        if value is not None and value > 0 and (limit is None or value <= limit):
            return value
    if facts.pid1_ns is not None and facts.pid1_ns > _START_SLACK_NS:
        return facts.pid1_ns - _START_SLACK_NS
    raise SnapshotError("cannot tell when this container was made: no birth time of /, no /.dockerenv, no PID 1")


def container_birth_ns(mounts: Sequence[Mount]) -> int:
    """Return `choose_birth` of this container."""
    root = root_mount(mounts)
    overlay = root is not None and root.fs_type in {"overlay", "fuse.fuse-overlayfs"}
    return choose_birth(
        BirthFacts(
            overlay_birth_ns=_birth_time_ns("/") if overlay else None,
            dockerenv_ns=_ctime_ns("/.dockerenv"),
            pid1_ns=_pid1_start_ns(),
        )
    )


def since_for(root: Path, mounts: Sequence[Mount]) -> int | None:
    """Return from when on a change under `root` counts; None: `root` is an ordinary folder, all of it counts."""
    return container_birth_ns(mounts) if os.path.realpath(root) == "/" else None


def _ctime_ns(path: str) -> int | None:
    try:
        return os.lstat(path).st_ctime_ns
    except OSError:
        return None


_STATX_BTIME = 0x800
_BTIME_OFFSET = 80


def _birth_time_ns(path: str) -> int | None:
    """Return the birth time by statx(2), which Python has from 3.15 on only; None where kernel or libc lack it."""
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except AttributeError:
        return None
    answer = ctypes.create_string_buffer(256)
    at_fdcwd, no_flags = -100, 0
    if statx(at_fdcwd, os.fsencode(path), no_flags, ctypes.c_uint(_STATX_BTIME), answer) != 0:
        return None
    if not int.from_bytes(answer.raw[:4], "little") & _STATX_BTIME:
        return None
    seconds = int.from_bytes(answer.raw[_BTIME_OFFSET : _BTIME_OFFSET + 8], "little", signed=True)
    nanoseconds = int.from_bytes(answer.raw[_BTIME_OFFSET + 8 : _BTIME_OFFSET + 12], "little")
    return seconds * _NS + nanoseconds


def _pid1_start_ns() -> int | None:
    try:
        ticks = int(Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError, IndexError):
        return None
    return None if boot is None else int(boot[1]) * _NS + ticks * _NS // os.sysconf("SC_CLK_TCK")
