"""
Says in the log when a signal can't be seen any more, and why, and when it is seen again: one line at each change.

`signal_failed` (a warning) has `signal` and `reason`, the verdict's own words; `signal_back` has `signal`, `activity`
and `after_s`. A signal that has only begun to look may take a tenth of IDLEWATCH_BLIND_LIMIT (a minute) before it is
worth a line. One that comes and goes for the same reason is told once in ten minutes. What stays unseen for 15 minutes
is an alarm, which is a line of its own and has the newest reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from idlewatch.deciding.tick import Tick
from idlewatch.model import Activity, Finding

log = structlog.get_logger()

AGAIN_AFTER_S = 600.0
"""The same words about the same signal are not logged twice within this time."""
_FIRST_LOOK_SHARE = 0.1


@dataclass(slots=True)
class _Sight:
    """How one signal is seen."""

    seen: bool = False
    """It ever was."""
    since_s: float | None = None
    """Since when it is unknown; None: it is not."""
    failed: bool = False
    """That it is unknown was logged."""
    told_s: dict[str, float] = field(default_factory=dict)
    """Cause -> when it was last logged."""


class SightLog:
    """Logs changes between seen and unseen; a record of ticks like others, and it keeps nothing else of them."""

    def __init__(self, blind_limit_s: float) -> None:
        """`blind_limit_s`: IDLEWATCH_BLIND_LIMIT."""
        self._first_look_s = blind_limit_s * _FIRST_LOOK_SHARE
        self._sights: dict[str, _Sight] = {}

    def tick(self, report: Tick) -> None:
        """Take in one tick's findings."""
        for finding in report.findings:
            sight = self._sights.setdefault(finding.signal, _Sight())
            look: Callable[[_Sight, Finding, float], None] = (
                self._unseen if finding.activity is Activity.UNKNOWN else self._seen
            )
            look(sight, finding, report.moment.now_s)

    def _unseen(self, sight: _Sight, finding: Finding, now_s: float) -> None:
        since_s = sight.since_s = now_s if sight.since_s is None else sight.since_s
        if sight.failed or (not sight.seen and now_s - since_s < self._first_look_s):
            return
        cause = _cause(finding.reason)
        sight.told_s = {told: at_s for told, at_s in sight.told_s.items() if now_s - at_s < AGAIN_AFTER_S}
        if cause in sight.told_s:
            return
        sight.told_s[cause], sight.failed = now_s, True
        log.warning("signal_failed", signal=finding.signal, reason=finding.reason)

    def _seen(self, sight: _Sight, finding: Finding, now_s: float) -> None:
        if sight.failed:
            after_s = round(now_s - (sight.since_s or now_s))
            log.info("signal_back", signal=finding.signal, activity=finding.activity.value, after_s=after_s)
        sight.seen, sight.since_s, sight.failed = True, None, False


def _cause(reason: str) -> str:
    """What is the same whenever it happens: no figures, and nothing of what is added to it."""
    first = reason.partition(";")[0].partition(",")[0]
    return "".join(letter for letter in first if not letter.isdigit())
