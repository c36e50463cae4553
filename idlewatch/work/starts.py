"""What a start finds out and brings back, in child processes: once, while the daemon watches already."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

from idlewatch import assembly
from idlewatch.children.tasks import Progress
from idlewatch.deciding.patience import Gap
from idlewatch.doctor import drilled
from idlewatch.hooks import refusals
from idlewatch.host import restoring
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod import losses
from idlewatch.pod.assembled import Assembly, assembled_here
from idlewatch.snapshot import be_gentle
from idlewatch.stopping import notes, pod_hooks
from idlewatch.stopping.past_starts import Start, note_start
from idlewatch.watching import gaps
from idlewatch.watching.gaps import GAPS_FILE


def look_back(_request: Json, _progress: Progress) -> Json:
    """Read what the volume says of the stop before this start, and bring back what it says of the last drill."""
    here = assembled_here()
    said = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    if here.volume:
        with contextlib.suppress(OSError):  # a drill's date is worth less than why this Pod was stopped
            drilled.bring_back(here.volume, here.pod_name, here.loaded.settings.state_dir)
    return {
        "text": notes.previous_stop(said, here.pod.boot_key),
        "brought_back": notes.previous_stop(said, here.pod.boot_key, offers=False),
        "offer": restoring.offer(here, said.get("snapshot") if said else None),
        "gpus": said.get("gpus") if said else None,
        "gaps": [asdict(gap) for gap in _gaps_on_volume(here, said)],
        "starts": [start.at.isoformat() for start in _noted_starts(here)],
    }


def _noted_starts(here: Assembly) -> list[Start]:
    """The newest starts of this Pod, this one noted with them; none where nothing may be written."""
    if here.volume is None or not here.acts:
        return []
    return note_start(here.volume, here.pod_name, Start(here.pod.boot_key, _started(here)))


def _started(here: Assembly) -> datetime:
    clock = MachineClock()
    return clock.wall() - timedelta(seconds=clock.now_s() - here.pod.started_s)


def _gaps_on_volume(here: Assembly, note: Mapping[str, Json] | None) -> list[Gap]:
    """The gaps that earlier starts have left, and the one over the stop before this start."""
    if here.volume is None:
        return []
    last = gaps.over_a_stop(note, here.pod.boot_key, _started(here))
    return gaps.merged(gaps.read(here.volume / ".idlewatch" / here.pod_name / GAPS_FILE), [last] if last else [])


def look_for_volume(_request: Json, _progress: Progress) -> Json:
    """Look whether the folder that the owner named for saves is there."""
    named = assembled_here().named_volume
    return {"missing": None if named is None or named.is_dir() else f"IDLEWATCH_VOLUME={named} is not there"}


def describe(_request: Json, _progress: Progress) -> Json:
    """Read the Pod at its provider: price, and whether it may be stopped at all."""
    provider = assembly.provider(assembled_here())
    facts = provider.describe()
    return {**asdict(facts), "forbids": provider.forbids(facts)}


def restore(_request: Json, progress: Progress) -> Json:
    """Bring back what the last stop has wiped, once a container."""
    return restoring.bring_back(assembled_here(), progress).as_json()


def after_start(_request: Json, progress: Progress) -> Json:
    """Run the owner's `after-start` hooks, once a start."""
    here = assembled_here()
    note = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    return pod_hooks.after_start(here, note, progress)


def hooks(_request: Json, _progress: Progress) -> Json:
    """Look at the hook folder: what lies there and would not run."""
    return {"refused": [*refusals(pod_hooks.hook_folder(assembled_here()))]}


def note_image(_request: Json, _progress: Progress) -> Json:
    """Note the names of the container's image, so that what is deleted later is known."""
    be_gentle()
    image = losses.noted_image(assembled_here())
    return {} if image is None else {"image": image.fingerprint, "late_s": image.late_s}
