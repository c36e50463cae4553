"""The daemons and supervisors that run here: found, ended, started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

from idlewatch.errors import IdlewatchError
from idlewatch.host import beside, tree
from idlewatch.host.machine import Machine

_ENDS_WITHIN_S = 70.0
"""A supervisor gives its daemon a minute."""
_CONTAINER_LOG = "1/fd/2"
"""What PID 1 writes there is the container's log."""


def exec_pids(machine: Machine) -> list[int]:
    """The PIDs of `idlewatch exec`, which keep a daemon alive, whoever started them."""
    return [pid for pid, words in machine.commands() if _follows(words, "exec")]


def in_first_session(machine: Machine, pid: int) -> bool:
    """
    Whether a process is in the session of PID 1: started with the container, by its command.

    A shell, `docker exec`, sshd, a terminal of Jupyter begin sessions of their own (setsid(2)), docker-init none.
    """
    return pid == 1 or ((session := _session(machine, pid)) is not None and session == _session(machine, 1))


def _session(machine: Machine, pid: int) -> str | None:
    try:
        return (machine.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[3]
    except OSError:
        return None


def daemons(machine: Machine) -> list[int]:
    """The PIDs of daemons, `idlewatch run`."""
    return [pid for pid, words in machine.commands() if _follows(words, "run")]


def _follows(words: Sequence[str], verb: str) -> bool:
    """Whether a command line is `idlewatch VERB`, as a program or as a module."""
    ours = [at for at, word in enumerate(words) if word.rpartition("/")[2] == "idlewatch"]
    return bool(ours) and list(words[ours[0] + 1 : ours[0] + 2]) == [verb]


def ask(pids: Sequence[int], number: int) -> None:
    """Send a signal to those of them that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def end(pids: Sequence[int]) -> None:
    """Ask daemons, or a supervisor with its daemon, to end, and wait. Raises IdlewatchError where one does not."""
    until_s = time.monotonic() + _ENDS_WITHIN_S
    ask(pids, signal.SIGTERM)
    while living := [pid for pid in pids if _lives(pid)]:
        if time.monotonic() > until_s:
            raise IdlewatchError(f"pid {living[0]} does not end")
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start_beside(machine: Machine) -> None:
    """Start the supervisor with its daemon; what they say goes to the container's log where that can be had."""
    command = [str(machine.at(f"{tree.PLACE}/bin/python")), "-I", "-m", "idlewatch.host.beside"]
    log = _log(machine)
    try:
        done = subprocess.run(
            [*command, str(machine.at(beside.LOCK))], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    finally:
        os.close(log)
    if done.returncode:
        raise IdlewatchError(f"{' '.join(command)} ended with {done.returncode}")


def _log(machine: Machine) -> int:
    try:
        return os.open(machine.proc / _CONTAINER_LOG, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
