"""The page as an ASGI application: which address answers what, behind the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from idlewatch.errors import Refused
from idlewatch.history.store import status_of
from idlewatch.model import Json
from idlewatch.show.metrics import exposition
from idlewatch.state_folder import daemon_watches
from idlewatch.web import charts, links, pages
from idlewatch.web.acting import Buttons
from idlewatch.web.gate import METRICS, Gate, Refusals
from idlewatch.web.keys import Keys, KeysNow
from idlewatch.web.live import Live, Watched
from idlewatch.web.measured import Measured
from idlewatch.web.security import BODY_MAX, Gatekeeper, content_policy, header_map, set_cookie

_BODY_WITHIN_S = 10.0
_KEEP_S = {"30m": 1800.0, "2h": 7200.0}
_DRAWN_AT_ONCE = 2
_STATIC_KEPT = {"Cache-Control": "private, max-age=86400, immutable"}
"""Their addresses have the version in them."""


class Page:
    """Every address of the page but those that the gate answers."""

    def __init__(self, watched: Watched, keys: Callable[[], Keys], refusals: Refusals, measured: Measured) -> None:
        self._watched, self._keys, self._refusals, self._measured = watched, keys, refusals, measured
        self._live = Live(watched)
        self._buttons = Buttons(watched.state_dir, watched.clock, watched.hold_max_s)
        self._keeper = Gatekeeper(keys)
        self._drawing = asyncio.Semaphore(_DRAWN_AT_ONCE)

    def routes(self) -> list[Route]:
        """All of them, spelt out: nothing is found by its path on a disk."""
        acts = {
            "hold": self._hold,
            "release": self._release,
            "save": self._save,
            "stop": self._stop,
            "cancel": self._cancel,
        }
        return [
            Route("/", self._home),
            Route("/stop", self._stop_page),
            Route("/api/status", self._status),
            Route("/api/why", self._why),
            Route("/api/series", self._series),
            Route("/api/timeline", self._timeline),
            Route("/api/measured", self._measured_now),
            Route("/static/{name}", self._static),
            Route("/report", self._report),
            Route(METRICS, self._metrics),
            Route("/measure", self._measure, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route(f"/{links.PATH}/{{link}}", self._keep_page),
            Route(f"/{links.PATH}/{{link}}", self._keep, methods=["POST"]),
            *(Route(f"/{name}", act, methods=["POST"]) for name, act in acts.items()),
        ]

    async def _home(self, request: Request) -> Response:
        return HTMLResponse(pages.home(request.state.session.csrf))

    async def _stop_page(self, request: Request) -> Response:
        status = await run_in_threadpool(self._live.status)
        return HTMLResponse(pages.stop(request.state.session.csrf, status, self._watched.limits.stop_without_save))

    async def _static(self, request: Request) -> Response:
        found = pages.STATIC.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found.content, media_type=found.media_type, headers=_STATIC_KEPT)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._live.status))

    async def _why(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._live.why))

    async def _series(self, request: Request) -> Response:
        return await self._drawn(request, charts.series)

    async def _timeline(self, request: Request) -> Response:
        return await self._drawn(request, charts.timeline)

    async def _drawn(self, request: Request, draw: Callable[..., dict[str, Json]]) -> Response:
        """No more than a few at a time: ten open tabs must not take the Pod's cores."""

        def answer() -> dict[str, Json]:
            return draw(self._watched.state_dir, self._live.window(request.query_params))

        async with self._drawing:
            try:
                return JSONResponse(await run_in_threadpool(answer))
            except (ValueError, KeyError, OverflowError) as error:
                raise HTTPException(400, f"no such window: {error}") from None

    async def _report(self, _request: Request) -> Response:
        """A page that was made elsewhere: it may carry its style and its pictures, and runs nothing."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
        return HTMLResponse(await self._measured.report(), headers={"Content-Security-Policy": policy})

    async def _metrics(self, _request: Request) -> Response:
        w = self._watched

        def answer() -> str:
            lives = daemon_watches(w.state_dir)
            return exposition(status_of(w.state_dir), w.clock.now_s(), lives=lives)

        told = await run_in_threadpool(answer)
        return PlainTextResponse(told, media_type="text/plain; version=0.0.4")

    async def _measured_now(self, request: Request) -> Response:
        return JSONResponse(self._measured.answer(request.query_params.get("what", "")))

    async def _measure(self, request: Request) -> Response:
        form = await self._form(request)
        try:
            self._measured.start(form.get("what", ""))
        except KeyError:
            raise HTTPException(400, "there is nothing of that name to measure") from None
        return JSONResponse({"said": "measuring"}, 202)

    async def _hold(self, request: Request) -> Response:
        form = await self._form(request)
        for_s = _KEEP_S.get(form.get("for", ""))
        if for_s is None:
            raise HTTPException(400, "keep it for 30m or 2h")
        return self._said(request, self._buttons.hold(for_s, form.get("reason", "")))

    async def _release(self, request: Request) -> Response:
        form = await self._form(request)
        return self._said(request, self._buttons.release(form.get("id", "")))

    async def _save(self, request: Request) -> Response:
        await self._form(request)
        return self._said(request, self._buttons.save())

    async def _stop(self, request: Request) -> Response:
        form = await self._form(request)
        if form.get("confirmed") != "yes":
            raise HTTPException(400, "a stop must be confirmed")
        warn_for_s = {"30s": 30.0, "5m": 300.0}.get(form.get("warn", ""), 0.0)
        return self._said(request, self._buttons.stop(warn_for_s))

    async def _cancel(self, request: Request) -> Response:
        await self._form(request)
        return self._said(request, self._buttons.cancel_stop())

    async def _logout(self, request: Request) -> Response:
        await self._form(request)
        gone = set_cookie(header_map(request.scope), "", 0.0)
        return PlainTextResponse("Signed out.\n", headers={"Set-Cookie": gone})

    async def _keep_page(self, request: Request) -> Response:
        """Looks, and does nothing: chat programs fetch this."""
        try:
            link = self._link(request)
            if links.is_used(self._watched.state_dir, link):
                raise links.BadLink("this link was used already; a newer notice has another one", ours=True)
        except links.BadLink as error:
            return self._bad_link(error)
        return _by_itself(pages.keep(link.for_s, datetime.fromtimestamp(link.until_s).astimezone()))

    async def _keep(self, request: Request) -> Response:
        try:
            await _body(request)
            link = self._link(request)
            with links.used(self._watched.state_dir, link, self._watched.clock.wall()):
                said = self._buttons.hold(link.for_s, who="the link in a notice")
        except links.BadLink as error:
            return self._bad_link(error)
        return _by_itself(pages.told("Kept", said))

    def _link(self, request: Request) -> links.KeepLink:
        return links.understood(self._keys(), request.path_params["link"], self._watched.clock.wall())

    def _bad_link(self, error: links.BadLink) -> Response:
        if not error.ours:
            return self._refusals.answer("wrong link")
        return _by_itself(pages.told("Nothing was done", f"{error}."), 410)

    async def _form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form of ours. Raises HTTPException where it is none."""
        form = dict(parse_qsl((await _body(request)).decode("utf-8", "replace"), max_num_fields=20))
        if not self._keeper.csrf_fits(request.state.session, form.get("csrf", "")):
            raise HTTPException(403, "refused: the form is not from a page of this login; load the page again")
        return form

    def _said(self, request: Request, said: str) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"said": said})
        return RedirectResponse("./", 303)


