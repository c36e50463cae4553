"""What the doctor makes of a daemon that has died or just begun, of folders that are not there, and of secrets."""

from __future__ import annotations

import json
from pathlib import Path

from idlewatch.doctor.examine import judged
from idlewatch.doctor.here import here as gathered
from idlewatch.history import STATUS_FILE
from idlewatch.lock import only_daemon
from tests.test_doctor_judging import BROKEN, STATUS, changed, line, loaded


def test_a_daemon_that_was_killed_does_not_run_though_it_has_just_looked(tmp_path: Path) -> None:
    told = loaded(IDLEWATCH_STATE_DIR=str(tmp_path), IDLEWATCH_SIGNALS="host")
    (tmp_path / STATUS_FILE).write_text(json.dumps(STATUS | {"at_s": 1000.0, "interval_s": 5.0}))
    with only_daemon(tmp_path):
        assert gathered(told, 1002.0).running
    dead = gathered(told, 1002.0)
    found = line(judged(dead, changed("machine", "daemon_pid", None)), "daemon")
    assert (dead.running, found.standing) == (False, BROKEN)
    assert "is not running, last looked 2s ago" in found.text
