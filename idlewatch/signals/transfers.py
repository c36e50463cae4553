"""
The transfers signal: who moves bytes in or out of this Pod, and which files grow.

A download that takes all night uses no GPU and 3 % of a core. It is seen here by its connections, by what known tools
read and write, and by files that grow; over a window, so that a slow one with gaps counts and chatter does not. What
comes to a port that is listened to counts only with its server's own counters, an SSH person's connection belongs to
the people signal, logs are no work, and what idlewatch itself moves or saves is left out.

Facts of a reading:

    moving  list, those that moved most: id, kind (connections, tool connections, tool reads, tool writes, file,
            transcript), name and pid of the process (pid None: it is not shown here), file (its name, or None), bytes
            in `covers_s`; sent_bytes of them, of a tool's connections where what it writes is shown
    unseen  why connections are not counted here, in words; None where they are
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.signals.of_tables import Kernel, TablesSignal
from idlewatch.signals.proofs import ALONE_S
from idlewatch.signals.transfers_judge import TransfersJudge
from idlewatch.signals.transfers_look import LeavesHere, TransfersLook, leaves_here

if TYPE_CHECKING:
    from idlewatch.kernel import Tables
    from idlewatch.model import Finding
    from idlewatch.signals.proofs import Facts


class TransfersSignal(TablesSignal):
    """Bytes by process and growing files."""

    name = "transfers"

    def __init__(self, *, kernel: Kernel, leaves: LeavesHere = leaves_here, alone_s: float = ALONE_S) -> None:
        """`leaves`: which connections go to another machine; `alone_s`: when people are told of a lone hum."""
        super().__init__(kernel)
        self._look, self._judge = TransfersLook(leaves), TransfersJudge(alone_s=alone_s)

    def _facts(self, tables: Tables, covers_s: float) -> Facts:
        del covers_s
        return self._look.facts(tables)

    def _judged(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        return self._judge.finding(facts, at_s, covers_s)
