"""
A small S3 on loopback: PUT, GET with a range, HEAD, DELETE and ListObjectsV2 in pages; it looks at every signature.

Written from AWS's S3 API reference and "Signature Version 4". Only what it is told to do goes wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID: Final = "AKLOOPBACK"
SECRET: Final = "loopback-secret-0123456789"
BUCKET: Final = "bucket"
PAGE: Final = 3
Answer = tuple[int, str]
"""Status and error code instead of what was asked for; status 0 answers nothing until the server ends."""


class LoopbackS3:
    """What lies in the bucket, and what was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.instead: Callable[[str, str], Answer | None] = lambda method, key: None
        self.lock, self.ended = threading.Lock(), threading.Event()

    def variables(self, **more: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.address, **more}


@contextmanager
def loopback_s3() -> Iterator[LoopbackS3]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
    server.daemon_threads = True
    made = LoopbackS3(f"http://127.0.0.1:{server.server_address[1]}")
    server.s3 = made  # type: ignore[attr-defined]  # how a request finds it
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def s3(self) -> LoopbackS3:
        found: LoopbackS3 = self.server.s3  # type: ignore[attr-defined]  # see loopback_s3
        return found

    def log_message(self, *_: object) -> None:
        pass

    def _answered(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        with self.s3.lock:
            self.s3.asked.append((self.command, key))
            instead = self.s3.instead(self.command, key)
        if instead is not None and not instead[0]:
            self.s3.ended.wait()
            self.close_connection = True
        elif instead is not None:
            self._refuse(*instead)
        elif bucket != BUCKET:
            self._refuse(404, "NoSuchBucket")
        elif (why := _unsigned(self, body)) is not None:
            self._refuse(403, why)
        else:
            self._serve(key, parts.query, body)

    do_GET = do_PUT = do_DELETE = do_HEAD = _answered  # noqa: N815 - the names of http.server

    def _serve(self, key: str, query: str, body: bytes) -> None:
        with self.s3.lock:
            if self.command == "PUT":
                self.s3.objects[key] = body
                self._say(200, b"", ETag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
            elif self.command == "DELETE":
                self.s3.objects.pop(key, None)
                self._say(204, b"")
            elif not key:
                self._list(parse_qs(query))
            elif key in self.s3.objects:
                self._content(self.s3.objects[key])
            else:
                self._refuse(404, "NoSuchKey")

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        names = sorted(name for name in self.s3.objects if name.startswith(prefix) and name > after)
        if "delimiter" in query:
            folders = sorted({prefix + name.removeprefix(prefix).partition("/")[0] + "/" for name in names})
            told = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
            self._say(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{told}</ListBucketResult>".encode())
            return
        page = names[:PAGE]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(names) > PAGE else ""
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"0"</ETag><Size>{len(self.s3.objects[name])}</Size></Contents>'
            for name in page
        )
        truncated = str(bool(more)).lower()
        self._say(
            200, f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{rows}</ListBucketResult>".encode()
        )

    def _content(self, content: bytes) -> None:
        begin, end = 0, len(content)
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(end, int(last) + 1)
        told = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"} if asked else {}
        stamp = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": '"0"'}
        self._say(206 if asked else 200, content[begin:end], **told, **stamp)

    def _refuse(self, status: int, code: str) -> None:
        self._say(
            status,
            f"<Error><Code>{code}</Code><Message>{code}, {self.headers['Authorization']}</Message></Error>".encode(),
        )

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _unsigned(request: _Request, body: bytes) -> str | None:
    """The code of S3's refusal where the signature is not that of the body and the key; None: it is."""
    told = dict(part.strip().split("=", 1) for part in request.headers["Authorization"].split(" ", 1)[1].split(","))
    key_id, day, region, service, _ = told["Credential"].split("/")
    if key_id != KEY_ID:
        return "InvalidAccessKeyId"
    digest = hashlib.sha256(body).hexdigest()
    if request.headers["x-amz-content-sha256"] != digest:
        return "XAmzContentSHA256Mismatch"
    names = told["SignedHeaders"]
    parts = urlsplit(request.path)
    query = parse_qs(parts.query, keep_blank_values=True)
    pairs = sorted((quote(name, safe="-_.~"), quote(values[0], safe="-_.~")) for name, values in query.items())
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names.split(";"))
    text = "\n".join([request.command, parts.path, "&".join(f"{n}={v}" for n, v in pairs), headers, names, digest])
    scope = f"{day}/{region}/{service}/aws4_request"
    signed = "\n".join(
        ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256(text.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    fits = hmac.compare_digest(hmac.new(key, signed.encode(), "sha256").hexdigest(), told["Signature"])
    return None if fits else "SignatureDoesNotMatch"
