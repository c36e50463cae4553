"""`stop`: a request to the daemon, which does the whole end sequence."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from idlewatch.durations import format_duration
from idlewatch.errors import Refused, SettingsError
from idlewatch.files import write_atomically
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Cause, Json, Phase
from idlewatch.requests.stop_requests import WARN_FOR_MOST_S, request_file
from idlewatch.state_folder import daemon_watches
from idlewatch.verbs.daemon import not_looking, only_observes, watching
from idlewatch.verbs.faults import meaning
from idlewatch.verbs.words import loaded_to_ask, say_text, who

_ONLY_NOTED = (
    "the daemon only observes: it notes that it would save and stop this Pod, and does neither; one that acts runs "
    "without --observe and with IDLEWATCH_MODE=stop"
)


def stop(options: argparse.Namespace) -> bool:
    """`idlewatch stop`."""
    state_dir = loaded_to_ask().settings.state_dir
    if options.cancel:
        _take_back(state_dir)
    elif options.after > WARN_FOR_MOST_S:
        raise SettingsError([f"stop: --after is {format_duration(WARN_FOR_MOST_S)} at the most"])
    else:
        ask_for_stop(state_dir, options.after)
    return True


def ask_for_stop(state_dir: Path, warn_for_s: float) -> None:
    """
    Place the request. Raises Refused where nobody would carry it out, or where it can't be placed.

    A daemon that only observes gets it, too, and notes what it would do; for whoever asked it is refused.
    """
    said = require_daemon(state_dir)
    request: Json = {
        "who": who(),
        "warn_for_s": min(warn_for_s, WARN_FOR_MOST_S),
        "boot_key": said.get("boot_key"),
        "asked_s": MachineClock().now_s(),
    }
    path = request_file(state_dir)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(request))
    except OSError as error:
        raise Refused(f"can't ask for a stop: {meaning(error, path.parent)}") from error
    if only_observes(said):
        raise Refused(_ONLY_NOTED)
    say_text(_asked(warn_for_s))


def require_daemon(state_dir: Path) -> dict[str, Json]:
    """What the daemon says that would carry out a stop. Raises Refused where there is none."""
    said = watching(state_dir)
    if said is not None:
        return dict(said)
    if daemon_watches(state_dir):
        raise Refused(not_looking(state_dir))
    raise Refused("no daemon is running here to carry out a stop; start it with `idlewatch run`")


def _asked(warn_for_s: float) -> list[str]:
    return [
        f"Asked: people are warned for {format_duration(warn_for_s)}, then what a stop would wipe is saved.",
        "Follow it with `idlewatch status`; take it back with `idlewatch stop --cancel`.",
    ]


def _take_back(state_dir: Path) -> None:
    path = request_file(state_dir)
    try:
        path.unlink()
    except FileNotFoundError:
        raise Refused(_nothing_asked(watching(state_dir))) from None
    except OSError as error:
        raise Refused(f"can't take the request back: {meaning(error, path.parent)}") from error
    said = watching(state_dir)
    late = said is not None and said.get("phase") == Phase.STOPPING
    say_text(["The request is taken back." + (" RunPod has been asked already: it may come too late." if late else "")])


def _nothing_asked(said: Mapping[str, Json] | None) -> str:
    """Somebody who sees the countdown of idleness may well try this first."""
    if said is None or said.get("phase") == Phase.WATCHING:
        return "there is no request to take back"
    if said.get("cause") == Cause.IDLE:
        return "nobody asked for this stop, the Pod was idle; `idlewatch hold 2h` keeps it up"
    return "nobody asked for this stop, a ceiling set it off; `idlewatch status` says which setting"
