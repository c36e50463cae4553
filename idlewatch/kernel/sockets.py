"""
The TCP sockets of this network namespace at one instant, both IPv4 and IPv6, with what has gone through each.

Byte counts come from the kernel's netlink dump; where that is denied /proc/net/tcp gives the sockets without them, and
`SocketTable.without_bytes` says why. Sockets in TIME_WAIT are there as long as they are few: no process has them.

Sources: sock_diag(7), proc_pid_net(5) (/proc/PID/net/tcp: addresses in host byte order, queues and inode).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import SignalError
from idlewatch.kernel import netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Dump: TypeAlias = Callable[[int], "list[netlink.Entry]"]
"""An address family to its TCP sockets; OSError where the kernel refuses."""

_MAPPED_V4 = bytes(10) + b"\xff\xff"


class SocketState(StrEnum):
    """States of a TCP socket; those that nobody owns or waits for are OTHER."""

    ESTABLISHED = "established"
    LISTEN = "listen"
    CLOSE_WAIT = "close wait"
    """The peer has closed its side."""
    TIME_WAIT = "time wait"
    """This side has closed it, within the last minute."""
    OTHER = "other"


_STATES = {1: SocketState.ESTABLISHED, 6: SocketState.TIME_WAIT, 8: SocketState.CLOSE_WAIT, 10: SocketState.LISTEN}
_TIME_WAIT, _CLOSE = 6, 7


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection."""

    address: str
    """As people write it; an IPv4 address stays one inside an IPv6 socket."""
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine itself."""
        return self.address == "::1" or self.address.startswith("127.")


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket."""

    state: SocketState
    local: Endpoint
    remote: Endpoint
    """Port 0 of a socket that listens."""
    inode: int
    """What /proc/PID/fd calls it; 0 where no process has it."""
    user_id: int
    receive_queue: int
    """Bytes that have come and that no process has read."""
    send_queue: int
    """Bytes that the peer has not acknowledged, sent or not; of a socket that listens, how many may wait."""
    retransmits: int
    """How often in a row the oldest of them was sent again."""
    bytes_acked: int | None
    """Payload that the peer has acknowledged since the connection began."""
    bytes_received: int | None
    """Payload that has come since the connection began."""
    unacked: int | None
    """Segments on their way that the peer has not acknowledged."""
    data_received_ago_s: float | None
    ack_received_ago_s: float | None


@dataclass(frozen=True, slots=True)
class SocketTable:
    """All TCP sockets at `at_s` (CLOCK_BOOTTIME seconds)."""

    at_s: float
    sockets: tuple[Socket, ...]
    without_bytes: str | None = None
    """Why bytes are not counted here (all byte counts and ages are then None); None where they are."""

    def __iter__(self) -> Iterator[Socket]:
        return iter(self.sockets)

    def by_inode(self) -> dict[int, Socket]:
        """Return the sockets that processes can have, by inode."""
        return {each.inode: each for each in self.sockets if each.inode}

    def established(self) -> tuple[Socket, ...]:
        """Return the open connections."""
        return tuple(each for each in self.sockets if each.state is SocketState.ESTABLISHED)

    def listening(self) -> tuple[Socket, ...]:
        """Return the sockets that wait for connections."""
        return tuple(each for each in self.sockets if each.state is SocketState.LISTEN)

    def accepted(self) -> tuple[Socket, ...]:
        """Return the open connections that came to a port which is still listened to."""
        ports = {each.local.port for each in self.listening()}
        return tuple(each for each in self.established() if each.local.port in ports)


def look(proc: Path, now_s: float, dump: Dump = netlink.dump) -> SocketTable:
    """Return every TCP socket. Raises SignalError where neither netlink nor /proc/net/tcp can be read."""
    try:
        entries = [*dump(socket.AF_INET), *_v6(dump)]
        return SocketTable(now_s, tuple(_from_entry(entry) for entry in entries))
    except OSError as error:
        refusal = f"netlink refused: {error.strerror or error}"
    except struct.error as error:
        refusal = f"netlink answered what makes no sense: {error}"
    return SocketTable(now_s, tuple(_from_proc(proc)), refusal)


def _v6(dump: Dump) -> list[netlink.Entry]:
    """Return the IPv6 sockets; a kernel without IPv6 has none, and says so with an error."""
    try:
        return dump(socket.AF_INET6)
    except FileNotFoundError:
        return []


def _from_entry(entry: netlink.Entry) -> Socket:
    info = entry.info
    return Socket(
        state=_STATES.get(entry.state, SocketState.OTHER),
        local=Endpoint(address(entry.local[0]), entry.local[1]),
        remote=Endpoint(address(entry.remote[0]), entry.remote[1]),
        inode=entry.inode,
        user_id=entry.user_id,
        receive_queue=entry.receive_queue,
        send_queue=entry.send_queue,
        retransmits=info.retransmits if info else 0,
        bytes_acked=info.bytes_acked if info else None,
        bytes_received=info.bytes_received if info else None,
        unacked=info.unacked if info else None,
        data_received_ago_s=info.last_data_recv_s if info else None,
        ack_received_ago_s=info.last_ack_recv_s if info else None,
    )


def address(packed: bytes) -> str:
    """Return an address of 4 or 16 bytes as people write it."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed.startswith(_MAPPED_V4):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _from_proc(proc: Path) -> Iterator[Socket]:
    try:
        yield from _lines((proc / "net/tcp").read_text().splitlines()[1:])
    except OSError as error:
        raise SignalError(f"TCP sockets cannot be read: {proc}/net/tcp: {error.strerror}") from error
    try:
        lines = (proc / "net/tcp6").read_text().splitlines()[1:]
    except OSError:  # a kernel without IPv6 has no such file
        return
    yield from _lines(lines)


def _lines(lines: Iterable[str]) -> Iterator[Socket]:
    for line in lines:
        fields = line.split()
        state = int(fields[3], 16)
        if state not in {_TIME_WAIT, _CLOSE}:
            yield _from_line(fields, state)


def _from_line(fields: list[str], state: int) -> Socket:
    send_queue, receive_queue = (int(part, 16) for part in fields[4].split(":"))
    return Socket(
        state=_STATES.get(state, SocketState.OTHER),
        local=_endpoint(fields[1]),
        remote=_endpoint(fields[2]),
        inode=int(fields[9]),
        user_id=int(fields[7]),
        receive_queue=receive_queue,
        send_queue=send_queue,
        retransmits=int(fields[6], 16),
        bytes_acked=None,
        bytes_received=None,
        unacked=None,
        data_received_ago_s=None,
        ack_received_ago_s=None,
    )


def _endpoint(text: str) -> Endpoint:
    """Return `0100007F:1F90` as an endpoint: the address is 32-bit words in this machine's byte order."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return Endpoint(address(packed), int(port, 16))
