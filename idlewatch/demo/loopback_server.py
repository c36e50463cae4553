"""The wire of the API on loopback: reads requests, sends answers in their manner, and the process around it."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Protocol

from idlewatch.demo.loopback_facts import Sent
from idlewatch.demo.loopback_pod import LoopbackPod
from idlewatch.demo.loopback_replies import Manner, Reply

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from idlewatch.demo.loopback_api import LoopbackApi

CONTROL_PREFIX = "/_control/"
DRIP_INTERVAL_S = 0.05
_REQUEST_MAX_BYTES = 1 << 20


class Answering(Protocol):
    """What stands behind the wire."""

    closing: threading.Event

    def reply_to(self, sent: Sent) -> Reply:
        """Answer a request to the API."""
        ...

    def control(self, sent: Sent) -> Reply:
        """Answer a request to what steers it."""
        ...


def conversation(api: Answering) -> type[BaseHTTPRequestHandler]:
    """Return the class that http.server makes one of for each connection."""

    class Conversation(_Conversation):
        behind = api

    return Conversation


class _Conversation(BaseHTTPRequestHandler):
    behind: Answering
    timeout = 30.0
    disable_nagle_algorithm = True
    server_version = "loopback"
    sys_version = ""

    def talk(self) -> None:
        """Answer one request; a client that has gone is no error."""
        length = min(int(self.headers.get("Content-Length") or 0), _REQUEST_MAX_BYTES)
        sent = Sent(
            method=self.command,
            path=self.path.partition("?")[0],
            has_query="?" in self.path,
            headers=tuple(self.headers.items()),
            content=self.rfile.read(length),
        )
        is_control = sent.path.startswith(CONTROL_PREFIX)
        reply = self.behind.control(sent) if is_control else self.behind.reply_to(sent)
        with suppress(OSError):
            self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = talk  # noqa: N815  (the names that http.server calls)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's signature)
        """Say nothing: the requests are remembered."""

    def _send(self, reply: Reply) -> None:
        ways: dict[Manner, Callable[[Reply], None]] = {
            Manner.WHOLE: self._whole,
            Manner.CUT_OFF: self._cut_off,
            Manner.DRIP: self._drip,
            Manner.DRIP_HEAD: self._drip_head,
            Manner.ENDLESS: self._endless,
            Manner.HANG: self._hang,
            Manner.CLOSE: self._reset,
        }
        ways[reply.manner](reply)

    def _head(self, reply: Reply, length: int | None) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.content_type, **reply.headers}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _whole(self, reply: Reply) -> None:
        self._head(reply, len(reply.body))
        self.wfile.write(reply.body)

    def _cut_off(self, reply: Reply) -> None:
        self._head(reply, len(reply.body) + 100)
        self.wfile.write(reply.body)

    def _drip(self, reply: Reply) -> None:
        self._head(reply, len(reply.body))
        self._slowly(reply.body)

    def _drip_head(self, reply: Reply) -> None:
        self._slowly(f"HTTP/1.0 {reply.status} OK\r\nX-Slow: {'a' * 2000}\r\n\r\n".encode() + reply.body)

    def _endless(self, reply: Reply) -> None:
        self._head(reply, None)
        while not self.behind.closing.is_set():
            self.wfile.write(b" " * (1 << 16))

    def _hang(self, reply: Reply) -> None:
        del reply
        self.behind.closing.wait()

    def _reset(self, reply: Reply) -> None:
        del reply
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # it shares the socket, which is really closed with its last owner
        self.connection.close()

    def _slowly(self, data: bytes) -> None:
        for byte in _single(data):
            if self.behind.closing.wait(DRIP_INTERVAL_S):
                return
            self.wfile.write(byte)


def _single(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def serve(make: type[LoopbackApi], arguments: Sequence[str] | None) -> int:
    """Serve until standard input ends or SIGTERM; the first line says where."""
    options = _options(arguments)
    pod = LoopbackPod(
        pod_id=options.pod_id,
        usd_per_hour=options.usd_per_hour,
        stop_delay_s=options.stop_delay_s,
        locked=options.locked,
    )
    signal.signal(signal.SIGTERM, _leave)
    with make(pods=[pod], keys=options.key, port=options.port) as api, suppress(KeyboardInterrupt):
        sys.stdout.write(_addresses(api, as_json=options.print_json) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    return 0


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _addresses(api: LoopbackApi, *, as_json: bool) -> str:
    if not as_json:
        return f"IDLEWATCH_RUNPOD_API_URL={api.rest_url}\nIDLEWATCH_RUNPOD_GRAPHQL_URL={api.graphql_url}"
    control_url = api.address + CONTROL_PREFIX.rstrip("/")
    return json.dumps({"rest_url": api.rest_url, "graphql_url": api.graphql_url, "control_url": control_url})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m idlewatch.demo.loopback_api", description="RunPod's API on loopback, over one Pod."
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--pod-id", required=True)
    parser.add_argument("--key", action="append", required=True, help="a key that may do everything; may be repeated")
    parser.add_argument("--usd-per-hour", type=float, default=1.59)
    parser.add_argument("--stop-delay-s", type=float, default=0.0, help="from an accepted stop to EXITED")
    parser.add_argument("--locked", action="store_true", help="the Pod is locked against stopping")
    parser.add_argument("--print-json", action="store_true", help="say the addresses as one line of JSON")
    return parser.parse_args(arguments)
