"""
What each verb does: asks the state folder or the volume, and says it. Returns whether it is done.

Only `run` watches and only the daemon writes what it watches; the other verbs read its files and drop theirs into
`holds/` and `requests/`.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from idlewatch import assembly, logs, notes, places, tasks
from idlewatch import hold as placing
from idlewatch import holds as reading
from idlewatch.assembly import Assembly
from idlewatch.daemon import Daemon
from idlewatch.durations import format_duration
from idlewatch.errors import IdlewatchError, Refused, SettingsError, SnapshotError
from idlewatch.history import STATUS_FILE, History, events_of, status_of, write_atomically
from idlewatch.model import Json
from idlewatch.pod import POD_ID
from idlewatch.record import DaemonRecord
from idlewatch.settings import Loaded, Mode, Settings, Source, load, pod_sources, shown, variable, verb_sources
from idlewatch.show.status import is_stale, status_lines
from idlewatch.snapshot import RestoreReport, SaveRequest, be_gentle, find, measure_loss, read_mounts
from idlewatch.snapshot import restore as bring_back
from idlewatch.snapshot import save as save_now
from idlewatch.snapshot import snapshots as listed
from idlewatch.watch import MachineClock, Moments, only_daemon, request_file

log = structlog.get_logger()

_SAVE_ATTEMPTS = 3
_ENOUGH_BYTES = 1024 * 1024
"""What may change while a save is proven; more, and the save does not hold what is there now."""
_LOOK_BACK_S = 15 * 60.0
"""The longest window of any judge."""


def run(options: argparse.Namespace) -> bool:
    """`idlewatch run`."""
    logs.set_up(least=logging.DEBUG if options.debug else logging.INFO)
    sources = pod_sources()
    try:
        loaded = load(sources)
    except SettingsError as error:
        _leave_word(sources, error.problems)
        raise
    if options.observe:
        told = loaded.settings.model_copy(update={"mode": Mode.OBSERVE})
        loaded = Loaded(settings=told, origins={**loaded.origins, "mode": "--observe"}, sources=loaded.sources)
    here = assembly.assembled(loaded)
    with only_daemon(loaded.settings.state_dir):
        _watch(here)
    return True


def _leave_word(sources: Sequence[Source], problems: Sequence[str]) -> None:
    """Say in the state folder and on the volume that nothing guards this Pod; best effort, only in a Pod."""
    told = {name: value for source in reversed(sources) for name, value in source.variables.items() if value}
    if not told.get(POD_ID):
        return
    clock, state_dir = MachineClock(), Path(told.get(variable("state_dir"), Settings.model_fields["state_dir"].default))
    said: dict[str, Json] = {"at": clock.wall().isoformat(), "at_s": clock.now_s(), "problems": list(problems)}
    volume = places.volume(told.get(variable("volume"), "auto"), read_mounts())
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(state_dir / STATUS_FILE, json.dumps({"format": 1, "phase": "misconfigured", **said}))
    with contextlib.suppress(OSError):
        if volume:
            notes.write_note(volume, told[POD_ID], notes.MISCONFIGURED, said)


def _watch(here: Assembly) -> None:
    settings, clock = here.loaded.settings, MachineClock()
    clock.end_on_shutdown_request()
    watched = assembly.signals(here)
    history = History(settings.state_dir)
    before = _before(here)
    record = DaemonRecord(history, clock, here.loaded, here.pod, before)
    state = history.remembered(here.pod.boot_key, record.settings_key)
    refusal = assembly.provider(here).refusal() if settings.mode is Mode.STOP else None
    log.info("started", pod=here.pod.pod_id, will=assembly.started_text(here), refusal=refusal)
    if before:
        log.info("previous_stop", text=before)
    daemon = Daemon(
        clock=clock,
        signals=watched,
        actions=assembly.actions(here),
        record=record,
        moment=Moments(
            state_dir=settings.state_dir,
            pod=here.pod,
            hold_max_s=settings.hold_max.total_seconds(),
            usd_per_hour=settings.usd_per_hour,
            refusal=refusal,
        ),
        limits=settings.limits(),
        state=state,
    )
    if state:
        daemon.look_back(history.readings_since(clock.now_s() - _LOOK_BACK_S))
    daemon.run(until=clock.ended)
    daemon.close()
    history.close()
    log.info("ended", because="shutdown request")


def _before(here: Assembly) -> str | None:
    """What the note on the volume proves of the stop before this start."""
    note = notes.stop_note(here.volume, here.pod_name) if here.volume else None
    return notes.previous_stop(note, here.pod.boot_key)


# ---------------------------------------------------------------- what is true now


def status(options: argparse.Namespace) -> bool:
    """`idlewatch status`: done only where a daemon watches."""
    said, now_s = status_of(_loaded().settings.state_dir), MachineClock().now_s()
    if said is None:
        raise Refused("no daemon has watched here; start it with `idlewatch run`")
    running = not is_stale(said, now_s)
    _print([json.dumps({**said, "running": running})] if options.json else status_lines(said, now_s))
    return running


def history(options: argparse.Namespace) -> bool:
    """`idlewatch history`."""
    events = events_of(_loaded().settings.state_dir)
    if options.json:
        _print([json.dumps(events)])
    else:
        _print([f"{event['at']!s:.19}  {event['kind']!s:<12} {event['text']}" for event in events] or ["nothing yet"])
    return True


def settings(options: argparse.Namespace) -> bool:
    """`idlewatch settings`."""
    loaded = _loaded()
    rows = {
        variable(field): {"value": shown(getattr(loaded.settings, field)), "from": loaded.origins[field]}
        for field in Settings.model_fields
    }
    if options.json:
        _print([json.dumps(rows, indent=2)])
        return True
    for field, described in Settings.model_fields.items():
        row = rows[variable(field)]
        _print([f"{variable(field)}={row['value']}  ({row['from']})", f"    {described.description}"])
    return True


def stop(options: argparse.Namespace) -> bool:
    """`idlewatch stop`: a request to the daemon, which does the whole end sequence."""
    state_dir, now_s = _loaded().settings.state_dir, MachineClock().now_s()
    path = request_file(state_dir)
    if options.cancel:
        path.unlink(missing_ok=True)
        _print(["The request is taken back."])
        return True
    said = status_of(state_dir)
    if said is None or is_stale(said, now_s):
        raise Refused("no daemon is running here to carry it out; start it with `idlewatch run`")
    boot_key = said.get("boot_key")
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"who": _who(), "warn_for_s": options.after, "boot_key": boot_key}))
    _print(
        [
            f"Asked: people are warned for {format_duration(options.after)}, then what a stop would wipe is saved.",
            "Follow it with `idlewatch status`; take it back with `idlewatch stop --cancel`.",
        ]
    )
    return True


# ---------------------------------------------------------------- holds


def hold(options: argparse.Namespace) -> bool:
    """`idlewatch hold`."""
    told = _loaded().settings
    most_s = told.hold_max.total_seconds()
    span_s = min(options.duration or most_s, most_s)
    try:
        path = placing.place(options.reason, for_s=span_s, pid=options.pid, who=_who(), state_dir=told.state_dir)
    except OSError as error:
        raise Refused(f"can't place a hold: {error}") from error
    cut = f" (IDLEWATCH_HOLD_MAX={format_duration(most_s)})" if (options.duration or 0) > most_s else ""
    _print([f"Held for {format_duration(span_s)}{cut}; `idlewatch release {path.stem}` ends it."])
    return True


def holds(options: argparse.Namespace) -> bool:
    """`idlewatch holds`."""
    now_s = MachineClock().now_s()
    found = _holds(now_s)
    rows: list[Json] = [
        {"id": h.id, "who": h.who, "reason": h.reason, "left_s": h.until_s - now_s, "pid": h.pid} for h in found.active
    ]
    if options.json:
        _print([json.dumps(rows)])
        return True
    lines = [f"{h.id}  {h.who}  {format_duration(h.until_s - now_s)} left  {h.reason}" for h in found.active]
    _print(lines or ["no holds"])
    _print([f"not a hold: {bad.name}: {bad.reason}" for bad in found.unreadable])
    return True


def release(options: argparse.Namespace) -> bool:
    """`idlewatch release`."""
    present = [h.id for h in _holds(MachineClock().now_s()).active]
    unknown = [one for one in options.id if one not in present]
    if unknown:
        raise Refused(f"there is no hold {unknown[0]}; `idlewatch holds` lists them")
    ended = options.id or present
    reading.remove(_loaded().settings.state_dir, ended)
    _print([f"Released {len(ended)} hold{'' if len(ended) == 1 else 's'}."])
    return True


def _holds(now_s: float) -> reading.HoldsRead:
    told = _loaded().settings
    return reading.read_holds(told.state_dir, now_s, hold_max_s=told.hold_max.total_seconds())


# ---------------------------------------------------------------- saving


def loss(options: argparse.Namespace) -> bool:
    """`idlewatch loss`."""
    here = assembly.assembled(_loaded())
    if here.save_root is None:
        _print([json.dumps({"nothing": True}) if options.json else "Nothing: this machine keeps its disk over a stop."])
        return True
    skip = [here.loaded.settings.state_dir, *([here.volume] if here.volume else [])]
    found = measure_loss(here.save_root, skip=skip)
    if options.json:
        _print([json.dumps(found.as_json())])
        return True
    where = f"saved to {here.volume} first" if here.volume else f"NOT saved: {here.no_volume_because}"
    _print([f"A stop now would wipe {_size(found.total_bytes)} in {found.files} files; {where}."])
    _print([f"  {_size(weight):>9}  {files:>7} files  {path}" for path, weight, files in found.by_folder[:10]])
    _print([f"  left out on purpose: {_size(weight)} of {rule}" for rule, weight, _ in found.excluded if weight])
    _print([f"  can't be read: {path}: {why}" for path, why in found.errors[:10]])
    return True


def save(_options: argparse.Namespace) -> bool:
    """`idlewatch save`."""
    here = assembly.assembled(_loaded())
    if here.save_root is None:
        raise Refused("this machine keeps its disk over a stop; there is nothing to save")
    made = save_now(assembly.save_request(here, _volume(here), here.save_root), progress=_show_progress)
    _print([f"Saved as {made.id}: {_size(made.archive_bytes)}, {made.files} files." if made else "Nothing to save."])
    return True


def snapshots(options: argparse.Namespace) -> bool:
    """`idlewatch snapshots`."""
    here = assembly.assembled(_loaded())
    found = listed(_volume(here), here.pod_name)
    if options.json:
        _print([json.dumps([one.as_json() for one in found])])
    else:
        rows = [f"{one.id}  {one.created_at:.19}  {_size(one.archive_bytes):>9}  {one.files} files" for one in found]
        _print(rows or [f"no snapshot of {here.pod_name} on {here.volume}"])
    return True


def restore(options: argparse.Namespace) -> bool:
    """`idlewatch restore`."""
    here = assembly.assembled(_loaded())
    snapshot = find(_volume(here), here.pod_name, options.id)
    target = Path(options.into) if options.into else here.save_root or Path(snapshot.root)
    report = bring_back(snapshot, target, dry_run=options.dry_run, overwrite=options.overwrite, progress=_show_progress)
    _print([json.dumps(report.as_json())] if options.json else _restored(report))
    return True


def _restored(report: RestoreReport) -> list[str]:
    did = "Would bring back" if report.dry_run else "Brought back"
    what = f"{report.files} files and {report.folders} folders ({_size(report.disk_bytes)})"
    return [f"{did} {what} from {report.snapshot}; {report.unchanged} were there already."]


def _volume(here: Assembly) -> Path:
    if here.volume is None:
        raise Refused(here.no_volume_because)
    return here.volume


# ---------------------------------------------------------------- the daemon's tasks


def task(options: argparse.Namespace) -> bool:
    """`idlewatch _task NAME`: a slow effect of the daemon's, in this child process."""
    return tasks.serve(TASKS[options.name]) == 0


