"""`idlewatch exec`'s supervisor in a process of its own, with a stand-in daemon: `DAEMON [-- COMMAND …]`."""

from __future__ import annotations

import os
import sys

from idlewatch.host.signs_of_life import SignsOfLife
from idlewatch.host.supervisor import Supervisor

if __name__ == "__main__":
    daemon, command = sys.argv[1], sys.argv[3:]
    signs = SignsOfLife(float(os.environ.get("STARTS_WITHIN_S", "180")))
    before = ["sh", "-c", os.environ["BEFORE"]] if "BEFORE" in os.environ else None
    made = Supervisor(["sh", "-c", daemon], command or None, name="idlewatch exec", signs=signs, before=before)
    raise SystemExit(made.run())
