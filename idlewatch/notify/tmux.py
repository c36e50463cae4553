"""
A message in the status line of every tmux client, and a mark that a status line of the user's own can show.

Runs in a child process: a tmux server that is stopped answers never.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from idlewatch.model import Json
from idlewatch.notify.notice import Kind
from idlewatch.printable import printable
from idlewatch.tmux_servers import Server, ask, servers

MARK = "@idlewatch"
"""The tmux option: `set -ag status-right ' #{@idlewatch}'` shows it."""
SHOWN_MS = 30_000
_ONE_WITHIN_S = 3.0


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
    return ask(server, words, left_s)
