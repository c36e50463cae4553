"""`doctor`: proof that a stop will work, and which signals are blind; `--drill` does all but the stop."""

from __future__ import annotations

import argparse
import json
import shutil
import sys

from idlewatch.amounts import amount
from idlewatch.doctor.drill import Drill, Drilled, refuse_drill
from idlewatch.doctor.examine import Examined, examine
from idlewatch.doctor.here import Here, child_environment
from idlewatch.doctor.here import here as gathered
from idlewatch.doctor.lines import works
from idlewatch.doctor.looking import looker
from idlewatch.errors import SettingsError
from idlewatch.history.status import mapping
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.notify import Terminals
from idlewatch.show.doctor import report_json, report_lines
from idlewatch.verbs.words import loaded, say


def doctor(options: argparse.Namespace) -> bool:
    """`idlewatch doctor`: `json`, `drill` and `tell` are its options. Done where nothing was found broken."""
    if options.tell and not options.drill:
        raise SettingsError(["doctor: --tell goes with --drill, which words a warning; alone it has nothing to tell"])
    told, clock = loaded(), MachineClock()
    began_s = clock.now_s()
    here = gathered(told, began_s)
    if options.drill:
        refuse_drill(here, began_s)
    environment = child_environment(told.sources)
    examined = examine(here, looker(environment), told=_looked)
    drilled = _drill(here, examined, environment, clock, tell=options.tell) if options.drill else None
    _clear()
    lines = [*examined.without_last_drill(), *drilled.lines] if drilled else [*examined.lines]
    if options.json:
        drill = drilled.as_json() if drilled else None
        at, took_s = clock.wall().isoformat(), clock.now_s() - began_s
        report = report_json(lines, at=at, took_s=took_s, pod_id=here.pod.pod_id, hung=examined.hung, drill=drill)
        say([json.dumps(report)])
    else:
        say(report_lines(lines, shutil.get_terminal_size().columns))
        say(["", *drilled.warning.splitlines()] if drilled and drilled.warning else [])
    return works(lines)


def _drill(here: Here, examined: Examined, environment: dict[str, str], clock: MachineClock, *, tell: bool) -> Drilled:
    return Drill(here, examined, environment, clock).run(Terminals() if tell else None, _saving)


def _looked(name: str) -> None:
    _show(f"looked at: {name}")


def _saving(progress: Json) -> None:
    said = mapping(progress)
    done = said.get("done_bytes")
    _show(f"drill: {said.get('stage', 'saving')} {amount(float(done)) if isinstance(done, int | float) else ''}")


def _show(text: str) -> None:
    """On one line that is written over again; nowhere but on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _clear() -> None:
    _show("")
