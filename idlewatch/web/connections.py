"""
Connections that say nothing whole: closed after a while, and the oldest of them at once where there are too many.

The server itself waits for ever for the end of a request's head, and counts who says one byte a second like everybody
else. Here nobody keeps a place by waiting: a head comes in ten seconds or the connection ends, and where many wait at
once the one that has waited longest makes room for the next, so a browser, whose head comes at once, is always let in.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_WITHIN_S = 10.0
"""How long a head may take, and how long a connection may be kept without a request."""
WAITING_MOST = 100
"""So many connections without a whole request are kept at once."""


def impatient(head_within_s: float = HEAD_WITHIN_S, waiting_most: int = WAITING_MOST) -> type[asyncio.Protocol]:
    """Return the protocol of one server; all its connections count together."""
    waiting: dict[_Connection, asyncio.TimerHandle] = {}

    class _Served(_Connection):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self._all, self._within_s, self._most = waiting, head_within_s, waiting_most

    return _Served


class _Connection(H11Protocol):
    """Among those that wait, while no request of it is answered."""

    _all: dict[_Connection, asyncio.TimerHandle]
    _within_s: float
    _most: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _look(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._wait_no_more()

    def _wait(self) -> None:
        self._wait_no_more()
        self._all[self] = self.loop.call_later(self._within_s, self.end)
        if len(self._all) > self._most:
            next(iter(self._all)).end()

    def _wait_no_more(self) -> None:
        timer = self._all.pop(self, None)
        if timer:
            timer.cancel()

    def end(self) -> None:
        """At once: there is nothing to be sent to somebody who has asked nothing."""
        self._wait_no_more()
        self.transport.abort()
