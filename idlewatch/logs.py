"""
Logs: one event a line with keys, JSON unless a person looks on. Never prose, never a secret: whoever writes an event
takes care of that, and what is known to be one is masked here once more.

Events: `started`, `ended`, `decided` (whenever something is to be done), `outcome` of that, `happened` (all else of the
timeline), `tick` (each pass, at debug), `alarm`, `signal_failed` and `signal_back` (see `sight`), `hold_ended`,
`not_written` and `written_again`, `state_folder_removed`, `errand_failed`.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

from idlewatch.redact import Redactor
from idlewatch.settings import known_secrets, pod_sources


def set_up(*, least: int = logging.WARNING) -> None:
    """Send events of at least this level to stderr: readable on a terminal, else JSON."""
    written = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    clean = Redactor(known_secrets(pod_sources())).clean

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        line = written(logger, method, event)
        return clean(line if isinstance(line, str) else line.decode())

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
