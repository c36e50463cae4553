"""A proxy as Jupyter's server proxy is one: the page lies below a path that the page is not told of."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/user/ann/proxy/8990"
_OF_THE_WIRE = {"connection", "transfer-encoding", "content-length"}


@contextmanager
def below_a_prefix(port: int) -> Iterator[str]:
    """The address below which the page at `port` is found."""

    class Proxied(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            length = int(self.headers.get("Content-Length") or 0)
            wire = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                wire.request(
                    self.command, self.path.removeprefix(PREFIX), self.rfile.read(length), dict(self.headers.items())
                )
                self._hand_back(wire.getresponse())
            finally:
                wire.close()

        do_POST = do_GET  # noqa: N815  (the library's name)

        def _hand_back(self, answer: http.client.HTTPResponse) -> None:
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_WIRE:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxied)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
