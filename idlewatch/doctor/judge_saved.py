"""Judges whether what a stop wipes could be saved, and what is saved already. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from idlewatch.amounts import amount
from idlewatch.doctor.drilled import drill_text
from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines
from idlewatch.doctor.looking import Seen
from idlewatch.history.status import mapping, number
from idlewatch.model import Json
from idlewatch.settings import OnSaveFailure

_SAY = Lines(Group.SAVED)
PACKED_SHARE = 0.6
"""What is left of typical content after packing: what a save reckons with before it begins."""
_REMOVE = "run it as root, or remove what is broken"
_NETWORK = ("fuse", "mfs", "nfs", "ceph", "lustre", "9p")
_MOUNT_ONE = (
    "name a mounted volume in IDLEWATCH_VOLUME, or object storage in IDLEWATCH_SAVE_TO; a volume can be added in "
    "RunPod's console (Edit Pod), but an edit wipes this Pod's disk at once, so copy your work away first; "
    "IDLEWATCH_ON_SAVE_FAILURE=stop stops it all the same, and loses what is on its disk"
)
_MAKE_ROOM = (
    "make room on the volume; it can be made larger in RunPod's console, but an edit wipes this Pod's disk at once, so "
    "copy your work away first"
)


def saved_lines(here: Here, volume: Seen, loss: Seen, api: Seen) -> Iterator[Line]:
    """The volume, whether it can be written, whether there is room, and the last save and drill."""
    said = volume.said
    if not here.is_pod:
        yield _SAY.ok("volume", "nothing is stopped here, so nothing has to be saved")
        return
    if said.get("needless"):
        yield _SAY.ok("volume", "this machine keeps its disk over a stop: nothing has to be saved")
    elif said.get("objects"):
        yield from _objects(here, volume, loss)
    elif volume.hung and not volume.began:
        text = f"the volume could not be looked at: {volume.missing}"
        yield _SAY.unproven("volume", text, "run this again when the machine has less to do")
    elif volume.hung:
        remedy = "see with `timeout 10 ls` whether it answers; if it does not, restart the Pod or ask RunPod"
        yield _SAY.broken(
            "volume", f"the volume hangs: {volume.missing}; so would a save, and the Pod be kept up", remedy
        )
    elif volume.missing:
        yield _SAY.broken("volume", f"the volume could not be looked at: {volume.missing}", "try again, as root")
    elif not said.get("volume"):
        yield _without_volume(here, said, loss, mapping(api.said.get("pod")).get("volume_path"))
    else:
        yield from _volume(here, said, network=bool(here.loaded.pod_variable("RUNPOD_VOLUME_ID")))
        yield from _root(loss)
        if said.get("there"):
            yield from [] if loss.said.get("gone") else [_room(here, said, loss)]
            yield _snapshots(said)
    yield from _hooks(said)
    yield from _drill(here, mapping(said.get("drill")))


def _without_volume(here: Here, said: Mapping[str, Json], loss: Seen, told: Json) -> Line:
    text = str(said.get("why_none"))
    if "bytes" in loss.said:
        text = f"{text} ({_wiped(loss)} now)"
    folders = said.get("folders")
    if isinstance(folders, list) and folders:
        text = f"{', '.join(map(str, folders))} is only a folder on this Pod's disk, no volume; {text}"
    mounted = said.get("mounted")
    here_too = isinstance(mounted, list) and told in mounted
    remedy = f"RunPod mounts one at {told}: set IDLEWATCH_VOLUME={told}" if here_too else _MOUNT_ONE
    if here.loaded.settings.on_save_failure is OnSaveFailure.STOP:
        return _SAY.warning("volume", f"{text}; it is stopped all the same (IDLEWATCH_ON_SAVE_FAILURE=stop)", remedy)
    return _SAY.broken("volume", f"{text}; so this Pod is kept up, idle or not", remedy)


def _objects(here: Here, seen: Seen, loss: Seen) -> Iterator[Line]:
    where, failed = seen.said.get("objects"), seen.missing or seen.said.get("snapshots_error")
    if failed:
        remedy = "see IDLEWATCH_SAVE_TO, its keys (docs/snapshots.md), and whether this Pod reaches it"
        yield _SAY.broken("objects", f"{where} can't be read, so this Pod is kept up, idle or not: {failed}", remedy)
        return
    yield _SAY.ok("objects", f"snapshots go to {where}, which answers (a drill writes there)")
    yield from _root(loss)
    yield from [] if loss.said.get("gone") else [_upload(here, loss)]
    yield _snapshots(seen.said)


def _root(loss: Seen) -> Iterator[Line]:
    """Only where the folder that a stop is said to wipe is not there: then nothing is known of what it wipes."""
    if loss.said.get("gone"):
        text = f"IDLEWATCH_SAVE_ROOT={loss.said.get('root')} is not there, so no save would succeed"
        yield _SAY.broken("root", text, "set IDLEWATCH_SAVE_ROOT to what a stop wipes, or unset it: in a Pod that is /")


def _upload(here: Here, loss: Seen) -> Line:
    if "bytes" not in loss.said:
        why = f"could not be measured: {loss.missing}" if loss.missing else "was not measured: nothing is stopped here"
        return _SAY.ok("upload", f"what a stop would wipe {why}")
    text = f"a stop would wipe {_wiped(loss)}, uploaded first and read back"
    if unreadable := _unreadable(loss):
        return _for_user(here, "upload", f"{text}; {unreadable}", _REMOVE)
    return _SAY.ok("upload", text)


def _for_user(here: Here, name: str, text: str, remedy: str) -> Line:
    """What holds for whoever asks: for the daemon, too, where that is root."""
    if here.root:
        return _SAY.broken(name, text, remedy)
    return _SAY.unproven(name, text, "run this as root, who sees what the daemon sees")


def _unreadable(loss: Seen) -> str | None:
    """What can't be read, in words; None: nothing."""
    many, listed = int(number(loss.said.get("unreadable"))), loss.said.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else ""
    return f"{many} can't be read, which makes a save fail: {first}" if many else None


