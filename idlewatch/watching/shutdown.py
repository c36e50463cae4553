"""
The daemon was asked to end: is only the daemon to end, or the whole container?

Nothing in a container says that it is being ended. But the kernel tells who sent the signal (sigaction(2), si_pid):

- 0: somebody outside this PID namespace, so whoever runs the container; where the daemon is PID 1, as always.
- PID 1: an init that passes on what it got from outside. A supervisor as PID 1 may only restart us: that is no end.
- our own `idlewatch exec`, which passes on what it got itself.
- systemd as PID 1 is asked whether the machine is going down; else only the service was stopped.
- anybody else: a person, or a supervisor. The container lives on.

A daemon that RunPod's start hook has left in the background gets no signal at all when its Pod ends: docker-init passes
it to its own child only, and the kernel ends the rest hard. Only as the container's command (`idlewatch exec`) there is
any notice, and how many seconds is not documented.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SUPERVISORS = frozenset({"supervisord", "s6-svscan", "runsvdir", "runit", "monit", "circusd", "python", "python3"})
"""As PID 1 they also end and restart one program for a person."""
_SYSTEMD = "systemd"
_ASKED_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a shutdown request means."""

    container: bool
    """The container, or the machine, is going down: what is not on the volume by now is lost."""
    why: str


def machine_goes_down() -> bool:
    """Whether systemd is stopping this machine (systemctl(1), is-system-running); not known is no."""
    command = ["systemctl", "is-system-running"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_ASKED_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "stopping"


def ending_of(
    sender: int | None,
    *,
    proc: Path = Path("/proc"),
    own_pid: int | None = None,
    goes_down: Callable[[], bool] = machine_goes_down,
) -> Ending:
    """Return what it means that `sender` (a PID; 0: from outside; None: not known) asked this process to end."""
    own_pid = os.getpid() if own_pid is None else own_pid
    init, parent = _name(1, proc), _parent(own_pid, proc)
    if own_pid == 1:
        return Ending(container=True, why="this container is being ended: idlewatch is its PID 1")
    if init == _SYSTEMD:
        down = goes_down()
        return Ending(container=down, why="this machine is going down" if down else "the idlewatch service was stopped")
    if sender == 0:
        return Ending(container=True, why="this container is being ended from outside, by the platform or a person")
    if sender == 1 and init not in _SUPERVISORS:
        return Ending(container=True, why=f"this container is being ended: its PID 1 ({init}) passes that on")
    if sender in (None, parent) and _is_exec(parent, proc):
        return Ending(container=True, why="this container is being ended: `idlewatch exec` passes that on")
    by = "somebody" if sender is None else f"{_name(sender, proc) or 'a process'} (pid {sender})"
    return Ending(container=False, why=f"{by} ended idlewatch")


def _is_exec(pid: int, proc: Path) -> bool:
    """Whether a process is `idlewatch exec`, run as a program or as a module."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    ours = [at for at, word in enumerate(words) if word.rpartition(b"/")[2] == b"idlewatch"]
    return bool(ours) and words[ours[0] + 1 : ours[0] + 2] == [b"exec"]


def _name(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _parent(pid: int, proc: Path) -> int:
    """The parent of a process: field 4 of proc_pid_stat(5); 0 where it is not known."""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
