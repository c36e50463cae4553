"""
Servers that only the owner knows: IDLEWATCH_SERVERS.

    9100                    /metrics on that port
    8000/custom/metrics     another path
    renderer=9100/metrics   with a name for people
    9100/metrics#jobs_done_total+jobs_failed_total      these counters, no others
    gradio=7865             a known product (KNOWN) on a port where its program is not recognised
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from idlewatch.servers.known import KNOWN

_WRITTEN = re.compile(
    r"(?:(?P<name>[^=/#,\s]{1,40})=)?(?P<port>\d{1,5})(?P<path>/[!-\"$-+\--~]*)?(?:#(?P<counters>[A-Za-z0-9_:+]+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedServer:
    """One server of IDLEWATCH_SERVERS."""

    port: int
    name: str = "server"
    kind: str | None = None
    """A key of KNOWN; None: a page of metrics."""
    path: str = "/metrics"
    counters: tuple[str, ...] = ()


def named_servers(written: Iterable[str]) -> tuple[NamedServer, ...]:
    """Return what was written. Raises ValueError with the remedy for what makes no sense."""
    servers = tuple(_named(each) for each in written)
    ports = [each.port for each in servers]
    twice = next((port for port in ports if ports.count(port) > 1), None)
    if twice is not None:
        raise ValueError(f"port {twice} is named twice")
    return servers


def _named(written: str) -> NamedServer:
    found = _WRITTEN.fullmatch(written)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{written!r} is no server; write 9100, 9100/metrics, NAME=9100/metrics or gradio=7860")
    name = found["name"] or "server"
    counters = tuple(each for each in (found["counters"] or "").split("+") if each)
    is_known = name.lower() in KNOWN and found["path"] is None and not counters
    return NamedServer(
        port=int(found["port"]),
        name=KNOWN[name.lower()].name if is_known else name,
        kind=name.lower() if is_known else None,
        path=found["path"] or "/metrics",
        counters=counters,
    )
