"""`status`, `why`, `history`, `settings`: what is true now, and what led to it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from idlewatch.doctor.drilled import drill_text, in_state_folder
from idlewatch.errors import Refused
from idlewatch.history.status import is_stale
from idlewatch.history.store import events_of, read_events, read_status, spans_of
from idlewatch.history.verdicts import Span
from idlewatch.kernel.own import registered
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.settings import Settings, variable
from idlewatch.show.folding import COLUMNS, NARROWEST, Paragraph, drawn
from idlewatch.show.lanes import LANE_MOST, LEGEND, lane, lanes, pod_lane
from idlewatch.show.status import not_shown, status_lines
from idlewatch.show.why import LOOK_BACK_S, explained
from idlewatch.state_folder import daemon_watches
from idlewatch.verbs.words import columns, loaded, loaded_to_ask, say, say_json, say_text
from idlewatch.watching.unwritten import fault_of

SAVED = ("save done", "saved while in use", "saved on request", "saved by hand")
"""Events of saves that succeeded."""
_LANE_S, _LANE_TITLE = 3600.0, "last hour"
_ZONE = "All times are UTC."
_SIGNAL_LANE = 12
"""Columns of each signal's own lane of that hour."""


def status(options: argparse.Namespace) -> bool:
    """`idlewatch status`: done only where a daemon watches; with `watch` again and again, until Ctrl-C."""
    settings = loaded_to_ask().settings
    if not options.watch:
        return _status(settings.state_dir, as_json=options.json)
    with contextlib.suppress(KeyboardInterrupt), registered(settings.state_dir):
        _watch(settings, as_json=options.json)
    return True


def _watch(settings: Settings, *, as_json: bool) -> None:
    while True:
        if sys.stdout.isatty() and not as_json:
            say(["\x1b[H\x1b[J" + f"{MachineClock().wall():%H:%M:%S} UTC, Ctrl-C ends this"])
        _status(settings.state_dir, as_json=as_json)
        sys.stdout.flush()
        time.sleep(settings.interval.total_seconds())


def _status(state_dir: Path, *, as_json: bool) -> bool:
    lives = daemon_watches(state_dir)  # before what it says: one that ends in between has said so
    said, now_s, fault = read_status(state_dir), MachineClock().now_s(), fault_of(state_dir) if lives else None
    if said is None and not lives:
        if as_json:
            say_json({"running": False})
        raise Refused("no daemon has watched here; start it with `idlewatch run`")
    wide = min(COLUMNS, columns() or COLUMNS)
    running = lives and said is not None and not is_stale(said, now_s)
    if as_json:
        say_json({**(said or {}), "running": running})
    elif said is None:
        say(not_shown("nothing yet", fault, wide))
    else:
        spans = spans_of(state_dir, since_s=now_s - _LANE_S) if running else []
        more = [*_past(state_dir, spans, now_s, wide)] if running else []
        own = {
            name: lane((span for span in spans if span.name == name), now_s - _LANE_S, now_s, _SIGNAL_LANE)
            for name in {span.name for span in spans}
        }
        say(status_lines(said, now_s, lives=lives, fault=fault, more=more, lanes=own, columns=wide))
    return running


def _past(state_dir: Path, spans: Sequence[Span], now_s: float, wide: int) -> Iterator[str]:
    """What came before: the last hour as a lane, with what its signs mean, the last save, the last drill."""
    if spans:
        fits = min(LANE_MOST, max(NARROWEST, wide) - len(f"  {_LANE_TITLE} []"))
        yield f"{_LANE_TITLE} [{pod_lane(spans, now_s - _LANE_S, now_s, fits)}]"
        yield LEGEND
    saves = [event for event in events_of(state_dir) if event["kind"] in SAVED]
    if saves:
        last = max(reversed(saves), key=_instant)
        yield f"last save {_instant(last):.16} UTC: {last['text']}".replace("T", " ", 1)
    drill = drill_text(in_state_folder(state_dir))
    if drill:
        yield drill


def history(options: argparse.Namespace) -> bool:
    """`idlewatch history`. Raises StateFolderError where it can't be read."""
    state_dir = loaded_to_ask().settings.state_dir
    events = read_events(state_dir)
    if options.json:
        say_json({"events": [*events]})
    else:
        clock = MachineClock()
        now_s, hours, wide = clock.now_s(), options.hours, columns()
        spans = spans_of(state_dir, since_s=now_s - hours * 3600.0)
        say([_ZONE] if events or spans else [])
        say(lanes(spans, now_s, clock.wall(), hours=hours, width=wide or COLUMNS) if spans else [])
        told = sorted(events, key=_instant)  # what was heard of late stands where it happened
        say(drawn((_told(event) for event in told), wide) if events else ["nothing yet"])
    return True


def _instant(event: Mapping[str, Json]) -> str:
    return str(event["at"])


def _told(event: Mapping[str, Json]) -> Paragraph:
    return Paragraph(f"{event['kind']!s:<12} {event['text']}", f"{event['at']!s:.19}  ", "      ")


def settings(options: argparse.Namespace) -> bool:
    """`idlewatch settings`."""
    told = loaded()
    rows: dict[str, dict[str, Json]] = {
        variable(field): {"value": told.shown(field), "from": told.origins[field]}
        for field in Settings.model_fields
        if not options.changed or told.origins[field] != "default"
    }
    if options.json:
        say_json({"settings": {**rows}})
        return True
    if options.changed:
        say(
            [f"{name}={row['value']}  ({row['from']})" for name, row in rows.items()]
            or ["Nothing was set: every setting has its default."]
        )
        return True
    for field, described in Settings.model_fields.items():
        row = rows[variable(field)]
        say([f"{variable(field)}={row['value']}  ({row['from']})"])
        say_text([f"    {' '.join(str(described.description).split())}"])
    return True


def why(options: argparse.Namespace) -> bool:
    """`idlewatch why`: as `status`, done only where a daemon watches."""
    told, clock = loaded_to_ask(), MachineClock()
    now_s = clock.now_s()
    lives = daemon_watches(told.settings.state_dir)
    said = read_status(told.settings.state_dir)
    if said is None or not lives or is_stale(said, now_s):
        raise Refused("no daemon watches here, so nothing decides; `idlewatch status` says more")
    spans = spans_of(told.settings.state_dir, since_s=now_s - LOOK_BACK_S)
    found = explained(said, spans, told.settings.limits(), now_s, clock.wall)
    if options.json:
        say_json(found.as_json())
    else:
        say(found.lines(columns()))
    return True
