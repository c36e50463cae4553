"""
What `status.json` says of a tick.

Format 1: `at` and `at_s` of the tick, `interval_s`, `mode`, `pod_id`, `boot_key`, `phase`, `action`,
`reason`, `why` (why the end sequence runs; null where none does), `cause`, `idle_for_s`, `idle_after_s` (the limit that
holds now; 0: none), `learned_why` (why it is that, null where it is not learned), `acts_at_s`, `started_s`, `troubles`
(name -> text), `holds`, `spent_usd`, `usd_per_hour`, `previous_stop`, `save` (the newest that was asked for: `who`,
`began_s`, `state`, `progress`, `text`, `ended_s`; null: none was), `advice` (list
of `name`, `text`, `remedy`, `span_s`, `usd_per_hour`, `usd_per_day`), and `signals`: name -> `activity`, `reason`,
`bars`, `pauses`, `since_s` (since when this verdict stands), `read_s` (instant of its reading). `ended` is there and
true once the daemon has ended by itself. Spans are seconds, instants CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from idlewatch.deciding.moment import idle_after_s
from idlewatch.deciding.tick import Tick
from idlewatch.history.verdicts import Span
from idlewatch.model import Finding, Json, PodIdentity, Reading
from idlewatch.settings import Loaded

STATUS_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Status:
    """Tells one tick in the form of `status.json`, and what is known beside it."""

    loaded: Loaded
    pod: PodIdentity
    previous_stop: Callable[[], str | None]
    """What is known of the stop before this start."""
    asked_save: Callable[[], Json]
    """The newest save that somebody asked for."""
    advice: Callable[[], Json]
    """Waste that is not idleness."""

    def of(self, report: Tick, standing: Mapping[str, Span], at: datetime) -> dict[str, Json]:
        """Return it; `standing`: the verdicts and since when each stands, `at`: the wall clock."""
        decision, settings = report.decision, self.loaded.settings
        return {
            "format": STATUS_FORMAT,
            "at": at.isoformat(),
            "at_s": report.moment.now_s,
            "interval_s": settings.interval.total_seconds(),
            "mode": settings.mode.value,
            "pod_id": self.pod.pod_id,
            "boot_key": self.pod.boot_key,
            "phase": report.state.phase.value,
            "action": decision.action.value,
            "reason": decision.reason,
            "why": report.state.why or None,
            "cause": decision.cause.value if decision.cause else None,
            "idle_for_s": decision.idle_for_s,
            "idle_after_s": idle_after_s(report.moment, settings.limits()),
            "learned_why": report.moment.learned_why,
            "acts_at_s": decision.acts_at_s,
            "troubles": dict(report.state.troubles),
            "holds": [
                {"who": hold.who, "reason": hold.reason, "until_s": hold.until_s} for hold in report.moment.holds
            ],
            "started_s": self.pod.started_s,
            "spent_usd": report.moment.spent_usd,
            "usd_per_hour": report.moment.usd_per_hour,
            "previous_stop": self.previous_stop(),
            "save": self.asked_save(),
            "advice": self.advice(),
            "signals": {
                finding.signal: _shown(finding, reading, standing[finding.signal].from_s)
                for finding, reading in zip(report.findings, report.readings, strict=True)
            },
        }


def _shown(finding: Finding, reading: Reading, since_s: float) -> Json:
    return {
        "activity": finding.activity.value,
        "reason": finding.reason,
        "bars": finding.bars,
        "pauses": finding.pauses,
        "since_s": since_s,
        "read_s": reading.at_s,
    }
