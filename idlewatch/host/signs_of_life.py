"""
Hears whether the daemon still looks: the other end of `notify_socket`, where systemd is not the one who listens.

What the daemon says waits in the socket and is read when it would have been silent for too long; nothing wakes up for
each look. A daemon that stands still is so noticed after one to two of the times that it announced.
"""

from __future__ import annotations

import _socket as socket  # the public module takes half a megabyte more, in what stays beside the user's programs
import sys

_STARTS_WITHIN_S = 180.0
"""Until the first look at everything: a driver may take a minute for that."""
_SILENT_S = 120.0
"""Until it announces another time."""
_OVERSLEPT_S = 10.0
"""Who comes so late was stopped as well (a frozen container), and proves nothing against the daemon."""
_NEVER = float("inf")
_DATAGRAM, _CREDENTIALS = 4096, 12
"""Bytes; credentials are three numbers of 4, the PID first (unix(7), SCM_CREDENTIALS)."""
_ANNOUNCED = b"WATCHDOG_USEC="


class SignsOfLife:
    """Listens to one daemon at a time."""

    def __init__(self, starts_within_s: float = _STARTS_WITHIN_S) -> None:
        """Listen. Where there can be no socket, nothing is heard and no daemon is called silent."""
        self.due_s = _NEVER
        """When it is to be asked next whether the daemon is silent."""
        self._starts_within_s, self._within_s, self._waits_s = starts_within_s, _SILENT_S, starts_within_s
        self._socket: socket.socket | None = None
        self._address = b""
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.setblocking(False)
            self._socket.bind("")  # the kernel chooses a name that lies on no disk
            self._address = self._socket.getsockname()
        except OSError:
            return

    def variables(self) -> dict[bytes, bytes]:
        """What the daemon has to be told in its environment."""
        if not self._address:
            return {}
        return {b"NOTIFY_SOCKET": b"@" + self._address[1:], b"WATCHDOG_USEC": b"%d" % round(_SILENT_S * 1e6)}

    def begun(self, now_s: float) -> None:
        """Another daemon was started."""
        self._within_s, self._waits_s = _SILENT_S, self._starts_within_s
        self.due_s = now_s + self._starts_within_s if self._address else _NEVER

    def silent_s(self, pid: int, now_s: float) -> float | None:
        """For how long the daemon has said nothing although it should have, once; None while all is well."""
        if now_s < self.due_s:
            return None
        late = now_s > self.due_s + _OVERSLEPT_S
        if self._heard(pid) or late:
            self._waits_s = self._within_s
            self.due_s = now_s + self._waits_s
            return None
        self.due_s = _NEVER
        return self._waits_s

    def close(self) -> None:
        """Listen no more."""
        if self._socket:
            self._socket.close()

    def _heard(self, pid: int) -> bool:
        """Take what has been said since the last time; whether any of it was this daemon's."""
        heard = False
        while self._socket:
            try:
                said, beside, _, _ = self._socket.recvmsg(_DATAGRAM, socket.CMSG_SPACE(_CREDENTIALS))
            except OSError:
                return heard
            if [int.from_bytes(data[:4], sys.byteorder) for _, _, data in beside] == [pid]:
                heard = True
                self._take(said)
        return heard

    def _take(self, said: bytes) -> None:
        for line in said.split(b"\n"):
            if line.startswith(_ANNOUNCED) and line[len(_ANNOUNCED) :].isdigit():
                self._within_s = int(line[len(_ANNOUNCED) :]) / 1e6
