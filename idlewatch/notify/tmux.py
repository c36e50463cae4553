"""
A message in the status line of every tmux client, and a mark that a status line of the user's own can show.

Runs in a child process: a tmux server that is stopped answers never. Whoever may write a socket below /tmp may pose as
a tmux server, and tmux's client does what its server says. So a socket counts only in a folder of its own user, and
the client then runs as that user.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from idlewatch.model import Json
from idlewatch.notify.notice import Kind
from idlewatch.notify.terminals import printable

MARK = "@idlewatch"
"""The tmux option: `set -ag status-right ' #{@idlewatch}'` shows it."""
SHOWN_MS = 30_000
_ONE_WITHIN_S = 3.0


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


def mark_of(notice: Mapping[str, Json]) -> str | None:
    """The mark that a notice sets; empty: it takes the mark away; None: it leaves it as it is."""
    if notice.get("kind") == Kind.WARNING:
        return f"stops at {str(notice.get('begins_at'))[11:16]} UTC"
    if notice.get("kind") == Kind.STOP:
        return "stopping"
    return "" if notice.get("kind") in (Kind.OFF, Kind.ENDED) else None


def show(message: str, mark: str | None, *, within_s: float, folder: Path = Path("/tmp")) -> int:  # noqa: S108
    """
    Show a message to every client and set the mark as `mark_of` means it; returns how many clients were shown it.

    Takes `within_s` seconds at the most for all of them together.
    """
    ends_s, shown = time.monotonic() + within_s, 0
    for server in servers(folder):
        if mark is not None:
            option = ["-gq", MARK, plain(mark)] if mark else ["-gqu", MARK]
            _tmux(server, ["set-option", *option], ends_s)
        for client in (_tmux(server, ["list-clients", "-F", "#{client_name}"], ends_s) or "").splitlines():
            shown += _shown(server, client, plain(message), ends_s)
    return shown


def _shown(server: Server, client: str, message: str, ends_s: float) -> bool:
    show_for = ["display-message", "-c", client, "-d", str(SHOWN_MS), message]
    if _tmux(server, show_for, ends_s) is not None:
        return True
    # before tmux 3.2 there is no -d, and it stands for as long as the user has set
    return _tmux(server, ["display-message", "-c", client, message], ends_s) is not None


def plain(text: str) -> str:
    """Return one line that tmux shows as it is: to it `#(…)` is a command to run, `%H` the hour, a last `;` an end."""
    line = printable(" ".join(text.split())).replace("#", " ").replace("%", "%%")
    return line.rstrip(";\\ ")


def _tmux(server: Server, words: Sequence[str], ends_s: float) -> str | None:
    """What one command says; None where it failed or took too long."""
    left_s = min(_ONE_WITHIN_S, ends_s - time.monotonic())
    if left_s <= 0:
        return None
    other = server.user_id != os.geteuid()
    command = ["tmux", "-S", str(server.socket), *words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=left_s,
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
