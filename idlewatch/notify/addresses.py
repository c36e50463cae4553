"""
Where notices go: the addresses of IDLEWATCH_NOTIFY.

An address is a secret as a whole: of a webhook only scheme and host may be shown, of everything else only the scheme,
since what stands in the place of a host there is often a token (`slack://TOKEN/…`, `ntfy://TOPIC`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_WEBHOOKS = frozenset({"http", "https"})
_SPOKEN_BY_APPRISE = ("discord.com", "discordapp.com", "hooks.slack.com", "ntfy.sh", "chat.googleapis.com")
"""Hosts whose https addresses Apprise understands as they are, and which refuse, or show raw, JSON of ours."""
_BETWEEN = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://\S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One channel's address."""

    url: str = field(repr=False)
    """A secret."""
    label: str
    """What may be shown of it; unlike every other channel's."""
    webhook: bool
    """Whether it gets plain JSON; else it is Apprise's."""


def addresses(written: str) -> tuple[Address, ...]:
    """
    Return the addresses of a setting as it was written: separated by commas, which may also stand inside one.

    Raises ValueError where one is none; its text holds no secret.
    """
    parts = [part for part in (part.strip(" ,\t\n") for part in _BETWEEN.split(written)) if part]
    return tuple(_told_apart(_address(url, place) for place, url in enumerate(parts, start=1)))


def _told_apart(found: Iterator[Address]) -> Iterator[Address]:
    seen: dict[str, int] = {}
    for address in found:
        seen[address.label] = number = seen.get(address.label, 0) + 1
        label = address.label if number == 1 else f"{address.label} ({number})"
        yield Address(url=address.url, label=label, webhook=address.webhook)


def _address(url: str, place: int) -> Address:
    matched = _ADDRESS.match(url)
    if not matched:
        raise ValueError(f"address {place} is none; write https://… for a JSON webhook, or an Apprise address")
    scheme = matched[1].lower()
    if scheme not in _WEBHOOKS:
        return Address(url=url, label=f"{scheme}://…", webhook=False)
    try:
        split = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        host = port = None
    if not host:
        raise ValueError(f"address {place} ({scheme}://…) has no host that can be understood")
    spoken = any(host == known or host.endswith(f".{known}") for known in _SPOKEN_BY_APPRISE)
    return Address(url=url, label=f"{scheme}://{host}{f':{port}' if port else ''}", webhook=not spoken)
