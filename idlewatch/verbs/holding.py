"""`hold`, `holds`, `release`, `stop`: what people and programs ask of the daemon, by files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from idlewatch import hold as placing
from idlewatch import holds as reading
from idlewatch.durations import format_duration
from idlewatch.errors import Refused
from idlewatch.history import status_of, write_atomically
from idlewatch.model import Json
from idlewatch.settings import Settings
from idlewatch.show.status import is_stale
from idlewatch.verbs.held import run_held
from idlewatch.verbs.words import loaded, say, who
from idlewatch.watch import MachineClock, request_file


def hold(options: argparse.Namespace) -> bool:
    """`idlewatch hold`: for a time, for a process, or while a command runs."""
    settings = loaded().settings
    most_s = settings.hold_max.total_seconds()
    span_s = min(options.duration or most_s, most_s)
    cut = f" (IDLEWATCH_HOLD_MAX={format_duration(most_s)})" if (options.duration or 0) > most_s else ""
    if options.command:
        return _hold_while_it_runs(options, settings, span_s)
    try:
        path = placing.place(options.reason, for_s=span_s, pid=options.pid, who=who(), state_dir=settings.state_dir)
    except OSError as error:
        raise Refused(f"can't place a hold: {error}") from error
    say([f"Held for {format_duration(span_s)}{cut}; `idlewatch release {path.stem}` ends it."])
    return True


def _hold_while_it_runs(options: argparse.Namespace, settings: Settings, span_s: float) -> bool:
    status = run_held(
        options.command,
        reason=options.reason or " ".join(options.command),
        who=who(),
        for_s=span_s,
        state_dir=settings.state_dir,
        no_progress_s=settings.connected_for.total_seconds(),
    )
    if options.then_stop:
        _ask_for_stop(settings.state_dir, settings.warn_for.total_seconds())
    raise SystemExit(status)


def holds(options: argparse.Namespace) -> bool:
    """`idlewatch holds`."""
    now_s = MachineClock().now_s()
    found = _holds(now_s)
    rows: list[Json] = [
        {"id": h.id, "who": h.who, "reason": h.reason, "left_s": h.until_s - now_s, "pid": h.pid} for h in found.active
    ]
    if options.json:
        say([json.dumps(rows)])
        return True
    lines = [f"{h.id}  {h.who}  {format_duration(h.until_s - now_s)} left  {h.reason}" for h in found.active]
    say(lines or ["no holds"])
    say([f"not a hold: {bad.name}: {bad.reason}" for bad in found.unreadable])
    return True


def release(options: argparse.Namespace) -> bool:
    """`idlewatch release`."""
    present = [h.id for h in _holds(MachineClock().now_s()).active]
    unknown = [one for one in options.id if one not in present]
    if unknown:
        raise Refused(f"there is no hold {unknown[0]}; `idlewatch holds` lists them")
    ended = options.id or present
    reading.remove(loaded().settings.state_dir, ended)
    say([f"Released {len(ended)} hold{'' if len(ended) == 1 else 's'}."])
    return True


def _holds(now_s: float) -> reading.HoldsRead:
    told = loaded().settings
    return reading.read_holds(told.state_dir, now_s, hold_max_s=told.hold_max.total_seconds())


def stop(options: argparse.Namespace) -> bool:
    """`idlewatch stop`: a request to the daemon, which does the whole end sequence."""
    state_dir = loaded().settings.state_dir
    if options.cancel:
        request_file(state_dir).unlink(missing_ok=True)
        say(["The request is taken back."])
        return True
    _ask_for_stop(state_dir, options.after)
    return True


def _ask_for_stop(state_dir: Path, warn_for_s: float) -> None:
    said, path = status_of(state_dir), request_file(state_dir)
    if said is None or is_stale(said, MachineClock().now_s()):
        raise Refused("no daemon is running here to carry out a stop; start it with `idlewatch run`")
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"who": who(), "warn_for_s": warn_for_s, "boot_key": said.get("boot_key")}))
    say(
        [
            f"Asked: people are warned for {format_duration(warn_for_s)}, then what a stop would wipe is saved.",
            "Follow it with `idlewatch status`; take it back with `idlewatch stop --cancel`.",
        ]
    )
