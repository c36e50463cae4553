"""TCP sockets: from the kernel, from /proc/net/tcp, and whose they are."""

from __future__ import annotations

import math
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import KernelTables, Socket, SocketState, netlink, processes, sockets
from idlewatch.kernel.owners import SocketOwners
from tests.waiting import until

Pair = tuple[socket.socket, socket.socket, socket.socket]


def denied(_: int) -> list[netlink.Entry]:
    raise PermissionError(1, "Operation not permitted")


def pair(family: socket.AddressFamily, host: str) -> Pair:
    listener = socket.create_server((host, 0), family=family)
    client = socket.create_connection(listener.getsockname()[:2])
    server, _ = listener.accept()
    return listener, client, server


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["v4", "v6"])
def ends(request: pytest.FixtureRequest) -> Iterator[Pair]:
    try:
        made = pair(*request.param)
    except OSError as error:
        if request.param[0] is socket.AF_INET:
            raise
        pytest.skip(f"this machine has no IPv6: {error}")
    with closing(made[0]), closing(made[1]), closing(made[2]):
        yield made


def of(table: sockets.SocketTable, one: socket.socket) -> Socket:
    return table.by_inode()[os.fstat(one.fileno()).st_ino]


def test_the_kernel_counts_the_bytes_of_each_direction(ends: Pair) -> None:
    listener, client, server = ends
    client.sendall(b"x" * 1000)
    while len(server.recv(1000, socket.MSG_PEEK)) < 1000:
        pass
    table = sockets.look(Path("/proc"), 9.0)
    assert table.without_bytes is None
    assert table.at_s == 9.0
    at_server, at_client = of(table, server), of(table, client)
    assert at_server.state is SocketState.ESTABLISHED
    assert (at_server.bytes_received, at_server.receive_queue) == (1000, 1000)
    assert at_client.bytes_received == 0
    assert at_server.local == at_client.remote
    assert at_server.local.port == listener.getsockname()[1]
    assert at_server.local.is_loopback
    assert at_server.user_id == os.geteuid()
    assert at_server.data_received_ago_s is not None
    assert at_server.data_received_ago_s < 60
    assert of(table, listener).state is SocketState.LISTEN
    accepted = {each.inode for each in table.accepted()}
    assert at_server.inode in accepted
    assert at_client.inode not in accepted


def test_a_connection_that_this_side_has_closed_is_still_told(ends: Pair) -> None:
    _, client, server = ends
    local, remote = server.getsockname()[:2], client.getsockname()[:2]
    server.close()
    assert client.recv(1) == b""
    client.close()

    def ended() -> list[Socket]:
        table = sockets.look(Path("/proc"), 9.0, lambda family: netlink.dump(family, ended_max=math.inf))
        return [each for each in table if each.state is SocketState.TIME_WAIT and each.local.port == local[1]]

    until(lambda: bool(ended()), "the connection is in TIME_WAIT")
    (one,) = ended()
    assert (one.local.address, one.remote.port) == (local[0], remote[1])
    assert (one.inode, one.bytes_received) == (0, None)
    assert not [each for each in netlink.dump(socket.AF_INET, ended_max=-1) if each.state == 6]


def test_bytes_that_nobody_takes_stay_in_the_queue(ends: Pair) -> None:
    server = ends[2]
    server.setblocking(False)
    with suppress(BlockingIOError):
        while server.send(b"y" * 65536):
            pass
    at_server = of(sockets.look(Path("/proc"), 9.0), server)
    assert at_server.send_queue > 0


def test_without_netlink_proc_gives_the_same_sockets_and_says_what_is_missing(ends: Pair) -> None:
    full, bare = sockets.look(Path("/proc"), 9.0), sockets.look(Path("/proc"), 9.0, denied)
    assert bare.without_bytes == "netlink refused: Operation not permitted"
    for one in ends:
        there, here = of(full, one), of(bare, one)
        assert (here.state, here.local, here.remote, here.user_id) == (
            there.state,
            there.local,
            there.remote,
            there.user_id,
        )
        assert here.bytes_received is None
        assert here.data_received_ago_s is None


def test_garbage_from_netlink_falls_back_too() -> None:
    def garbage(_: int) -> list[netlink.Entry]:
        return [netlink.parsed(b"\x02\x01")]

    table = sockets.look(Path("/proc"), 9.0, garbage)
    assert table.without_bytes is not None
    assert "makes no sense" in table.without_bytes


