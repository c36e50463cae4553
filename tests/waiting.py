"""Waiting for what other processes and threads do: as long as a broken product deserves, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 90.0
"""On a machine that others use, too, a new process may take many seconds to its first word."""


def comes(what: Callable[[], object], within_s: float = PATIENCE_S, *, every_s: float = 0.02) -> bool:
    """Whether `what` became true; the time is only how long a broken product is waited for."""
    give_up = time.monotonic() + within_s
    while not what():
        if time.monotonic() > give_up:
            return False
        time.sleep(every_s)
    return True


def until(what: Callable[[], object], said: str, within_s: float = PATIENCE_S) -> None:
    """Wait until `what` is true; fail with what was waited for."""
    assert comes(what, within_s), f"waited in vain: {said}"
