"""
Telling systemd that the daemon watches, that it still does, and what it is about: sd_notify(3), in twenty lines.

Where systemd has not started us, or does not want to hear, nothing is said.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

_LEAST_S = 120.0
"""No machine is so busy that one look takes longer."""
_LOOKS = 3.0


class NotifySocket:
    """Says one thing a call; nothing that goes wrong here may end or hold up the daemon."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """`variables`: this process's own; NOTIFY_SOCKET and WATCHDOG_USEC are systemd's."""
        self._path = variables.get("NOTIFY_SOCKET", "")
        self._watched = bool(variables.get("WATCHDOG_USEC"))

    def ready(self, interval_s: float) -> None:
        """The daemon watches and looks at everything each `interval_s`: silent for longer than that, it is frozen."""
        within_us = round(max(_LEAST_S, _LOOKS * interval_s) * 1_000_000)
        self._send(["READY=1", *([f"WATCHDOG_USEC={within_us}"] if self._watched else [])])

    def alive(self, status: str) -> None:
        """It has looked, and this is what is true: shown by `systemctl status`."""
        self._send([f"STATUS={' '.join(status.split())}", *(["WATCHDOG=1"] if self._watched else [])])

    def stopping(self) -> None:
        """It ends."""
        self._send(["STOPPING=1"])

    def _send(self, lines: list[str]) -> None:
        if not self._path.startswith(("/", "@")):
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto("\n".join(lines).encode(), address)
