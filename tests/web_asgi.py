"""Asks the page as a server would hand requests on: raw paths, any header, no client that tidies anything up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from idlewatch.machine_clock import MachineClock
from idlewatch.web.app import page_app
from idlewatch.web.gate import Gate
from idlewatch.web.keys import keys_of
from tests.web_state import SetClock, show_status, watched

HOST = "127.0.0.1:8040"
ORIGIN = f"http://{HOST}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def said(self) -> Any:
        return json.loads(self.body)


@dataclass
class Visitor:
    """Somebody's browser, as far as it matters here: it keeps the cookie."""

    app: Gate
    headers: dict[str, str] = field(default_factory=lambda: {"host": HOST})
    cookie: str | None = None
    address: str = "127.0.0.1"

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        given = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN, "accept": "application/json"}
        return self.ask("POST", path, {**given, **headers}, urlencode(form).encode())

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        return asyncio.run(self.answer(method, path, headers, body))

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        raw, _, query = path.partition("?")
        named = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items() if value}}
        if self.cookie:
            named["cookie"] = self.cookie
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()],
            "client": (self.address, 1),
            "server": ("127.0.0.1", 8040),
        }
        return await _called(self.app, scope, body)

    def log_in(self, token: str) -> Answer:
        answer = self.get(f"/?token={token}")
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def csrf(self) -> str:
        return self.get("/").text.partition('data-csrf="')[2].partition('"')[0]


async def _called(app: Gate, scope: MutableMapping[str, Any], body: bytes) -> Answer:
    sent: list[MutableMapping[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]))


@dataclass
class Site:
    """The page over a made-up state folder."""

    state_dir: Path
    clock: SetClock
    app: Gate

    @property
    def token(self) -> str:
        return keys_of(self.state_dir).token

    def visitor(self, *, logged_in: bool = True) -> Visitor:
        made = Visitor(self.app)
        if logged_in:
            made.log_in(self.token)
        return made


def made_site(state_dir: Path) -> Site:
    clock = SetClock(MachineClock().now_s())  # that of `hold.py`, which reads it by itself
    show_status(state_dir, clock.now_s())
    return Site(state_dir, clock, page_app(watched(state_dir, clock)))
