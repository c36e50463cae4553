"""A record that also tells systemd of each look: READY with the first, then what is true and that it lives."""

from __future__ import annotations

from idlewatch.deciding.tick import Tick
from idlewatch.host.notify_socket import NotifySocket
from idlewatch.watching.daemon import Record


class Announced:
    """Wraps the daemon's record."""

    def __init__(self, record: Record, told: NotifySocket, interval_s: float) -> None:
        """`interval_s`: the time between two looks."""
        self._record, self._told, self._interval_s = record, told, interval_s
        self._ready = False

    def tick(self, report: Tick) -> None:
        """Keep one tick, then tell of it: what could not be kept is no sign of life."""
        self._record.tick(report)
        if not self._ready:
            self._told.ready(self._interval_s)
            self._ready = True
        self._told.alive(f"{report.state.phase.value}: {report.decision.reason}")
