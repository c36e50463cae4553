"""`status`, `why`, `history`, `settings`: what is true now, and what led to it."""

from __future__ import annotations

import argparse
import json

from idlewatch.errors import Refused
from idlewatch.history import read_events, read_status, spans_of
from idlewatch.settings import Settings, variable
from idlewatch.show.status import is_stale, not_shown, status_lines
from idlewatch.show.why import LOOK_BACK_S, explained
from idlewatch.unwritten import fault_of
from idlewatch.verbs.words import loaded, say
from idlewatch.watch import MachineClock, daemon_watches


def status(options: argparse.Namespace) -> bool:
    """`idlewatch status`: done only where a daemon watches."""
    state_dir = loaded().settings.state_dir
    lives = daemon_watches(state_dir)  # before what it says: one that ends in between has said so
    said, now_s, fault = read_status(state_dir), MachineClock().now_s(), fault_of(state_dir) if lives else None
    if said is None and not lives:
        raise Refused("no daemon has watched here; start it with `idlewatch run`")
    running = lives and said is not None and not is_stale(said, now_s)
    if options.json:
        say([json.dumps({**(said or {}), "running": running})])
    else:
        say(not_shown("nothing yet", fault) if said is None else status_lines(said, now_s, lives=lives, fault=fault))
    return running


def history(options: argparse.Namespace) -> bool:
    """`idlewatch history`. Raises StateFolderError where it can't be read."""
    events = read_events(loaded().settings.state_dir)
    if options.json:
        say([json.dumps(events)])
    else:
        say([f"{event['at']!s:.19}  {event['kind']!s:<12} {event['text']}" for event in events] or ["nothing yet"])
    return True


def settings(options: argparse.Namespace) -> bool:
    """`idlewatch settings`."""
    told = loaded()
    rows = {
        variable(field): {"value": told.shown(field), "from": told.origins[field]}
        for field in Settings.model_fields
    }
    if options.json:
        say([json.dumps(rows, indent=2)])
        return True
    for field, described in Settings.model_fields.items():
        row = rows[variable(field)]
        say([f"{variable(field)}={row['value']}  ({row['from']})", f"    {described.description}"])
    return True


def why(options: argparse.Namespace) -> bool:
    """`idlewatch why`: as `status`, done only where a daemon watches."""
    told, clock = loaded(), MachineClock()
    now_s = clock.now_s()
    lives = daemon_watches(told.settings.state_dir)
    said = read_status(told.settings.state_dir)
    if said is None or not lives or is_stale(said, now_s):
        raise Refused("no daemon watches here, so nothing decides; `idlewatch status` says more")
    spans = spans_of(told.settings.state_dir, since_s=now_s - LOOK_BACK_S)
    found = explained(said, spans, told.settings.limits(), now_s, clock.wall)
    say([json.dumps(found.as_json())] if options.json else found.lines())
    return True
