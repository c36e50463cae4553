"""
The words of each notice: why, what is saved or lost, when, how to keep the Pod, dollars so far.

Reasons come from anyone in the Pod, so each is made printable and short before it is put into a line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from idlewatch.deciding.remedies import to_keep_up
from idlewatch.durations import format_duration
from idlewatch.model import Alarm, Cause, Decision, Json, Outcome
from idlewatch.notify.notice import Kind, Notice
from idlewatch.printable import printable

COLUMNS = 76
"""The widest line of a notice."""
_MEANS = {
    "save failed": "Nothing is lost and this Pod stays up, costing on: it is saved again later.",
    "STOP NOT CONFIRMED": "It goes on costing. It is asked for again; look at the Pod in RunPod's console.",
    "stop refused": "This Pod goes on costing until you stop it yourself.",
    "cannot stop": "This Pod goes on costing until you stop it yourself.",
    "stop failed": "It is asked for again, after another look at everything.",
}
"""What an alarm means for whoever reads it, by its name."""
_GRACE_S = 60.0
_SAVED_USEFUL_S = 600.0


@dataclass(slots=True, kw_only=True)
class PodNow:
    """What is known of the Pod by now."""

    pod_name: str | None = None
    spent_usd: float | None = None
    """Since this start."""
    usd_per_hour: float | None = None
    ends: tuple[str, ...] = ()
    """What lives in memory only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Puts what happens to this Pod into notices."""

    pod_id: str | None
    saved_to: str | None
    """Where a save goes; None: nowhere."""
    lost: str | None
    """What nothing will save, in words; with `saved_to` None, too: nothing on disk would be lost."""
    storage: str | None
    """What this Pod goes on costing while it is stopped, in words; None: not known."""
    stops_unsaved: bool
    """IDLEWATCH_ON_SAVE_FAILURE=stop."""
    wall: Callable[[], datetime]
    now: PodNow
    link: Callable[[], str | None] = lambda: None
    """Makes an address whose page holds the Pod by a button, once; None: no page is served."""

    def warning(self, decision: Decision, now_s: float) -> Notice:
        """The notice before a stop."""
        begins_in_s = max(0.0, (now_s if decision.acts_at_s is None else decision.acts_at_s) - now_s)
        begins_at = self.wall() + timedelta(seconds=begins_in_s)
        facts: dict[str, Json] = {
            "begins_in_s": begins_in_s,
            "begins_at": begins_at.isoformat(timespec="seconds"),
            "lost": self.lost,
            "keep_link": self.link() if decision.cause is Cause.IDLE else None,
            **_decided(decision),
        }
        keep = to_keep_up(decision.cause, decision.reason)
        text = warning_text(
            why=decision.reason,
            begins_in_s=begins_in_s,
            begins_at=begins_at,
            saved_to=self.saved_to,
            lost=self.lost,
            ends=self.now.ends,
            usd_so_far=self.now.spent_usd,
            keep=keep,
        )
        headline = f"this Pod will be stopped in {format_duration(begins_in_s)}; {keep}"
        return self._notice(Kind.WARNING, headline, text, facts, useful_for_s=begins_in_s + _GRACE_S)

    def off(self, decision: Decision) -> Notice:
        """The end sequence was called off."""
        headline = f"the stop is off: {short(decision.reason)}"
        return self._notice(Kind.OFF, headline, _lines(f"idlewatch: {headline}"), _decided(decision))

    def saved(self, outcome: Outcome, cause: Cause | None, why: str) -> Notice:
        """A save succeeded, or there was nothing to save."""
        headline = f"{short(outcome.reason)}; the stop is next"
        keep = to_keep_up(cause, why)
        how = f"Any use of this Pod calls it off; {keep}" if cause in (None, Cause.IDLE) else _sentence(keep)
        text = _lines(f"idlewatch: {headline}.", how)
        facts: dict[str, Json] = {"reason": outcome.reason, "snapshot": outcome.snapshot}
        return self._notice(Kind.SAVED, headline, text, facts, useful_for_s=_SAVED_USEFUL_S)

    def stop(self, decision: Decision, snapshot: str | None, unsaved: str | None = None) -> Notice:
        """The stop is asked for; `unsaved`: why the save failed that it goes without."""
        lost = None if snapshot else unsaved or self.lost
        usd = self.now.spent_usd
        spent = "" if usd is None else f" It has cost ${usd:.2f} since its start."
        text = _lines(
            f"idlewatch: stopping this Pod now.{spent}",
            f"Why: {short(decision.reason)}",
            f"Saved as {snapshot}; after the next start: idlewatch restore {snapshot}" if snapshot else "",
            f"NOT SAVED: {short(lost)}" if lost else "",
            f"While stopped it costs {self.storage}." if self.storage else "",
            "A restart may get no GPU." if self.pod_id else "",
        )
        facts = {"snapshot": snapshot, "storage": self.storage, "lost": lost, **_decided(decision)}
        return self._notice(Kind.STOP, f"stopping this Pod now: {short(decision.reason)}", text, facts)

    def alarm(self, alarm: Alarm, left_out: int) -> Notice:
        """Something that people must hear; `left_out`: how often it was kept to ourselves since they last did."""
        means = _MEANS.get(alarm.name, "")
        if alarm.name == "ceiling near":
            means = _sentence(to_keep_up(Cause.CEILING, alarm.text))
        if alarm.name == "save failed" and self.stops_unsaved:
            means = f"It is stopped all the same (IDLEWATCH_ON_SAVE_FAILURE=stop); {to_keep_up(None)}"
        again = f"Left out since it was last told: {left_out}." if left_out else ""
        headline = f"{alarm.name}: {short(alarm.text)}"
        text = _lines(f"idlewatch: {headline}", means, again)
        return self._notice(Kind.ALARM, headline, text, {"reason": alarm.text}, alarm=alarm.name)

    def ended(self, why: str) -> Notice:
        """The daemon ends although it has not stopped the Pod."""
        headline = f"nothing guards this Pod: {short(why)}"
        text = _lines(f"idlewatch: {headline}.", "While it runs on, nothing stops it; idlewatch run guards it again.")
        return self._notice(Kind.ENDED, headline, text, {"reason": why})

    def test(self, who: str) -> Notice:
        """A person wants to see that notices arrive."""
        headline = f"a test, sent by {short(who)}; nothing is being stopped"
        return self._notice(Kind.TEST, headline, _lines(f"idlewatch: {headline}."), {"reason": "a test"})

    def _notice(
        self,
        kind: Kind,
        headline: str,
        text: str,
        facts: dict[str, Json],
        *,
        alarm: str | None = None,
        useful_for_s: float | None = None,
    ) -> Notice:
        common: dict[str, Json] = {
            "pod_id": self.pod_id,
            "pod_name": self.now.pod_name,
            "usd_so_far": None if self.now.spent_usd is None else round(self.now.spent_usd, 4),
            "usd_per_hour": self.now.usd_per_hour,
        }
        at = self.wall().isoformat(timespec="seconds")
        made = Notice(kind=kind, headline=headline, text=text, at=at, alarm=alarm, facts={**common, **facts})
        return made if useful_for_s is None else replace(made, useful_for_s=useful_for_s)


def _decided(decision: Decision) -> dict[str, Json]:
    cause = None if decision.cause is None else decision.cause.value
    return {"reason": decision.reason, "cause": cause, "idle_for_s": decision.idle_for_s}


def warning_text(
    *,
    why: str,
    begins_in_s: float,
    saved_to: str | None,
    lost: str | None,
    begins_at: datetime | None = None,
    ends: Sequence[str] = (),
    usd_so_far: float | None = None,
    keep: str = to_keep_up(None),
) -> str:
    """
    Return the warning before a stop, a few lines of at most 76 columns.

    `saved_to` is where the save will go; `lost` is what nothing will save, in words; both None: nothing on disk would
    be lost. `ends` names what lives in memory only (kernels, shells). `begins_in_s` is the time until the save begins,
    `begins_at` the same on the wall clock, UTC; `keep` is what keeps the Pod up, as `remedies.to_keep_up` words it.
    """
    spent = "" if usd_so_far is None else f" It has cost ${usd_so_far:.2f} so far."
    at = "" if begins_at is None else f" ({begins_at:%H:%M} UTC)"
    return _lines(
        f"idlewatch: this Pod will be stopped in {format_duration(max(0.0, begins_in_s))}{at}.{spent}",
        f"Why: {short(why)}",
        *_fate(saved_to, lost),
        f"Ends with the stop: {short(', '.join(ends))}" if ends else "",
        _sentence(keep),
    )


def _fate(saved_to: str | None, lost: str | None) -> list[str]:
    kept = [f"Files outside the volume will be saved to {short(saved_to)} first."] if saved_to is not None else []
    gone = [f"NOT SAVED and gone after the stop: {short(lost)}"] if lost is not None else []
    return kept + gone or ["No file would be lost."]


def short(text: str) -> str:
    """Return at most two lines' worth of `text`, printable."""
    clean = " ".join(printable(text.replace("\n", " ")).split())
    return clean if len(clean) <= 2 * COLUMNS else f"{clean[: 2 * COLUMNS - 1]}…"


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


def _lines(*parts: str) -> str:
    return "\n".join(
        textwrap.fill(part, COLUMNS, subsequent_indent="  ", break_on_hyphens=False) for part in parts if part
    )
