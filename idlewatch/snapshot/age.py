"""
Encrypted files in the format of age, version 1, so that the `age` tool opens them without idlewatch.

The format is C2SP's "The age file encryption format" (c2sp.org/age): a header in which a random key of the file is
wrapped for one X25519 key, then the content in pieces of 64 KiB, each with ChaCha20-Poly1305 under its own number. A
piece that is changed, moved or missing does not open, and an end that was cut off is told. The pieces are why this is
not left to a wrapper of another age: the index at the end of an archive is read without the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import importlib.util
import os
import re
from base64 import b64decode, b64encode
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from idlewatch.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES: Final = 64 * 1024
_TAG_BYTES: Final = 16
_SEALED_PIECE_BYTES: Final = PIECE_BYTES + _TAG_BYTES
_NONCE_BYTES: Final = 16
_FILE_KEY_BYTES: Final = 16
_VERSION: Final = b"age-encryption.org/v1"
_STANZA_INFO: Final = b"age-encryption.org/v1/X25519"
_HEADER: Final = re.compile(
    rb"age-encryption\.org/v1\n-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n--- ([A-Za-z0-9+/]{43})\n"
)
HEADER_BYTES: Final = len(_VERSION) + 1 + len("-> X25519 ") + 43 + 1 + 43 + 1 + len("--- ") + 43 + 1
_OVERHEAD_BYTES: Final = HEADER_BYTES + _NONCE_BYTES
_PREFIX: Final = "AGE-SECRET-KEY-"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_NO_LIBRARY: Final = "encrypted snapshots need a library: pip install '.[crypto]' in a checkout of idlewatch"
_NOT_ITS_KEY: Final = "IDLEWATCH_SNAPSHOT_KEY is not the key that it was encrypted with, or it is damaged"


class Key:
    """An X25519 key, as `age-keygen` writes it. Its text is in no repr."""

    def __init__(self, text: str) -> None:
        """Raises ValueError where it is no such key; the error does not hold it."""
        self._secret = _secret_of(text.strip())

    def __repr__(self) -> str:
        return "Key(…)"

    @cached_property
    def _private(self) -> Any:
        return _x25519().X25519PrivateKey.from_private_bytes(self._secret)

    @cached_property
    def _public(self) -> bytes:
        public: bytes = self._private.public_key().public_bytes_raw()
        return public

    def header(self, file_key: bytes) -> bytes:
        """Return a header in which `file_key` is wrapped for this key."""
        x25519 = _x25519()
        ephemeral = x25519.X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(self._private.public_key())
        wrapped = _cipher(_hkdf(shared, share + self._public, _STANZA_INFO)).encrypt(bytes(12), file_key, None)
        front = b"%b\n-> X25519 %b\n%b\n---" % (_VERSION, _text(share), _text(wrapped))
        return front + b" " + _text(_mac(file_key, front)) + b"\n"

    def file_key(self, header: bytes) -> bytes:
        """Return the key that a header wraps. Raises SnapshotError."""
        match = _HEADER.fullmatch(header)
        if match is None:
            raise SnapshotError("not an encrypted file of idlewatch, or it is damaged")
        share, wrapped, told = (_bytes(part) for part in match.groups())
        try:
            shared = self._private.exchange(_x25519().X25519PublicKey.from_public_bytes(share))
            key: bytes = _cipher(_hkdf(shared, share + self._public, _STANZA_INFO)).decrypt(bytes(12), wrapped, None)
        except (ValueError, _invalid()) as error:
            raise SnapshotError(_NOT_ITS_KEY) from error
        if len(key) != _FILE_KEY_BYTES or not hmac.compare_digest(_mac(key, header[: header.rindex(b" ")]), told):
            raise SnapshotError(_NOT_ITS_KEY)
        return key


def new_key() -> str:
    """Return the text of a new key."""
    return _bech32(os.urandom(32))


def require_library() -> None:
    """Raise SnapshotError with the remedy where the library for encryption is not installed."""
    if importlib.util.find_spec("cryptography") is None:
        raise SnapshotError(_NO_LIBRARY)


class SealingWriter:
    """Encrypts what is put into it, piece by piece."""

    def __init__(self, key: Key, write: Callable[[bytes], None]) -> None:
        file_key, nonce = os.urandom(_FILE_KEY_BYTES), os.urandom(_NONCE_BYTES)
        self._write = write
        self._cipher = _cipher(_hkdf(file_key, nonce, b"payload"))
        self._buffer = bytearray()
        self._number = 0
        write(key.header(file_key) + nonce)

    def put(self, data: bytes) -> None:
        """Add to the content."""
        self._buffer += data
        at = 0
        sealed = []
        while len(self._buffer) - at > PIECE_BYTES:  # the last piece has a mark, so one is always kept back
            sealed.append(self._seal(bytes(self._buffer[at : at + PIECE_BYTES]), last=False))
            at += PIECE_BYTES
        del self._buffer[:at]
        self._write(b"".join(sealed))

    def finish(self) -> None:
        """End the content."""
        self._write(self._seal(bytes(self._buffer), last=True))

    def _seal(self, piece: bytes, *, last: bool) -> bytes:
        sealed: bytes = self._cipher.encrypt(_nonce(self._number, last=last), piece, None)
        self._number += 1
        return sealed


class SealedContent:
    """The content of an encrypted file, read at any place."""

    def __init__(self, key: Key, read: Callable[[int, int], bytes], file_bytes: int) -> None:
        """`read` gets an offset in the file and a number of bytes. Raises SnapshotError."""
        self._read = read
        self.head = read(0, _OVERHEAD_BYTES)
        file_key = key.file_key(self.head[:HEADER_BYTES])
        self._cipher = _cipher(_hkdf(file_key, self.head[HEADER_BYTES:], b"payload"))
        self._sealed_bytes = file_bytes - _OVERHEAD_BYTES
        if self._sealed_bytes < _TAG_BYTES:
            raise SnapshotError("not an encrypted file of idlewatch, or it is damaged: its content is cut off")
        self._pieces = -(-self._sealed_bytes // _SEALED_PIECE_BYTES)
        self.content_bytes = self._sealed_bytes - self._pieces * _TAG_BYTES
        """Of the content, where the file is whole."""

    def piece(self, number: int, most: int, each_sealed: Callable[[bytes], object]) -> bytes:
        """Return at most so many pieces from one on, in one. Raises SnapshotError for damage."""
        at = number * _SEALED_PIECE_BYTES
        size = min(most * _SEALED_PIECE_BYTES, self._sealed_bytes - at)
        sealed = self._read(_OVERHEAD_BYTES + at, size)
        each_sealed(sealed)
        return b"".join(self._opened(sealed, number))

    def _opened(self, sealed: bytes, number: int) -> Iterator[bytes]:
        for at in range(0, len(sealed), _SEALED_PIECE_BYTES):
            nonce = _nonce(number, last=number == self._pieces - 1)
            number += 1
            try:
                yield self._cipher.decrypt(nonce, sealed[at : at + _SEALED_PIECE_BYTES], None)
            except _invalid() as error:
                raise SnapshotError("the archive is damaged: a piece of it does not open with its key") from error


def seal(key: Key, data: bytes) -> bytes:
    """Return small data as an encrypted file."""
    parts: list[bytes] = []
    writer = SealingWriter(key, parts.append)
    writer.put(data)
    writer.finish()
    return b"".join(parts)


def unseal(key: Key, sealed: bytes) -> bytes:
    """Undo `seal`. Raises SnapshotError."""
    content = SealedContent(key, lambda at, size: sealed[at : at + size], len(sealed))
    return content.piece(0, len(sealed), lambda _: None)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256 (RFC 5869); one block is all that is ever needed."""
    extracted = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def _mac(file_key: bytes, front: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"", b"header"), front, hashlib.sha256)


