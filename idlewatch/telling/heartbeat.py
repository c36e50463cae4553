"""
A sign of life for those outside the Pod: a small file on the volume, and a GET of an address of the owner's choice.

A Pod whose daemon died costs on in silence; a service such as healthchecks, which raises the alarm when the sign stays
away, sees that. Each is a task that the tick itself begins, and each looks first whether the daemon has ticked lately:
a frozen one sends nothing.

`heartbeat.json`, format 1, in the Pod's folder on the volume: `at` (wall clock, ISO 8601, UTC), `pod_id`, `boot_key`,
`mode`, `phase`, `idle_for_s`, `next` (what the daemon does or waits for, in words), `troubles` (names), `every_s` (how
often it is written: older than twice that, nobody watches any more), `ended` (the daemon ended by itself).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from idlewatch import __version__
from idlewatch.errors import TaskError
from idlewatch.files import write_atomically
from idlewatch.history.status import is_stale
from idlewatch.history.store import status_of
from idlewatch.model import Json
from idlewatch.notify.webhook import exchanged
from idlewatch.pod.assembled import Assembly
from idlewatch.stopping import notes

HEARTBEAT = "heartbeat.json"
FORMAT = 1
WITHIN_S = 30.0
"""How long writing it, or the GET, may take in all."""


def write(here: Assembly, every_s: float) -> Json:
    """
    Write the file; `every_s`: how often that is done. Returns an object: `failed` lists why it could not be written.

    Here as in `ping` a failure is no error: errands that fail are tried ever more seldom, and to those outside a rare
    sign of life looks like the end. Where the daemon does not tick, nothing is written.
    """
    status = status_of(here.loaded.settings.state_dir) or {}
    if here.volume is None or not (_ticks(status) or status.get("ended") is True):
        return {"failed": []}
    try:
        folder = notes.made_folder(here.volume, here.pod_name)
        write_atomically(folder / HEARTBEAT, json.dumps(beat(status, every_s), indent=2) + "\n")
    except OSError as error:
        return {"failed": [f"the sign of life on {here.volume} could not be written: {error.strerror}"]}
    return {"failed": []}


def ping(here: Assembly, url: str) -> Json:
    """
    GET the address, which is a secret. Returns an object: `failed` lists why it was not taken, in words.

    Where the daemon does not tick, nothing is asked.
    """
    if not _ticks(status_of(here.loaded.settings.state_dir) or {}):
        return {"failed": []}
    try:
        why = exchanged("GET", url, {"User-Agent": f"idlewatch/{__version__}"}).get("why")
    except TaskError:  # asked to end, because the time for it is over
        why = "it did not answer in time"
    return {"failed": [] if why is None else [f"the address of the heartbeat takes no sign of life: {why}"]}


def _ticks(status: Mapping[str, Json]) -> bool:
    """Whether the daemon shows that it looks at things."""
    return not is_stale(status, time.clock_gettime(time.CLOCK_BOOTTIME))


def beat(status: Mapping[str, Json], every_s: float) -> dict[str, Json]:
    """What the file holds, from what the daemon shows."""
    troubles = status.get("troubles")
    return {
        "format": FORMAT,
        **{name: status.get(name) for name in ("at", "pod_id", "boot_key", "mode", "phase", "idle_for_s")},
        "next": status.get("reason"),
        "troubles": [*troubles] if isinstance(troubles, dict) else [],
        "every_s": every_s,
        "ended": status.get("ended") is True,
    }
