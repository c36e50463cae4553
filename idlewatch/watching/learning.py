"""
IDLEWATCH_IDLE_AFTER=auto in the daemon: gaps are written down as they end, and each new one gets the wait they teach.

The wait is chosen once a gap, when it begins, so that a countdown never moves because the clock struck. Until the price
is known nothing can be weighed, and IDLEWATCH_IDLE_AFTER's default holds; that is said, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from idlewatch.deciding.patience import Gap, Patience, Stakes, patience, restart_usd, without_price
from idlewatch.deciding.tick import Tick
from idlewatch.model import Activity
from idlewatch.settings import Settings
from idlewatch.watching import gaps
from idlewatch.watching.gaps import GAPS_FILE, GapLedger

log = structlog.get_logger()


def stakes_of(settings: Settings) -> Callable[[float], Stakes]:
    """What waiting and a false stop cost under these settings, for a price in dollars an hour."""

    def stakes(usd_per_hour: float) -> Stakes:
        restart = restart_usd(
            usd_per_hour=usd_per_hour,
            takes_s=settings.restart_takes.total_seconds(),
            person_usd_per_hour=settings.person_usd_per_hour,
            unlucky=settings.restart_unlucky,
        )
        return Stakes(
            usd_per_hour=usd_per_hour,
            restart_usd=restart,
            least_s=settings.auto_least.total_seconds(),
            most_s=settings.auto_most.total_seconds(),
            warn_s=settings.warn_for.total_seconds(),
        )

    return stakes


class Learner:
    """What this Pod's gaps teach."""

    def __init__(
        self,
        state_dir: Path | None,
        *,
        stakes: Callable[[float], Stakes],
        wall: Callable[[], datetime],
        default_s: float,
        warn_s: float,
    ) -> None:
        """
        `stakes` weighs for a price in dollars an hour; `default_s` is the limit until that is known.

        From the limit to the stop it is `warn_s`.

        Without `state_dir` nothing is kept: in a replay.
        """
        self._path = state_dir / GAPS_FILE if state_dir else None
        self._stakes, self._wall, self._default_s, self._warn_s = stakes, wall, default_s, warn_s
        self._ledger = GapLedger()
        self._gaps: list[Gap] = []
        self._chosen: Patience | None = None
        self._price: float | None = None
        self.learn(self._kept())

    def learn(self, found: Iterable[Gap]) -> None:
        """Take in what the volume knows; the next gap is weighed with it, and the one that has just begun."""
        merged = gaps.merged(self._gaps, found)
        if merged != self._gaps:
            self._gaps, self._chosen = merged, None
            self._keep()

    def tick(self, report: Tick) -> None:
        """After each tick."""
        gap = self._ledger.tick(report, self._wall(), self.wait_s + self._warn_s)
        self._price = report.moment.usd_per_hour
        if gap:
            self.learn([gap])
        if any(one.activity is Activity.ACTIVE for one in report.findings):
            self._chosen = None

    @property
    def gaps(self) -> Sequence[Gap]:
        """What is known, by their beginning."""
        return self._gaps

    @property
    def wait_s(self) -> float:
        """The idle limit of the gap that began last."""
        return self.chosen.wait_s

    @property
    def chosen(self) -> Patience:
        """The wait and its reason."""
        if self._chosen is None and self._price:
            self._chosen = patience(self._gaps, self._stakes(self._price), self._wall().timestamp())
        return self._chosen or without_price(self._default_s)

    def _kept(self) -> list[Gap]:
        try:
            return gaps.read(self._path) if self._path else []
        except OSError as error:
            log.warning("gaps_unread", why=error.strerror)
            return []

    def _keep(self) -> None:
        try:
            if self._path:
                gaps.keep(self._path, self._gaps)
        except OSError as error:
            log.warning("gaps_unwritten", why=error.strerror)
