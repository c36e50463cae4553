"""
Says what keeps a Pod where only the host's figures do, and who makes them: a program that fails and is started again
each 15 s, many services that hum each below a job's limit. No other signal has a name for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.signals import host_processes
from idlewatch.signals.jobs_programs import plain
from idlewatch.signals.proofs import ALONE_S, Facts, Lonely, Proof, cores, number, objects

if TYPE_CHECKING:
    from idlewatch.model import Finding, Json
    from idlewatch.signals.host_processes import Key, Usage

EVERY_S = 60.0
_MOST = 3
"""So many processes are named."""
GAP_S = 1800.0
"""Figures that fall below their limits for less than this never stop a Pod: they are one stretch of use."""


class Busiest:
    """Looks once a minute who used most CPU."""

    def __init__(self) -> None:
        """Nobody was looked at yet."""
        self._before: tuple[float, Usage] | None = None

    def facts(self, now_s: float, usage: Usage, left_out: frozenset[Key]) -> dict[str, Json]:
        """Return `busiest` of a reading after this whole look: name, pid, cpu_s in span_s; nothing in between."""
        before = self._before
        if before is not None and now_s - before[0] < EVERY_S:
            return {}
        self._before = now_s, usage
        if before is None:
            return {}
        used = host_processes.busiest(before[1], usage, _MOST, left_out=left_out)
        span_s = now_s - before[0]
        entries: list[Json] = [
            {"name": plain(comm), "pid": key[0], "cpu_s": round(used_s, 2), "span_s": span_s}
            for key, comm, used_s in used
        ]
        return {"busiest": entries}


class HostAlone:
    """Remembers since when a Pod is kept by nothing else, and who used most CPU."""

    def __init__(self, alone_s: float = ALONE_S) -> None:
        """`alone_s`: how long it must be before people are told."""
        self._lonely = Lonely("sign of use", alone_s, gap_s=GAP_S)
        self._busiest = "not known"

    def take_in(self, facts: Facts) -> None:
        """Remember who used most. Raises KeyError, TypeError or ValueError where facts make no sense."""
        busiest = objects(facts.get("busiest", []))
        if busiest:
            told = [(each["name"], each["pid"], number(each["cpu_s"]) / number(each["span_s"])) for each in busiest]
            self._busiest = ", ".join(f"{name} (pid {pid}) {cores(used)}" for name, pid, used in told)

    def notice(self, found: Finding, at_s: float) -> str | None:
        """Return what people must hear after this verdict."""
        only = None
        if found.evidence_s is not None:
            text = f"{found.reason}; most CPU, with what they started: {self._busiest}"
            only = Proof("host", text, found.evidence_s, "host")
        return self._lonely.notice(only, at_s)
