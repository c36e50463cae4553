"""The gate as a part of the web server: what it lets pass reaches the page, all else is answered here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import parse_qs

import structlog
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from idlewatch.web.links import PATH as KEEP
from idlewatch.web.security import (
    HEADERS,
    SESSION_S,
    Failures,
    Gatekeeper,
    content_policy,
    cookie_of,
    foreign,
    header_map,
    plain_path,
    set_cookie,
)

log = structlog.get_logger()

HEALTH, METRICS = "/healthz", "/metrics"
_SIGN_IN = "Sign in with the link that `idlewatch web --link` prints in this Pod.\n"
_ONWARD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>idlewatch</title>
<meta http-equiv="refresh" content="0;{where}"><p><a href="{where}">Go on</a></p></html>
"""
_LOGGED_EVERY_S = 60.0


class Refusals:
    """The answer to everything that should have been secret and was wrong; counts, and logs once a minute."""

    def __init__(self, wall: Callable[[], datetime], failures: Failures | None = None) -> None:
        self._wall, self._failures = wall, failures or Failures()
        self._logged_s = 0.0

    def answer(self, what: str) -> Response:
        """Return it; `what` was wrong, without its value."""
        now_s = self._wall().timestamp()
        too_many = self._failures.too_many(now_s)
        if now_s - self._logged_s >= _LOGGED_EVERY_S:
            self._logged_s = now_s
            log.warning("page_refused", what=what, so_far=self._failures.total)
        if too_many:
            return PlainTextResponse("too many failures; wait\n", 429, {"Retry-After": "10"})
        return PlainTextResponse(_SIGN_IN, 401)


class Gate:
    """Wraps the page."""

    def __init__(
        self,
        page: ASGIApp,
        keeper: Gatekeeper,
        refusals: Refusals,
        wall: Callable[[], datetime],
        moved: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """`moved` is told of all bytes that were sent to other machines so far."""
        self._page, self._keeper, self._refusals, self._wall = page, keeper, refusals, wall
        self._moved, self._sent = moved, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let pass with the `Session` in the scope's state."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._page(scope, receive, send)
            return  # a websocket: closed without a word
        answer = self._answered(scope)
        guarded = _with_headers(send)
        await (answer or self._page)(scope, receive, guarded if _is_near(scope) else self._counted(guarded))

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            await send(message)
            self._sent += len(message.get("body", b""))
            self._moved(self._sent)

        return counted

    def _answered(self, scope: Scope) -> Response | None:
        """Return the answer of the gate; None: let it pass."""
        headers, path = header_map(scope), scope["path"]
        if not plain_path(scope.get("raw_path") or path.encode()):
            return PlainTextResponse("no such address\n", 404)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("not allowed\n", 405, {"Allow": "GET, HEAD, POST"})
        if path == HEALTH:
            return PlainTextResponse("ok\n")
        acts = scope["method"] == "POST"
        if acts and (why := foreign(headers, acts=True)):
            return PlainTextResponse(f"refused: {why}\n", 403)
        if path.startswith(f"/{KEEP}/"):
            return None
        if path == METRICS and "authorization" in headers:
            fits = self._keeper.metrics_token_fits(headers["authorization"])
            return None if fits else self._refusals.answer("wrong metrics token")
        return self._of_session(scope, headers)

    def _of_session(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        token = _token(scope["query_string"])
        if token is not None:
            return self._login(token, headers) if scope["path"] == "/" else self._refusals.answer("unknown token")
        cookie, now_s = cookie_of(headers), self._wall().timestamp()
        session = self._keeper.session(cookie, now_s) if cookie else None
        if session is None and not cookie and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return _onward(scope["method"])
        if session is None:
            return self._refusals.answer("unknown session") if cookie else PlainTextResponse(_SIGN_IN, 401)
        if why := foreign(headers, acts=False):
            return PlainTextResponse(f"refused: {why}\n", 403)
        scope.setdefault("state", {})["session"] = session
        return None

    def _login(self, token: str, headers: Mapping[str, str]) -> Response:
        if not self._keeper.token_fits(token):
            return self._refusals.answer("wrong token")
        cookie = set_cookie(headers, self._keeper.new_session(self._wall().timestamp()), SESSION_S)
        answer = HTMLResponse(_ONWARD.format(where="./"))
        answer.headers["Set-Cookie"] = cookie
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer


def _is_near(scope: Scope) -> bool:
    """Whether the caller sits in this machine: what is sent to it leaves by no interface that is counted."""
    client = scope.get("client")
    return client is None or client[0] == "::1" or client[0].removeprefix("::ffff:").startswith("127.")


def _onward(method: str) -> Response:
    """
    For somebody who comes by a link on another site's page: browsers keep our cookie back there, and after a redirect.

    A page of ours that goes on to the same address gets it (RFC 6265bis, 8.8.2, "top-level requests").
    """
    return HTMLResponse(_ONWARD.format(where="") if method == "GET" else "", 401)


def _token(query: bytes) -> str | None:
    try:
        given = parse_qs(query.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=10).get("token")
    except ValueError:
        return None
    return given[0] if given else None


def _with_headers(send: Send) -> Send:
    """Every answer has the security headers; one that says its own policy keeps it."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            wanted = {**HEADERS, "Content-Security-Policy": content_policy()}
            message["headers"] = [
                *message["headers"],
                *((n.lower().encode(), v.encode()) for n, v in wanted.items() if n.lower().encode() not in given),
            ]
        await send(message)

    return guarded
