"""
Posts one notice as JSON to an address. Runs in a child process, which ends it where its whole time is over.

What goes wrong is said in our own words: a library's may quote the address, and that is a secret.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from idlewatch import __version__
from idlewatch.model import Json

_READ_S = 10.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def post(url: str, notice: Mapping[str, Json]) -> dict[str, Json]:
    """
    Post it. Returns an empty object where the server took it (2xx), else `why`, and `retry_after_s` where it said so.

    A redirect is not followed: what is sent to an address that its owner named goes nowhere else.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"idlewatch/{__version__}"}
    return exchanged("POST", url, headers, json.dumps(dict(notice)).encode())


def exchanged(method: str, url: str, headers: Mapping[str, str], content: bytes | None = None) -> dict[str, Json]:
    """One exchange whose answer counts by its status only; returns as `post` does."""
    import httpx

    trust_env = urlsplit(url).hostname not in _LOOPBACK  # no proxy is meant for loopback, whatever HTTP_PROXY says
    try:
        with (
            httpx.Client(timeout=_READ_S, trust_env=trust_env, follow_redirects=False) as client,
            client.stream(method, url, headers=headers, content=content) as response,
        ):
            return _said(response.status_code, response.headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return {"why": why(error)}


def _said(status: int, headers: Mapping[str, str]) -> dict[str, Json]:
    if 200 <= status < 300:
        return {}
    if 300 <= status < 400:
        return {"why": f"it redirects elsewhere (HTTP {status}); write the address that it means"}
    retry = headers.get("retry-after", "")
    wait: dict[str, Json] = {"retry_after_s": float(retry)} if retry.isdecimal() else {}
    return {"why": f"it answered HTTP {status}", **wait}


def why(error: BaseException) -> str:
    """Why there was no answer."""
    import httpx

    for link in _chain(error):
        match link:
            case ssl.SSLError():
                return "TLS failed; is its certificate trusted here?"
            case socket.gaierror():
                return "its name could not be resolved"
            case ConnectionRefusedError():
                return "it refused the connection"
            case TimeoutError() | httpx.TimeoutException():
                return f"no answer within {_READ_S:.0f} s"
            case httpx.InvalidURL() | httpx.UnsupportedProtocol() | UnicodeError():
                return "its address can't be understood"
    return f"the connection broke ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
