"""Who says nothing whole keeps nobody from the page: it is ended after a while, or makes room at once."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the page is an extra: idlewatch[web]")

import uvicorn
from starlette.types import Receive, Scope, Send

from idlewatch.web.connections import impatient
from tests.web_process import WITHIN_S, asked, served

WHOLE = ["GET / HTTP/1.1", "Host: x", "Connection: close"]
HEAD_WITHIN_S = 0.3


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers `/slow` after three times what a head may take, all else at once."""
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * HEAD_WITHIN_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def server(waiting_most: int = 100) -> Iterator[int]:
    """The port of a server with impatient connections."""
    made = uvicorn.Server(
        uvicorn.Config(
            app, http=impatient(HEAD_WITHIN_S, waiting_most), log_config=None, lifespan="off", limit_concurrency=20
        )
    )
    bound = socket.create_server(("127.0.0.1", 0), backlog=128)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield bound.getsockname()[1]
    finally:
        made.should_exit = True
        thread.join(WITHIN_S)
        bound.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)


def is_ended(wire: socket.socket, *, drips: bool = True) -> bool:
    """Whether it is ended by the other side before the deadline, though a byte comes now and then."""
    wire.settimeout(0.05)
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        try:
            if wire.recv(4096) == b"":
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
        try:
            wire.send(b"x" if drips else b"")
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize("first", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_head_that_comes_byte_by_byte_is_not_waited_for(first: bytes) -> None:
    with server() as port, connected(port) as wire:
        wire.sendall(first)
        assert is_ended(wire)


def test_neither_is_a_second_one_on_the_same_connection() -> None:
    with server() as port, connected(port) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in wire.recv(4096)
        wire.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert is_ended(wire)


def test_an_answer_may_take_longer_than_a_head() -> None:
    with server() as port:
        assert b"200 OK" in asked(port, ["GET /slow HTTP/1.1", *WHOLE[1:]])


def test_requests_that_come_together_are_all_answered() -> None:
    with server() as port, connected(port) as wire:
        wire.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + "\r\n".join([*WHOLE, "", ""]).encode())
        told = b""
        while part := wire.recv(4096):
            told += part
        assert told.count(b"200 OK") == 3


def test_whoever_waits_longest_makes_room_and_whoever_asks_is_answered() -> None:
    with server(waiting_most=5) as port, ExitStack() as open_:
        first = [open_.enter_context(connected(port)) for _ in range(5)]
        for wire in [*first, *(open_.enter_context(connected(port)) for _ in range(40))]:
            wire.sendall(b"GET /")
        assert b"200 OK" in asked(port, WHOLE)
        assert all(is_ended(wire) for wire in first)


@pytest.mark.slow
def test_three_hundred_slow_clients_do_not_keep_a_browser_from_the_page(tmp_path: Path) -> None:
    with served(tmp_path) as page, ExitStack() as open_:
        for _ in range(300):
            open_.enter_context(connected(page.port)).sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        answers = [asked(page.port, WHOLE) for _ in range(20)]
        assert {answer[9:12] for answer in answers} == {b"401"}
