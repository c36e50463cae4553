"""
The jobs signal: whose work it is that this Pod's CPU does, by process tree.

The host signal sees the container's CPU; this one tells work from hum: each tree (a tmux pane, a terminal that was
closed, an agent, a notebook's kernel, what cron started) against its own median, idle servers, editors, language
servers and viewers left out; and it sees what waits on a network and uses no CPU: tools by their progress, anything
else by what it reads, for a network volume shows in no counter of disks. A process that merely exists is
nothing; but a job that asks its terminal (a debugger at its prompt) bars, up to the cap of people who are connected.
What rights deny is no reason not to know: then it says so, and the host signal decides.

Facts of a reading:

    trees   list, those that used most: id, where (tmux, ssh, closed terminal, an agent's name …), name and pid of the
            process that used most of it, agent (whether that is an AI coding agent or below one), cpu_s (CPU seconds
            in `covers_s`), read_bytes (through any read call, where that is neither a program's start nor a loop of
            short ones)
    tools   list: id, where, name, pid, agent (an AI coding agent, not a batch tool), read_bytes and write_bytes
            (through any read or write call), children (processes that it started)
    prompts list, jobs that wait for what a person types, one a terminal: where, name, pid, waits_s (since it was first
            seen, or since the last input)
    unseen  what /proc does not show here, in words; None where it shows all
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from idlewatch.kernel import Key
from idlewatch.kernel.prompts import prompt
from idlewatch.model import Surroundings
from idlewatch.signals.host_window import HostLimits
from idlewatch.signals.jobs_judge import JobsJudge
from idlewatch.signals.jobs_look import JobsLook
from idlewatch.signals.jobs_prompts import Asks, PromptsLook
from idlewatch.signals.of_tables import Kernel, TablesSignal
from idlewatch.signals.proofs import ALONE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.kernel import Tables
    from idlewatch.model import Finding
    from idlewatch.signals.proofs import Facts

_CONNECTED_FOR_S = Surroundings().connected_for_s
_DEFAULTS = replace(HostLimits(), cpu_steady_cores=0.10)
"""The host's, but for a steady load: what is no program that is known to hum works, if it takes that much for hours."""


class JobsSignal(TablesSignal):
    """CPU and progress of this Pod's process trees."""

    name = "jobs"

    def __init__(
        self,
        *,
        kernel: Kernel,
        cpu_limit_cores: float = _DEFAULTS.cpu_cores,
        alone_s: float = ALONE_S,
        connected_for_s: float = _CONNECTED_FOR_S,
        asks: Asks = prompt,
        asked: Callable[[float, float], frozenset[Key]] = lambda _from_s, _to_s: frozenset(),
    ) -> None:
        """
        `cpu_limit_cores`: above a tree's own hum; `alone_s`: how long one job may be all before people are told.

        `connected_for_s`: how long one that waits for a person may bar; `asks` tells whether a process does.

        `asked` names those that were asked for a checkpoint in a span: what they do then is none of anybody's work.
        """
        super().__init__(kernel)
        self._asked, self._look = asked, JobsLook(PromptsLook(asks))
        limits = replace(_DEFAULTS, cpu_cores=cpu_limit_cores)
        self._judge = JobsJudge(limits=limits, alone_s=alone_s, connected_for_s=connected_for_s)

    def _facts(self, tables: Tables, covers_s: float) -> Facts:
        asked = self._asked(tables.at_s - covers_s, tables.at_s) if covers_s else frozenset[Key]()
        return self._look.facts(tables, asked)

    def _judged(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        return self._judge.finding(facts, at_s, covers_s)
