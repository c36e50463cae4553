"""What goes into a replay and what comes out: a Pod's life as it was seen, and what the policy made of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

from idlewatch.deciding.tick import Tick, longest_gap_s
from idlewatch.history.verdicts import Span, extended
from idlewatch.model import Action, Activity, Decision, Finding, Hold, Reading

IN_USE, HELD, UNKNOWN, IDLE = "active", "held", "unknown", "idle"
"""What a Pod is at one tick: the strongest of what its signals and holds say."""
POD_STATES = (IN_USE, HELD, UNKNOWN, IDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What went in: instants are seconds since the machine's boot."""

    started_s: float
    """When the container started."""
    ends_s: float
    readings: Iterable[Reading]
    """In the order in which they were handed to the daemon; read once a replay."""
    watched_from_s: float | None = None
    """When the daemon's first tick was; None: at the container's start."""
    holds: Sequence[tuple[float, Hold]] = ()
    """Since when each was there."""
    asleep: Sequence[tuple[float, float]] = ()
    """Spans in which no daemon looked."""
    restarts: Sequence[float] = ()
    """When a new daemon took over what the one before had left; each is the end of a span of `asleep`."""
    instants: Sequence[float] = ()
    """Where there are some, ticks only at these instants, and not sooner than an interval after one another."""
    save_takes_s: float = 0.0
    began_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """Wall time of second 0."""

    def wall(self, at_s: float) -> datetime:
        """The wall time of an instant."""
        return self.began_at + timedelta(seconds=at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One tick, as far as people want to know."""

    at_s: float
    pod: str
    """One of POD_STATES."""
    verdicts: Mapping[str, str]
    decisive: str
    """What made the Pod what it is: `gpu: gpu0 utilization 30 % > 5 %`."""
    said: str
    """The decision's reason: `quiet for 5m of 30m`."""


@dataclass(kw_only=True)
class Lived:
    """What came out."""

    looks: list[Look] = field(default_factory=list)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    """All but WAIT."""
    alarms: list[tuple[float, str, str]] = field(default_factory=list)
    """Instant, name, text."""
    spans: list[Span] = field(default_factory=list)
    """Each signal's verdict over time, by its beginning."""

    def when(self, action: Action) -> list[float]:
        """The instants at which `action` was decided."""
        return [at_s for at_s, decision in self.decisions if decision.action is action]

    def in_use_after_s(self, at_s: float) -> float | None:
        """The first look after an instant at which the Pod was in use; None: there is none."""
        place = bisect_right(self.looks, at_s, key=lambda look: look.at_s)
        return next((look.at_s for look in islice(self.looks, place, None) if look.pod == IN_USE), None)


class Witness:
    """Keeps what happened, as a `daemon.Record`."""

    def __init__(self, interval_s: float) -> None:
        """`interval_s`: between two ticks; a much longer gap is in no span."""
        self.lived = Lived()
        self._longest_gap_s = longest_gap_s(interval_s)
        self._kept: dict[tuple[str, float], Span] = {}
        self._standing: dict[str, Span] = {}

    def tick(self, report: Tick) -> None:
        """Keep one tick."""
        now_s, decision, lived = report.moment.now_s, report.decision, self.lived
        self._standing = extended(
            self._standing, report.findings, report.moment.holds, now_s, longest_gap_s=self._longest_gap_s
        )
        self._kept |= {(span.name, span.from_s): span for span in self._standing.values()}
        lived.looks.append(_look(report, lived.looks[-1].verdicts if lived.looks else {}))
        lived.alarms += [(now_s, alarm.name, alarm.text) for alarm in report.alarms]
        if decision.action is not Action.WAIT:
            lived.decisions.append((now_s, decision))

    def told(self) -> Lived:
        """What was kept."""
        self.lived.spans = sorted(self._kept.values(), key=lambda span: (span.from_s, span.name))
        return self.lived


_RANK: Sequence[tuple[str, Callable[[Finding], bool]]] = (
    (IN_USE, lambda finding: finding.activity is Activity.ACTIVE),
    (HELD, lambda finding: finding.bars),
    (UNKNOWN, lambda finding: finding.activity is Activity.UNKNOWN or finding.pauses),
)


def _look(report: Tick, before: Mapping[str, str]) -> Look:
    """`before`: the verdicts of the look before; the same ones are kept once."""
    pod, decisive = _strongest(report)
    verdicts = {finding.signal: finding.activity.value for finding in report.findings}
    return Look(
        at_s=report.moment.now_s,
        pod=pod,
        verdicts=before if verdicts == before else verdicts,
        decisive=decisive,
        said=report.decision.reason,
    )


def _strongest(report: Tick) -> tuple[str, str]:
    if report.moment.holds:
        hold = report.moment.holds[0]
        return HELD, f"hold: {hold.who}: {hold.reason or 'no reason given'}"
    for pod, there in _RANK:
        strong = next(_matching(report.findings, there), None)
        if strong:
            return pod, f"{strong.signal}: {strong.reason}"
    return IDLE, "; ".join(f"{f.signal}: {f.reason}" for f in report.findings if f.activity is Activity.QUIET)


def _matching(findings: Sequence[Finding], there: Callable[[Finding], bool]) -> Iterator[Finding]:
    return (finding for finding in findings if there(finding))
