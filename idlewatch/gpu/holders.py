"""
Who has a GPU open: the last proof of idleness where the driver no longer says anything.

Nothing can use a GPU without one of its device files open (CUDA keeps /dev/nvidiactl, /dev/nvidia-uvm and
/dev/nvidiaN open for as long as a context lives). It proves something only where every process's open files can be
seen: as root, with nothing hidden. A link is read, never followed or opened: that can't hang.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/dxg")
NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has a GPU open, or why that can't be said."""

    names: tuple[str, ...] = ()
    """`python3 (pid 812)`, of everybody but ourselves."""
    error: str | None = None

    @property
    def none(self) -> bool:
        """Whether it is proven that nobody has."""
        return not self.names and self.error is None

    def __str__(self) -> str:
        """For a reason."""
        if self.names:
            more = len(self.names) - NAMED_AT_MOST
            who = ", ".join(self.names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
            return f"a GPU is open in {who}: it may be at work"
        return self.error or "no process but idlewatch has a GPU open"


def holders(proc: Path, ours: frozenset[int]) -> Holders:
    """Who but `ours` has a GPU device open, by `proc` (/proc)."""
    try:
        hidden = _hides(proc)
        pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    except OSError as error:
        return Holders(error=f"the open files of processes can't be seen ({error.strerror})")
    if hidden:
        return Holders(error="the open files of other users' processes are hidden (hidepid)")
    names, unseen = [], 0
    for pid in pids:
        if pid in ours:
            continue
        held = _holds(proc / str(pid))
        unseen += held is None
        if held:
            names.append(_name(proc / str(pid), pid))
    if names or not unseen:
        return Holders(tuple(names))
    return Holders(error=f"the open files of {unseen} of {len(pids)} processes can't be seen (not root?)")


def _hides(proc: Path) -> bool:
    """Whether /proc leaves out the processes of others."""
    mounts = (proc / "self/mounts").read_text(errors="replace").splitlines()
    options = [fields[3] for line in mounts if len(fields := line.split()) > 3 and fields[2] == "proc"]
    told = [option for of_one in options for option in of_one.split(",") if option.startswith("hidepid=")]
    return any(option not in {"hidepid=0", "hidepid=off"} for option in told)


def _holds(process: Path) -> bool | None:
    """Whether it has a GPU open; None where that can't be seen. One that has ended holds nothing."""
    try:
        if links := _listed(process / "fd"):
            return any(_is_gpu(link) for link in links)
        # A process whose first thread has ended shows nothing there, and its other threads may live on.
        return any(_is_gpu(link) for task in _listed(process / "task") for link in _listed(task / "fd"))
    except OSError:
        return None


def _listed(folder: Path) -> list[Path]:
    """What is in a folder of /proc; nothing where its process or thread has ended."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _is_gpu(link: Path) -> bool:
    try:
        target = str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return False
    return any(device in target for device in DEVICES)


def _name(process: Path, pid: int) -> str:
    try:
        return f"{(process / 'comm').read_text(errors='replace').strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}"