def _volume(here: Here, said: Mapping[str, Json], *, network: bool) -> Iterator[Line]:
    where, point, kind = said.get("volume"), said.get("point"), str(said.get("fs_type"))
    if not said.get("there"):
        yield _SAY.broken("volume", f"{where} is no folder", "make it, or set IDLEWATCH_VOLUME to one that is there")
        return
    lies = (
        f"{where} lies on {point}, a mount of its own ({kind})" if point != "/" else f"{where} lies on the disk itself"
    )
    lies = f"{where} is a mount of its own ({kind})" if point == where else lies
    shared = "; it is a network volume" if network or kind.startswith(_NETWORK) else ""
    yield _SAY.ok("volume", lies + shared)
    if said.get("read_only") or not said.get("writable"):
        why = "is mounted read-only" if said.get("read_only") else "can't be written by this user"
        remedy = "run the daemon as root, or have the volume mended at RunPod"
        yield _for_user(here, "writable", f"{where} {why}", remedy)
    else:
        yield _SAY.ok("writable", f"{where} can be written, by its access bits (a drill writes)")


def _room(here: Here, said: Mapping[str, Json], loss: Seen) -> Line:
    free = number(said.get("free_bytes"))
    if "bytes" not in loss.said and loss.missing is None:
        return _SAY.ok("room", f"{amount(free)} free; nothing is stopped here, so the loss was not measured")
    if "bytes" not in loss.said:
        text = f"{amount(free)} free; what a stop would wipe could not be measured: {loss.missing}"
        return _SAY.warning("room", text, "`idlewatch loss` measures it without a deadline")
    wiped = number(loss.said.get("bytes"))
    text = f"a stop would wipe {_wiped(loss)}; {amount(free)} free on the volume"
    if free < wiped * PACKED_SHARE:
        return _SAY.broken("room", f"{text}: too little", _MAKE_ROOM)
    if unreadable := _unreadable(loss):
        return _for_user(here, "room", f"{text}; {unreadable}", _REMOVE)
    if free < wiped:
        return _SAY.warning("room", f"{text}: enough only if it packs well", "make room on the volume")
    return _SAY.ok("room", text + ("" if free < 1e14 else " (the whole cluster's: your quota does not show)"))


def _wiped(loss: Seen) -> str:
    files = int(number(loss.said.get("files")))
    return f"{amount(number(loss.said.get('bytes')))} in {files} file{'' if files == 1 else 's'}"


def _snapshots(said: Mapping[str, Json]) -> Line:
    if said.get("snapshots_error"):
        return _SAY.warning("snapshots", f"earlier saves can't be listed: {said['snapshots_error']}", "run it as root")
    count = int(number(said.get("snapshots")))
    if unusable := said.get("unusable"):
        remedy = "`idlewatch save` makes a whole one; remove the files of the others when nothing of them is needed"
        others = f"{count} can, the newest {said.get('newest')}" if count else "no other is there"
        return _SAY.warning("snapshots", f"{unusable}; {others}", remedy)
    if not count:
        return _SAY.ok("snapshots", "nothing was saved of this Pod yet")
    return _SAY.ok("snapshots", f"{count} saved, the newest {said.get('newest')} at {str(said.get('newest_at'))[:16]}")


def _hooks(said: Mapping[str, Json]) -> Iterator[Line]:
    refused, missing, runs = (_names(said.get(name)) for name in ("hooks_refused", "hooks_missing", "hooks"))
    remedy = "mend it, or take it away; docs/hooks.md says who may own and write a hook"
    if missing:
        text = f"{', '.join(missing)} is required and would not run, so no save would succeed: {'; '.join(refused)}"
        yield _SAY.broken("hooks", text, remedy)
    elif refused:
        yield _SAY.warning("hooks", "; ".join(refused), remedy)
    elif runs:
        yield _SAY.ok("hooks", f"hooks would run: {', '.join(runs)}")


def _names(value: Json) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _drill(here: Here, on_volume: Mapping[str, Json]) -> Iterator[Line]:
    """The drill's note; without a Pod that could be stopped none is missing."""
    text = drill_text(on_volume or here.drill)
    if text:
        yield _SAY.ok("drill", text)
    elif here.refusal is None:
        yield _SAY.unproven("drill", "the end sequence was never drilled here", "idlewatch doctor --drill")
