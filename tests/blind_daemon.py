"""A real daemon whose GPU can't be read while a file lies in its state folder; its alarm comes after seconds."""

from __future__ import annotations

from pathlib import Path

from idlewatch.deciding import troubles
from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Reading, Signal
from idlewatch.pod.assembled import Assembly
from tests.quiet_daemon import Quiet, main

BLINDFOLD = "blindfold"


class Gpu(Quiet):
    """Quiet where it can be read."""

    name = "gpu"

    def __init__(self, blindfold: Path) -> None:
        super().__init__()
        self._blindfold = blindfold

    def read(self, now_s: float) -> Reading:
        if self._blindfold.exists():
            raise SignalError("the driver does not answer")
        return super().read(now_s)

    def judge(self, reading: Reading) -> Finding:
        found = super().judge(reading)
        assert found.activity is Activity.QUIET
        return found


def signals(here: Assembly) -> list[Signal]:
    return [Quiet(), Gpu(here.loaded.settings.state_dir / BLINDFOLD)]


if __name__ == "__main__":
    troubles.BLIND_ALARM_S = 3.0  # a quarter of an hour is too long for a test
    main(signals)
