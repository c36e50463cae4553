"""
Asks jobs to end before the save of a ceiling or of `idlewatch stop`, where the Pod stops although they work.

A stop of the Pod itself gives programs nothing: the container's PID 1 is asked to end, they are ended hard. So the
jobs that registered, and those that the owner named, get a SIGTERM each and some time. Leaders only: torchrun passes
it on to its workers and waits for them. Nobody is ended hard, and some programs are never touched: PID 1, our own,
those that house people (sshd, tmux, Jupyter and its kernels, shells, editors).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from idlewatch.children.tasks import seldom
from idlewatch.durations import format_duration
from idlewatch.kernel import Key, Process, ProcessTable
from idlewatch.kernel.processes import look
from idlewatch.model import Json
from idlewatch.signals.jobs_programs import Program, Role, program
from idlewatch.stopping.checkpoints import is_alive

_NEVER = frozenset({Role.HOUSE, Role.EDITOR, Role.KERNEL, Role.OURS, Role.VIEWER, Role.NOISE})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ash", "ksh", "csh", "tcsh"})
"""A shell that gets a SIGTERM ends, and what it runs does not."""
_LOOK_EVERY_S = 0.2
_TOLD_MAX = 10
"""Of those that were left alone; `*` names everything."""
_TERM_BIT = 1 << (signal.SIGTERM - 1)

Progress: TypeAlias = Callable[[Json], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """What came of asking one job to end."""

    name: str
    pid: int
    ok: bool
    how: str

    def as_event(self) -> dict[str, Json]:
        """As an event of the timeline."""
        kind = "job ended" if self.ok else "job not ended"
        return {"kind": kind, "text": f"{self.name} (pid {self.pid}): {self.how}", "facts": {}}


@dataclass(frozen=True, slots=True)
class _Job:
    """A program that is to end, and who gets the SIGTERM for it."""

    process: Process
    name: str
    leader: Process
    leader_name: str
    never: str | None = None
    """Why it is not asked to."""


def end_jobs(
    patterns: Sequence[str],
    registered: Iterable[Key],
    *,
    within_s: float,
    progress: Progress,
    proc: Path = Path("/proc"),
) -> list[JobEnd]:
    """
    Ask the jobs to end and wait for it no longer than `within_s` seconds; returns what came of each, in PID order.

    `patterns` are names with shell wildcards, compared with a program's own name and its script's or module's. Raises
    SignalError where /proc shows no process.
    """
    table, _ = look(proc, 0.0, os.getpid())
    jobs = list(_jobs(table, patterns, frozenset(registered)))
    asked = {job.leader.key: _asked_to_end(job.leader, proc) for job in jobs if job.never is None}
    refusals = [(job, job.never or asked[job.leader.key]) for job in jobs]
    waited = [job for job, refusal in refusals if refusal is None]
    left_alone = [_left_alone(job, refusal) for job, refusal in refusals if refusal is not None]
    return left_alone[:_TOLD_MAX] + _waited_for(waited, within_s, progress, proc)


def _waited_for(jobs: Sequence[_Job], within_s: float, progress: Progress, proc: Path) -> list[JobEnd]:
    began_s, say, alone = time.monotonic(), seldom(progress), set[Key]()
    while True:
        left = [job for job in jobs if is_alive(job.process.key, proc) or is_alive(job.leader.key, proc)]
        spent_s = time.monotonic() - began_s
        if not left or spent_s >= within_s:
            return [_end_after(job, spent_s, ended=job not in left) for job in jobs]
        for job in left:
            if not is_alive(job.leader.key, proc) and job.process.key not in alone:
                alone.add(job.process.key)  # a leader that ends without passing it on
                _asked_to_end(job.process, proc)
        say({"stage": "ending jobs", "waits_for": ", ".join(f"{j.name} (pid {j.process.pid})" for j in left)})
        time.sleep(_LOOK_EVERY_S)


def _end_after(job: _Job, spent_s: float, *, ended: bool) -> JobEnd:
    by = "" if job.leader is job.process else f" through {job.leader_name} (pid {job.leader.pid})"
    how = "and did" if ended else f"still there {format_duration(spent_s)} later"
    return JobEnd(name=job.name, pid=job.process.pid, ok=ended, how=f"asked to end{by}, {how}")


def _left_alone(job: _Job, why: str) -> JobEnd:
    return JobEnd(name=job.name, pid=job.process.pid, ok=False, how=f"left alone: {why}")


# ---------------------------------------------------------------- who


def _jobs(table: ProcessTable, patterns: Sequence[str], registered: frozenset[Key]) -> Iterator[_Job]:
    ours = _ours(table)
    for process in sorted(table, key=lambda each: each.pid):
        known = program(process.comm, table.command(process.pid))
        if process.key not in registered and not _is_named(known, patterns):
            continue
        never = _never(process, known, ours)
        if never is None:
            leader = _leader(process, table, ours)
            leader_name = program(leader.comm, table.command(leader.pid)).name
            yield _Job(process, known.name, leader, leader_name)
        elif process.pid not in ours:
            yield _Job(process, known.name, process, known.name, never)


def _is_named(known: Program, patterns: Sequence[str]) -> bool:
    names = {known.name, *known.words}
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _ours(table: ProcessTable) -> frozenset[int]:
    """PIDs of this process, of those above it, and of all that its parent, the daemon, has started."""
    own, parent = os.getpid(), os.getppid()
    daemons = table.descendants(parent) if parent > 1 else frozenset[int]()
    return frozenset({own, parent, *(each.pid for each in table.ancestors(own))} | daemons | table.descendants(own))


def _never(process: Process, known: Program, ours: frozenset[int]) -> str | None:
    """Why a process is never asked to end; None where it may be."""
    if process.pid == 1 or process.parent == 2 or process.pid in ours:
        return "it runs this container, or belongs to idlewatch"
    if known.role in _NEVER or known.name in _SHELLS or process.comm in _SHELLS:
        return f"{known.name} houses others"
    return None


def _leader(process: Process, table: ProcessTable, ours: frozenset[int]) -> Process:
    """The highest process above it that takes a SIGTERM itself, as launchers that pass it on do; else itself."""
    leader = process
    for above in table.ancestors(process.pid):
        known = program(above.comm, table.command(above.pid))
        if _never(above, known, ours) is not None:
            break
        if _catches_term(above, table.proc):
            leader = above
    return leader


def _catches_term(process: Process, proc: Path) -> bool:
    """Whether it has a handler for SIGTERM: SigCgt of proc_pid_status(5)."""
    try:
        status = (proc / str(process.pid) / "status").read_text()
        return bool(int(status.partition("SigCgt:")[2].split(maxsplit=1)[0], 16) & _TERM_BIT)
    except (OSError, ValueError, IndexError):
        return False


def _asked_to_end(process: Process, proc: Path) -> str | None:
    """Send it a SIGTERM; returns why that can't be done, None where it was. Its PID can't have come to another."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        return None if isinstance(error, ProcessLookupError) else str(error.strerror)
    try:
        if is_alive(process.key, proc):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except ProcessLookupError:
        return None
    except OSError as error:
        return str(error.strerror)
    finally:
        os.close(descriptor)
    return None
