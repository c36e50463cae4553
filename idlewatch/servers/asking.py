"""
Asks a server of this machine over HTTP, without ever keeping a tick waiting.

`Asker.ask` starts one GET in a worker thread, `Asker.poll` takes its answer at a later tick. The deadline is for the
whole question: a time-out of a socket is per read, so a server that drips one byte a second would pass it for ever.
Only addresses in figures are asked, because looking up a name can hang; no proxy and no credential is taken from the
environment; a redirect is followed only to the same server. What goes wrong is an `Answer` with an error in words,
never an exception, and a secret stands in none of them. Whom to ask is the caller's duty: never a port whose owner is
not a known server.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self
from urllib.parse import urljoin, urlsplit

from idlewatch import __version__
from idlewatch.errors import SignalError
from idlewatch.model import Json

USER_AGENT = f"idlewatch/{__version__}"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_OVERDUE_S = 2.0
"""So long after its deadline a worker is given up: it hangs where no time-out reaches it."""
_CLOSE_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One GET."""

    host: str = "127.0.0.1"
    """An IPv4 or IPv6 address in figures, never a name."""
    port: int = 0
    unix_socket: str | None = None
    """Path of the socket to ask instead of host and port."""
    tls: bool = False
    """The certificate is not verified: the caller knows the process that answers, and most certify themselves."""
    path: str = "/"
    """Path and query, already quoted."""
    authorization: str | None = field(default=None, repr=False)
    """The whole value of that header: a secret."""
    accept: str = "*/*"
    deadline_s: float = 10.0
    """From the first byte of the connection to the last of the answer."""
    limit_bytes: int = 4 << 20
    """A longer body is an error, not a part of an answer."""

    @property
    def server(self) -> str:
        """Who is asked: `127.0.0.1:8888`, `[::1]:8888`, `/run/jupyter.sock`."""
        if self.unix_socket is not None:
            return self.unix_socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a question: a status and a body, or an error in words that follow the server's name."""

    path: str
    """The path that was asked for."""
    asked_s: float
    """The instant of `ask`."""
    status: int = 0
    """0 where there was no whole answer."""
    body: bytes = field(default=b"", repr=False)
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the server gave what was asked for."""
        return self.error is None and 200 <= self.status < 300

    def json(self) -> Json:
        """Return the body's value. Raises SignalError where it is no JSON."""
        try:
            value: Json = json.loads(self.body)
        except (ValueError, RecursionError):
            raise SignalError(f"the answer to {self.path} is no JSON") from None
        return value


class Asker:
    """Questions under way: at most one to each server, and at most one thread for each, however long it hangs."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}

    def ask(self, question: Question, now_s: float) -> bool:
        """Start the question; False, and nothing is sent, while this server still owes an answer."""
        known = self._workers.get(question.server)
        if known is not None and not (known.given_up and known.ended):
            return False
        self._workers[question.server] = _Worker(question, now_s)
        return True

    def poll(self, server: str, now_s: float) -> Answer | None:
        """Return the answer of `Question.server`, once; None while there is none, or nothing was asked."""
        worker = self._workers.get(server)
        if worker is None or worker.given_up:
            return None
        answer = worker.answer
        if answer is not None:
            del self._workers[server]
        elif now_s > worker.asked_s + worker.question.deadline_s + _OVERDUE_S:
            answer = worker.give_up()
        return answer

    def asks(self, server: str) -> bool:
        """Whether an answer of this server is still to be polled."""
        worker = self._workers.get(server)
        return worker is not None and not worker.given_up

    def forget(self, server: str) -> None:
        """End what is under way with a server that nobody will ask for its answer."""
        worker = self._workers.get(server)
        if worker is not None:
            worker.give_up()

    def close(self) -> None:
        """End every question. Waits a moment for the threads; one that hangs does not keep the process alive."""
        workers, until_s = list(self._workers.values()), time.monotonic() + _CLOSE_WITHIN_S
        self._workers.clear()
        for worker in workers:
            worker.give_up()
        for worker in workers:
            worker.wait(max(0.0, until_s - time.monotonic()))


class _Worker:
    """One question in a thread of its own."""

    def __init__(self, question: Question, asked_s: float) -> None:
        self.question, self.asked_s = question, asked_s
        self.answer: Answer | None = None
        self.given_up = False
        self._line: _Line | None = None
        self._thread = threading.Thread(target=self._run, name=f"asks {question.server}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.answer = self._failed("can't be asked: no thread can be started")

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def give_up(self) -> Answer:
        """Wake the thread by ending its connection; whatever it still gives is dropped."""
        self.given_up = True
        if self._line is not None:
            self._line.end()
        return self._failed(_late(self.question))

    def wait(self, seconds: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            status, body = self._asked()
        except Exception as error:  # noqa: BLE001  (a thread has nobody to raise to; the words hold no secret)
            self.answer = self._failed(_words(error, self.question))
        else:
            self.answer = Answer(path=self.question.path, asked_s=self.asked_s, status=status, body=body)

    def _failed(self, error: str) -> Answer:
        return Answer(path=self.question.path, asked_s=self.asked_s, error=error)

    def _asked(self) -> tuple[int, bytes]:
        question, path = self.question, self.question.path
        until_s = time.monotonic() + question.deadline_s
        for _ in range(_MOST_REDIRECTS):
            status, body, location = self._got(path, until_s)
            next_path = _same_server(question, path, location) if status in _REDIRECTS else None
            if next_path is None:
                return status, body
            path = next_path
        raise _Refusal(f"redirects more than {_MOST_REDIRECTS} times")

    def _got(self, path: str, until_s: float) -> tuple[int, bytes, str]:
        question = self.question
        headers = _headers(question)
        with _Line(question, until_s) as line:
            self._line = line
            if self.given_up:  # given up before there was a connection to end
                raise _Refusal(_late(question))
            line.connect()
            connection = http.client.HTTPConnection(*_host_and_port(question))
            connection.sock = line
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, _body(response, question.limit_bytes), response.getheader("Location", "")


class _Refusal(Exception):
    """Why there is no answer, in words that hold no secret."""


class _Line:
    """A connection on which everything together must be done by `until_s`: CLOCK_MONOTONIC, it measures a wait."""

    def __init__(self, question: Question, until_s: float) -> None:
        self._question, self._until_s, self._ended = question, until_s, False
        self._socket = socket.socket(_family(question), socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def connect(self) -> None:
        question = self._question
        self._in_time().connect(question.unix_socket or (question.host, question.port))
        if question.tls:
            self._socket = _encrypted(self._in_time())

    def _in_time(self) -> socket.socket:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0 or self._ended:
            raise TimeoutError
        self._socket.settimeout(left_s)
        return self._socket

    def sendall(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def recv_into(self, buffer: memoryview) -> int:
        return self._in_time().recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Received(self))

    def end(self) -> None:
        """Wake whoever waits on it; from any thread. What is not connected yet can't be shut down: hence the mark."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing yet: http.client calls this where the body is still to be read."""


