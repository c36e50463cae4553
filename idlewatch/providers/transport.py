"""
One HTTP exchange with a total deadline: an answer, or a sentence that says why there is none.

An HTTP library's timeouts are per read, and a name lookup has none at all: a server that drips one byte a second, or
a resolver that hangs, passes them. So each exchange runs in a thread that is left behind at the deadline; it belongs
to a short-lived child process. No exception leaves with a request inside it: a request carries the key.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER_MAX_BYTES = 1 << 20
"""A Pod is a few kB; what is longer is not the API."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    """Holds the key."""
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whole."""

    status: int
    content_type: str = ""
    retry_after: str = ""
    """The header of that name as it was sent."""
    body: bytes = field(default=b"", repr=False)
    """May hold the Pod's variables with their values."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is no answer; always a passing reason."""

    text: str


class AnswerTooLongError(ValueError):
    """The answer went on beyond ANSWER_MAX_BYTES."""


def ask(request: Request, *, timeout_s: float) -> Answer | NoAnswer:
    """Return what the server said in at most `timeout_s` seconds, name lookup and connection included."""
    import httpx

    future: Future[Answer] = Future()
    Thread(target=_settle, args=(future, request, timeout_s), name="api call", daemon=True).start()
    try:
        return future.result(timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return NoAnswer(_why(error, _host(request.url), timeout_s))


def _settle(future: Future[Answer], request: Request, timeout_s: float) -> None:
    try:
        future.set_result(_exchange(request, timeout_s))
    except BaseException as error:  # noqa: BLE001  (carried over to the thread that waits, which judges it)
        future.set_exception(error)


def _exchange(request: Request, timeout_s: float) -> Answer:
    import httpx

    ends_s = time.monotonic() + timeout_s
    # No proxy is meant for loopback, whatever HTTP_PROXY says.
    trust_env = _host(request.url) not in _LOOPBACK
    with (
        httpx.Client(verify=trust(), timeout=timeout_s, trust_env=trust_env, follow_redirects=False) as client,
        client.stream(request.method, request.url, headers=request.headers, content=request.content) as response,
    ):
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            retry_after=response.headers.get("retry-after", ""),
            body=_within(response.iter_bytes(), ends_s),
        )


@functools.cache
def trust() -> ssl.SSLContext:
    """
    Return httpx's own choice: SSL_CERT_FILE or SSL_CERT_DIR where set, else certifi's bundle.

    An image that names a bundle and has none must not keep its Pod from being stopped: then certifi's is used, too.
    """
    import httpx

    try:
        context: ssl.SSLContext = httpx.create_ssl_context()
    except FileNotFoundError:
        context = httpx.create_ssl_context(trust_env=False)
    return context


def _within(chunks: Iterator[bytes], ends_s: float) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            raise AnswerTooLongError
        if time.monotonic() > ends_s:
            raise TimeoutError
    return bytes(body)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the API"
    except ValueError:
        return "the API"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _why(error: BaseException, host: str, timeout_s: float) -> str:
    """Return a sentence made of our own words: an error's own text may quote the header that holds the key."""
    for link in _chain(error):
        text = _why_this(link, host, timeout_s)
        if text:
            return text
    return f"the connection to {host} broke ({type(error).__name__})"


def _why_this(error: BaseException, host: str, timeout_s: float) -> str | None:  # noqa: PLR0911  (a table)
    import httpx

    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {host} is not trusted here ({error.verify_message}); "
                "install ca-certificates, or look at SSL_CERT_FILE"
            )
        case ssl.SSLError():
            return f"TLS with {host} failed ({(error.reason or 'no reason given').replace('_', ' ').lower()})"
        case socket.gaierror():
            return f"the name {host} could not be resolved"
        case ConnectionRefusedError():
            return f"{host} refused the connection"
        case FileNotFoundError():
            return "no CA bundle is there, neither one that SSL_CERT_FILE names nor certifi's"
        case TimeoutError() | httpx.TimeoutException():
            return f"no whole answer from {host} within {timeout_s:.3g} s"
        case AnswerTooLongError():
            return f"an answer of more than {ANSWER_MAX_BYTES >> 20} MiB from {host}"
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | UnicodeError():
            return "the address of the API, or the key, can't be sent"
        case _:
            return None
