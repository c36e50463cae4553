"""A shutdown request ends the daemon's sleep whenever it comes, also in the middle of falling asleep."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = """
import os, random, signal
from idlewatch.watch import MachineClock

for _ in range(20000):
    clock = MachineClock()
    clock.end_on_shutdown_request()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, random.random() / 3000 + 1e-6)
    while not clock.ended():
        clock.sleep(1e-5)
    os.closerange(3, 16)
"""


@pytest.mark.slow
def test_a_shutdown_request_in_the_middle_of_falling_asleep_ends_it() -> None:
    assert subprocess.run([sys.executable, "-c", ROUNDS], check=False, timeout=60).returncode == 0
