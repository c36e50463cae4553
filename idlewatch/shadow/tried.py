"""
Which settings are tried on this Pod's own verdicts, and what each would have come to.

Quiet times, `auto` among them, need the policy alone. A setting that judges depend on needs its signals judged anew,
from readings, which takes longer: the newest starts come first, and what does not fit into the time is left out. Each
setting is compared with the one that holds now on the same starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from idlewatch.errors import SettingsError
from idlewatch.replay.comparison import TOO_SOON_S, WORKING_S, Outcome, total
from idlewatch.settings import Loaded, Source, load
from idlewatch.shadow.course import Course, Stop
from idlewatch.shadow.judged import Factories, TooLong, judged_anew, verdicts_of
from idlewatch.shadow.lives import Life

ENOUGH_DAYS = 3
"""With fewer days of history nothing is said: habits of a day are none."""
_POLICY_SHARE = 0.6
"""As much of the time is for settings that need no readings."""
_QUIET = ("10m", "15m", "20m", "30m", "45m", "1h", "90m", "2h")
_CONNECTED = ("0", "30m", "1h", "2h", "3h")
_GPU = ("1%", "3%", "5%", "10%")


@dataclass(frozen=True, slots=True)
class Other:
    """One setting that is tried."""

    name: str
    value: str
    judges: tuple[str, ...] = ()
    """Signals whose verdicts depend on it."""

    @property
    def words(self) -> str:
        """As it is set."""
        return f"{self.name}={self.value}"


OTHERS: Sequence[Other] = (
    *(Other("IDLEWATCH_IDLE_AFTER", value) for value in (*_QUIET, "auto")),
    *(Other("IDLEWATCH_CONNECTED_FOR", value, ("people", "jupyter", "servers")) for value in _CONNECTED),
    *(Other("IDLEWATCH_GPU_LIMIT", value, ("gpu",)) for value in _GPU),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one setting would have come to, and what the settings of now would have on the same starts."""

    other: Other
    outcome: Outcome
    now: Outcome
    starts: int

    @property
    def more_s(self) -> float:
        """How much longer the Pod would have been stopped; less than 0: less long."""
        return self.outcome.saved_s - self.now.saved_s

    @property
    def more_working(self) -> int:
        """Stops more while somebody was working."""
        return self.outcome.working - self.now.working

    @property
    def more_too_soon(self) -> int:
        """Stops more within the hour before somebody came back."""
        return self.outcome.too_soon - self.now.too_soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """All of it."""

    days: int
    """On so many days something is known of the Pod."""
    starts: int
    left_out: int = 0
    """Older starts, for which the time did not suffice."""
    up_s: float = 0.0
    usd_per_hour: float | None = None
    restart_usd: float = 0.0
    """What a stop too early costs; 0 where no price is known."""
    tried: Sequence[Tried] = ()

    @property
    def enough(self) -> bool:
        """Whether there is enough history to say anything."""
        return self.days >= ENOUGH_DAYS

    def usd(self, seconds: float) -> float | None:
        """What so long costs; None where the price is not known."""
        return None if self.usd_per_hour is None else seconds / 3600.0 * self.usd_per_hour


def shadow_of(
    lives: Sequence[Life],
    loaded: Loaded,
    *,
    usd_per_hour: float | None,
    restart_usd: float = 0.0,
    factories: Factories,
    state_dir: Path,
    spent_s: Callable[[], float],
    within_s: float,
) -> Shadow:
    """
    Try every other setting on these lives, the oldest first.

    `spent_s` is the CPU time of this process, of which `within_s` may be spent. Nothing is tried with less than three
    days of history.
    """
    days = len({date for life in lives for date in life.dates})
    up_s = sum(life.ends_s - life.from_s for life in lives)
    if days < ENOUGH_DAYS:
        return Shadow(days=days, starts=len(lives), up_s=up_s, usd_per_hour=usd_per_hour)
    began_s = spent_s()
    trial = _Trial(lives, loaded, usd_per_hour, factories, state_dir, lambda: spent_s() - began_s)
    known = trial.of_policy(_POLICY_SHARE * within_s)
    judged = trial.of_judges(within_s)
    return Shadow(
        days=days,
        starts=len(lives),
        left_out=trial.left_out,
        up_s=up_s,
        usd_per_hour=usd_per_hour,
        restart_usd=restart_usd,
        tried=(*known, *judged),
    )


