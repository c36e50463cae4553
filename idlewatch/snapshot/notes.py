"""
The text beside an archive: how to unpack it by hand, what was installed, what ran.

It is for a person who has only the volume, and perhaps not even idlewatch. Nothing in it is run by a restore.
Processes and what they had in memory do not come back; their command lines do, so that a person can start them again.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot.dpkg import versions
from idlewatch.snapshot.object_shelf import ObjectShelf
from idlewatch.snapshot.reader import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idlewatch.snapshot.manifest import Snapshot

_TMUX_TIMEOUT_S: Final = 5.0
_PANES: Final = "\t".join(
    f"#{{{name}}}"
    for name in (
        "session_name",
        "window_index",
        "window_name",
        "window_layout",
        "pane_current_path",
        "pane_current_command",
    )
)
_SITES: Final = ("site-packages", "dist-packages")
_DIST_INFO: Final = re.compile(r"([^/]+)-([^/-]+)\.(?:dist|egg)-info")
_PYTHONS: Final = ("usr/lib", "usr/local/lib", "opt/conda/lib", "root/.local/lib", "root/miniconda3/lib", "venv/lib")
_MOST_COMMAND_CHARS: Final = 2000


def write_up(snapshot: Snapshot, *, root: str, sites: Sequence[str], live: bool) -> str:
    """
    Return the text. `sites` are folders of Python packages that are part of the loss, `live`: `root` is this machine.

    Reads names and tables only, but for tmux, which is asked for its windows.
    """
    parts = [_how_to(snapshot), *_environments(root, sites), *_packages(root)]
    if live:
        parts += [*_tmux(Path("/tmp")), *_running()]  # noqa: S108 - where tmux keeps its sockets, see tmux(1)
    return "\n\n".join(parts) + "\n"


def _how_to(snapshot: Snapshot) -> str:
    base = [snapshot.archive.replace(snapshot.id, snapshot.base)] if snapshot.base else []
    unpack = "age -d -i KEY_FILE {} | zstd -dc" if snapshot.locked is not None else "zstd -dc {}"
    if isinstance(snapshot.shelf, ObjectShelf):  # one object, or many
        unpack = "cat {}* | " + unpack.replace("{} ", "").replace(" {}", "")
    options = "-p --xattrs --xattrs-include='*' --numeric-owner -C DIR"
    lines = [
        f"Snapshot {snapshot.id} of {snapshot.pod_id}, begun {snapshot.began_at}, idlewatch {snapshot.version}",
        "To have it back:  idlewatch restore " + snapshot.id,
        "By hand, into the folder DIR, in this order:",
        *(f"  {unpack.format(name)} | tar -x {options}" for name in [*base, snapshot.archive]),
    ]
    lost = [*snapshot.gone, *snapshot.deleted]
    if lost:
        lines += [
            "Then remove what is in an archive or the image but was gone:",
            *(f"  {shown(path)}" for path in lost),
        ]
    return "\n".join(lines)


def _environments(root: str, sites: Sequence[str]) -> Iterator[str]:
    usual = (
        path for above in _PYTHONS for site in _SITES for path in Path(root or "/").glob(f"{above}/python3*/{site}")
    )
    for folder in sorted({*sites, *(str(path) for path in usual)}):
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except OSError:
            continue
        found = [f"{match[1]}=={match[2]}" for name in names if (match := _DIST_INFO.fullmatch(name))]
        if found:
            yield "\n".join([f"# Python packages in {shown(folder)}, as `pip freeze` would list them", *sorted(found)])


def _packages(root: str) -> Iterator[str]:
    installed = sorted(versions(root).values(), key=lambda one: one.name)
    if installed:
        asked_for = (f"{one.name}={one.version}" for one in installed if not one.automatic)
        yield "\n".join(["# Debian packages asked for (the others came with them)", *asked_for])
        selections = (f"{one.name}\t{one.selection}" for one in installed)
        yield "\n".join(["# All Debian packages, for `dpkg --set-selections`", *selections])


def _tmux(folder: Path) -> Iterator[str]:
    for socket in sorted(folder.glob("tmux-*/*")):
        try:
            if not stat.S_ISSOCK(socket.lstat().st_mode):
                continue
            call = ["tmux", "-S", str(socket), "list-panes", "-a", "-F", _PANES]
            told = subprocess.run(call, capture_output=True, timeout=_TMUX_TIMEOUT_S, check=True, text=True)
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        yield f"# tmux at {socket}: session, window, layout, folder, command\n{told.stdout.rstrip()}"


def _running() -> Iterator[str]:
    import psutil

    rows = []
    for process in psutil.process_iter(["pid", "username", "cwd", "cmdline"]):
        told = process.info
        if told["cmdline"] and told["pid"] != os.getpid():
            command = " ".join(told["cmdline"])[:_MOST_COMMAND_CHARS]
            rows.append(f"{told['pid']}\t{told['username']}\t{told['cwd'] or '?'}\t{command!r}")
    yield "\n".join(["# What ran (it does not come back by itself): pid, user, folder, command", *rows])
