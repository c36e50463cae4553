"""What the verbs say and how: lines, sizes, who asks, and the settings as this shell can know them."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from idlewatch.assembly import Assembly
from idlewatch.errors import IdlewatchError, Refused
from idlewatch.settings import Loaded, load, pod_sources, verb_sources


def loaded() -> Loaded:
    """The settings of a verb: its own environment, then what the daemon was told, then the Pod's."""
    return load(verb_sources(pod_sources()))


def say(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def size(amount: float) -> str:
    """Bytes for people: `3.4 GB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def who() -> str:
    """The person at this terminal."""
    try:
        where = os.ttyname(0).removeprefix("/dev/")
    except OSError:
        where = "no terminal"
    try:
        return f"{getpass.getuser()} ({where})"
    except (KeyError, OSError) as error:
        raise IdlewatchError(f"who are you? {error}") from error


def volume(here: Assembly) -> Path:
    """The volume. Raises Refused where there is none."""
    if here.volume is None:
        raise Refused(here.no_volume_because)
    return here.volume
