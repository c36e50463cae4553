"""
From verdicts to a bill. Pure.

Each instant of a start is of one kind, the first that fits:

    active      a signal saw use
    held        somebody held the Pod
    blind       a ground signal could not be read
    idle        all that looked saw nothing
    unwatched   no daemon looked

A stop counts as saved money from the end of that start to the beginning of the next one, at the same price: it is what
would have been paid had nobody stopped it, and it is more than would have been paid had somebody done so by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from idlewatch.history.verdicts import HELD, Span
from idlewatch.model import Activity

_HOUR_S = 3600.0
GPU = "gpu"


class Kind(StrEnum):
    """What an instant is billed for."""

    ACTIVE = "active"
    HELD = "held"
    BLIND = "blind"
    IDLE = "idle"
    UNWATCHED = "unwatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of this Pod, as it was kept."""

    began: datetime
    """Wall clock, UTC, of the container's start."""
    ended: datetime
    """When it was last seen; now, for the start that still runs."""
    spans: Sequence[Span]
    """Their instants are seconds since `began`."""
    stopped_by_us: bool = False
    """Whether its stop was asked for by idlewatch and accepted."""
    recording: Path | None = None
    """Where its readings lie; None: in the state folder."""
    started_s: float = 0.0
    """CLOCK_BOOTTIME of `began`, as its readings have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A span of wall time of one kind."""

    kind: Kind
    from_: datetime
    to: datetime
    gpu: bool = False
    """Whether a GPU was seen at work in it."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.to - self.from_).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One calendar day, UTC."""

    date: str
    """ISO 8601."""
    seconds: dict[Kind, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The sums over a period."""

    from_: datetime
    to: datetime
    usd_per_hour: float | None
    seconds: dict[Kind, float]
    gpu_s: float
    """Seconds in which a GPU was seen at work."""
    runs: int
    """Unbroken stretches in which one was."""
    stops: int
    """Accepted stops of idlewatch in the period."""
    stopped_s: float
    """Time that the Pod was stopped after them, up to the next start."""
    days: tuple[Day, ...]

    @property
    def up_s(self) -> float:
        """Billed seconds."""
        return sum(self.seconds.values())

    @property
    def watched_s(self) -> float:
        """Billed seconds in which a daemon looked."""
        return sum(seconds for kind, seconds in self.seconds.items() if kind is not Kind.UNWATCHED)

    def usd(self, seconds: float) -> float | None:
        """What so many seconds cost; None where the price is not known."""
        return None if self.usd_per_hour is None else seconds / _HOUR_S * self.usd_per_hour


def billed(boots: Sequence[Boot], *, from_: datetime, to: datetime, usd_per_hour: float | None) -> Bill:
    """Add up the part of these starts that lies in the period."""
    cut = [part for boot in boots for part in _cut(stretches(boot), from_, to)]
    days = tuple(_days(cut))
    stopped = [(max(a, from_), min(b, to)) for a, b in _stopped(boots) if b > from_ and a < to]
    return Bill(
        from_=from_,
        to=to,
        usd_per_hour=usd_per_hour,
        seconds={kind: sum(day.seconds.get(kind, 0.0) for day in days) for kind in Kind},
        gpu_s=sum(one.seconds for one in cut if one.gpu),
        runs=_runs(cut),
        stops=len(stopped),
        stopped_s=sum((b - a).total_seconds() for a, b in stopped),
        days=days,
    )


def stretches(boot: Boot) -> list[Stretch]:
    """Return a start as stretches of one kind each, without a hole between its beginning and its end."""
    last_s = (boot.ended - boot.began).total_seconds()
    spans = sorted((s for s in boot.spans if s.to_s > 0 and s.from_s < last_s), key=lambda span: span.from_s)
    edges = sorted({0.0, last_s, *(min(last_s, max(0.0, s)) for span in spans for s in (span.from_s, span.to_s))})
    made: list[Stretch] = []
    standing: list[Span] = []
    coming = iter([*spans, None])
    following = next(coming)
    for from_s, to_s in pairwise(edges):
        while following is not None and following.from_s <= from_s:
            standing.append(following)
            following = next(coming)
        standing = [span for span in standing if span.to_s > from_s]
        kind, gpu = _kind(standing)
        _add(made, Stretch(kind=kind, from_=_at(boot, from_s), to=_at(boot, to_s), gpu=gpu))
    return made


def _at(boot: Boot, seconds: float) -> datetime:
    return boot.began + timedelta(seconds=seconds)


def _kind(standing: Sequence[Span]) -> tuple[Kind, bool]:
    active = [span for span in standing if span.verdict == Activity.ACTIVE]
    gpu = any(span.name == GPU for span in active)
    if active:
        return Kind.ACTIVE, gpu
    if any(span.verdict == HELD for span in standing):
        return Kind.HELD, gpu
    if any(span.verdict == Activity.UNKNOWN and not span.refines for span in standing):
        return Kind.BLIND, gpu
    return (Kind.IDLE if standing else Kind.UNWATCHED), gpu


def _add(made: list[Stretch], one: Stretch) -> None:
    """Longer or one more; not where the clock's microseconds make nothing of it."""
    if one.from_ == one.to:
        return
    if made and (made[-1].kind, made[-1].gpu, made[-1].to) == (one.kind, one.gpu, one.from_):
        one = Stretch(kind=one.kind, from_=made.pop().from_, to=one.to, gpu=one.gpu)
    made.append(one)


def _cut(made: Iterable[Stretch], from_: datetime, to: datetime) -> Iterator[Stretch]:
    for one in made:
        if one.to > from_ and one.from_ < to:
            yield Stretch(kind=one.kind, from_=max(one.from_, from_), to=min(one.to, to), gpu=one.gpu)


def _stopped(boots: Sequence[Boot]) -> list[tuple[datetime, datetime]]:
    following = pairwise(boots)
    return [(one.ended, after.began) for one, after in following if one.stopped_by_us and after.began > one.ended]


def _runs(cut: Sequence[Stretch]) -> int:
    """A run begins where a GPU is at work and was not just before."""
    before: Stretch | None = None
    count = 0
    for one in cut:
        goes_on = before is not None and before.gpu and before.to == one.from_
        count += one.gpu and not goes_on
        before = one
    return count


def _days(cut: Sequence[Stretch]) -> Iterator[Day]:
    seconds: dict[str, dict[Kind, float]] = {}
    for one in cut:
        for part in _by_day(one):
            of_day = seconds.setdefault(part.from_.astimezone(UTC).date().isoformat(), {})
            of_day[part.kind] = of_day.get(part.kind, 0.0) + part.seconds
    for date in sorted(seconds):
        yield Day(date=date, seconds=seconds[date])


def _by_day(one: Stretch) -> Iterator[Stretch]:
    from_ = one.from_
    while from_ < one.to:
        midnight = from_.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        to = min(one.to, midnight)
        yield Stretch(kind=one.kind, from_=from_, to=to, gpu=one.gpu)
        from_ = to
