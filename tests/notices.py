"""What the tests of notices share: words for a Pod, and a web server that answers as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from idlewatch.notify.words import PodNow, Words

WALL = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)


def words(**other: Any) -> Words:
    """Words for a Pod with a volume."""
    usual: dict[str, Any] = {
        "pod_id": "p1",
        "saved_to": "/workspace",
        "lost": None,
        "storage": None,
        "stops_unsaved": False,
        "wall": lambda: WALL,
        "now": PodNow(),
    }
    return Words(**(usual | other))


@dataclass
class Heard:
    """A person who listens."""

    texts: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Hook:
    """A webhook's server: what it was sent, and how it answers."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drips: bool = False
    """Sends its answer's head byte by byte and never ends."""
    hangs: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def kinds(self) -> list[str]:
        return [str(each.get("kind")) for each in self.sent]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append((request.command, request.path))
        if body:
            self.sent.append(json.loads(body))
        if self.hangs:
            self.over.wait(120)
        elif self.drips:
            self._drip(request)
        else:
            request.send_response(self.status)
            for name, value in {"Content-Length": "0", **self.headers}.items():
                request.send_header(name, value)
            request.end_headers()

    def _drip(self, request: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            for letter in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
                request.wfile.write(bytes([letter]))
                request.wfile.flush()
                if self.over.wait(0.05):
                    return


@contextlib.contextmanager
def served() -> Iterator[Hook]:
    """A webhook on loopback."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.answer(self)

        def do_GET(self) -> None:
            hook.answer(self)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  (the name is the parent's)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook.url = f"http://127.0.0.1:{server.server_address[1]}/hooks/SECRETTOKEN"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.over.set()
        server.shutdown()
        server.server_close()
