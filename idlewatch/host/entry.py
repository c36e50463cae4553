"""Where the program starts: `exec` stays in memory beside the user's programs, so it loads none of the other verbs."""

from __future__ import annotations

import signal
import sys

from idlewatch.children.interpreter import load_log_without_rich


def main() -> int:
    """Return the exit status."""
    if sys.argv[1:2] == ["run"]:
        # a request that comes while the daemon loads must not end it without a word: `MachineClock` takes it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if sys.argv[1:2] == ["exec"] and sys.argv[2:3] not in (["-h"], ["--help"]):
        from idlewatch.host import exec_command

        return exec_command.main(sys.argv[2:])
    load_log_without_rich()
    from idlewatch import cli

    return cli.main()
