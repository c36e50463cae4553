"""A shutdown request ends the daemon's sleep whenever it comes, also in the middle of falling asleep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = """
import os, random, signal
from idlewatch.machine_clock import MachineClock

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


LOADING = """
import os, signal, sys

class WhileItLoads:
    def find_spec(self, name, *_):
        if name == "idlewatch.cli":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, WhileItLoads())
sys.argv = ["idlewatch", "run", "--observe"]
from idlewatch.host.entry import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_request_that_comes_while_the_daemon_loads_ends_it_with_a_word(tmp_path: Path) -> None:
    told = {"IDLEWATCH_STATE_DIR": str(tmp_path / "state"), "IDLEWATCH_SAVE_ROOT": str(tmp_path)}
    started = subprocess.Popen([sys.executable, "-c", LOADING], env=told, stderr=subprocess.PIPE, text=True)
    said = started.communicate(timeout=100)[1]
    assert started.returncode == 0, said
    assert f"(pid {started.pid}) ended idlewatch" in said
    assert "ended idlewatch" in (tmp_path / "state/login.txt").read_text()


HANGUP = """
import os, signal, sys
from idlewatch.machine_clock import MachineClock

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "ignored" else signal.SIG_DFL)
clock = MachineClock()
clock.end_on_shutdown_request()
os.kill(os.getpid(), signal.SIGHUP)
clock.sleep(0.0)
print(clock.ended())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "ends"), [("usual", "True"), ("ignored", "False")])
def test_a_hangup_ends_the_daemon_with_a_word_unless_it_was_started_with_nohup(how: str, ends: str) -> None:
    told = subprocess.run([sys.executable, "-c", HANGUP, how], check=True, timeout=60, capture_output=True, text=True)
    assert told.stdout.strip() == ends
