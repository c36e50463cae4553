"""
What runs on this machine, for the text beside an archive: tmux, notebooks, command lines. Nothing of it is run again.

Open notebooks are told by their kernels, which Jupyter Server starts with the notebook's path in JPY_SESSION_NAME, and
by JupyterLab's workspaces, which are files that name what was open in the browser (its documentation, "Workspaces").
Nothing is asked of a server: it might not answer, and its token is not known here.
"""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from idlewatch.snapshot.commands import command_line
from idlewatch.snapshot.given import shown
from idlewatch.tmux_servers import ask, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TMUX_TIMEOUT_S: Final = 5.0
_PANES: Final = "\t".join(
    f"#{{{name}}}"
    for name in (
        "session_name",
        "window_index",
        "window_name",
        "window_layout",
        "pane_index",
        "pane_pid",
        "pane_current_path",
        "pane_current_command",
    )
)
_SOCKETS: Final = Path("/tmp")  # noqa: S108 - where tmux keeps them, tmux(1)
_SESSION: Final = "JPY_SESSION_NAME"
_WORKSPACES: Final = ("root/.jupyter/lab/workspaces", "home/*/.jupyter/lab/workspaces")
_MOST_WORKSPACES: Final = 50
_MOST_WORKSPACE_BYTES: Final = 4 * 1024 * 1024


class Program(NamedTuple):
    """One process."""

    pid: int
    parent: int
    user: str
    folder: str
    argv: tuple[str, ...]
    notebook: str
    """The notebook that it is the kernel of; empty: it is none."""


def programs() -> list[Program]:
    """Return all that can be seen but this one and the kernel's own threads."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "ppid", "username", "cwd", "cmdline", "environ"]):
        told = process.info
        if told["cmdline"] and told["pid"] != os.getpid():
            notebook = (told["environ"] or {}).get(_SESSION, "") if _is_kernel(told["cmdline"]) else ""
            user, folder = told["username"] or "?", told["cwd"] or "?"
            found.append(Program(told["pid"], told["ppid"], user, folder, tuple(told["cmdline"]), notebook))
    return found


def _is_kernel(argv: list[str]) -> bool:
    """Tell a kernel from what runs in it, which has its variables, too: it is given a connection file."""
    return any(Path(word).name.startswith("kernel-") and word.endswith(".json") for word in argv)


def command_lines(found: list[Program], clean: Callable[[str], str]) -> Iterator[str]:
    """Yield the part that tells what ran."""
    rows = [
        shown(f"{one.pid}\t{one.parent}\t{one.user}\t{one.folder}\t{command_line(one.argv, clean)}", keep="\t")
        for one in found
    ]
    if rows:
        title = "# What ran (it does not come back by itself): pid, parent, user, folder, command without secrets"
        yield "\n".join([title, *rows])


def notebooks(found: list[Program], root: str) -> Iterator[str]:
    """Yield the part that tells which notebooks had a kernel, and that of what was open in JupyterLab."""
    kernels = sorted({(one.notebook, one.user) for one in found if one.notebook})
    if kernels:
        title = "# Open notebooks (what their kernels held in memory does not come back): notebook, user"
        yield "\n".join([title, *(shown(f"{path}\t{user}", keep="\t") for path, user in kernels)])
    files = (path for place in _WORKSPACES for path in Path(root or "/").glob(f"{place}/*.jupyterlab-workspace"))
    for path in islice(sorted(files), _MOST_WORKSPACES):
        if names := _open_in(path):
            title = f"# Open in JupyterLab, paths from its root, as its workspace {shown(str(path))} has it"
            yield "\n".join([title, *map(shown, names)])


def _open_in(workspace: Path) -> list[str]:
    """Return the documents that a workspace names; none where it is no workspace, or a huge one."""
    try:
        if workspace.stat().st_size > _MOST_WORKSPACE_BYTES:
            return []
        data = json.loads(workspace.read_bytes())["data"]
        entries = [entry["data"] for entry in data.values() if isinstance(entry, dict) and "data" in entry]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    documents = (entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("factory"), str))
    return sorted({entry["path"] for entry in documents if isinstance(entry.get("path"), str)})


def tmux(folder: Path = _SOCKETS) -> Iterator[str]:
    """Yield one part for each tmux server that answers."""
    for server in servers(folder):
        told = ask(server, ["list-panes", "-a", "-F", _PANES], _TMUX_TIMEOUT_S)
        if told:
            title = f"# tmux at {shown(str(server.socket))}: session, window, name, layout, pane, pid, folder, command"
            yield "\n".join([title, *(shown(line, keep="\t") for line in told.splitlines())])
