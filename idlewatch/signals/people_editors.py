"""
Editors in a browser: who works in code-server, openvscode-server or a VS Code server that serves its page itself.

Their page talks over connections that stay open, like an editor over SSH; whoever has no terminal open in it is seen
by these alone. Known by the command line: they all are `node` with a script of their own (packages' start scripts).
Through a tunnel (`code tunnel`) nobody comes in: its one program holds connections that went out, to a relay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS_IN = ("node", "code-server", "openvscode-ser")
"""How the process's own name begins (the kernel keeps 15 letters of it)."""
CONNECTIONS_MAX = 32
"""Kept of one server, the oldest: a page has a few that last, and each picture of it one that does not."""
_WORDS_READ = 4
_NAMES = (
    (re.compile(r"openvscode-server"), "openvscode-server"),
    (re.compile(r"(?<![\w-])code-server(?![\w-])"), "code-server"),
    (re.compile(r"/\.[\w-]+-server/.*server-main\.js|/cli/servers/"), "a VS Code server"),
)
TUNNELS_RUN_IN = ("code", "cursor", "windsurf", "codium", "kiro", "trae", "antigravity")
"""What the names of editors' command lines begin with, up to a dash (`code-insiders`)."""


def tunnel(comm: str, command: Sequence[str]) -> str | None:
    """Return the name of the editor's tunnel that this process is; None where it is none."""
    if comm.partition("-")[0] not in TUNNELS_RUN_IN or "tunnel" not in command[1:_WORDS_READ]:
        return None
    return f"{comm}'s tunnel"


def editor(comm: str, command: Sequence[str]) -> str | None:
    """Return the name of the editor's server that this process is; None where it is none."""
    if not comm.startswith(RUNS_IN):
        return None
    words = " ".join(command[:_WORDS_READ])
    return next((name for pattern, name in _NAMES if pattern.search(words)), None)
