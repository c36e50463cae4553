"""The transfers signal on real connections, tools and files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch.kernel import KernelTables, Socket
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.signals.transfers import TransfersSignal

pytestmark = pytest.mark.slow
DEADLINE_S = 90.0
NOBODY = -1
SLOW, FAST = 60_000, 2_000_000
"""Bytes a second."""


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def only(reading: Reading, pid: int) -> Reading:
    """Leave out what other programs of this machine move: they would be named first."""
    moving = reading.facts["moving"]
    assert isinstance(moving, list)
    kept: Json = [one for one in moving if isinstance(one, dict) and one["pid"] == pid]
    return replace(reading, facts={**reading.facts, "moving": kept})


def active(watching: TransfersSignal, pid: int) -> Finding:
    """Look each half second until a process is a transfer; return what is then said of it."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        found = watching.judge(only(watching.read(now_s()), pid))
        if found.activity is Activity.ACTIVE:
            return found
        assert time.monotonic() < end_s, f"not in time; the last finding: {found}"
        time.sleep(0.5)


def of_files(own_pid: int = NOBODY) -> TransfersSignal:
    """A signal that looks anew whenever it is asked, and that counts this test's children unless told."""
    return TransfersSignal(kernel=KernelTables(own_pid=lambda: own_pid, period_s=0.0))


class Server:
    """Sends (or takes) bytes over HTTP at a steady rate, for as long as somebody wants them."""

    def __init__(self, bytes_per_s: int) -> None:
        self._step_s = 0.1
        self._step = bytes(int(bytes_per_s * self._step_s))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/model"

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        self._listening.settimeout(0.1)
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5.0)
        try:
            if connection.recv(4096).startswith(b"PUT"):
                while not self._ended.wait(self._step_s) and connection.recv(len(self._step)):
                    pass
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
            while not self._ended.wait(self._step_s):
                connection.sendall(self._step)
        except OSError:  # the client has gone
            return


@pytest.fixture
def serve() -> Iterator[Callable[[int], Server]]:
    started: list[Server] = []

    def start(bytes_per_s: int) -> Server:
        started.append(Server(bytes_per_s))
        return started[-1]

    yield start
    for server in started:
        server.close()


def to(server: Server) -> TransfersSignal:
    """A signal for which the connections to this server leave the machine."""

    def leaves(each: Socket) -> bool:
        return each.remote.port == server.port

    return TransfersSignal(kernel=KernelTables(own_pid=lambda: NOBODY, period_s=0.0), leaves=leaves)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_at_60_kb_a_second_counts(serve: Callable[[int], Server], tmp_path: Path) -> None:
    server = serve(SLOW)
    watching = to(server)
    with subprocess.Popen(["curl", "-sS", "-o", str(tmp_path / "model"), server.url]) as curl:
        try:
            found = active(watching, curl.pid)
            assert "curl" in found.reason
            assert found.evidence_s is not None
        finally:
            curl.kill()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_an_upload_by_curl_counts(serve: Callable[[int], Server], tmp_path: Path) -> None:
    server = serve(FAST)
    data = tmp_path / "results.bin"
    with data.open("wb") as file:
        file.truncate(1 << 30)
    with subprocess.Popen(["curl", "-sS", "-T", str(data), server.url, "-H", "Expect:"]) as curl:
        try:
            assert "curl" in active(to(server), curl.pid).reason
        finally:
            curl.kill()


def test_a_program_of_no_known_name_counts_by_its_connection(serve: Callable[[int], Server]) -> None:
    server = serve(FAST)
    script = f"import urllib.request as u\nr = u.urlopen({server.url!r})\nwhile r.read(65536): pass"
    watching, as_it_is = to(server), of_files()
    with subprocess.Popen([sys.executable, "-c", script]) as client:
        try:
            assert "moved" in active(watching, client.pid).reason
            as_it_is.read(now_s())
            time.sleep(0.5)
            assert not only(as_it_is.read(now_s()), client.pid).facts["moving"]
        finally:
            client.kill()


def writer(path: Path, how: str) -> subprocess.Popen[bytes]:
    """A program that writes 300 KB ten times a second."""
    script = (
        f"import os, time\nf = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT)\nat = 0\n"
        f"while True:\n    at += {how}\n    time.sleep(0.1)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script])


@pytest.mark.parametrize(
    ("how", "did"),
    [("os.write(f, bytes(300_000))", "grew by"), ("os.pwrite(f, bytes(300_000), at)", "wrote")],
)
def test_a_file_that_is_half_way_there_counts_while_it_grows(tmp_path: Path, how: str, did: str) -> None:
    watching = of_files()
    with writer(tmp_path / "abc.incomplete", how) as child:
        try:
            found = active(watching, child.pid)
            assert f"(pid {child.pid}): abc.incomplete {did}" in found.reason
        finally:
            child.kill()


def test_our_own_save_does_not_count(tmp_path: Path) -> None:
    ours, theirs = of_files(own_pid=os.getpid()), of_files()
    with writer(tmp_path / "save.tar.zst.part", "os.write(f, bytes(300_000))") as child:
        try:
            ours.read(now_s())
            active(theirs, child.pid)
            for _ in range(3):
                assert not only(ours.read(now_s()), child.pid).facts["moving"]
        finally:
            child.kill()


@pytest.mark.system
def test_rsync_at_60_kb_a_second_counts(tmp_path: Path) -> None:
    with (tmp_path / "from").open("wb") as file:
        file.truncate(1 << 30)
    command = ["rsync", "--bwlimit=60", "--whole-file", str(tmp_path / "from"), str(tmp_path / "to")]
    with subprocess.Popen(command) as rsync:
        try:
            found = active(of_files(), rsync.pid)
            assert "rsync" in found.reason
        finally:
            rsync.terminate()
