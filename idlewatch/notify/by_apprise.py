"""
Sends one notice through Apprise, which speaks to Slack, Discord, Telegram, ntfy, mail and about a hundred others.

An extra (`idlewatch[notify]`). Runs in a child process only: it imports much, and some of its plugins wait for long.
Why one failed is not passed on: Apprise logs it, and those lines may hold the address.

`python -m idlewatch.notify.by_apprise` says beforehand what Apprise would not understand: a JSON list of addresses on
stdin, on stdout why each can't be sent to, null where it can, see `refusals`.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import ModuleType

from idlewatch.children.interpreter import ours
from idlewatch.model import Json
from idlewatch.notify.notice import Kind

NEEDED = "it needs Apprise: pip install '.[notify]' in a checkout of idlewatch"
_REFUSALS_WITHIN_S = 20.0
_TYPES = {Kind.WARNING: "warning", Kind.ALARM: "failure", Kind.ENDED: "failure", Kind.SAVED: "success"}
"""Apprise's own kinds, which many services show as a colour; the rest is `info`."""


def send(url: str, notice: Mapping[str, Json]) -> dict[str, Json]:
    """Send it. Returns an empty object where the service took it, else `why`."""
    try:
        apprise = _apprise()
    except ImportError:
        return {"why": NEEDED}
    # In memory: what it would keep on the Pod's disk, a stop would wipe and a save would have to hold.
    asset = apprise.AppriseAsset(
        app_id="idlewatch", app_desc="idlewatch", storage_mode=apprise.PersistentStoreMode.MEMORY, async_mode=False
    )
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        return {"why": _not_understood(apprise, url)}
    kind = _TYPES.get(Kind(str(notice.get("kind"))), "info")
    title = f"idlewatch {notice.get('pod_name') or notice.get('pod_id') or ''}".strip()
    link = notice.get("keep_link")
    body = f"{notice.get('text')}\nKeep it up for 2 hours: {link}" if link else str(notice.get("text"))
    taken = service.notify(title=title, body=body, notify_type=kind, body_format="text")
    return {} if taken else {"why": "Apprise could not deliver it"}


def refusals(urls: Sequence[str], within_s: float = _REFUSALS_WITHIN_S) -> list[str | None]:
    """
    Why each of these can't be sent to, in words without a secret; None: Apprise understands it, or can't be asked.

    Asked in a child process, which takes 50 MB and a quarter of a second.
    """
    with suppress(OSError, subprocess.TimeoutExpired, ValueError):
        asked = subprocess.run(
            ours(__name__), input=json.dumps([*urls]), capture_output=True, text=True, timeout=within_s, check=False
        )
        said = json.loads(asked.stdout)
        return [None if why is None else str(why) for why in said]
    return [None for _ in urls]


def _refused(urls: Sequence[str]) -> list[str | None]:
    apprise = _apprise()
    return [None if apprise.Apprise().add(url) else _not_understood(apprise, url) for url in urls]


def _not_understood(apprise: ModuleType, url: str) -> str:
    scheme = url.partition("://")[0].lower()
    known = [*map(str, apprise.NotificationManager().schemas())]
    if scheme in known or scheme in ("http", "https"):
        return "Apprise does not understand this address"
    near = difflib.get_close_matches(scheme, known, 1)
    return f"Apprise knows no {scheme}://{f', but {near[0]}://' if near else ''}"


def _apprise() -> ModuleType:
    """Raises ImportError where it is not there."""
    apprise = importlib.import_module("apprise")
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    return apprise


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_refused(json.load(sys.stdin))))
