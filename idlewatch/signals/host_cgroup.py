"""
The counters of the container's own cgroup, wherever this kernel and this container runtime have put them.

Whose cgroup? The nearest one that holds both this process and PID 1: in a container that is the container, with or
without a cgroup namespace, also where an init inside has split it; on a plain machine it is the root and not the
service's own slice, which would only ever show idlewatch itself.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpuacct,blkio-controller,memory}.rst; proc(5) for
/proc/PID/mountinfo and cgroups(7) for /proc/PID/cgroup.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from idlewatch.errors import SignalError

V2 = ""
"""The controller name under which /proc/PID/cgroup lists the unified hierarchy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFiles:
    """Where the counters stand; None where this cgroup has no such file."""

    cpu: Path
    disk: Path | None
    memory: Path | None


@dataclass(frozen=True, slots=True)
class _Mount:
    """One mounted hierarchy: the part of it that is visible (`root`), where (`point`), and its controllers."""

    root: str
    point: Path
    controllers: frozenset[str]


def locate(proc: Path, sys: Path) -> CgroupFiles | None:
    """Return the files of the cgroup that holds this process and PID 1; None where none of them counts CPU time."""
    mounts = _mounts((proc / "self/mountinfo").read_text(errors="replace"), sys)
    own, init = _paths(proc / "self/cgroup"), _paths(proc / "1/cgroup")

    def first_file(controller: str, names: tuple[str, ...], unified_name: str) -> Path | None:
        # A controller that v1 has is v1's alone: then the unified hierarchy knows other groups, often just its root.
        choices = [(controller, name) for name in names] if controller in own else [(V2, unified_name)]
        found = (_find(mounts, own, init, hierarchy, name) for hierarchy, name in choices)
        return next((path for path in found if path is not None), None)

    cpu = first_file("cpuacct", ("cpuacct.usage",), "cpu.stat")
    if cpu is None:
        return None
    throttle = "blkio.throttle.io_service_bytes"
    disk = first_file("blkio", (f"{throttle}_recursive", throttle), "io.stat")
    return CgroupFiles(cpu=cpu, disk=disk, memory=first_file("memory", ("memory.stat",), "memory.stat"))


def _mounts(mountinfo: str, sys: Path) -> list[_Mount]:
    """Return every cgroup hierarchy mounted below /sys, its mount point put below `sys`."""
    found: list[_Mount] = []
    for line in mountinfo.splitlines():
        place, _, source = line.partition(" - ")
        fields, kind = place.split(), source.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        root, point = _unescaped(fields[3]), _unescaped(fields[4])
        if point.startswith("/sys/"):
            controllers = frozenset({V2}) if kind[0] == "cgroup2" else frozenset(kind[2].split(","))
            found.append(_Mount(root, sys / point.removeprefix("/sys/"), controllers))
    return found


def _unescaped(field: str) -> str:
    r"""Return a field of mountinfo with its `\040` and the like turned back."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _paths(file: Path) -> dict[str, str]:
    """Return the cgroup path of each controller; empty where /proc does not say, as for a hidden PID 1."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    paths: dict[str, str] = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _find(mounts: list[_Mount], own: dict[str, str], init: dict[str, str], controller: str, name: str) -> Path | None:
    """Return `name` in the cgroup of one hierarchy that own process and PID 1 share."""
    for mount in mounts:
        below = [_below(mount.root, paths[controller]) for paths in (own, init) if controller in paths]
        visible = [path for path in below if path is not None]
        if controller in mount.controllers and visible:
            file = _folder(mount.point, os.path.commonpath(visible)) / name
            if file.is_file():
                return file
    return None


def _folder(point: Path, shared: str) -> Path:
    """Return the folder of a cgroup, or of the nearest one above it where that is hidden or removed."""
    path = Path(shared)
    folders = (point / level.relative_to("/") for level in (path, *path.parents))
    return next((folder for folder in folders if folder.is_dir()), point)


def _below(root: str, path: str) -> str | None:
    """Return `path` as seen from the mount's `root`; None where it lies outside of what is visible."""
    if path.startswith("/.."):  # outside of this cgroup namespace, even where an older mount still shows it
        return None
    if root == "/":
        return path
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :] or "/"
    return None


def cpu_used_s(file: Path) -> float:
    """Return the CPU seconds of a cgroup so far. Raises SignalError where they can't be read."""
    text = _read(file)
    try:
        if file.name == "cpuacct.usage":
            return int(text) / 1e9
        return int(_keyed(text)["usage_usec"]) / 1e6
    except (KeyError, ValueError) as error:
        raise SignalError(f"{file} has no CPU time in it") from error


def disk_bytes(file: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the bytes read and the bytes written so far, by device. Raises SignalError where they can't be read.

    v1 counts only what the container itself hands to the block layer: its buffered writes are written back by the
    kernel on the root cgroup's account.
    """
    reads: Counter[str] = Counter()
    writes: Counter[str] = Counter()
    for line in _read(file).splitlines():
        device, *values = line.split() or [""]
        try:
            _add_disk(device, values, reads, writes)
        except ValueError as error:
            raise SignalError(f"{file} has a line that counts no bytes: {line[:80]!r}") from error
    return reads, writes


def _add_disk(device: str, values: list[str], reads: Counter[str], writes: Counter[str]) -> None:
    """Take in one line: `8:0 rbytes=1 wbytes=2 …` (v2) or `8:0 Read 1` (v1)."""
    for value in values:
        key, _, number = value.partition("=")
        if key == "rbytes":
            reads[device] += int(number)
        elif key == "wbytes":
            writes[device] += int(number)
    if len(values) == 2 and values[0] in {"Read", "Write"}:
        (reads if values[0] == "Read" else writes)[device] += int(values[1])


def memory_bytes(file: Path) -> int:
    """Return the memory that processes hold: their own pages, and the files that they have mapped.

    The rest of the page cache is left out (it grows and shrinks by itself); mapped files are in, because a model read
    by mmap from a FUSE mount shows nowhere else. Raises SignalError where it can't be read.
    """
    values = _keyed(_read(file))
    try:
        if "total_rss" in values:
            return int(values["total_rss"]) + int(values.get("total_mapped_file", "0"))
        return int(values["anon"]) + int(values.get("file_mapped", "0"))
    except (KeyError, ValueError) as error:
        raise SignalError(f"{file} has no memory figures in it") from error


def _keyed(text: str) -> dict[str, str]:
    """Return a flat keyed file (`name value` a line) as a mapping."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError as error:
        raise SignalError(f"{file} cannot be read: {error.strerror}") from error
