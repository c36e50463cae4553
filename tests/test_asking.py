"""Asking a server of this machine: whatever it does, there is an answer in time and no thread too many."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idlewatch.errors import SignalError
from idlewatch.servers.asking import USER_AGENT, Answer, Asker, Question

SECRET = "s3cr3t-t0k3n"
Play = Callable[[socket.socket, bytes], object]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Loopback:
    """A server made by hand: `play(connection, request)` is all it does with each connection."""

    def __init__(self, play: Play, listener: socket.socket) -> None:
        self.play, self.requests = play, list[bytes]()
        self.freed = threading.Event()
        self.wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain
        self._listener, self._threads = listener, list[threading.Thread]()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with self.wrap(plain) as connection:
            request = connection.recv(65536)
            while request.startswith(b"GET") and b"\r\n\r\n" not in request and (more := connection.recv(65536)):
                request += more
            self.requests.append(request)
            try:
                self.play(connection, request)
            except OSError:
                return

    def close(self) -> None:
        self.freed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(20)


Serve = Callable[[Play], Loopback]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Loopback] = []

    def started(play: Play) -> Loopback:
        servers.append(Loopback(play, socket.create_server(("127.0.0.1", 0))))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


def sends(*parts: bytes) -> Play:
    def play(connection: socket.socket, _: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    return play


def answered(asker: Asker, question: Question, now_s: float = 0.0) -> Answer:
    assert asker.ask(question, now_s)
    return polled(asker, question.server, now_s)


def polled(asker: Asker, server: str, now_s: float) -> Answer:
    """Ticks whose clock stands still, until there is an answer."""
    until_s = time.monotonic() + 100
    while time.monotonic() < until_s:
        answer = asker.poll(server, now_s)
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError("never answered")


def to(port: int = 0, **rest: Any) -> Question:
    """A question with time enough on a busy machine."""
    return Question(port=port, **{"deadline_s": 60.0, **rest})


def asking_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("asks ")]


def test_status_body_and_the_instant_of_the_question_come_back(asker: Asker, serve: Serve) -> None:
    server = serve(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", b'{"kernels":', b"1}"))
    answer = answered(asker, to(port=server.port, path="/api/status?a=1"), now_s=70.0)
    assert (answer.status, answer.body, answer.error, answer.asked_s) == (200, b'{"kernels":1}'[:12], None, 70.0)
    assert answer.ok
    assert server.requests[0].startswith(b"GET /api/status?a=1 HTTP/1.1\r\n")


def test_an_answer_is_given_once(asker: Asker, serve: Serve) -> None:
    server = serve(sends(OK))
    question = to(port=server.port)
    assert answered(asker, question).json() == {}
    assert asker.poll(question.server, 1.0) is None
    assert not asker.asks(question.server)


def test_it_says_who_asks_and_asks_for_no_second_question(asker: Asker, serve: Serve) -> None:
    server = serve(sends(OK))
    answered(asker, to(port=server.port, authorization=f"token {SECRET}", accept="application/json"))
    lines = server.requests[0].decode().split("\r\n")
    assert f"User-Agent: {USER_AGENT}" in lines
    assert f"Authorization: token {SECRET}" in lines
    assert "Accept: application/json" in lines
    assert "Connection: close" in lines
    assert f"Host: 127.0.0.1:{server.port}" in lines


@pytest.mark.parametrize("status", [204, 401, 403, 404, 500, 503])
def test_a_refusal_is_an_answer_with_its_status(asker: Asker, serve: Serve, status: int) -> None:
    server = serve(sends(f"HTTP/1.1 {status} Words\r\nContent-Length: 0\r\n\r\n".encode()))
    answer = answered(asker, to(port=server.port))
    assert (answer.status, answer.error, answer.ok) == (status, None, status < 300)


def test_a_body_in_chunks_is_put_together(asker: Asker, serve: Serve) -> None:
    server = serve(sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n"))
    assert answered(asker, to(port=server.port)).json() == [1, 2]


def test_a_body_without_a_length_ends_with_the_connection(asker: Asker, serve: Serve) -> None:
    server = serve(sends(b"HTTP/1.0 200 OK\r\n\r\n", b"abc"))
    assert answered(asker, to(port=server.port)).body == b"abc"


DRIPS = {
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "in the headers": b"HTTP/1.1 200 OK\r\nX-Drip: ",
    "in the status line": b"HTTP/1.1 200 ",
    "in a chunk's length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("where", sorted(DRIPS))
def test_a_server_that_drips_does_not_pass_the_deadline(asker: Asker, serve: Serve, where: str) -> None:
    def drips(connection: socket.socket, _: bytes) -> None:
        connection.sendall(DRIPS[where])
        while not server.freed.wait(0.02):
            connection.sendall(b"0")

    server = serve(drips)
    answer = answered(asker, to(port=server.port, deadline_s=0.3))
    assert (answer.status, answer.error) == (0, "gave no whole answer in 0.3 s")


def test_a_server_that_says_nothing_is_late(asker: Asker, serve: Serve) -> None:
    server = serve(lambda *_: server.freed.wait(60))
    assert answered(asker, to(port=server.port, deadline_s=0.2)).error == "gave no whole answer in 0.2 s"


def test_the_deadline_is_for_all_redirects_together(asker: Asker, serve: Serve) -> None:
    def slowly(connection: socket.socket, _: bytes) -> None:
        server.freed.wait(0.3)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    server = serve(slowly)
    answer = answered(asker, to(port=server.port, deadline_s=0.5))
    assert answer.error == "gave no whole answer in 0.5 s"


def test_a_server_that_owes_an_answer_is_not_asked_again(asker: Asker, serve: Serve) -> None:
    def waits(connection: socket.socket, _: bytes) -> None:
        server.freed.wait(60)
        connection.sendall(OK)

    server = serve(waits)
    question = to(port=server.port, deadline_s=60.0)
    assert asker.ask(question, 0.0)
    assert not asker.ask(question, 30.0)
    assert asker.poll(question.server, 30.0) is None
    assert len(asking_threads()) == 1
    server.freed.set()
    assert polled(asker, question.server, 30.0).ok
    assert len(server.requests) == 1


def test_a_thread_past_its_deadline_is_given_up_and_never_doubled(asker: Asker, serve: Serve) -> None:
    server = serve(lambda *_: server.freed.wait(60))
    question = to(port=server.port, deadline_s=60.0)
    assert asker.ask(question, 100.0)
    assert asker.poll(question.server, 161.0) is None
    answer = asker.poll(question.server, 163.0)
    assert answer is not None
    assert answer.error == "gave no whole answer in 60 s"
    assert asker.poll(question.server, 164.0) is None
    until_s = time.monotonic() + 30
    while asking_threads() and time.monotonic() < until_s:  # its connection was ended, so it does not hang for long
        time.sleep(0.005)
    assert not asking_threads()
    assert asker.ask(question, 165.0)


def test_two_servers_are_asked_side_by_side(asker: Asker, serve: Serve) -> None:
    slow = serve(lambda *_: slow.freed.wait(60))
    quick = serve(sends(OK))
    assert asker.ask(to(port=slow.port, deadline_s=60.0), 0.0)
    assert answered(asker, to(port=quick.port)).ok


def test_closing_ends_what_is_under_way(serve: Serve) -> None:
    server = serve(lambda *_: server.freed.wait(60))
    asker = Asker()
    assert asker.ask(to(port=server.port, deadline_s=600), 0.0)
    until_s = time.monotonic() + 30
    while not server.requests and time.monotonic() < until_s:
        time.sleep(0.005)
    asker.close()
    assert not asking_threads()
    assert not asker.asks(f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    "announced", [b"Content-Length: 1001\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]
)
def test_an_answer_that_is_too_long_is_none(asker: Asker, serve: Serve, announced: bytes) -> None:
    body = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n" if b"chunked" in announced else b"x" * 1001
    server = serve(sends(b"HTTP/1.1 200 OK\r\n" + announced + b"\r\n", body))
    answer = answered(asker, to(port=server.port, limit_bytes=1000))
    assert (answer.status, answer.body, answer.error) == (0, b"", "answers with more than 1000 bytes")


def test_an_answer_of_just_the_limit_is_whole(asker: Asker, serve: Serve) -> None:
    server = serve(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000))
    assert len(answered(asker, to(port=server.port, limit_bytes=1000)).body) == 1000


ENDLESS = {
    "body": (b"HTTP/1.0 200 OK\r\n\r\n", "answers with more than 1000 bytes"),
    "header": (b"HTTP/1.1 200 OK\r\nX-A: ", "answers what is not HTTP"),
    "status line": (b"", "answers what is not HTTP"),
}


@pytest.mark.parametrize("what", sorted(ENDLESS))
def test_an_endless_answer_fills_no_memory(asker: Asker, serve: Serve, what: str) -> None:
    begin, words = ENDLESS[what]

    def floods(connection: socket.socket, _: bytes) -> None:
        connection.sendall(begin)
        while not server.freed.is_set():
            connection.sendall(b"x" * 65536)

    server = serve(floods)
    assert answered(asker, to(port=server.port, limit_bytes=1000)).error == words


BROKEN = {
    "garbage": (b"\x00\xff\x00 hello\r\n\r\n", "answers what is not HTTP"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "answers what is not HTTP"),
    "nothing": (b"", "ended the connection without an answer"),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "ended its answer in the middle"),
    "half a chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        "ended its answer in the middle",
    ),
    "no body at all": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "ended its answer in the middle"),
    "a chunk of no length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        "ended its answer in the middle",
    ),
}


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_a_broken_answer_is_told_in_words(asker: Asker, serve: Serve, what: str) -> None:
    said, words = BROKEN[what]
    answer = answered(asker, to(port=serve(sends(said)).port))
    assert (answer.status, answer.error) == (0, words)


def test_a_port_where_nobody_listens(asker: Asker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert answered(asker, to(port=port)).error == "refuses connections"


@pytest.mark.parametrize("host", ["localhost", "example.org", "127.0.0.1.evil", ""])
def test_a_name_is_never_looked_up(asker: Asker, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(*_: object) -> None:
        raise AssertionError("a look-up")

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    assert answered(asker, to(host=host, port=80)).error == f"can't be asked: {host!r} is no address in figures"


def test_the_environment_s_proxy_is_not_used(asker: Asker, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(sends(b"HTTP/1.1 200 OK\r\n\r\nproxy")), serve(sends(OK))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    assert answered(asker, to(port=server.port)).body == b"{}"
    assert not proxy.requests


def redirecting(location: str) -> Play:
    def play(connection: socket.socket, request: bytes) -> None:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        connection.sendall(OK if request.startswith(b"GET /metrics/ ") else moved)

    return play


@pytest.mark.parametrize("location", ["/metrics/", "metrics/", "http://127.0.0.1:{port}/metrics/"])
def test_a_redirect_to_the_same_server_is_followed(asker: Asker, serve: Serve, location: str) -> None:
    server = serve(sends(OK))
    server.play = redirecting(location.format(port=server.port))
    answer = answered(asker, to(port=server.port, path="/metrics"))
    assert (answer.status, answer.path) == (200, "/metrics")


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{other}/metrics/", "//127.0.0.1:{other}/", "https://127.0.0.1:{port}/", "http://[", ""],
)
def test_a_redirect_to_anybody_else_is_not_followed(asker: Asker, serve: Serve, location: str) -> None:
    other, server = serve(sends(OK)), serve(sends(OK))
    server.play = redirecting(location.format(port=server.port, other=other.port))
    answer = answered(asker, to(port=server.port, path="/metrics", authorization=SECRET))
    assert not answer.ok
    assert not other.requests
    assert len(server.requests) == 1


def test_redirects_in_a_ring_end(asker: Asker, serve: Serve) -> None:
    server = serve(redirecting("/other"))
    assert answered(asker, to(port=server.port)).error == "redirects more than 3 times"


def test_a_socket_in_the_file_system_is_asked(asker: Asker, tmp_path: Path) -> None:
    path = tmp_path / "jupyter.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Loopback(sends(OK), listener)
    question = to(unix_socket=str(path))
    assert question.server == str(path)
    assert answered(asker, question).ok
    server.close()


def test_ipv6_is_asked_and_named_as_such(asker: Asker) -> None:
    server = Loopback(sends(OK), socket.create_server(("::1", 0), family=socket.AF_INET6))
    question = to(host="::1", port=server.port)
    assert question.server == f"[::1]:{server.port}"
    assert answered(asker, question).ok
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]
    server.close()


def test_a_server_that_speaks_no_tls_is_told_in_words(asker: Asker, serve: Serve) -> None:
    server = serve(sends(OK))
    answer = answered(asker, to(port=server.port, tls=True))
    assert (answer.error or "").startswith("can't be talked to: ")


@pytest.mark.slow
def test_a_server_that_certifies_itself_is_asked(asker: Asker, serve: Serve, tmp_path: Path) -> None:
    pem = tmp_path / "self.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pod -keyout {pem} -out {tmp_path}/cert"
    subprocess.run(made.split(), check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", pem)
    server = serve(sends(OK))
    server.wrap = lambda plain: context.wrap_socket(plain, server_side=True)
    assert answered(asker, to(port=server.port, tls=True)).ok
    assert server.requests[0].startswith(b"GET / HTTP/1.1\r\n")


def test_the_secret_is_in_no_repr_and_no_words(asker: Asker, serve: Serve) -> None:
    server = serve(lambda connection, request: connection.sendall(request))
    for secret in (SECRET, f"{SECRET}\r\nX-Other: 1", f"{SECRET}é", f"{SECRET}\0"):
        question = to(port=server.port, authorization=secret)
        answer = answered(asker, question)
        assert answer.error is not None
        assert SECRET not in f"{question!r} {question} {answer!r} {answer.error}"
    assert len(server.requests) == 1


def test_the_body_of_an_answer_is_in_no_repr(asker: Asker, serve: Serve) -> None:
    server = serve(sends(b"HTTP/1.0 200 OK\r\n\r\n" + SECRET.encode()))
    answer = answered(asker, to(port=server.port))
    assert SECRET in answer.body.decode()
    assert SECRET not in repr(answer)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, SECRET.encode()])
def test_a_body_that_is_no_json_is_told_without_the_body(body: bytes) -> None:
    with pytest.raises(SignalError) as caught:
        Answer(path="/api/kernels", asked_s=0.0, status=200, body=body).json()
    assert str(caught.value) == "the answer to /api/kernels is no JSON"
    assert caught.value.__cause__ is None


@pytest.mark.slow
def test_a_hung_question_does_not_keep_the_process_alive(serve: Serve) -> None:
    server = serve(lambda *_: server.freed.wait(100))
    program = f"""
        from idlewatch.servers.asking import Asker, Question
        assert Asker().ask(Question(port={server.port}, deadline_s=3600), 0.0)
        print("asked")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=60, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "asked\n"


@pytest.mark.slow
def test_nothing_heavy_is_imported() -> None:
    heavy = "{'httpx', 'requests', 'asyncio', 'pydantic'}"
    program = f"import sys, idlewatch.servers.asking; print(*sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""
