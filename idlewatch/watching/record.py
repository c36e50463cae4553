"""The daemon's memory of each tick: the state before it is acted on, the readings, the timeline, and `status.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from idlewatch.deciding.tick import Tick, longest_gap_s
from idlewatch.durations import format_duration
from idlewatch.files import write_atomically
from idlewatch.history.store import History, reading_to_json
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Action, Clock, Json, PodIdentity
from idlewatch.pod.keys import marks
from idlewatch.settings import SETTINGS_FILE, Loaded, Mode, settings_record
from idlewatch.telling import login
from idlewatch.watching.status import Status
from idlewatch.watching.unwritten import Unwritten

log = structlog.get_logger()

HISTORY, STATUS, LOGIN, SETTINGS = "history", "status", "words at login", "settings"
"""What is written, each for itself: one may have room where another has none."""
_MOST_EVENTS = 200
"""So many of the newest events are kept in memory while they can't be written."""
_REMOVED = (
    "the folder was removed while the daemon watched, and is made again: its history is lost, place your holds again"
)
_REMOVED_TOLD_S = 3600.0
_THIN_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Event:
    """One line of the timeline that is still to be written."""

    kind: str
    text: str
    at_s: float
    wall: datetime
    facts: Mapping[str, Json]


class DaemonRecord:
    """Writes everything that a tick saw and decided into the state folder. What it can't write never raises."""

    def __init__(
        self,
        history: History,
        clock: Clock,
        loaded: Loaded,
        pod: PodIdentity,
        previous_stop: Callable[[], str | None] = lambda: None,
        *,
        told: Callable[[], Iterable[Json]] = list,
        made_again: Callable[[], bool] = lambda: False,
        asked_save: Callable[[], Json] = lambda: None,
        advice: Callable[[], Json] = list,
    ) -> None:
        """
        Writes `settings.json`, too, for verbs that run where the variables are missing.

        `previous_stop` says what is known of the stop before this start, which may take a while to be read; `told`
        hands over once what tasks have done: `kind`, `text`, `facts` each, and `at` where it was not now. `made_again`
        says whether the state folder had been removed and is there again, or raises OSError. `asked_save` tells of the
        save that somebody asked for, `advice` of waste that is not idleness.
        """
        self._made_again = made_again
        self._status = Status(loaded, pod, previous_stop, asked_save, advice)
        self._observing = loaded.settings.mode is Mode.OBSERVE
        self._unwritten = Unwritten(loaded.settings.state_dir)
        self._removed_s: float | None = None
        self._events: list[_Event] = []
        self._dropped = 0
        self._told, self._longest_gap_s = told, longest_gap_s(loaded.settings.limits().interval_s)
        self._previous_stop = previous_stop
        self._login_words: list[str] | None = None
        self._standing: dict[str, Span] = {}
        self._status_now: dict[str, Json] = {}
        self._thin_at_s = clock.now_s() + _THIN_EVERY_S
        self._history, self._clock, self._loaded, self._pod = history, clock, loaded, pod
        self._given = json.dumps(settings_record(loaded), sort_keys=True)
        known = [self._given, *marks(loaded)]  # another key is another chance: no back-off of the old one's holds
        self.settings_key = hashlib.sha256("\n".join(known).encode()).hexdigest()
        self._settings_written = False
        self._kept: dict[str, float] = {}
        self._write_settings(clock.now_s())

    def troubles(self) -> dict[str, str | None]:
        """What people must hear of the state folder, by name; None: nothing."""
        removed = self._removed_s is not None and self._clock.now_s() - self._removed_s < _REMOVED_TOLD_S
        return {"state folder": self._unwritten.trouble, "state folder removed": _REMOVED if removed else None}

    def tick(self, report: Tick) -> None:
        """Keep one tick."""
        now_s, moment = report.moment.now_s, report.moment
        self._standing = extended(self._standing, report.findings, moment.holds, now_s, self._longest_gap_s)
        self._look_at_folder(now_s)
        self._write_settings(now_s)
        self._tell(report)
        self._unwritten.attempt(HISTORY, lambda: self._keep(report), now_s)
        if aside := self._history.put_aside():
            self.happened("history", aside)
        self._status_now = self._status.of(report, self._standing, self._clock.wall())
        self._unwritten.attempt(STATUS, lambda: self._history.show(self._status_now), now_s)
        words = login.words(report, self._previous_stop())
        if words != self._login_words and self._say_at_login(words, now_s):
            self._login_words = words
        if now_s >= self._thin_at_s and self._unwritten.attempt(HISTORY, lambda: self._history.thin(now_s), now_s):
            self._thin_at_s = now_s + _THIN_EVERY_S

    def _look_at_folder(self, now_s: float) -> None:
        """A folder that somebody removed is there again, with nothing in it: what is written once is written anew."""
        again: list[bool] = []
        self._unwritten.attempt("folder", lambda: again.append(self._made_again()), now_s)
        if again == [True]:
            self._settings_written, self._login_words = False, None
            self._removed_s = now_s
            log.error("state_folder_removed", path=str(self._loaded.settings.state_dir))

    def _write_settings(self, now_s: float) -> None:
        if not self._settings_written:
            path = self._loaded.settings.state_dir / SETTINGS_FILE
            self._settings_written = self._unwritten.attempt(
                SETTINGS, lambda: write_atomically(path, self._given, mode=0o600), now_s
            )

    def _say_at_login(self, words: list[str], now_s: float) -> bool:
        return self._unwritten.attempt(LOGIN, lambda: login.say(self._loaded.settings.state_dir, words), now_s)

    def _keep(self, report: Tick) -> None:
        """Keep one tick in the history, with the events that could not be kept before. Raises StateFolderError."""
        fresh = [r for r in report.readings if self._kept.get(r.signal) != r.at_s]
        with self._history.together():
            self._history.remember(self._pod.boot_key, self.settings_key, report.state)
            self._history.saw(fresh, self._clock.wall())
            self._history.judged(self._standing.values())
            self._keep_events()
        self._kept |= {r.signal: r.at_s for r in fresh}
        self._events, self._dropped = [], 0

    def _keep_events(self) -> None:
        for event in self._events:
            self._history.happened(event.kind, event.text, at_s=event.at_s, wall=event.wall, facts=event.facts)
        since_s, now_s = self._unwritten.since_s(HISTORY), self._clock.now_s()
        if since_s is not None:
            lost = f", and {self._dropped} events" if self._dropped else ""
            text = f"nothing could be written for {format_duration(now_s - since_s)}: its readings{lost} are missing"
            self._history.happened("not recorded", text, at_s=now_s, wall=self._clock.wall(), facts={})

    def ended(self, why: str = "the daemon was asked to end") -> None:
        """Say in `status.json` that nobody watches any more: the daemon was asked to end."""
        now_s, status = self._clock.now_s(), {**self._status_now, "ended": True}
        if self._status_now:
            self._unwritten.attempt(STATUS, lambda: self._history.show(status), now_s)
        self._say_at_login([f"nothing {'observes' if self._observing else 'guards'} this Pod: {why}"], now_s)

    def happened(
        self, kind: str, text: str, facts: Mapping[str, Json] | None = None, at: datetime | None = None
    ) -> None:
        """Keep one event of now, or of the instant `at` where it is only heard of now."""
        log.info("happened", kind=kind, text=text)
        now_s = self._clock.now_s()
        self._note(_Event(kind, text, now_s, at or self._clock.wall(), facts or {}))
        if self._unwritten.attempt(HISTORY, self._keep_only_events, now_s):
            self._events, self._dropped = [], 0

    def _keep_only_events(self) -> None:
        with self._history.together():
            self._keep_events()

    def _note(self, event: _Event) -> None:
        """To be written next; the oldest go where that fails for long."""
        self._dropped += len(self._events) >= _MOST_EVENTS
        self._events = [*self._events[-_MOST_EVENTS + 1 :], event]

    def take_told(self) -> None:
        """Keep what tasks have done since the last call."""
        self.keep(self._told())

    def keep(self, events: Iterable[Json]) -> None:
        """Keep events as tasks tell them."""
        for event in events:
            if isinstance(event, dict):
                facts, at = event.get("facts"), event.get("at")
                facts = facts if isinstance(facts, dict) else {}
                heard_of = None if at is None else datetime.fromisoformat(str(at))
                self.happened(str(event.get("kind")), str(event.get("text")), facts, heard_of)

    def _tell(self, report: Tick) -> None:
        self.take_told()
        decision = report.decision
        for alarm in report.alarms:
            self._event(report, "alarm", f"{alarm.name}: {alarm.text}")
        outcome = report.outcome
        if outcome and not outcome.observed:  # where nothing was done, what would have been stands there already
            self._event(report, f"{outcome.action} {'done' if outcome.ok else 'failed'}", outcome.reason)
        if decision.action is not Action.WAIT:
            self._event(report, f"{'would ' if self._observing else ''}{decision.action}", decision.reason)

    def _event(self, report: Tick, kind: str, text: str) -> None:
        facts: Mapping[str, Json] = {
            "idle_for_s": report.decision.idle_for_s,
            "readings": [reading_to_json(reading) for reading in report.readings],
        }
        self._note(_Event(kind, text, report.moment.now_s, self._clock.wall(), facts))
