"""
Logs: one event a line with keys, JSON unless a person looks on. Never prose, never a secret.

Events: `started`, `ended`, `decided` (whenever what is to be done or its reason changes), `tick` (each pass, at
debug), `signal_failed` and `signal_back`, `alarm`, `outcome`, `hold_ended`, `request_refused`, `previous_stop`.
"""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(*, least: int = logging.WARNING) -> None:
    """Send events of at least this level to stderr: readable on a terminal, else JSON."""
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
