"""
Takes known secrets out of text that comes from outside: pure, and put to use at the edges.

What a program prints, a server answers or an exception says may hold a key that is known here. It is looked for as it
is, percent-encoded and as JSON writes it; whatever of the text belongs to one is masked.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "**********"
SHORTEST = 6
"""A value as short as `true` or `0` would be found everywhere."""
_RANDOM_WITH_DIGIT, _RANDOM = 8, 20
_SEPARATORS = re.compile(r"[/:?&=@#;,\s]+")
_SECRET_NAME = re.compile(
    r"^RUNPOD_SECRET_.|(KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE)?|CREDENTIALS?|JWT|_PAT)(_BASE64|_B64)?$"
)


class Redactor:
    """Masks what is secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Secrets shorter than `SHORTEST` characters are left out: they would be found in ordinary words."""
        found = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST and form.strip("*")}
        longest_first = sorted(found, key=lambda form: (-len(form), form))
        # A lookahead finds those, too, that begin within another one.
        self._pattern = re.compile("(?=(" + "|".join(map(re.escape, longest_first)) + "))") if found else None

    def clean(self, text: str) -> str:
        """`text`, and nothing in it of a secret that it held whole."""
        if self._pattern is None:
            return text
        cleaned, done = "", 0
        for begin, end in _merged((found.start(), found.end(1)) for found in self._pattern.finditer(text)):
            cleaned += text[done:begin] + MASK
            done = end
        return cleaned + text[done:]


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in the order of their beginnings, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _forms(secret: str) -> set[str]:
    bare = secret.strip()
    forms = {secret, bare, unquote(bare), quote(bare, safe="")}
    return forms | {json.dumps(form)[1:-1] for form in forms}


def shown_address(address: str) -> str:
    """
    `scheme://host[:port]` of an address; that it has more, a password, a path or a query, is shown and not told.

    Of what is no such address nothing is told.
    """
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return MASK
    if not parts.scheme or not host or "@" in parts.path + parts.query + parts.fragment:
        return MASK  # an @ there may mean that a password with a / in it was taken for a host
    host = f"[{host}]" if ":" in host else host
    user = f"{MASK}@" if "@" in parts.netloc else ""
    more = f"/{MASK}" if parts.path.strip("/") or parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{host}" + ("" if port is None else f":{port}") + more


def secrets_of_address(address: str) -> set[str]:
    """What must not be told of an address: all of it, its password, also as it is sent, and what looks like a key."""
    found = {address} if shown_address(address) != address.strip().rstrip("/") else set()
    found |= {part for part in _SEPARATORS.split(address) if _looks_random(part)}
    try:
        parts = urlsplit(address)
    except ValueError:
        return found
    if parts.scheme in ("http", "https"):  # elsewhere a token may stand in the host's place
        found.discard(parts.hostname or "")
    user, at, _ = parts.netloc.rpartition("@")
    found |= {user, user.partition(":")[2] or user, _basic(user)} if at else set()
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    return found | {value for name, value in pairs if is_secret_name(name) or _looks_random(value)}


def _basic(user: str) -> str:
    """The name and the password as a header of HTTP's Basic authentication has them (RFC 7617)."""
    return base64.b64encode(unquote(user).encode()).decode()


def is_secret_name(name: str) -> bool:
    """Whether a variable or a parameter of this name holds a secret: `HF_TOKEN` does, and `TOKENIZER` does not."""
    return _SECRET_NAME.search(name.upper()) is not None


def _looks_random(part: str) -> bool:
    return len(part) >= (_RANDOM_WITH_DIGIT if any(char.isdigit() for char in part) else _RANDOM)
