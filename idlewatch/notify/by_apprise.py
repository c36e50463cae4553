"""
Sends one notice through Apprise, which speaks to Slack, Discord, Telegram, ntfy, mail and about a hundred others.

An extra (`idlewatch[notify]`). Runs in a child process only: it imports much, and some of its plugins wait for long.
Why one failed is not passed on: Apprise logs it, and those lines may hold the address.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping

from idlewatch.model import Json
from idlewatch.notify.notice import Kind

NEEDED = "it needs Apprise: pip install '.[notify]' in a checkout of idlewatch"
_TYPES = {Kind.WARNING: "warning", Kind.ALARM: "failure", Kind.ENDED: "failure", Kind.SAVED: "success"}
"""Apprise's own kinds, which many services show as a colour; the rest is `info`."""


def send(url: str, notice: Mapping[str, Json]) -> dict[str, Json]:
    """Send it. Returns an empty object where the service took it, else `why`."""
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        return {"why": NEEDED}
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    # In memory: what it would keep on the Pod's disk, a stop would wipe and a save would have to hold.
    asset = apprise.AppriseAsset(
        app_id="idlewatch", app_desc="idlewatch", storage_mode=apprise.PersistentStoreMode.MEMORY, async_mode=False
    )
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        return {"why": "Apprise does not understand this address"}
    kind = _TYPES.get(Kind(str(notice.get("kind"))), "info")
    title = f"idlewatch {notice.get('pod_name') or notice.get('pod_id') or ''}".strip()
    link = notice.get("keep_link")
    body = f"{notice.get('text')}\nKeep it up for 2 hours: {link}" if link else str(notice.get("text"))
    taken = service.notify(title=title, body=body, notify_type=kind, body_format="text")
    return {} if taken else {"why": "Apprise could not deliver it"}
