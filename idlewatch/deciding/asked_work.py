"""Work that programs of the Pod do because idlewatch asked them for a checkpoint: it is no use of the Pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from idlewatch.deciding.moment import Moment
from idlewatch.model import Activity, Finding

ASKED_TAIL_S = 60.0
"""How long after their answers what programs were asked for may still show."""
ASKED_SIGNALS = frozenset({"gpu", "host", "transfers"})
"""Signals that can't tell an asked program's work from anybody else's; jobs can, and leaves the asked ones out."""


def without_asked(findings: Sequence[Finding], moment: Moment) -> tuple[Sequence[Finding], float]:
    """
    Return the findings without what programs did because they were asked to, and when they last did it (0: never).

    Only for signals that see the whole Pod, and only where their newest evidence lies in the span: people, holds,
    requests and new processes count as ever, and what goes on after it counts again.
    """
    if moment.asked is None:
        return findings, 0.0
    from_s, until_s = moment.asked[0], moment.asked[1] + ASKED_TAIL_S
    newest_s = [_newest_s(finding, moment.now_s) for finding in findings]
    asked = [at_s is not None and from_s <= at_s <= until_s for at_s in newest_s]
    kept = [_asked_for(f, until_s) if is_asked else f for f, is_asked in zip(findings, asked, strict=True)]
    return kept, max((at_s for at_s, is_asked in zip(newest_s, asked, strict=True) if at_s and is_asked), default=0.0)


def _newest_s(finding: Finding, now_s: float) -> float | None:
    """When a signal that can't tell asked work from other work last saw some; None: it saw none, or it can tell."""
    if finding.signal not in ASKED_SIGNALS:
        return None
    if finding.activity is Activity.ACTIVE:
        return now_s if finding.evidence_s is None else finding.evidence_s
    return finding.seen_to_s if finding.bars else None


def _asked_for(finding: Finding, until_s: float) -> Finding:
    """A finding whose activity was asked for: the span itself is no quiet time, what was seen after it is."""
    return replace(
        finding,
        activity=Activity.QUIET,
        reason=f"asked for a checkpoint: {finding.reason}",
        evidence_s=None,
        bars=False,
        pauses=finding.pauses or finding.seen_to_s <= until_s,
    )
