"""
The tmux servers of this machine, and how one is asked.

Whoever may write a socket below /tmp may pose as a tmux server, and tmux's client does what its server says. So a
socket counts only in a folder of its own user, and the client then runs as that user. A server that is stopped answers
never: for child processes.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Server:
    """One tmux server's socket and whose it is."""

    socket: Path
    user_id: int
    group_id: int


def servers(folder: Path = Path("/tmp")) -> Iterator[Server]:  # noqa: S108  (where tmux puts its sockets)
    """
    The tmux servers that may be talked to.

    tmux makes a folder `tmux-UID` of mode 0700 for each user, below TMUX_TMPDIR or /tmp: tmux(1). Another
    TMUX_TMPDIR is not found.
    """
    for home in sorted(folder.glob("tmux-*")):
        owner = _own_folder(home)
        if owner is None or os.geteuid() not in (0, owner):
            continue
        for socket in sorted(_listed(home)):
            status = _status(socket)
            if status and stat.S_ISSOCK(status.st_mode) and status.st_uid == owner:
                yield Server(socket, owner, status.st_gid)


def ask(server: Server, words: Sequence[str], within_s: float) -> str | None:
    """Return what one command says; None where it failed or took too long."""
    other = server.user_id != os.geteuid()
    command = ["tmux", "-u", "-S", str(server.socket), *words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
            user=server.user_id if other else None,
            group=server.group_id if other else None,
            extra_groups=() if other else None,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _own_folder(path: Path) -> int | None:
    """The owner of a folder that nobody else may write into; None where it is none."""
    status = _status(path)
    if status is None or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        return None
    return status.st_uid


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