def test_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="TCP sockets cannot be read"):
        sockets.look(tmp_path, 9.0, denied)


def test_a_kernel_without_ipv6_is_no_refusal() -> None:
    def v4_only(family: int) -> list[netlink.Entry]:
        if family == socket.AF_INET6:
            raise FileNotFoundError(2, "No such file or directory")
        return netlink.dump(family)

    assert sockets.look(Path("/proc"), 9.0, v4_only).without_bytes is None


def test_waiting_and_closed_lines_are_left_out_and_v6_is_read(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: {} {} {} 00000010:00000003 01:00000019 00000004  1000        0 4242 1 0000 20 4 30 10 -1\n"
    one, two = "0100007F:0016", "0200007F:C001"
    (tmp_path / "net/tcp").write_text(head + line.format(one, two, "01") + line.format(one, two, "06"))
    mapped = "0000000000000000FFFF00000100007F:0016"
    (tmp_path / "net/tcp6").write_text(head + line.format(mapped, mapped, "0A"))
    first, second = sockets.look(tmp_path, 1.0, denied)
    assert (first.local.address, first.local.port, first.remote.address) == ("127.0.0.1", 22, "127.0.0.2")
    assert (first.send_queue, first.receive_queue, first.retransmits) == (16, 3, 4)
    assert (first.user_id, first.inode) == (1000, 4242)
    assert (second.local.address, second.state) == ("127.0.0.1", SocketState.LISTEN)


def test_a_message_without_byte_counts_of_an_old_kernel_is_read() -> None:
    head = struct.pack("=BBBB", socket.AF_INET, 1, 0, 0) + struct.pack("!HH", 22, 50000)
    addresses = socket.inet_aton("10.0.0.1").ljust(16, b"\0") + socket.inet_aton("10.0.0.2").ljust(16, b"\0")
    info = bytearray(104)
    info[2] = 5
    struct.pack_into("=I", info, 24, 3)
    struct.pack_into("=II", info, 52, 1500, 2500)
    tail = struct.pack("=I8sIIIII", 0, b"", 0, 1, 2, 1000, 77)
    entry = netlink.parsed(head + addresses + tail + struct.pack("=HH", 4 + len(info), 2) + bytes(info))
    assert (entry.local, entry.remote) == ((bytes([10, 0, 0, 1]), 22), (bytes([10, 0, 0, 2]), 50000))
    assert (entry.receive_queue, entry.send_queue, entry.user_id, entry.inode) == (1, 2, 1000, 77)
    assert entry.info == netlink.Info(5, 3, 1.5, 2.5, None, None)


def test_owners_are_found_for_own_and_inherited_sockets(ends: Pair) -> None:
    _, client, server = ends
    inode = os.fstat(server.fileno()).st_ino
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[server.fileno()]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        tables = KernelTables()
        now = tables.at(time.clock_gettime(time.CLOCK_BOOTTIME))
        mine = os.fstat(client.fileno()).st_ino
        assert now.owners_of(inode, mine, 1) == {
            inode: tuple(sorted((os.getpid(), child.pid))),
            mine: (os.getpid(),),
            1: (),
        }
        assert inode in (now.sockets_of(child.pid) or ())
        child.communicate(b"\n")
    assert now.sockets_of(child.pid) is None


def test_owners_are_looked_for_once_a_look_and_again_when_one_has_ended(tmp_path: Path) -> None:
    def stat(pid: int, started: int) -> None:
        fields = f"S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started}"
        (tmp_path / f"{pid}/fd").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{pid}/stat").write_text(f"{pid} (x) {fields} 0")

    owners = SocketOwners(proc=tmp_path)
    stat(5, 100)
    (tmp_path / "5/fd/3").symlink_to("socket:[42]")
    first, _ = processes.look(tmp_path, 1.0, 1)
    assert owners.of([42, 43], first) == {42: (5,), 43: ()}
    (tmp_path / "5/fd/4").symlink_to("socket:[43]")
    assert owners.of([43], first) == {43: ()}
    second, _ = processes.look(tmp_path, 2.0, 1)
    assert owners.of([43], second) == {43: (5,)}
    stat(5, 200)
    (tmp_path / "5/fd/3").unlink()
    third, _ = processes.look(tmp_path, 3.0, 1)
    assert owners.of([42], third) == {42: ()}
