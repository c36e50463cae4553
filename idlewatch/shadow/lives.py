"""
The starts of a Pod as lives that go on after a stop. Pure.

A start that idlewatch ended for idleness goes on as quiet time until the next start: what a longer wait would have
cost there, and that somebody came back then, is known. Of one that ended otherwise nothing is known after its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

from idlewatch.history.verdicts import HELD, Span
from idlewatch.model import Activity
from idlewatch.report.bill import Boot

_IDLE_LEAST_S = 300.0
"""A start whose last use is nearer to its end was not stopped for idleness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One start; instants are seconds since it began."""

    began: datetime
    from_s: float
    """Before that it is not looked at."""
    ends_s: float
    spans: Sequence[Span]
    """By their beginning."""
    back_s: float | None = None
    """When somebody started the Pod again; None: not known."""
    recording: Path | None = None
    """Where its readings lie; None: in the state folder."""
    started_s: float = 0.0
    """CLOCK_BOOTTIME of its beginning, as its readings have it."""

    def wall(self, at_s: float) -> datetime:
        """The wall time of an instant."""
        return self.began + timedelta(seconds=at_s)

    @property
    def dates(self) -> set[str]:
        """The days, UTC, on which it was looked at."""
        from_, to = self.wall(self.from_s), self.wall(self.ends_s)
        return {(from_ + timedelta(days=day)).date().isoformat() for day in range((to.date() - from_.date()).days + 1)}


def lives_of(boots: Sequence[Boot], from_: datetime) -> list[Life]:
    """The part of these starts, the oldest first, that lies after `from_`."""
    following = pairwise(chain(boots, (None,)))
    found = (_life(boot, after, from_) for boot, after in following if boot is not None and boot.ended > from_)
    return [life for life in found if life.spans]


def _life(boot: Boot, after: Boot | None, from_: datetime) -> Life:
    ends_s, from_s = _seconds(boot.ended, boot.began), max(0.0, _seconds(from_, boot.began))
    spans = sorted((span for span in boot.spans if span.to_s > from_s), key=lambda span: span.from_s)
    life = Life(
        began=boot.began,
        from_s=from_s,
        ends_s=ends_s,
        spans=spans,
        recording=boot.recording,
        started_s=boot.started_s,
    )
    if after is None or not boot.stopped_by_us or not _was_idle(spans, ends_s):
        return life
    back_s = max(ends_s, _seconds(after.began, boot.began))
    return replace(life, ends_s=back_s, back_s=back_s, spans=[*spans, *_rest(spans, ends_s, back_s)])


def _seconds(at: datetime, zero: datetime) -> float:
    return (at - zero).total_seconds()


def _was_idle(spans: Sequence[Span], ends_s: float) -> bool:
    used = [span.to_s for span in spans if span.verdict in (Activity.ACTIVE, HELD)]
    return ends_s - max(used, default=0.0) >= _IDLE_LEAST_S


def _rest(spans: Sequence[Span], ends_s: float, back_s: float) -> list[Span]:
    """Every signal that was there at the end goes on as quiet, or as absent."""
    newest = {span.name: span for span in spans if span.verdict != HELD}
    return [
        replace(
            span,
            from_s=min(span.to_s, ends_s),
            to_s=back_s,
            verdict=Activity.ABSENT if span.verdict == Activity.ABSENT else Activity.QUIET,
            bars=False,
            pauses=False,
            reason="stopped",
        )
        for span in newest.values()
    ]
