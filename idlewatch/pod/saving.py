"""The save of this very Pod, as its owner wants it: to where, of what, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly
from idlewatch.redact import Redactor
from idlewatch.settings import known_secrets
from idlewatch.snapshot import SaveRequest

LOGIN_SCRIPT = Path("etc/profile.d/idlewatch.sh")
"""What shows the daemon's words at login, below the Pod's disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavePlan:
    """What a save has to do here: a request for the task, a reason why none is needed, or why none is possible.

    The task begins in each of these cases: the owner's hooks run also where there is nothing to save.
    """

    request: Json = None
    needless: str | None = None
    impossible: str | None = None


def save_plan(here: Assembly) -> SavePlan:
    """What a save has to do here."""
    if here.save_root is None:
        return SavePlan(needless="this machine keeps its disk over a stop; nothing to save")
    if here.place is None:
        return SavePlan(impossible=here.no_volume_because)
    return SavePlan(request=save_request(here, here.save_root).as_json())


def save_request(here: Assembly, root: Path) -> SaveRequest:
    """The save of this Pod."""
    settings = here.loaded.settings
    return SaveRequest(
        volume=here.volume,
        objects=here.objects,
        pod_id=here.pod_name,
        boot_key=here.pod.boot_key,
        root=root,
        skip=own_files(here, root),
        keep=settings.keep_snapshots,
        max_bytes=settings.save_max_bytes or None,
        keep_bytes=settings.keep_bytes or None,
        state_dir=settings.state_dir,
        excludes=settings.excludes(),
    )


def with_key(here: Assembly, request: SaveRequest) -> SaveRequest:
    """The request as it is carried out here. Raises Refused where a key is set that this shell does not know."""
    loaded = here.loaded
    if request.objects is not None and (here.objects is None or here.objects.url != request.objects.url):
        raise Refused(f"{request.objects} is not where IDLEWATCH_SAVE_TO leads here")
    if here.objects is not None and (why := here.objects.missing()):
        raise Refused(why)
    key = loaded.settings.key()
    if key is None and loaded.origins["snapshot_key"] != "default":
        raise Refused(
            "snapshots are encrypted here, and this shell does not know the key; run this as root, or set "
            "IDLEWATCH_SNAPSHOT_KEY"
        )
    clean = Redactor(known_secrets(loaded.sources)).clean
    return replace(request, key=key, objects=here.objects if request.objects else None, clean=clean)


def own_files(here: Assembly, root: Path) -> tuple[Path, ...]:
    """What lies on the Pod's disk because of idlewatch itself."""
    return (
        here.loaded.settings.state_dir,
        root / LOGIN_SCRIPT,
        root / "opt/idlewatch",
        root / "usr/local/bin/idlewatch",
    )