def _by_itself(page: str, status: int = 200) -> Response:
    """A page without a login: it carries its style, and may load nothing."""
    style = f"'sha256-{pages.KEEP_STYLE_HASH}'"
    policy = content_policy(script_src="'none'", connect_src="'none'", img_src="'none'", style_src=style)
    return HTMLResponse(page, status, {"Content-Security-Policy": policy})


async def _body(request: Request) -> bytes:
    """Return a small body that comes in time."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(415, "only forms")
    body = b""
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_MAX:
                    raise HTTPException(413, "too long")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "too slow") from None
    return body


def _refused(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"refused: {error}\n", 409)


def _not_done(_request: Request, error: Exception) -> Response:
    status: Any = getattr(error, "status_code", 500)
    return PlainTextResponse(f"{getattr(error, 'detail', 'not done')}\n", status)


def page_app(
    watched: Watched, measured: Measured | None = None, moved: Callable[[int], None] = lambda _bytes: None
) -> Gate:
    """
    Return the application. Raises Refused where the page's secrets can't be kept.

    `moved` is told of all bytes that were sent to other machines so far.
    """
    keys = KeysNow(watched.state_dir)
    keys()
    refusals = Refusals(watched.clock.wall)
    page = Page(watched, keys, refusals, measured or Measured())
    inner = Starlette(
        routes=page.routes(),
        middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4)],
        exception_handlers={Refused: _refused, HTTPException: _not_done},
    )
    inner.router.redirect_slashes = False  # it would redirect to whatever the Host header says
    return Gate(inner, Gatekeeper(keys), refusals, watched.clock.wall, moved)
