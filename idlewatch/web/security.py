"""
Who may do what: the gate that every request passes before anything of the page is reached.

Without the login link's token only `/healthz` answers, and a signed link of a notice. The token is compared in
constant time and traded for a cookie at once, so that it stays in no address. What acts is a POST from our own page,
with a token that other pages can't know. Other Pods' pages are same-site with ours (`*.proxy.runpod.net`): SameSite
alone would not keep them out, nor keep them from planting a cookie, which is why its name begins with `__Host-`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from idlewatch.web.keys import Keys

SESSION_S = 7 * 86400.0
"""How long a login lasts."""
BODY_MAX = 4096
"""Bytes of a form; ours are a tenth of it."""
PATH_MAX = 512
_PLAIN_PATH = re.compile(rb"/[A-Za-z0-9._/-]*")
_COOKIE = "idlewatch"
_SESSION = re.compile(r"(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
_CONTENT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: that makes browsers send `Origin: null` with our own forms, too (Fetch, "serialized origin").
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
}
"""Of every answer, beside the Content-Security-Policy."""


def content_policy(**changed: str) -> str:
    """Return the Content-Security-Policy; `style_src` and the like change one part of it."""
    parts = _CONTENT | {name.replace("_", "-"): value for name, value in changed.items()}
    return "; ".join(f"{name} {value}" for name, value in parts.items())


@dataclass(frozen=True, slots=True)
class Session:
    """One login."""

    nonce: str = field(repr=False)
    csrf: str = field(repr=False)
    """Stands in every form of this login's pages."""


class Gatekeeper:
    """Knows the secrets; says who is logged in, and which requests may act."""

    def __init__(self, keys: Callable[[], Keys]) -> None:
        """`keys`: as they are now, so that a new token ends every login at once."""
        self._keys = keys

    def token_fits(self, given: str) -> bool:
        """Whether this is the login link's token; takes as long for a wrong one."""
        return hmac.compare_digest(self._keys().token.encode(), given.encode(errors="replace"))

    def metrics_token_fits(self, authorization: str) -> bool:
        """Whether an `Authorization` header has the token that reads `/metrics`."""
        wanted = f"Bearer {self._keys().metrics}"
        return hmac.compare_digest(wanted.encode(), authorization.encode(errors="replace"))

    def new_session(self, now_s: float) -> str:
        """Return the cookie's value of a new login; `now_s`: the wall clock, seconds since 1970."""
        until, nonce = str(round(now_s + SESSION_S)), secrets.token_hex(16)
        return f"{until}.{nonce}.{self._signed(until, nonce)}"

    def session(self, cookie: str, now_s: float) -> Session | None:
        """Return the login of a cookie's value; None where it is none, or is over."""
        found = _SESSION.fullmatch(cookie)
        until, nonce, given = found.groups() if found else ("0", "", "0" * 64)
        fits = hmac.compare_digest(self._signed(until, nonce), given)
        if not found or not fits or now_s >= float(until):
            return None
        return Session(nonce=nonce, csrf=self._keys().signature("csrf", self._keys().token, nonce))

    def csrf_fits(self, session: Session, given: str) -> bool:
        """Whether a form was made by a page of this login."""
        return hmac.compare_digest(session.csrf.encode(), given.encode(errors="replace"))

    def _signed(self, until: str, nonce: str) -> str:
        """Bound to the token: a new token ends every login."""
        return self._keys().signature("session", self._keys().token, until, nonce)


class Failures:
    """
    How many wrong tokens, links and cookies are answered as such; beyond that they are only sent away.

    One count for all callers: behind a proxy the address of a caller is whatever it says. It delays nobody who has the
    right token, so that nobody can be locked out by others' failures; 256 bits are not guessed at any rate.
    """

    def __init__(self, burst: int = 30, per_s: float = 0.5) -> None:
        self._burst, self._per_s = float(burst), per_s
        self._left, self._at_s = float(burst), 0.0
        self.total = 0

    def too_many(self, now_s: float) -> bool:
        """Count one failure; whether it is one too many."""
        self.total += 1
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return True
        self._left -= 1.0
        return False


def plain_path(raw: bytes) -> bool:
    """Whether a path has only what our own have: no `..`, nothing escaped, no backslash, no control character."""
    return len(raw) <= PATH_MAX and bool(_PLAIN_PATH.fullmatch(raw)) and b".." not in raw and b"//" not in raw


def is_https(headers: Mapping[str, str]) -> bool:
    """Whether the browser came by https, as the proxy says or by the name that RunPod's proxy has."""
    told = headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    host = headers.get("host", "").partition(":")[0].lower()
    return told == "https" or host.endswith(".proxy.runpod.net")


def cookie_of(headers: Mapping[str, str]) -> str | None:
    """Return the value of our cookie; None where there is none."""
    pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    values = {name: value for name, _, value in pairs}
    return values.get(_name(headers))


def set_cookie(headers: Mapping[str, str], value: str, lasts_s: float) -> str:
    """
    Return a `Set-Cookie`. By https it is `__Host-`, so no other Pod's page can plant one.

    Without https there is no Path: it is then the folder of the page's address as the browser knows it, behind
    whatever prefix a proxy has put (RFC 6265, 5.1.4).
    """
    more = "; Secure; Path=/" if is_https(headers) else ""
    return f"{_name(headers)}={value}; Max-Age={lasts_s:.0f}; HttpOnly; SameSite=Strict{more}"


def _name(headers: Mapping[str, str]) -> str:
    return f"__Host-{_COOKIE}" if is_https(headers) else _COOKIE


def foreign(headers: Mapping[str, str], *, acts: bool) -> str | None:
    """
    Why a request comes from another page than ours; None where it does not.

    What acts must prove that it is ours. What only reads may come without a word (a link in a terminal), but not from
    another page's script. `X-Forwarded-Host` may be believed: no page can make a browser send it.
    """
    site = headers.get("sec-fetch-site")
    if site in ("cross-site", "same-site") and (acts or headers.get("sec-fetch-mode") != "navigate"):
        return f"sent by another site's page ({site})"
    if not acts:
        return None
    said = headers.get("origin") or headers.get("referer")
    if not said:
        return "it says neither Origin nor Referer"
    ours = {headers.get("host", "").lower(), headers.get("x-forwarded-host", "").lower()} - {""}
    return None if _authority(said) in ours else "sent by another site's page"


def _authority(address: str) -> str:
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def header_map(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by their small names; of one that came twice all, joined as RFC 9110, 5.3 has it."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}{'; ' if key == 'cookie' else ', '}{text}" if key in found else text
    return found
