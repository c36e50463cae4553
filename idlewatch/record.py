"""
The daemon's memory of each tick: the state before it is acted on, the readings, the timeline, and `status.json`.

`status.json`, format 1: `at` and `at_s` of the tick, `interval_s`, `mode`, `pod_id`, `boot_key`, `phase`, `action`,
`reason`, `cause`, `idle_for_s`, `acts_at_s`, `troubles` (name -> text), `holds`, `spent_usd`, `previous_stop`, and
`signals`: name -> `activity`, `reason`, `bars`, `pauses`. Spans are seconds, instants CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from idlewatch.daemon import Tick
from idlewatch.history import History, reading_to_json, write_atomically
from idlewatch.model import Action, Clock, Finding, Json, PodIdentity, Reading
from idlewatch.settings import SETTINGS_FILE, Loaded, settings_record

STATUS_FORMAT = 1


class DaemonRecord:
    """Writes everything that a tick saw and decided into the state folder."""

    def __init__(
        self, history: History, clock: Clock, loaded: Loaded, pod: PodIdentity, previous_stop: str | None = None
    ) -> None:
        """Writes `settings.json`, too, for verbs that run where the variables are missing."""
        self._previous_stop = previous_stop
        self._history, self._clock, self._loaded, self._pod = history, clock, loaded, pod
        told = json.dumps(settings_record(loaded), sort_keys=True)
        self.settings_key = hashlib.sha256(told.encode()).hexdigest()
        self._kept: dict[str, float] = {}
        write_atomically(loaded.settings.state_dir / SETTINGS_FILE, told, mode=0o600)

    def tick(self, report: Tick) -> None:
        """Keep one tick."""
        self._history.remember(self._pod.boot_key, self.settings_key, report.state)
        self._history.saw(self._new(report), self._clock.wall())
        self._tell(report)
        self._history.show(self._status(report))

    def _new(self, report: Tick) -> list[Reading]:
        """The readings that were not handed over before."""
        fresh = [r for r in report.readings if self._kept.get(r.signal) != r.at_s]
        self._kept |= {r.signal: r.at_s for r in fresh}
        return fresh

    def _tell(self, report: Tick) -> None:
        decision = report.decision
        for alarm in report.alarms:
            self._event(report, "alarm", f"{alarm.name}: {alarm.text}")
        if report.outcome:
            self._event(
                report, f"{report.outcome.action} {'done' if report.outcome.ok else 'failed'}", report.outcome.reason
            )
        if decision.action is not Action.WAIT:
            self._event(report, decision.action.value, decision.reason)

    def _event(self, report: Tick, kind: str, text: str) -> None:
        facts: Mapping[str, Json] = {
            "idle_for_s": report.decision.idle_for_s,
            "readings": [reading_to_json(reading) for reading in report.readings],
        }
        self._history.happened(kind, text, at_s=report.moment.now_s, wall=self._clock.wall(), facts=facts)

    def _status(self, report: Tick) -> dict[str, Json]:
        decision, settings = report.decision, self._loaded.settings
        return {
            "format": STATUS_FORMAT,
            "at": self._clock.wall().isoformat(),
            "at_s": report.moment.now_s,
            "interval_s": settings.interval.total_seconds(),
            "mode": settings.mode.value,
            "pod_id": self._pod.pod_id,
            "boot_key": self._pod.boot_key,
            "phase": report.state.phase.value,
            "action": decision.action.value,
            "reason": decision.reason,
            "cause": decision.cause.value if decision.cause else None,
            "idle_for_s": decision.idle_for_s,
            "acts_at_s": decision.acts_at_s,
            "troubles": dict(report.state.troubles),
            "holds": [
                {"who": hold.who, "reason": hold.reason, "until_s": hold.until_s} for hold in report.moment.holds
            ],
            "spent_usd": report.moment.spent_usd,
            "previous_stop": self._previous_stop,
            "signals": {finding.signal: _shown(finding) for finding in report.findings},
        }


def _shown(finding: Finding) -> Json:
    return {
        "activity": finding.activity.value,
        "reason": finding.reason,
        "bars": finding.bars,
        "pauses": finding.pauses,
    }
