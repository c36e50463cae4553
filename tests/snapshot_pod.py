"""Run inside a real container by `test_snapshot_container.py`: one verb, its answer as JSON."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.snapshot import SaveRequest, find, known_image, note_image, read_mounts, restore, save, verify
from idlewatch.snapshot.image import sign
from idlewatch.snapshot.mounts import container_birth_ns
from idlewatch.snapshot.scan import new_scan
from tests.snapshot_trees import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT, VOLUME, STATE_DIR, POD = Path("/"), Path("/workspace"), Path("/var/idlewatch"), "pod"
NOT_COMPARED = {"proc", "sys", "dev", "run", "tmp", "workspace", "var/idlewatch"} | {
    f"opt/{mounted}" for mounted in ("idlewatch", "site", "packages")
}


def note() -> dict[str, object]:
    STATE_DIR.mkdir(exist_ok=True)
    mounts = read_mounts()
    began = time.monotonic()
    image = note_image(
        STATE_DIR, ROOT, since_ns=container_birth_ns(mounts), now_ns=time.time_ns(), mounts=mounts, skip=[VOLUME]
    )
    return {"image": image.fingerprint, "late_s": image.late_s, "took_s": time.monotonic() - began}


def scanned() -> dict[str, object]:
    mounts = read_mounts()
    since_ns = container_birth_ns(mounts)
    image = known_image(STATE_DIR, since_ns)
    scan = new_scan(ROOT, since_ns=since_ns, mounts=mounts, skip=[VOLUME, STATE_DIR], image=image)
    began = time.monotonic()
    entries = [entry.path for entry in scan.entries()]
    excluded = {rule: amount.entries for rule, amount in scan.excluded.items()}
    answer = {"entries": entries, "deleted": scan.deleted, "altered": scan.altered, "excluded": excluded}
    return {**answer, "mounts": scan.mounts, "took_s": time.monotonic() - began}


def saved() -> dict[str, object]:
    request = SaveRequest(
        volume=VOLUME, pod_id=POD, boot_key="b", root=ROOT, skip=(STATE_DIR,), state_dir=STATE_DIR, keep=9
    )
    began = time.monotonic()
    snapshot = save(request)
    assert snapshot is not None
    return {**snapshot.as_json(), "took_s": time.monotonic() - began}


def restored() -> dict[str, object]:
    snapshot = find(VOLUME, POD)
    verify(snapshot)
    began = time.monotonic()
    report = restore(snapshot, ROOT, state_dir=STATE_DIR)
    return {**report.as_json(), "took_s": time.monotonic() - began}


def everything() -> dict[str, object]:
    """All entries of the container with owner, mode, time, attributes and content, by path."""
    found: dict[str, object] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in os.listdir(f"/{folder}"):  # noqa: PTH208 - a million Paths would be slow
            path = f"{folder}/{name}" if folder else name
            if path in NOT_COMPARED:
                continue
            status = os.lstat(f"/{path}")
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            found[path] = [*map(str, facts_of(f"/{path}", status)), links, sign(status).decode()]
    return found


VERBS: dict[str, Callable[[], dict[str, object]]] = {
    "note": note,
    "scan": scanned,
    "save": saved,
    "restore": restored,
    "state": everything,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(VERBS[sys.argv[1]]()))
