"""
A recording: what a Pod's daemon saw, in a form that outlives the Pod and that `replay` reads.

JSON lines, gzip where the name ends in `.gz`. The first line is the head: `{"recording": 1, "pod_id", "boot_key",
"started_s", "settings"}` (variables as they were set, no secrets). Then one object a line: `{"reading": …, "at": wall
time}` as `history.reading_to_json` writes it, `{"verdict": …}` one span of one signal's verdict (of two with the same
name and `from_s` the later one counts, the span became longer), `{"event": …}` one line of the timeline. Instants are
CLOCK_BOOTTIME seconds of that machine.

On the volume a recording grows by a gzip member at a time. A daemon that dies while it writes leaves a torn end; the
next one cuts it off.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from idlewatch.files import write_atomically
from idlewatch.history.store import Kept, events_of, newest_of, reading_to_json, readings_of, spans_of
from idlewatch.model import Json

FORMAT = 1
HISTORY = "history"
"""Folder of the Pod's recordings on the volume, one file a boot."""
MARK = "archived.json"
"""In the state folder: what of this boot lies on the volume already."""
_MOST_FILES = 50


@dataclass(frozen=True, slots=True)
class _Mark:
    """`bytes` of the file `path` hold all up to `kept`."""

    path: str
    bytes: int
    kept: Kept


def head_line(head: Mapping[str, Json]) -> str:
    """The first line of a recording."""
    return json.dumps({"recording": FORMAT, **head})


def lines_of(state_dir: Path, since: Kept = Kept()) -> Iterator[str]:  # noqa: B008  (frozen)
    """What lies in a state folder and came after `since`, line by line, without the head."""
    for wall, reading in readings_of(state_dir, since.reading):
        yield json.dumps({"reading": reading_to_json(reading), "at": wall})
    for span in spans_of(state_dir, since.verdict_s):
        yield json.dumps({"verdict": asdict(span)})
    for event in events_of(state_dir, since.event):
        yield json.dumps({"event": event})


def name_of(began: datetime, boot_key: str) -> str:
    """The name of a boot's recording: when the container started (UTC), and a mark of this boot."""
    return f"{began:%Y%m%dT%H%M%SZ}-{hashlib.sha256(boot_key.encode()).hexdigest()[:8]}"


def keep_on_volume(folder: Path, state_dir: Path, name: str, head: Mapping[str, Json]) -> Path:
    """
    Write this boot's recording into the Pod's folder on the volume, made where it is missing, but not what it
    lies in; the oldest of more than 50 go. Raises OSError.

    `name` is as `name_of` makes it, so that names sort by age; a file of the same mark is the same boot's, whose start
    was reckoned a little differently.
    """
    kept = folder / HISTORY
    for one in (folder, kept):
        one.mkdir(exist_ok=True, mode=0o700)
    same = sorted(kept.glob(f"*-{name.rpartition('-')[2]}.jsonl.gz"))
    path = same[0] if same else kept / f"{name}.jsonl.gz"
    mark = _mark(state_dir, path)
    newest = newest_of(state_dir)
    size = _append(path, mark, state_dir, head)
    write_atomically(state_dir / MARK, json.dumps(asdict(_Mark(str(path), size, newest))))
    for old in sorted(kept.glob("*.jsonl.gz"))[:-_MOST_FILES]:
        old.unlink(missing_ok=True)
    return path


def _append(path: Path, mark: _Mark, state_dir: Path, head: Mapping[str, Json]) -> int:
    """Cut the file at the mark, add what is new, sync it; returns its bytes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        file.truncate(mark.bytes)
        file.seek(mark.bytes)
        with gzip.open(file, "wt", compresslevel=6, encoding="utf-8") as packed:
            _write_lines(packed, mark, state_dir, head)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _write_lines(packed: IO[str], mark: _Mark, state_dir: Path, head: Mapping[str, Json]) -> None:
    if not mark.bytes:
        packed.write(head_line(head) + "\n")
    for line in lines_of(state_dir, mark.kept):
        packed.write(line + "\n")


def _mark(state_dir: Path, path: Path) -> _Mark:
    """What lies in the file for certain; nothing where it is another file, or shorter than it was."""
    try:
        said = json.loads((state_dir / MARK).read_text())
        mark = _Mark(str(said["path"]), int(said["bytes"]), Kept(**said["kept"]))
        return mark if mark.path == str(path) and path.stat().st_size >= mark.bytes else _Mark(str(path), 0, Kept())
    except (OSError, ValueError, KeyError, TypeError):
        return _Mark(str(path), 0, Kept())
