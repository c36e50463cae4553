"""
What the last stop wiped, brought back once a container: by itself with IDLEWATCH_RESTORE=auto, else it is offered.

Under `idlewatch exec` that is done before the container's own command begins (`boot`). Elsewhere the daemon has it done
at its start. Never twice, never onto a container that has been used: a mark in the state folder,
which falls with the container, says what became of it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from idlewatch.amounts import amount
from idlewatch.children.tasks import seldom
from idlewatch.errors import IdlewatchError, SnapshotError, TaskError
from idlewatch.files import write_atomically
from idlewatch.history.timeline import RESTORED
from idlewatch.model import Json
from idlewatch.pod import elsewhere
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.losses import noted_image
from idlewatch.settings import Restore
from idlewatch.snapshot import (
    DamagedArchive,
    Kept,
    RestoreReport,
    Snapshot,
    kept,
    read_mounts,
    restore,
    unusable_text,
)
from idlewatch.snapshot.mounts import since_for

MARK_FILE = "restored.json"
BY_HAND = "`idlewatch restore` brings it back"
SILENT_S = 120.0
"""A restore says every second how far it is; a volume that gives nothing for so long is dead."""
_NEW_S = 15 * 60.0
"""A container that was made longer ago, or that a daemon finds running for longer, has been used."""
_NS = 1e9


class Became(StrEnum):
    """What became of it."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the state folder says of the restore of this container."""

    container: str
    became: Became
    text: str
    """For people, a whole sentence."""
    snapshot: str | None = None

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return asdict(self)


def container_of(here: Assembly) -> str:
    """What tells this container from another one; `docker restart` makes none. Raises SnapshotError."""
    born_ns = _born_ns(here)
    return here.pod.boot_key if born_ns is None else f"born {born_ns}"


def mark_of(here: Assembly) -> Mark | None:
    """The mark of this container; None: nothing was brought back, or what lies there can't be read."""
    try:
        said = json.loads(_file(here).read_text())
        mark = Mark(**{**said, "became": Became(said["became"])})
        return mark if mark.container == container_of(here) else None
    except (OSError, ValueError, KeyError, TypeError, SnapshotError):
        return None


def keep_mark(here: Assembly, became: Became, text: str, snapshot: str | None = None) -> None:
    """Replace the mark. Raises OSError."""
    mark = Mark(container=container_of(here), became=became, text=text, snapshot=snapshot)
    _file(here).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(here), json.dumps(mark.as_json()))


def why_not(here: Assembly, now_s: float, wall: datetime, *, in_front: bool) -> str | None:
    """
    Why nothing is brought back by itself here; None: it is to be.

    `in_front`: nothing of the Pod's own runs yet. `now_s` is CLOCK_BOOTTIME.
    """
    if here.loaded.settings.restore is not Restore.AUTO:
        return "IDLEWATCH_RESTORE is not auto"
    if not here.acts:
        return "idlewatch only observes"
    if here.save_root is None or here.place is None:
        return "a stop wipes nothing here, or there is no volume"
    if mark_of(here):
        return "this container was given its files already"
    uptime_s = now_s - here.pod.started_s
    try:
        born_ns = _born_ns(here)
    except SnapshotError as error:
        return str(error)
    age_s = uptime_s if born_ns is None else wall.timestamp() - born_ns / _NS
    if age_s - uptime_s > _NEW_S or (not in_front and uptime_s > _NEW_S):
        return "this container has been used already"
    return None


def newest_of(found: Kept, here: Assembly) -> Snapshot | None:
    """The newest snapshot of this Pod, where another container left it; None: there is none."""
    return found.whole[0] if found.whole and not _is_own(found.whole[0], here) else None


def offer(here: Assembly, told: Json = None) -> str | None:
    """
    What can be brought back and how, for people; None: nothing, or it was not wanted. Touches where it lies.

    `told`: the snapshot that the note of the last stop names already. A Pod that has never saved is told of others;
    newer snapshots that bring nothing back are told of in any case.
    """
    if here.loaded.settings.restore is Restore.OFF or here.place is None:
        return None
    with contextlib.suppress(SnapshotError):
        there = kept(here.place, here.pod_name)
        broken, found, copy = unusable_text(there.newer_unusable), newest_of(there, here), None
        if found and (broken or found.id != told):
            held = f"{_files(found.files)}, {amount(found.archive_bytes)}"
            by_hand = f"`idlewatch restore {found.id}` brings it back" if broken else BY_HAND
            copy = f"a saved copy of {found.created_at:.16} lies {_where(here)} ({held}): {by_hand}"
        elif not found:
            copy = offer_of_others(here)
        return "; ".join(text for text in (broken, copy) if text) or None
    return None


