"""
Readings that are handed over at the instants at which they were made, to judges that are real.

A judge sees every reading, also where the ticks are further apart than the readings were: then what it says of several
is told as one finding, in which no activity is lost and no span is called seen that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from idlewatch.model import Activity, Finding, Reading, Signal
from idlewatch.watching.daemon import judge

_CONTIGUOUS_S = 0.05
"""Two spans nearer than this are one: they come from clocks read in two processes."""


class Tape:
    """All readings of a life, played once."""

    def __init__(self, readings: Iterable[Reading], look_back_s: float) -> None:
        """`look_back_s`: how long what was played is kept for `before`."""
        self._coming, self._look_back_s = iter(readings), look_back_s
        self._next: Reading | None = next(self._coming, None)
        self._due: dict[str, list[Reading]] = {}
        self._played: deque[Reading] = deque()

    def due(self, signal: str, now_s: float) -> list[Reading]:
        """The readings of one signal that were made by `now_s` and not handed over yet, oldest first."""
        while self._next is not None and self._next.at_s <= now_s:
            self._due.setdefault(self._next.signal, []).append(self._next)
            self._played.append(self._next)
            self._next = next(self._coming, None)
        while self._played and self._played[0].at_s < now_s - self._look_back_s:
            self._played.popleft()
        return self._due.pop(signal, [])

    def before(self, now_s: float) -> list[Reading]:
        """What was handed over in the last `look_back_s`."""
        return [reading for reading in self._played if now_s - self._look_back_s <= reading.at_s < now_s]


class Replayed:
    """A signal whose readings come from a tape; its judge is the real one."""

    def __init__(self, signal: Signal, tape: Tape) -> None:
        self.name, self.refines = signal.name, signal.refines
        self._signal, self._tape = signal, tape
        nothing = Reading(signal=self.name, at_s=0.0, error="nothing is recorded yet")
        self._finding, self._handed = judge(signal, nothing), nothing

    def read(self, now_s: float) -> Reading:
        """Take what is due; judging the same reading again would give the same finding, so that is kept."""
        due = self._tape.due(self.name, now_s)
        if due:
            self._finding = together([judge(self._signal, reading) for reading in due])
        self._handed = Reading(signal=self.name, at_s=now_s)
        return self._handed

    def judge(self, reading: Reading) -> Finding:
        """Return the verdict on what was due; of a reading that is looked back at, the judge's own."""
        return self._finding if reading is self._handed else judge(self._signal, reading)

    def close(self) -> None:
        """End what the judge's signal began, which is nothing."""
        self._signal.close()


def together(findings: Sequence[Finding]) -> Finding:
    """Several findings of one signal, oldest first, as one: the newest, and the newest activity among them."""
    newest = findings[-1]
    if len(findings) == 1:
        return newest
    active = [finding for finding in findings if finding.activity is Activity.ACTIVE]
    strongest = active[-1] if active else newest
    instants = [finding.evidence_s for finding in active if finding.evidence_s is not None]
    return replace(
        strongest,
        seen_from_s=_seen_from(findings),
        seen_to_s=newest.seen_to_s,
        evidence_s=max(instants, default=None),
        bars=newest.bars,
        pauses=any(finding.pauses for finding in findings),
        notice=newest.notice,
    )


def _seen_from(findings: Sequence[Finding]) -> float:
    """The beginning of the newest span that was seen without a hole."""
    from_s = findings[-1].seen_from_s
    for finding in reversed(findings[:-1]):
        if finding.activity is Activity.UNKNOWN or from_s - finding.seen_to_s > _CONTIGUOUS_S:
            break
        from_s = min(from_s, finding.seen_from_s)
    return from_s
