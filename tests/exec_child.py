"""`idlewatch exec`'s supervisor in a process of its own, with a stand-in daemon: `DAEMON [-- COMMAND …]`."""

from __future__ import annotations

import sys

from idlewatch.host.supervisor import Supervisor

if __name__ == "__main__":
    daemon, command = sys.argv[1], sys.argv[3:]
    raise SystemExit(Supervisor(["sh", "-c", daemon], command or None, name="idlewatch exec").run())
