"""
Proofs of use, as the judges of jobs and transfers word them, and how facts are taken out of a reading.

Pure. A proof names one thing (a job, a mover) and the instant at which it last did something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding, Json

Facts: TypeAlias = Mapping[str, Json]

ALONE_S = 3 * 3600.0
"""One thing that is all there is for so long is named once to people."""
TOLD_MAX = 3
"""So many are named in a reason."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof of use."""

    id: str
    text: str
    evidence_s: float
    ignore: str
    """The signals to leave out if it is no use after all: `jobs,host`."""


def proven(signal: str, proofs: Sequence[Proof]) -> Finding:
    """The ACTIVE verdict of proofs, the newest first."""
    newest_first = sorted(proofs, key=lambda proof: -proof.evidence_s)
    reason = ", ".join(proof.text for proof in newest_first[:TOLD_MAX])
    more = len(proofs) - TOLD_MAX
    return Finding(
        signal=signal,
        activity=Activity.ACTIVE,
        reason=f"{reason} and {more} more" if more > 0 else reason,
        evidence_s=newest_first[0].evidence_s,
    )


class Lonely:
    """Notices when one thing is all there is for hours, so that its owner hears of it."""

    def __init__(self, what: str, alone_s: float, *, gap_s: float = 0.0) -> None:
        """`what` it is called: `job`; `alone_s`: for how long; it may be gone for `gap_s` in between."""
        self._what, self._alone_for_s, self._gap_s = what, alone_s, gap_s
        self._since: tuple[str, float] | None = None
        self._newest: tuple[Proof, float] | None = None

    def notice(self, only: Proof | None, at_s: float) -> str | None:
        """What people must hear; `only` is the one thing that there is, None where there is none or more."""
        if only is not None:
            self._newest = only, at_s
        elif self._newest is not None and at_s - self._newest[1] <= self._gap_s:
            only = self._newest[0]
        if only is None:
            self._since = None
            return None
        since_s = at_s if self._since is None or self._since[0] != only.id else self._since[1]
        self._since = (only.id, since_s)
        if at_s - since_s <= self._alone_for_s:
            return None
        return (
            f"{only.text}: the only {self._what} for more than {format_duration(self._alone_for_s)}; "
            f"if that is no work: IDLEWATCH_IGNORE={only.ignore}"
        )


def objects(value: Json) -> list[Facts]:
    """Return a list of objects. Raises TypeError where it is none."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise TypeError("facts that are no list of objects")
    return [each for each in value if isinstance(each, dict)]


def number(value: Json) -> float:
    """Return a fact as a number. Raises TypeError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def cores(used: float) -> str:
    """Return CPU for people."""
    percent = used * 100
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def minutes(seconds: float) -> str:
    """Return a span for people."""
    return f"{seconds / 60:.0f} min"
