"""
Tells people what the daemon sees and does: each tick's alarms, decisions and outcomes become notices.

Terminals are told at once; every channel (tmux, webhooks, Apprise) has a line of its own that child processes work
off. Nothing here raises or waits. In `observe` there is no announcer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from idlewatch.deciding.tick import Tick
from idlewatch.model import Action, Alarm, Cause, Decision, Json, Outcome
from idlewatch.notify import Notice
from idlewatch.notify.channel import Channel
from idlewatch.notify.limits import AlarmLimits
from idlewatch.notify.words import Words
from idlewatch.stopping.in_memory import ends_with_the_stop


class Tells(Protocol):
    """Whoever passes a text on to people; best effort, never raises, never blocks."""

    def tell(self, text: str) -> object:
        """Pass it on."""
        ...


class Announcer:
    """Words what happens, and passes it on."""

    def __init__(self, *, words: Words, people: Tells, channels: Sequence[Channel] = ()) -> None:
        """`people`: those in the Pod, told at once."""
        self._words, self._people, self._channels = words, people, tuple(channels)
        self._limits = AlarmLimits()
        self._cause: Cause | None = None
        self._why = ""
        self._stop_told = False

    def hear(self, report: Tick, pod_name: str | None = None) -> None:
        """Take in what a tick saw, and tell its alarms; `pod_name`: what its owner calls the Pod, where known."""
        now = self._words.now
        now.pod_name = pod_name
        now.spent_usd, now.usd_per_hour = report.moment.spent_usd, report.moment.usd_per_hour
        now.ends = ends_with_the_stop(report.readings)
        now_s, fresh = report.moment.now_s, {alarm.name for alarm in report.alarms}
        late = [
            Alarm(name=name, text=text)
            for name, text in report.state.troubles.items()
            if name not in fresh and self._limits.due(name, text, now_s)
        ]
        self._tell(self._alarms([*report.alarms, *late], now_s), now_s)

    def decided(
        self, decision: Decision, now_s: float, snapshot: str | None = None, unsaved: str | None = None
    ) -> None:
        """Tell a decision that people must know of; `snapshot`: what a stop leaves, `unsaved`: why it has none."""
        words = self._words
        match decision.action:
            case Action.WARN:
                self._stop_told = False
                self._cause, self._why = decision.cause, decision.reason
                self._tell([words.warning(decision, now_s)], now_s)
            case Action.CANCEL:
                self._tell([words.off(decision)], now_s)
            case Action.STOP if not self._stop_told:
                self._stop_told = True
                self._tell([words.stop(decision, snapshot, unsaved)], now_s)

    def came(self, outcome: Outcome, now_s: float) -> None:
        """Tell what a save came to; a failed one is an alarm, and so is whatever goes wrong with a stop."""
        if outcome.action is Action.SAVE and outcome.ok:
            self._tell([self._words.saved(outcome, self._cause, self._why)], now_s)

    def ended(self, why: str, now_s: float) -> None:
        """Tell that the daemon ends."""
        self._tell([self._words.ended(why)], now_s)

    def poll(self, now_s: float) -> None:
        """Let the channels get on."""
        for channel in self._channels:
            channel.poll(now_s)

    def troubles(self) -> dict[str, str | None]:
        """Channels that don't work, by the name of the trouble; None: it does."""
        return {channel.name: channel.trouble for channel in self._channels}

    def told(self) -> list[Json]:
        """What the channels have to say for the timeline since the last call."""
        return [event for channel in self._channels for event in channel.told()]

    def close(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Give what is under way `within_s` seconds more, then end it."""
        ends_s = now_s() + within_s
        self.poll(now_s())
        while now_s() < ends_s and any(channel.waiting for channel in self._channels):
            sleep(0.05)
            self.poll(now_s())
        for channel in self._channels:
            channel.end()

    def _alarms(self, alarms: Iterable[Alarm], now_s: float) -> list[Notice]:
        notices = []
        for alarm in alarms:
            left_out = self._limits.takes(alarm.name, alarm.text, now_s)
            if left_out is not None:
                notices.append(self._words.alarm(alarm, left_out))
        return notices

    def _tell(self, notices: Sequence[Notice], now_s: float) -> None:
        """One write a tick for people in the Pod: each may take half a second on a terminal that nobody reads."""
        if not notices:
            return
        self._people.tell("\n".join(notice.text for notice in notices))
        for channel in self._channels:
            for notice in notices:
                channel.post(notice, now_s)
            channel.poll(now_s)
