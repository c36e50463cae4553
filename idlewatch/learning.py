"""
IDLEWATCH_IDLE_AFTER=auto in the daemon: gaps are written down as they end, and each new one gets the wait they teach.

The wait is chosen once a gap, when it begins, so that a countdown never moves because the clock struck. Until the price
is known nothing can be weighed, and IDLEWATCH_IDLE_AFTER's default holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import structlog

from idlewatch import gaps
from idlewatch.daemon import Tick
from idlewatch.gaps import GAPS_FILE, GapLedger
from idlewatch.model import Activity
from idlewatch.patience import Gap, Patience, Stakes, patience

log = structlog.get_logger()


class Learner:
    """What this Pod's gaps teach."""

    def __init__(
        self,
        state_dir: Path,
        *,
        stakes: Callable[[float], Stakes],
        wall: Callable[[], datetime],
        default_s: float,
    ) -> None:
        """`stakes` weighs for a price in dollars an hour; `default_s` is waited for until something is known."""
        self._path, self._stakes, self._wall, self._default_s = state_dir / GAPS_FILE, stakes, wall, default_s
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
        gap = self._ledger.tick(report, self._wall(), self.wait_s)
        self._price = report.moment.usd_per_hour
        if gap:
            self.learn([gap])
        if any(one.activity is Activity.ACTIVE for one in report.findings):
            self._chosen = None

    @property
    def wait_s(self) -> float:
        """The idle limit of the gap that began last."""
        return self._default_s if self.chosen is None else self.chosen.wait_s

    @property
    def chosen(self) -> Patience | None:
        """The wait and its reason; None: the price is not known."""
        if self._chosen is None and self._price:
            self._chosen = patience(self._gaps, self._stakes(self._price), self._wall().timestamp())
        return self._chosen

    def _kept(self) -> list[Gap]:
        try:
            return gaps.read(self._path)
        except OSError as error:
            log.warning("gaps_unread", why=error.strerror)
            return []

    def _keep(self) -> None:
        try:
            gaps.keep(self._path, self._gaps)
        except OSError as error:
            log.warning("gaps_unwritten", why=error.strerror)
