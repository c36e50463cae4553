"""
The request of a person to save now, `requests/save.json`: the daemon saves in a child process, and shows how far it is.

It is for those who can't wait for a save themselves: the page. `idlewatch save` saves by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

from idlewatch.files import write_atomically
from idlewatch.model import Json
from idlewatch.requests.request_files import Asked, RequestFile, read, request_path

WANTS = "save"


def save_request_file(state_dir: Path) -> Path:
    """Where a person's request to save lies."""
    return request_path(state_dir, WANTS)


def ask_for_save(state_dir: Path, who: str, boot_key: Json, now_s: float) -> None:
    """Place a request. Raises OSError."""
    path = save_request_file(state_dir)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"who": who, "boot_key": boot_key, "asked_s": now_s}))


def save_asked_by(state_dir: Path, boot_key: str) -> str | None:
    """Who asks for a save of this start; None: nobody does."""
    try:
        return read(save_request_file(state_dir), boot_key).who
    except (OSError, ValueError):
        return None


class SaveRequests(RequestFile[Asked]):
    """The request to save that stands, tick by tick."""

    wants = WANTS

    def understood(self, asked: Asked) -> Asked:
        """All that it says is who asks."""
        return asked
