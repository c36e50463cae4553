"""
Links in notices that keep the Pod: signed, for one hold of one length, once, and only for a while.

Chat programs fetch every link that is posted, so opening one shows a page and does nothing; its button holds.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from idlewatch.web.keys import Keys, folder_of, keys_of

PATH = "keep"
VALID_FOR_S = 6 * 3600.0
"""How long a link works unless it is told otherwise: the hours until a stop that was put off."""
_LINK = re.compile(r"(\d{1,7})-(\d{1,12})-([0-9a-f]{32})-([0-9a-f]{64})", re.ASCII)
_PURPOSE = "keep"


class BadLink(Exception):
    """Not a link of ours, too old, or used; `text` says which, and only to somebody whose signature is right."""

    def __init__(self, text: str, *, ours: bool) -> None:
        """`ours`: the signature is right."""
        super().__init__(text)
        self.ours = ours


@dataclass(frozen=True, slots=True)
class KeepLink:
    """What a link allows."""

    for_s: float
    """How long its hold lasts."""
    until_s: float
    """Wall clock, seconds since 1970: when it ends."""
    nonce: str


def keep_link(state_dir: Path, base_url: str, for_s: float, now: datetime, valid_for_s: float = VALID_FOR_S) -> str:
    """
    Return an address whose page has a button that holds the Pod for `for_s` seconds, once.

    `base_url`: as `served_at` tells it. `now`: the wall clock. Raises Refused where the key can't be kept secret.
    """
    parts = (str(round(for_s)), str(round(now.timestamp() + valid_for_s)), secrets.token_hex(16))
    return f"{base_url.rstrip('/')}/{PATH}/{'-'.join(parts)}-{keys_of(state_dir).signature(_PURPOSE, *parts)}"


def understood(keys: Keys, text: str, now: datetime) -> KeepLink:
    """Return what the last part of a link's path allows. Raises BadLink where that is nothing, or nothing any more."""
    found = _LINK.fullmatch(text)
    parts = found.groups()[:3] if found else ("", "", "")
    signed = hmac.compare_digest(keys.signature(_PURPOSE, *parts), found[4] if found else "0" * 64)
    if not found or not signed:
        raise BadLink("this is no link of ours", ours=False)
    link = KeepLink(for_s=float(parts[0]), until_s=float(parts[1]), nonce=parts[2])
    if now.timestamp() >= link.until_s:
        raise BadLink("this link is too old; a newer notice has another one", ours=True)
    return link


def is_used(state_dir: Path, link: KeepLink) -> bool:
    """Whether somebody pressed its button."""
    return _mark(state_dir, link).exists()


@contextmanager
def used(state_dir: Path, link: KeepLink, now: datetime) -> Iterator[None]:
    """
    Spend the link for what the block does; an error there gives it back.

    Of two that come together one wins. Raises BadLink where it was spent before.
    """
    mark = _mark(state_dir, link)
    mark.parent.mkdir(mode=0o700, exist_ok=True)
    _forget_old(mark.parent, now)
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise BadLink("this link was used already; a newer notice has another one", ours=True) from None
    try:
        yield
    except BaseException:
        mark.unlink(missing_ok=True)
        raise


def _mark(state_dir: Path, link: KeepLink) -> Path:
    name = hashlib.sha256(link.nonce.encode()).hexdigest()[:32]
    return folder_of(state_dir) / "used" / f"{link.until_s:.0f}-{name}"


def _forget_old(folder: Path, now: datetime) -> None:
    """Marks of links that are too old to work anyway."""
    for mark in folder.iterdir():
        if float(mark.name.partition("-")[0]) < now.timestamp():
            mark.unlink(missing_ok=True)
