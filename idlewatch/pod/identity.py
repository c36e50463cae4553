"""
Which Pod this is, and which start of it: from the live environment and the kernel, never from what lies on a disk.

A countdown, a warning or a stop belongs to one start of one Pod. Two places that name different Pods are a reason
to stop nothing: an id is never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from idlewatch.errors import SignalError
from idlewatch.model import PodIdentity
from idlewatch.settings import Source

POD_ID = "RUNPOD_POD_ID"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def identity(sources: Sequence[Source], proc: Path = Path("/proc")) -> PodIdentity:
    """Return the Pod's id, where it came from, and what tells this start from any other."""
    pod_id, source = _pod_id(sources)
    boot_id = (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    started_s = started(proc)
    boot_key = f"{pod_id or 'no-pod'}@{boot_id}+{started_s:.2f}"
    return PodIdentity(pod_id=pod_id, source=source, started_s=started_s, boot_key=boot_key)


def _pod_id(sources: Sequence[Source]) -> tuple[str | None, str]:
    named = [(source.variables[POD_ID], source.name) for source in sources if source.variables.get(POD_ID)]
    if not named:
        return None, f"no {POD_ID} in {', '.join(source.name for source in sources)}"
    others = [f"{pod_id} ({name})" for pod_id, name in named if pod_id != named[0][0]]
    if others:
        return None, f"{POD_ID} is {named[0][0]} ({named[0][1]}) but also {', '.join(others)}"
    return named[0]


def started(proc: Path = Path("/proc")) -> float:
    """
    When this container's PID 1 started, CLOCK_BOOTTIME seconds.

    Source: field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)). Raises SignalError where it is no number.
    """
    text = (proc / "1" / "stat").read_text()
    try:
        return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError):
        raise SignalError(f"{proc}/1/stat has no start time") from None


def folder_name(pod_id: str | None) -> str:
    """The name of a Pod's folder on the volume; one with characters that no id has must not lead out of it."""
    return pod_id if pod_id and _ID.fullmatch(pod_id) else "no-pod"
