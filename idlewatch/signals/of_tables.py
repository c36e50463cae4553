"""What the signals share that look at the kernel's tables of processes and sockets: jobs, transfers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.unread import covers_nothing

if TYPE_CHECKING:
    from idlewatch.kernel import Tables
    from idlewatch.signals.proofs import Facts


class Kernel(Protocol):
    """Where processes and sockets come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...


class TablesSignal(ABC):
    """A signal whose readings are differences between two passes over the tables."""

    name: str
    refines = True

    def __init__(self, kernel: Kernel) -> None:
        """No pass was seen yet."""
        self._kernel = kernel
        self._newest: Reading | None = None
        self._found: tuple[float, Finding] | None = None

    @abstractmethod
    def _facts(self, tables: Tables, covers_s: float) -> Facts:
        """What was done in the `covers_s` seconds up to these tables; 0: nothing can be compared yet."""

    @abstractmethod
    def _judged(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        """The verdict. Raises KeyError, TypeError or ValueError for facts that make no sense."""

    def read(self, now_s: float) -> Reading:
        """
        Return what was done since the last pass over the kernel's tables; the same again until the next.

        Touches /proc only, and there no file that another file system could hang. Raises SignalError where /proc
        shows no process.
        """
        tables, before = self._kernel.at(now_s), self._newest
        if before is not None and tables.at_s <= before.at_s:
            return before
        covers_s = 0.0 if before is None else tables.at_s - before.at_s
        facts = self._facts(tables, covers_s)
        self._newest = Reading(signal=self.name, at_s=tables.at_s, covers_s=covers_s, facts=facts)
        return self._newest

    def judge(self, reading: Reading) -> Finding:
        """Return what keeps this Pod, or that nothing does; a reading that was judged before gets the same verdict."""
        nothing = covers_nothing(reading)
        if nothing:
            return nothing
        if self._found is None or reading.at_s > self._found[0]:
            self._found = reading.at_s, replace(self._understood(reading), signal=self.name)
        return self._found[1]

    def _understood(self, reading: Reading) -> Finding:
        try:
            return self._judged(reading.facts, reading.at_s, reading.covers_s)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"facts that make no sense: {error}"
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reason)

    def close(self) -> None:  # noqa: B027  (none of them starts anything)
        """Nothing was started, so nothing is ended."""