def _task_save(request: Json, progress: Callable[[Json], None]) -> Json:
    be_gentle()
    if not isinstance(request, dict):
        raise SnapshotError("not a request for a save")
    made = None
    for _ in range(_SAVE_ATTEMPTS):
        made = save_now(SaveRequest.from_json(request), progress=lambda p: progress(p.as_json()))
        if made is None:
            return {"snapshot": None, "text": "nothing that a stop would wipe"}
        if made.changed_after_bytes < _ENOUGH_BYTES:
            return {"snapshot": made.id, "text": f"saved {made.files} files as {made.id}, {_size(made.archive_bytes)}"}
    changed = _size(made.changed_after_bytes if made else 0)
    raise SnapshotError(f"{changed} changed again while each of {_SAVE_ATTEMPTS} saves was proven")


def _task_stop(request: Json, _progress: Callable[[Json], None]) -> Json:
    here = assembly.assembled(load(pod_sources()))
    _write_note(here, request if isinstance(request, dict) else {})
    answer = assembly.provider(here).stop()
    return {"text": f"accepted by {answer.accepted_by}"}


def _write_note(here: Assembly, request: Mapping[str, Json]) -> None:
    """Best effort: a volume that can't be written to must not keep a Pod running that has nothing left to save."""
    if here.volume is None:
        return
    note: dict[str, Json] = {
        "at": datetime.now(UTC).isoformat(),
        "pod_id": here.pod.pod_id,
        "boot_key": here.pod.boot_key,
        "reason": request.get("reason"),
        "idle_for_s": request.get("idle_for_s"),
        "snapshot": request.get("snapshot"),
    }
    try:
        notes.write_note(here.volume, here.pod_name, notes.LAST_STOP, note)
    except OSError as error:
        sys.stderr.write(f"the note on {here.volume} could not be written: {error.strerror}\n")


TASKS: Mapping[str, Callable[[Json, Callable[[Json], None]], Json]] = {"save": _task_save, "stop": _task_stop}
"""What `_task` can be asked for."""


# ---------------------------------------------------------------- small things


def demo(_options: argparse.Namespace) -> bool:
    """`idlewatch demo`."""
    from rich.console import Console

    from idlewatch.demo.simulated_pod import play

    return play(Console())


def _loaded() -> Loaded:
    return load(verb_sources(pod_sources()))


def _print(lines: list[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _show_progress(progress: object) -> None:
    stage, done = getattr(progress, "stage", ""), getattr(progress, "done_bytes", 0)
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{stage} {_size(done)}   ")


def _size(amount: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _who() -> str:
    try:
        where = os.ttyname(0).removeprefix("/dev/")
    except OSError:
        where = "no terminal"
    try:
        return f"{getpass.getuser()} ({where})"
    except (KeyError, OSError) as error:
        raise IdlewatchError(f"who are you? {error}") from error
