"""Where the daemon's log goes: a file on a full disk, or a pipe that nobody reads any more, must not end the watch."""

from __future__ import annotations

from contextlib import suppress
from typing import TextIO

import structlog


class LogWriter:
    """Writes lines as they come; one that can't be written is dropped."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, message: str) -> None:
        """Write one line."""
        with suppress(OSError, ValueError):  # ValueError: it is closed
            self._file.write(f"{message}\n")
            self._file.flush()

    log = debug = info = warn = warning = error = critical = fatal = exception = msg


def never_fail(file: TextIO) -> None:
    """From now on events go to `file`, worded as before, and nothing raises because they can't be written."""
    structlog.configure(logger_factory=lambda *_: LogWriter(file))
