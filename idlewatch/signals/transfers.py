"""
The transfers signal: who moves bytes in or out of this Pod, and which files grow.

A download that takes all night uses no GPU and 3 % of a core. It is seen here by its connections, by what known tools
read and write, and by files that grow; over a window, so that a slow one with gaps counts and chatter does not. What
comes to a port that is listened to counts only with its server's own counters, an SSH person's connection belongs to
the people signal, logs are no work, and what idlewatch itself moves or saves is left out.

Facts of a reading:

    moving  list, those that moved most: id, kind (connections, tool connections, tool reads, tool writes, file,
            transcript), name and pid of the process (pid None: it is not shown here), file (its name, or None), bytes
            in `covers_s`
    unseen  why connections are not counted here, in words; None where they are
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.transfers_judge import ALONE_S, TransfersJudge
from idlewatch.signals.transfers_look import LeavesHere, TransfersLook, leaves_here

if TYPE_CHECKING:
    from idlewatch.kernel import Tables


class Kernel(Protocol):
    """Where processes and sockets come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...


class TransfersSignal:
    """Bytes by process and growing files."""

    name = "transfers"
    refines = True

    def __init__(self, *, kernel: Kernel, leaves: LeavesHere = leaves_here, alone_s: float = ALONE_S) -> None:
        """`leaves`: which connections go to another machine; `alone_s`: when people are told of a lone hum."""
        self._kernel, self._look = kernel, TransfersLook(leaves)
        self._judge = TransfersJudge(alone_s=alone_s)
        self._newest: Reading | None = None
        self._found: tuple[float, Finding] | None = None

    def read(self, now_s: float) -> Reading:
        """
        Return what was moved since the last pass over the kernel's tables; the same again until the next.

        Touches /proc only, and there no file that another file system could hang. Raises SignalError where /proc
        shows no process.
        """
        tables, before = self._kernel.at(now_s), self._newest
        if before is not None and tables.at_s <= before.at_s:
            return before
        covers_s = 0.0 if before is None else tables.at_s - before.at_s
        facts = self._look.facts(tables)
        self._newest = Reading(signal=self.name, at_s=tables.at_s, covers_s=covers_s, facts=facts)
        return self._newest

    def judge(self, reading: Reading) -> Finding:
        """Return what is being moved, or that nothing is."""
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