def _text(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    """Undo `_text`. Raises SnapshotError where bits that say nothing are not zero: the format allows one spelling."""
    data = b64decode(text + b"=")
    if _text(data) != text:
        raise SnapshotError("not an encrypted file of idlewatch, or it is damaged")
    return data


def _cipher(key: bytes) -> Any:
    return _library("hazmat.primitives.ciphers.aead").ChaCha20Poly1305(key)


def _x25519() -> Any:
    return _library("hazmat.primitives.asymmetric.x25519")


def _invalid() -> type[Exception]:
    return cast("type[Exception]", _library("exceptions").InvalidTag)


def _library(part: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.{part}")
    except ImportError as error:
        raise SnapshotError(_NO_LIBRARY) from error


# ---------------------------------------------------------------- Bech32, BIP 173


def _secret_of(text: str) -> bytes:
    front, one, rest = text.upper().rpartition("1")
    values = [_BECH32.find(char) for char in rest.lower()]
    whole = one and front == _PREFIX and -1 not in values and text in (text.upper(), text.lower())
    if not whole or _polymod([*_expanded(), *values]) != 1:
        raise ValueError("it is no key of age; make one with `age-keygen`: AGE-SECRET-KEY-1…")
    number = 0
    for value in values[:-6]:
        number = number << 5 | value
    bits = 5 * len(values[:-6])
    if bits // 8 != 32 or number & ((1 << bits % 8) - 1):
        raise ValueError("it is no key of age; make one with `age-keygen`: AGE-SECRET-KEY-1…")
    return (number >> bits % 8).to_bytes(32, "big")


def _bech32(secret: bytes) -> str:
    number = int.from_bytes(secret, "big") << 4  # 256 bits in 52 groups of five
    values = [number >> 5 * (51 - at) & 31 for at in range(52)]
    check = _polymod([*_expanded(), *values, *[0] * 6]) ^ 1
    values += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return f"{_PREFIX}1{''.join(_BECH32[value] for value in values)}".upper()


def _expanded() -> list[int]:
    codes = _PREFIX.lower().encode()
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            check ^= generator if top >> bit & 1 else 0
    return check
