"""
A recording: what a Pod's daemon saw, in a form that outlives the Pod and that `replay` reads.

JSON lines, gzip where the name ends in `.gz`. The first line is the head: `{"recording": 1, "pod_id", "boot_key",
"started_s", "settings"}` (variables as they were set, no secrets). Then, in any order, one object a line:
`{"reading": …, "at": wall time}` as `history.reading_to_json` writes it, `{"verdict": …}` one span of one signal's
verdict, `{"event": …}` one line of the timeline. Instants are CLOCK_BOOTTIME seconds of that machine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from idlewatch.history import events_of, reading_to_json, readings_of, spans_of
from idlewatch.model import Json

FORMAT = 1
HISTORY = "history"
"""Folder of the Pod's recordings on the volume, one file a boot."""
_MOST_FILES = 50


def lines_of(state_dir: Path, head: Mapping[str, Json]) -> Iterator[str]:
    """The recording of what lies in a state folder, line by line."""
    yield json.dumps({"recording": FORMAT, **head})
    for wall, reading in readings_of(state_dir):
        yield json.dumps({"reading": reading_to_json(reading), "at": wall})
    for span in spans_of(state_dir):
        yield json.dumps({"verdict": asdict(span)})
    for event in events_of(state_dir):
        yield json.dumps({"event": event})


def write(path: Path, lines: Iterable[str]) -> int:
    """Replace the recording at `path` in one rename and sync it; returns its bytes. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with gzip.open(file, "wt", compresslevel=6, encoding="utf-8") as packed:
            for line in lines:
                packed.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    part.replace(path)
    return size


def name_of(began: datetime, boot_key: str) -> str:
    """The name of a boot's recording: when the container started (UTC), and a mark of this boot."""
    return f"{began:%Y%m%dT%H%M%SZ}-{hashlib.sha256(boot_key.encode()).hexdigest()[:8]}"


def keep_on_volume(folder: Path, state_dir: Path, name: str, head: Mapping[str, Json]) -> Path:
    """
    Write this boot's recording into the Pod's folder on the volume; the oldest of more than 50 go. Raises OSError.

    `name` is as `name_of` makes it, so that names sort by age; a file of the same mark is the same boot's, whose start
    was reckoned a little differently.
    """
    kept = folder / HISTORY
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    same = sorted(kept.glob(f"*-{name.rpartition('-')[2]}.jsonl.gz"))
    path = same[0] if same else kept / f"{name}.jsonl.gz"
    write(path, lines_of(state_dir, head))
    for old in sorted(kept.glob("*.jsonl.gz"))[:-_MOST_FILES]:
        old.unlink(missing_ok=True)
    return path