class _Received(io.RawIOBase):
    """What a line receives, as a file."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader hands a memoryview
        return self._line.recv_into(buffer)


def _family(question: Question) -> socket.AddressFamily:
    if question.unix_socket is not None:
        return socket.AF_UNIX
    try:
        version = ip_address(question.host).version
    except ValueError:
        raise _Refusal(f"can't be asked: {question.host!r} is no address in figures") from None
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def _host_and_port(question: Question) -> tuple[str, int | None]:
    return ("localhost", None) if question.unix_socket is not None else (question.host, question.port)


def _encrypted(plain: socket.socket) -> socket.socket:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def _headers(question: Question) -> dict[str, str]:
    headers = {"User-Agent": USER_AGENT, "Accept": question.accept, "Connection": "close"}
    secret = question.authorization
    if secret is None:
        return headers
    if not (secret.isascii() and secret.isprintable()):  # the library's own words would show it
        raise _Refusal("can't be asked: its token has characters that no header can hold")
    return headers | {"Authorization": secret}


def _body(response: http.client.HTTPResponse, limit_bytes: int) -> bytes:
    body = response.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise _Refusal(f"answers with more than {limit_bytes} bytes")
    if response.length:  # what was announced and did not come; read() with a size does not complain
        raise _Refusal("ended its answer in the middle")
    return body


def _same_server(question: Question, path: str, location: str) -> str | None:
    """The path and query that a redirect leads to; None where that is another server, or nowhere."""
    host, port = _host_and_port(question)
    scheme = "https" if question.tls else "http"
    here = urlsplit(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port or 80}{path}")
    there = urlsplit(urljoin(here.geturl(), location))
    there_port = there.port or {"http": 80, "https": 443}.get(there.scheme)
    if not location or (there.scheme, there.hostname, there_port) != (here.scheme, here.hostname, here.port):
        return None
    return (there.path or "/") + (f"?{there.query}" if there.query else "")


def _late(question: Question) -> str:
    return f"gave no whole answer in {question.deadline_s:g} s"


def _words(error: Exception, question: Question) -> str:
    """Why there is no answer. What an error says of itself may show a header or a body, so only its kind is told."""
    match error:
        case _Refusal():
            return str(error)
        case TimeoutError():
            return _late(question)
        case ConnectionRefusedError():
            return "refuses connections"
        case http.client.RemoteDisconnected():
            return "ended the connection without an answer"
        case OSError():
            return f"can't be talked to: {error.strerror or type(error).__name__}"
        case http.client.IncompleteRead():
            return "ended its answer in the middle"
        case http.client.HTTPException() | ValueError():
            return "answers what is not HTTP"
        case _:
            return f"can't be asked: {type(error).__name__}"
