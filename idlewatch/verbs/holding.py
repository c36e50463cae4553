"""`hold`, `holds`, `release`: what people and programs ask of the daemon, by files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from idlewatch import hold as placing
from idlewatch.durations import format_duration
from idlewatch.errors import Refused
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.redact import Redactor
from idlewatch.requests import holds as reading
from idlewatch.settings import Settings, known_secrets, pod_sources, verb_sources
from idlewatch.verbs.daemon import in_vain
from idlewatch.verbs.faults import meaning
from idlewatch.verbs.held import Held, no_hold, run_held
from idlewatch.verbs.stopping import ask_for_stop, require_daemon
from idlewatch.verbs.words import loaded_to_ask, say_json, say_text, warn, who


def hold(options: argparse.Namespace) -> bool:
    """`idlewatch hold`: for a time, for a process, or while a command runs."""
    settings = loaded_to_ask().settings
    most_s = settings.hold_max.total_seconds()
    span_s = min(options.duration or most_s, most_s)
    cut = f" (IDLEWATCH_HOLD_MAX={format_duration(most_s)})" if (options.duration or 0) > most_s else ""
    if options.command:
        return _hold_while_it_runs(options, settings, span_s)
    try:
        path = placing.place(
            masked(options.reason), for_s=span_s, pid=options.pid, who=who(), state_dir=settings.state_dir
        )
    except OSError as error:
        raise Refused(f"can't place a hold: {no_hold(error, settings.state_dir)}") from error
    say_text([f"Held for {format_duration(span_s)}{cut}; `idlewatch release {path.stem}` ends it."])
    _warn_if_in_vain(settings)
    return True


def _warn_if_in_vain(settings: Settings) -> None:
    told = in_vain(settings.state_dir)
    if told:
        warn(told)


def _hold_while_it_runs(options: argparse.Namespace, settings: Settings, span_s: float) -> bool:
    """Ends with the command's exit status. Where that could not be started, no stop is asked for."""
    if options.then_stop:
        require_daemon(settings.state_dir)
    held = run_held(
        options.command,
        reason=masked(options.reason) or program_of(options.command),
        who=who(),
        for_s=span_s,
        state_dir=settings.state_dir,
        no_progress_s=settings.connected_for.total_seconds(),
        placed=lambda: _warn_if_in_vain(settings),
    )
    if options.then_stop:
        _stop_after(held, settings)
    raise SystemExit(held.status)


def _stop_after(held: Held, settings: Settings) -> None:
    if not held.started:
        warn("no stop is asked for, because the command was not started")
        return
    try:
        ask_for_stop(settings.state_dir, settings.warn_for.total_seconds())
    except Refused as error:
        if not held.status:
            raise
        warn(f"refused: {error}")


def program_of(command: Sequence[str]) -> str:
    """The program and its script; what follows may be a key: `python train.py --token …` is `python train.py`."""
    first, *rest = command
    script = [word for word in rest[:1] if not word.startswith("-") and "=" not in word and "://" not in word]
    return masked(" ".join([Path(first).name, *script]))


def masked(text: str) -> str:
    """Without the secrets that this shell and this Pod know."""
    return Redactor(known_secrets(verb_sources(pod_sources()))).clean(text)


def holds(options: argparse.Namespace) -> bool:
    """`idlewatch holds`."""
    now_s = MachineClock().now_s()
    settings = loaded_to_ask().settings
    state_dir, found = settings.state_dir, _holds(settings, now_s)
    shown = [(h, masked(h.reason)) for h in found.active]
    rows: list[Json] = [
        {"id": h.id, "who": h.who, "reason": reason, "left_s": h.until_s - now_s, "pid": h.pid} for h, reason in shown
    ]
    if options.json:
        unreadable: list[Json] = [{"file": bad.name, "reason": bad.reason} for bad in found.unreadable]
        say_json({"holds": rows, "unreadable": unreadable})
        return True
    lines = [
        f"{h.id}  {h.who}  {format_duration(h.until_s - now_s)} left  {reason or 'no reason given'}"
        for h, reason in shown
    ]
    say_text(lines or ["no holds"])
    say_text(
        [f"not a hold: {bad.name}: {bad.reason}; remove {state_dir / 'holds' / bad.name}" for bad in found.unreadable]
    )
    return True


def release(options: argparse.Namespace) -> bool:
    """`idlewatch release`."""
    settings = loaded_to_ask().settings
    present = {h.id: h for h in _holds(settings, MachineClock().now_s()).active}
    unknown = [one for one in options.id if one not in present]
    if unknown:
        raise Refused(f"there is no hold {unknown[0]}; `idlewatch holds` lists them")
    ended = options.id or [*present]
    stayed = reading.remove(settings.state_dir, ended)
    for name, error in stayed.items():
        raise Refused(f"can't release {name}: {meaning(error, settings.state_dir / 'holds')}") from error
    told = [
        f"Released {one}, of {present[one].who}: {masked(present[one].reason) or 'no reason given'}" for one in ended
    ]
    say_text(told or ["There is no hold to release."])
    return True


def _holds(settings: Settings, now_s: float) -> reading.HoldsRead:
    return reading.read_holds(settings.state_dir, now_s, hold_max_s=settings.hold_max.total_seconds())
