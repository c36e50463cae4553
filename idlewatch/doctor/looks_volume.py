"""
Looks at what is saved and where to; writes there only for a drill.

In child processes: a network volume that has gone makes every call on it hang for ever.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from idlewatch.doctor import drilled
from idlewatch.doctor.drilled import LAST_DRILL
from idlewatch.errors import IdlewatchError, TaskError
from idlewatch.history import recording
from idlewatch.history.store import newest_of
from idlewatch.hooks import Stage, hooks_of, refusals
from idlewatch.model import Json
from idlewatch.pod import losses
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import load, pod_sources
from idlewatch.snapshot import Place, be_gentle, kept, read_mounts, unusable_text
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.mounts import Mount
from idlewatch.snapshot.places import VOLUME_MOUNTS, survives
from idlewatch.stopping import notes
from idlewatch.stopping.pod_hooks import hook_folder

REHEARSED = "drill-note.json"
"""A note as a stop leaves it, written and removed again."""
_REHEARSED_READINGS = 2000
_NAMED = 3


def volume(_request: Json, progress: Callable[[Json], None]) -> Json:
    """
    Return where a save would go.

    `needless`: this machine keeps its disk · `objects`: the address in object storage, where one is set · `volume` or
    `why_none` · `folders`: what looks like a volume and is only a folder · `mounted`: where something is mounted that
    a stop does not wipe · `point`, `fs_type`, `read_only`, `writable` (by the access bits; a drill writes),
    `free_bytes`, `total_bytes` · `snapshots`, `newest`, `newest_at`, `unusable`: what to tell of those that bring
    nothing back · `note` of the last stop, `drill` of the last drill · `hooks` that run at the end, `hooks_refused`
    that lie there and would not, `hooks_missing`: of those the required.
    """
    mounts = read_mounts()
    progress({"at": "looking at what is mounted"})
    here = assembled(load(pod_sources()))
    said: dict[str, Json] = {
        "needless": here.save_root is None,
        "objects": None if here.objects is None else here.objects.url,
        "volume": str(here.volume) if here.volume else None,
        "why_none": None if here.volume else here.no_volume_because,
        "mounted": [mount.point for mount in mounts if survives(Path(mount.point), mounts)],
        "folders": [point for point in VOLUME_MOUNTS if here.volume is None and Path(point).is_dir()],
    }
    if here.place is None:
        return said | _hooks(here)
    if here.volume is not None:
        progress({**said, "at": f"looking at {here.volume}"})
        said |= _room(here.volume, mounts)
    progress({**said, "at": f"reading {here.place}"})
    return said | _kept(here, here.place) | _hooks(here)


def _hooks(here: Assembly) -> dict[str, Json]:
    folder = hook_folder(here)
    found = [hook for stage in Stage for hook in hooks_of(stage, folder)]
    return {
        "hooks": [hook.name for hook in found if not hook.refused],
        "hooks_refused": [*refusals(folder)],
        "hooks_missing": [hook.name for hook in found if hook.refused and hook.required],
    }


def _room(folder: Path, mounts: Sequence[Mount]) -> dict[str, Json]:
    real = folder.resolve()
    above = [mount for mount in mounts if real == Path(mount.point) or Path(mount.point) in real.parents]
    nearest = max(above, key=lambda mount: len(mount.point), default=None)
    there = folder.is_dir()
    status = os.statvfs(folder) if there else None
    return {
        "there": there,
        "point": nearest.point if nearest else None,
        "fs_type": nearest.fs_type if nearest else None,
        "read_only": bool(status and status.f_flag & os.ST_RDONLY),
        "writable": there and os.access(folder, os.W_OK | os.X_OK),
        "free_bytes": status.f_bavail * status.f_frsize if status else None,
        "total_bytes": status.f_blocks * status.f_frsize if status else None,
    }


def _kept(here: Assembly, place: Place) -> dict[str, Json]:
    try:
        found = kept(place, here.pod_name)
    except IdlewatchError as error:
        return {"snapshots_error": str(error), "snapshots": 0}
    listed = found.whole
    return {
        "unusable": unusable_text(found.unusable),
        "snapshots": len(listed),
        "newest": listed[0].id if listed else None,
        "newest_at": listed[0].created_at if listed else None,
        "note": notes.stop_note(here.volume, here.pod_name) if here.volume else None,
        "drill": drilled.on_volume(here.volume, here.pod_name) if here.volume else None,
    }


def loss(_request: Json, progress: Callable[[Json], None]) -> Json:
    """
    Return what a stop now would wipe: `bytes`, `files`, and the first of what can't be read.

    Or `needless`; or `gone` where the `root` that is set is not there.
    """
    be_gentle()
    here = assembled(load(pod_sources()))
    if here.save_root is None:
        return {"needless": True}
    progress({"at": f"walking over {here.save_root}"})
    if not here.save_root.is_dir():
        return {"root": str(here.save_root), "gone": True}
    found = losses.measured(here)
    return {
        "root": str(here.save_root),
        "bytes": found.total_bytes,
        "files": found.files,
        "unreadable": len(found.errors),
        "errors": [shown(f"{path}: {why}") for path, why in found.errors[:_NAMED]],
    }


def rehearse(request: Json, _progress: Callable[[Json], None]) -> Json:
    """Write on the volume what an end leaves there, read it again and remove it: a note, and this boot's history."""
    here = assembled(load(pod_sources()))
    folder = _folder(here)
    rehearsed = dict(request) if isinstance(request, dict) else {}
    try:
        path = notes.write_note(folder, here.pod_name, REHEARSED, rehearsed)
        back = drilled.read_note(path)
        path.unlink()
        if back != rehearsed:
            raise TaskError(f"a note on {folder} does not read back as it was written")
        return {"history_lines": _rehearsed_history(here, path.with_name("drill-history.jsonl.gz"))}
    except OSError as error:
        raise TaskError(f"{folder} can't be written: {error.strerror or error}") from None


def _rehearsed_history(here: Assembly, path: Path) -> int:
    """What an end would write of the last hours, to a file of its own: the daemon alone writes the real one."""
    state_dir, written = here.loaded.settings.state_dir, 0
    newest = newest_of(state_dir)
    since = replace(newest, reading=max(0, newest.reading - _REHEARSED_READINGS), event=0)
    try:
        with path.open("wb") as file:
            with gzip.open(file, "wt", compresslevel=1, encoding="utf-8") as packed:
                packed.write(recording.head_line({"pod_id": here.pod_name}) + "\n")
                for line in recording.lines_of(state_dir, since):
                    packed.write(f"{line}\n")
                    written += 1
            file.flush()
            os.fsync(file.fileno())
        with gzip.open(path, "rt", encoding="utf-8") as packed:
            back = sum(1 for _ in packed) - 1
    finally:
        path.unlink(missing_ok=True)
    if back != written:
        raise TaskError(f"{path.parent}: of {written} lines of history {back} came back")
    return written


def remember(request: Json, _progress: Callable[[Json], None]) -> Json:
    """Leave the drill's note on the volume, beside that of the last stop."""
    here = assembled(load(pod_sources()))
    try:
        notes.write_note(_folder(here), here.pod_name, LAST_DRILL, dict(request) if isinstance(request, dict) else {})
    except OSError as error:
        raise TaskError(f"the drill's note could not be written: {error.strerror or error}") from None
    return {}


def _folder(here: Assembly) -> Path:
    if here.volume is None:
        raise TaskError(here.no_volume_because)
    return here.volume
