"""
The recording of each start on the volume: one file, which grows by a gzip member of what is new.

The history thins what is older than three days; so does its recording. Once it has six days at full detail, the older
three are folded: a new file takes the old one's place in one rename, of which the part that was folded before is copied
byte by byte. So each reading is written twice at most, however long the Pod runs, and never one that was there before
at the hourly writing.

A daemon that dies while it writes leaves a torn end, which readers leave out and the next writing cuts off.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from idlewatch.files import write_atomically
from idlewatch.history.recording import Picture, head_line, picture_of
from idlewatch.history.store import DATABASE_FILE, FULL_DETAIL_S, Kept
from idlewatch.model import Json

HISTORY = "history"
"""Folder of the Pod's recordings on the volume, one file a boot."""
MARK = "archived.json"
"""In the state folder: what of this boot lies on the volume already."""
_MOST_FILES = 50
_FOLDED_AFTER_S = 2 * FULL_DETAIL_S
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    """The first `bytes` of a recording: they hold all that the history had up to `kept`."""

    bytes: int
    kept: Kept


@dataclass(frozen=True, slots=True)
class _Mark:
    """What of the file `path` is there for certain."""

    path: str
    history: str
    """Which database `Kept` speaks of: one that began anew counts from 1."""
    whole: _Part
    folded: _Part
    """The part that is not written again."""
    folded_s: float
    """The instant up to which it reaches."""


def keep_on_volume(folder: Path, state_dir: Path, name: str, head: Mapping[str, Json]) -> Path:
    """
    Write what is new of this boot's history into its recording in the Pod's folder on the volume; that is made where
    it is missing, but not what it lies in. The oldest of more than 50 go. Raises OSError.

    `name` is as `recording.name_of` makes it, so that names sort by age; a file of the same mark is the same boot's,
    whose start was reckoned a little differently.
    """
    kept = folder / HISTORY
    for one in (folder, kept):
        one.mkdir(exist_ok=True, mode=0o700)
    same = sorted(kept.glob(f"*-{name.rpartition('-')[2]}.jsonl.gz"))
    path = same[0] if same else kept / f"{name}.jsonl.gz"
    with picture_of(state_dir) as picture:
        mark = _known(state_dir, path) or _found(state_dir, path, picture, head)
        mark = _folded(state_dir, path, mark, picture, head) or _grown(path, mark, picture, head)
    write_atomically(state_dir / MARK, json.dumps(asdict(mark)))
    for old in sorted(kept.glob("*.jsonl.gz"))[:-_MOST_FILES]:
        old.unlink(missing_ok=True)
    return path


# ------------------------------------------------------------------- writing


def _grown(path: Path, mark: _Mark, picture: Picture, head: Mapping[str, Json]) -> _Mark:
    """Cut the file at the mark, add what is new, sync it."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.truncate(mark.whole.bytes)
        file.seek(mark.whole.bytes)
        size = _member(file, head, picture.lines(mark.whole.kept))
        os.fsync(file.fileno())
    return _Mark(mark.path, mark.history, _Part(size, picture.newest), mark.folded, mark.folded_s)


def _folded(state_dir: Path, path: Path, mark: _Mark, picture: Picture, head: Mapping[str, Json]) -> _Mark | None:
    """Write anew what was thinned since; None where that isn't due, or where there is no room for a second file."""
    if picture.newest_s - mark.folded_s < _FOLDED_AFTER_S:
        return None
    old_s = picture.newest_s - FULL_DETAIL_S
    old = picture.at(old_s, old_s, old_s)
    part = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if mark.folded.bytes:
                with path.open("rb") as before:
                    _copied(before, file, mark.folded.bytes)
            folded = _Part(_member(file, head, picture.lines(mark.folded.kept, old)), old)
            whole = _Part(_member(file, head, picture.lines(old)), picture.newest)
            os.fsync(file.fileno())
        (state_dir / MARK).unlink(missing_ok=True)  # of the old file; whoever dies here finds its way without
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        return None
    return _Mark(mark.path, mark.history, whole, folded, old_s)


def _copied(before: IO[bytes], file: IO[bytes], size: int) -> None:
    while size and (chunk := before.read(min(size, _CHUNK_BYTES))):
        file.write(chunk)
        size -= len(chunk)


def _member(file: IO[bytes], head: Mapping[str, Json], lines: Iterable[str]) -> int:
    """Add one member, with the head where it is the first; returns how long the file is then."""
    first = () if file.tell() else (head_line(head),)
    with gzip.open(file, "wt", compresslevel=6, encoding="utf-8") as packed:
        packed.writelines(f"{line}\n" for line in chain(first, lines))
    file.flush()
    return file.tell()


# ------------------------------------------------- what is there already


def _known(state_dir: Path, path: Path) -> _Mark | None:
    """As it was written down; None where nothing was, or of another file or history, or the file is shorter now."""
    try:
        said = json.loads((state_dir / MARK).read_text())
        whole, folded = (_Part(int(said[name]["bytes"]), Kept(**said[name]["kept"])) for name in ("whole", "folded"))
        mark = _Mark(str(said["path"]), str(said["history"]), whole, folded, float(said["folded_s"]))
        same = (mark.path, mark.history) == (str(path), _history(state_dir))
        return mark if same and path.stat().st_size >= whole.bytes else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found(state_dir: Path, path: Path, picture: Picture, head: Mapping[str, Json]) -> _Mark:
    """As the file itself says, whose torn end is cut off; what was before this start is not looked for."""
    started_s = head.get("started_s")
    began_s = math.nextafter(started_s, -math.inf) if isinstance(started_s, int | float) else 0.0
    size = _cut_to_whole_members(path)
    newest = {"reading": began_s, "event": began_s, "verdict": began_s}
    for kind, at_s in _instants(path) if size else ():
        newest[kind] = max(newest[kind], at_s)
    part = _Part(size, picture.at(newest["reading"], newest["event"], newest["verdict"]))
    return _Mark(str(path), _history(state_dir), part, part, newest["reading"])


def _cut_to_whole_members(path: Path) -> int:
    """How long the file is then."""
    if not path.exists():
        return 0
    whole, member = 0, zlib.decompressobj(wbits=31)
    with suppress(zlib.error), path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            member.decompress(data)
            while member.eof:
                data = member.unused_data
                whole, member = file.tell() - len(data), zlib.decompressobj(wbits=31)
                member.decompress(data)
    os.truncate(path, whole)
    return whole


def _instants(path: Path) -> Iterator[tuple[str, float]]:
    """Kind and instant of each line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                said: Mapping[str, Any] = json.loads(line)
                if "reading" in said:
                    yield "reading", float(said["reading"]["at_s"])
                elif "verdict" in said:
                    yield "verdict", float(said["verdict"]["to_s"])
                elif "event" in said:
                    yield "event", float(said["event"]["at_s"])


def _history(state_dir: Path) -> str:
    """Which database lies there; one that is put aside stays a file of its own until the next one is."""
    try:
        status = (state_dir / DATABASE_FILE).stat()
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"
