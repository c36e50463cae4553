"""
The daemon's memory of each tick: the state before it is acted on, the readings, the timeline, and `status.json`.

`status.json`, format 1: `at` and `at_s` of the tick, `interval_s`, `mode`, `pod_id`, `boot_key`, `phase`, `action`,
`reason`, `cause`, `idle_for_s`, `acts_at_s`, `started_s`, `troubles` (name -> text), `holds`, `spent_usd`,
`usd_per_hour`, `previous_stop`, and `signals`: name -> `activity`, `reason`, `bars`, `pauses`, `since_s` (since when
this verdict stands), `read_s` (instant of its reading). `ended` is there and true once the daemon has ended by itself.
Spans are seconds, instants CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

import structlog

from idlewatch import login
from idlewatch.daemon import Tick
from idlewatch.history import History, reading_to_json, write_atomically
from idlewatch.model import Action, Clock, Finding, Json, Phase, PodIdentity, Reading
from idlewatch.settings import SETTINGS_FILE, Loaded, settings_record
from idlewatch.verdicts import Span, extended

log = structlog.get_logger()

STATUS_FORMAT = 1
_THIN_EVERY_S = 3600.0
_PREVIOUS_STOP_TOLD_S = 24 * 3600.0
"""How long after a start its login says why the Pod was stopped before."""


class DaemonRecord:
    """Writes everything that a tick saw and decided into the state folder."""

    def __init__(
        self,
        history: History,
        clock: Clock,
        loaded: Loaded,
        pod: PodIdentity,
        previous_stop: Callable[[], str | None] = lambda: None,
        told: Callable[[], Iterable[Json]] = list,
    ) -> None:
        """
        Writes `settings.json`, too, for verbs that run where the variables are missing.

        `previous_stop` says what is known of the stop before this start, which may take a while to be read; `told`
        hands over once what tasks have done: `kind`, `text` and `facts` each.
        """
        self._told = told
        self._previous_stop = previous_stop
        self._login_words: list[str] | None = None
        self._standing: dict[str, Span] = {}
        self._status_now: dict[str, Json] = {}
        self._thin_at_s = clock.now_s() + _THIN_EVERY_S
        self._history, self._clock, self._loaded, self._pod = history, clock, loaded, pod
        given = json.dumps(settings_record(loaded), sort_keys=True)
        self.settings_key = hashlib.sha256(given.encode()).hexdigest()
        self._kept: dict[str, float] = {}
        write_atomically(loaded.settings.state_dir / SETTINGS_FILE, given, mode=0o600)

    def tick(self, report: Tick) -> None:
        """Keep one tick."""
        now_s, interval_s = report.moment.now_s, self._loaded.settings.interval.total_seconds()
        self._standing = extended(
            self._standing, report.findings, report.moment.holds, now_s, longest_gap_s=3 * interval_s + 5.0
        )
        with self._history.together():
            self._history.remember(self._pod.boot_key, self.settings_key, report.state)
            self._history.saw(self._new(report), self._clock.wall())
            self._history.judged(self._standing.values())
            self._tell(report)
        self._status_now = self._status(report)
        self._history.show(self._status_now)
        self._tell_at_login(report)
        if now_s >= self._thin_at_s:
            self._thin_at_s = now_s + _THIN_EVERY_S
            self._history.thin(now_s)

    def _tell_at_login(self, report: Tick) -> None:
        words = _login_words(report, self._previous_stop())
        if words != self._login_words:
            self._login_words = words
            login.say(self._loaded.settings.state_dir, words)

    def ended(self, why: str = "the daemon was asked to end") -> None:
        """Say in `status.json` that nobody watches any more: the daemon was asked to end."""
        if self._status_now:
            self._history.show({**self._status_now, "ended": True})
        login.say(self._loaded.settings.state_dir, [f"nothing guards this Pod: {why}"])

    def _new(self, report: Tick) -> list[Reading]:
        """The readings that were not handed over before."""
        fresh = [r for r in report.readings if self._kept.get(r.signal) != r.at_s]
        self._kept |= {r.signal: r.at_s for r in fresh}
        return fresh

    def happened(self, kind: str, text: str, facts: Mapping[str, Json] | None = None) -> None:
        """Keep one event of now."""
        log.info("happened", kind=kind, text=text)
        self._history.happened(kind, text, at_s=self._clock.now_s(), wall=self._clock.wall(), facts=facts or {})

    def take_told(self) -> None:
        """Keep what tasks have done since the last call."""
        self.keep(self._told())

    def keep(self, events: Iterable[Json]) -> None:
        """Keep events as tasks tell them."""
        for event in events:
            if isinstance(event, dict):
                facts = event.get("facts")
                self.happened(str(event.get("kind")), str(event.get("text")), facts if isinstance(facts, dict) else {})

    def _tell(self, report: Tick) -> None:
        self.take_told()
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
            "started_s": self._pod.started_s,
            "spent_usd": report.moment.spent_usd,
            "usd_per_hour": report.moment.usd_per_hour,
            "previous_stop": self._previous_stop(),
            "signals": {
                finding.signal: self._shown(finding, reading)
                for finding, reading in zip(report.findings, report.readings, strict=True)
            },
        }

    def _shown(self, finding: Finding, reading: Reading) -> Json:
        return {
            "activity": finding.activity.value,
            "reason": finding.reason,
            "bars": finding.bars,
            "pauses": finding.pauses,
            "since_s": self._standing[finding.signal].from_s,
            "read_s": reading.at_s,
        }


def _login_words(report: Tick, previous_stop: str | None) -> list[str]:
    """What somebody who logs in now must know; nothing where all is well."""
    words = []
    if report.state.phase is not Phase.WATCHING:
        words.append(f"this Pod is being stopped ({report.state.why}); keep it up with: idlewatch hold 2h")
    words += [f"{name}: {text}" for name, text in report.state.troubles.items()]
    if previous_stop and report.moment.uptime_s < _PREVIOUS_STOP_TOLD_S:
        words.append(previous_stop)
    return words