class _Trial:
    """The settings of now and the others, on the same lives."""

    def __init__(
        self,
        lives: Sequence[Life],
        loaded: Loaded,
        usd_per_hour: float | None,
        factories: Factories,
        state_dir: Path,
        spent_s: Callable[[], float],
    ) -> None:
        self._lives, self._loaded, self._usd_per_hour = lives, loaded, usd_per_hour
        self._factories, self._state_dir, self._spent_s = factories, state_dir, spent_s
        self._others = dict(_others(loaded, usd_per_hour))
        self._kept: list[Life] = []
        """The newest, as far as the time suffices, the oldest first."""
        self._now: list[Outcome] = []
        """What the settings of now come to in each of them."""

    @property
    def left_out(self) -> int:
        """Lives for which the time did not suffice."""
        return len(self._lives) - len(self._kept)

    def of_policy(self, until_s: float) -> list[Tried]:
        """Those that need no readings."""
        quiet = {other: loaded for other, loaded in self._others.items() if not other.judges}
        came: dict[Other, list[Outcome]] = {other: [] for other in quiet}
        for life in reversed(self._lives):
            if self._kept and self._spent_s() > until_s:
                break
            self._kept.insert(0, life)
            for other, loaded in quiet.items():
                if not loaded.settings.learns:
                    came[other] += self._outcomes(loaded, [life])
        self._now = self._outcomes(self._loaded, self._kept)
        for other, loaded in quiet.items():
            if loaded.settings.learns:  # what was learned goes on from start to start
                came[other] = self._outcomes(loaded, self._kept)
        return [self._tried(other, outcomes, self._now) for other, outcomes in came.items()]

    def of_judges(self, until_s: float) -> list[Tried]:
        """Those whose signals are judged anew; after `of_policy`."""
        came: dict[Other, list[Outcome]] = {other: [] for other in self._others if other.judges}
        try:
            for life, now in zip(reversed(self._kept), reversed(self._now), strict=True):
                anew = {other: self._anew(life, other, until_s) for other in came}
                for other, judged in anew.items():
                    same = verdicts_of(judged) == verdicts_of(life)
                    came[other] += [now] if same else self._outcomes(self._others[other], [judged])
        except TooLong:
            pass
        return [
            self._tried(other, outcomes, self._now[-len(outcomes) :]) for other, outcomes in came.items() if outcomes
        ]

    def _anew(self, life: Life, other: Other, until_s: float) -> Life:
        return judged_anew(
            life,
            other.judges,
            self._others[other],
            self._factories,
            self._state_dir,
            lambda: self._spent_s() > until_s,
        )

    def _outcomes(self, loaded: Loaded, lives: Sequence[Life]) -> list[Outcome]:
        course = Course(loaded.settings, self._usd_per_hour)
        return [_outcome(course.stops(life)) for life in lives]

    @staticmethod
    def _tried(other: Other, outcomes: Sequence[Outcome], now: Sequence[Outcome]) -> Tried:
        return Tried(other=other, outcome=total(outcomes), now=total(now), starts=len(outcomes))


def _others(loaded: Loaded, usd_per_hour: float | None) -> Iterator[tuple[Other, Loaded]]:
    """Those that are not what holds now, and that can be set beside what else is set."""
    for other in OTHERS:
        try:
            told = load(
                [Source(name="tried", variables={other.name: other.value}), *loaded.sources], unknown_names_ok=True
            )
        except SettingsError:
            continue
        if told.settings != loaded.settings and (usd_per_hour or not told.settings.learns):
            yield other, told


def _outcome(stops: Sequence[Stop]) -> Outcome:
    back_s = [stop.away_s for stop in stops if stop.back_s is not None]
    working = sum(away_s <= WORKING_S for away_s in back_s)
    too_soon = sum(away_s <= TOO_SOON_S for away_s in back_s) - working
    return Outcome(len(stops), sum(stop.away_s for stop in stops), working, too_soon)