def offer_of_others(here: Assembly) -> str | None:
    """The same of other Pods' saved copies, where this one has none: a new Pod on an old network volume."""
    if here.place is None or any(kept(here.place, here.pod_name)):
        return None
    return elsewhere.offer(elsewhere.others(here.place, here.pod_name), _where(here))


def bring_back(here: Assembly, progress: Callable[[Json], None]) -> Mark:
    """Bring back the newest snapshot, in a child process; what became of it is kept, and returned."""
    before = mark_of(here)
    if before:
        return before
    within_s = here.loaded.settings.restore_within.total_seconds()
    ends_s, often = time.monotonic() + within_s, seldom(progress)
    keep_mark(here, Became.BEGUN, f"a saved copy was being brought back, and that did not end: {BY_HAND}")
    try:
        report, passed = _newest_restored(here, often, ends_s)
    except IdlewatchError as error:
        late = f" within {within_s:.0f} s" if time.monotonic() >= ends_s else ""
        failed(here, f"{error}{late}")
        raise
    text = _nothing(here) if report is None else "; ".join([_told(report), *passed])
    keep_mark(here, Became.DONE, text, report.snapshot if report else None)
    progress({"event": {"kind": RESTORED, "text": text}})
    return mark_of(here) or Mark(container="", became=Became.DONE, text=text)


def done(here: Assembly, report: RestoreReport, pod: str | None = None) -> None:
    """Keep that somebody has brought everything back, that of another `pod` perhaps; best effort."""
    with contextlib.suppress(OSError, SnapshotError):
        keep_mark(here, Became.DONE, _told(report, pod), report.snapshot)


def failed(here: Assembly, why: str) -> None:
    """Keep that it failed; best effort: it is said elsewhere, too."""
    with contextlib.suppress(OSError, SnapshotError):
        keep_mark(here, Became.FAILED, f"NOT brought back: {why}; {BY_HAND}")


def _newest_restored(
    here: Assembly, progress: Callable[[Json], None], ends_s: float
) -> tuple[RestoreReport | None, list[str]]:
    """
    Bring back the newest that can be used; returns also what to tell of newer ones that can't. None: there was none.

    Raises SnapshotError where there are some and none can be used.
    """
    there = None if here.place is None else kept(here.place, here.pod_name)
    if there is None or not any(there):
        return None, []
    broken = dict(there.newer_unusable)
    for one in there.whole:
        if _is_own(one, here):
            return None, []
        if not broken.keys().isdisjoint({one.id, one.base}):
            continue
        try:
            report = _restored(here, one, progress, ends_s)
        except DamagedArchive as error:
            broken[error.snapshot_id] = str(error)
        else:
            return report, [text for text in [unusable_text(broken)] if text]
    raise SnapshotError(unusable_text(broken) or "no snapshot can be used")


def _restored(here: Assembly, found: Snapshot, progress: Callable[[Json], None], ends_s: float) -> RestoreReport:
    if here.save_root is None:
        raise TaskError("a stop wipes nothing here")
    noted_image(here, pause=lambda: progress("noting the names of the image"))
    return restore(
        found,
        here.save_root,
        state_dir=here.loaded.settings.state_dir,
        key=here.loaded.settings.key(),
        progress=lambda step: progress(step.as_json()),
        cancelled=lambda: time.monotonic() >= ends_s,
    )


def _nothing(here: Assembly) -> str:
    found = None
    with contextlib.suppress(SnapshotError):
        found = offer_of_others(here)
    return f"there was nothing {_where(here)} to bring back" + (f"; {found}" if found else "")


def _told(report: RestoreReport, pod: str | None = None) -> str:
    left = {
        "newer here": len(report.kept_newer),
        "changed by the image, too": len(report.conflicts),
        "with something in the way": len(report.in_the_way),
    }
    beside, of = ", ".join(f"{many} {what}" for what, many in left.items() if many), f" of Pod {pod}" if pod else ""
    more = f"; left out: {beside} (`idlewatch restore` names them)" if beside else ""
    return f"brought back {_files(report.files)} ({amount(report.disk_bytes)}) of {report.snapshot}{of}{more}"


def _where(here: Assembly) -> str:
    return f"in {here.objects}" if here.objects else "on the volume"


def _files(many: int) -> str:
    return "1 file" if many == 1 else f"{many} files"


def _is_own(found: Snapshot, here: Assembly) -> bool:
    """Whether this very container made it: what is in it is here, and whoever saves has used it."""
    born_ns = _born_ns(here)
    if found.boot_key == here.pod.boot_key:
        return True
    return born_ns is not None and datetime.fromisoformat(found.created_at).timestamp() * _NS > born_ns


def _born_ns(here: Assembly) -> int | None:
    """When this container was made; None: what a stop wipes is an ordinary folder. Raises SnapshotError."""
    return None if here.save_root is None else since_for(here.save_root, read_mounts())


def _file(here: Assembly) -> Path:
    return here.loaded.settings.state_dir / MARK_FILE
