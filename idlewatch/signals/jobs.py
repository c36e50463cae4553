"""
The jobs signal: whose work it is that this Pod's CPU does, by process tree.

The host signal sees the container's CPU; this one tells work from hum: each tree (a tmux pane, a terminal that was
closed, an agent, a notebook's kernel, what cron started) against its own median, idle servers, editors, language
servers and viewers left out; and it sees tools that wait on a network and use no CPU. A process that merely exists is
nothing. What rights deny is no reason not to know: then it says so, and the host signal decides.

Facts of a reading:

    trees   list, those that used most: id, where (tmux, ssh, closed terminal, an agent's name …), name and pid of the
            process that used most of it, agent (whether that is an AI coding agent or below one), cpu_s (CPU seconds
            in `covers_s`)
    tools   list: id, where, name, pid, agent (an AI coding agent, not a batch tool), read_bytes and write_bytes
            (through any read or write call), children (processes that it started)
    unseen  what /proc does not show here, in words; None where it shows all
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from idlewatch.kernel import Key
from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.host_window import HostLimits
from idlewatch.signals.jobs_judge import ALONE_S, JobsJudge
from idlewatch.signals.jobs_look import JobsLook

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.kernel import Tables

_DEFAULTS = HostLimits()


class Kernel(Protocol):
    """Where processes come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...


class JobsSignal:
    """CPU and progress of this Pod's process trees."""

    name = "jobs"
    refines = True

    def __init__(
        self,
        *,
        kernel: Kernel,
        cpu_limit_cores: float = _DEFAULTS.cpu_cores,
        alone_s: float = ALONE_S,
        asked: Callable[[float, float], frozenset[Key]] = lambda _from_s, _to_s: frozenset(),
    ) -> None:
        """
        `cpu_limit_cores`: above a tree's own hum; `alone_s`: how long one job may be all before people are told.

        `asked` names those that were asked for a checkpoint in a span: what they do then is none of anybody's work.
        """
        self._asked = asked
        self._kernel, self._look = kernel, JobsLook()
        self._judge = JobsJudge(limits=replace(_DEFAULTS, cpu_cores=cpu_limit_cores), alone_s=alone_s)
        self._newest: Reading | None = None
        self._found: tuple[float, Finding] | None = None

    def read(self, now_s: float) -> Reading:
        """
        Return what each tree has used since the last pass over the kernel's tables; the same again until the next.

        Raises SignalError where /proc shows no process.
        """
        tables, before = self._kernel.at(now_s), self._newest
        if before is not None and tables.at_s <= before.at_s:
            return before
        covers_s = 0.0 if before is None else tables.at_s - before.at_s
        asked = self._asked(tables.at_s - covers_s, tables.at_s) if covers_s else frozenset[Key]()
        facts = self._look.facts(tables, asked)
        self._newest = Reading(signal=self.name, at_s=tables.at_s, covers_s=covers_s, facts=facts)
        return self._newest

    def judge(self, reading: Reading) -> Finding:
        """Return which job keeps this Pod, or that none does."""
        if reading.absent is not None:
            return Finding(signal=self.name, activity=Activity.ABSENT, reason=reading.absent)
        if reading.error is not None:
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reading.error)
        if reading.covers_s <= 0:
            return Finding(
                signal=self.name, activity=Activity.UNKNOWN, reason="nothing to compare the first reading with"
            )
        if self._found is None or reading.at_s > self._found[0]:
            self._found = reading.at_s, replace(self._judged(reading), signal=self.name)
        return self._found[1]

    def _judged(self, reading: Reading) -> Finding:
        try:
            return self._judge.finding(reading.facts, reading.at_s, reading.covers_s)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"facts that make no sense: {error}"
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reason)

    def close(self) -> None:
        """Nothing was started."""
