"""`idlewatch web` as a process of its own on loopback, and raw requests to it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from idlewatch.settings import environment_with

WITHIN_S = 60.0


@dataclass(frozen=True)
class Served:
    """The page and where it listens; its public address may be another."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(state_dir: Path, **variables: str) -> Iterator[Served]:
    """The page, once it answers; ended at the end of the block if it still runs."""
    given = {"IDLEWATCH_STATE_DIR": str(state_dir), **variables}
    port = free_port()
    process = subprocess.Popen(
        web("--port", str(port)), env=environment_with(given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        wait_for_page(port, process)
        yield Served(process, port)
    finally:
        process.kill()
        process.communicate(timeout=WITHIN_S)


def web(*words: str) -> list[str]:
    return [sys.executable, "-m", "idlewatch", "web", *words]


def wait_for_page(port: int, process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        assert process.poll() is None, process.communicate()[0].decode()
        if answers(port):
            return
        time.sleep(0.05)
    raise AssertionError("the page did not answer in time")


def answers(port: int) -> bool:
    try:
        return asked(port, ["GET /healthz HTTP/1.1", "Host: x", "Connection: close"]).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        number: int = found.getsockname()[1]
        return number


def asked(port: int, lines: Sequence[str], body: bytes = b"") -> bytes:
    """Everything that is answered to these very lines; who sends too much may be cut off before an answer is read."""
    found = b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as wire,
    ):
        wire.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        while part := wire.recv(65536):
            found += part
    return found
