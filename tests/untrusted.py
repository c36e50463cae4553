"""A server on loopback whose certificate nobody vouches for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
from cryptography.x509.oid import NameOID


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Every client turns away: no news, and no traceback among what a test shows."""


@contextmanager
def untrusted(folder: Path) -> Iterator[str]:
    """Its address, while it runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(folder / "server.pem"))
    with _Server(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _self_signed(path: Path) -> Path:
    """A key and a certificate by itself, good for a day."""
    name = Name([NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    since, to = now - timedelta(hours=1), now + timedelta(days=1)
    made = CertificateBuilder(name, name, key.public_key(), random_serial_number(), since, to).sign(key, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path
