"""
The command line: the verbs with their options, and what each exit code means.

Exit codes: 0 done · 1 failed · 2 bad settings or usage (named) · 3 refused, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TypeAlias

from idlewatch import __version__, logs
from idlewatch.durations import parse_duration
from idlewatch.errors import IdlewatchError, Refused, SettingsError

DONE, FAILED, BAD_SETTINGS, REFUSED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code and prints one sentence a problem to stderr."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    logs.set_up()
    try:
        return DONE if options.run(options) else FAILED
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"idlewatch: {problem}\n")
        return BAD_SETTINGS
    except Refused as error:
        sys.stderr.write(f"idlewatch: refused: {error}\n")
        return REFUSED
    except IdlewatchError as error:
        sys.stderr.write(f"idlewatch: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("idlewatch: interrupted; nothing half done counts\n")
        return FAILED


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What follows `hold … --` is a command and none of ours to understand."""
    command: list[str] = []
    if arguments and arguments[0] == "hold" and "--" in arguments:
        at = list(arguments).index("--")
        arguments, command = arguments[:at], list(arguments[at + 1 :])
        if not command:
            _parser().error("hold: there is no command after --")
    options = _parser().parse_args(arguments)
    if command:
        options.command = command
    elif getattr(options, "then_stop", False):
        _parser().error("hold: --then-stop needs a command: idlewatch hold --then-stop -- python train.py")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idlewatch",
        description="Stops the Pod that nobody uses, after saving what the stop would wipe.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad settings or usage, 3 refused with the reason.",
    )
    parser.add_argument("--version", action="version", version=f"idlewatch {__version__}")
    added = parser.add_subparsers(required=True, metavar="VERB")
    _add_watching(added)
    _add_holds(added)
    _add_saving(added)
    _add_readings(added)
    _add_doctor(added)
    _add(added, "settings", "showing.settings", "every setting, its value and where it came from", json=True)
    _add(added, "demo", "saving.demo", "the whole path on a simulated Pod: no GPU, no account")
    task = added.add_parser("_task")
    task.add_argument("name")
    task.set_defaults(run=_task)
    return parser


_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)


def _add(added: _Verbs, name: str, target: str, text: str, *, json: bool = False) -> argparse.ArgumentParser:
    """`target`: module and function in `idlewatch.verbs`, loaded only where the verb is run: the daemon stays light."""
    verb = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(run=lambda options: _carried_out(target, options), target=target)
    if json:
        verb.add_argument("--json", action="store_true", help="as JSON, for programs")
    return verb


def _carried_out(target: str, options: argparse.Namespace) -> bool:
    module, _, function = target.partition(".")
    done: bool = getattr(import_module(f"idlewatch.verbs.{module}"), function)(options)
    return done


def _task(options: argparse.Namespace) -> bool:
    """A slow effect of the daemon's, in this child process."""
    from idlewatch import tasks, work

    return tasks.serve(work.TASKS[options.name]) == 0


def _add_watching(added: _Verbs) -> None:
    run = _add(added, "run", "watching.run_daemon", "the daemon: watch this Pod until it is stopped")
    run.add_argument("--observe", action="store_true", help="decide and record, but act on nothing")
    run.add_argument("--debug", action="store_true", help="log every tick")
    _add(added, "status", "showing.status", "what is true now: phase, quiet time, signals, troubles", json=True)
    _add(added, "why", "showing.why", "what keeps this Pod up, and what would have been without it", json=True)
    _add(added, "history", "showing.history", "what was decided and done since this start", json=True)
    stop = _add(added, "stop", "holding.stop", "ask the daemon to save and stop this Pod now, in use or not")
    stop.add_argument(
        "--after", type=_span, default=30.0, metavar="DURATION", help="warn people for so long (default: 30s)"
    )
    stop.add_argument("--cancel", action="store_true", help="take the request back")


def _add_holds(added: _Verbs) -> None:
    hold = _add(added, "hold", "holding.hold", "keep this Pod up for a while; a hold always ends")
    hold.add_argument(
        "duration", type=_span, nargs="?", metavar="DURATION", help="such as 2h (default: IDLEWATCH_HOLD_MAX)"
    )
    hold.add_argument("--reason", default="", help="why, shown everywhere the hold is")
    hold.add_argument("--pid", type=int, help="end the hold with this process")
    hold.add_argument("--then-stop", action="store_true", help="with a command: stop the Pod when it ends, well or not")
    hold.set_defaults(command=[])
    hold.usage = (
        "idlewatch hold [--reason REASON] [--pid PID] [DURATION]\n"
        "       idlewatch hold [--reason REASON] [--then-stop] [DURATION] -- COMMAND [ARGUMENT ...]"
    )
    hold.epilog = "After `--` a command is run, and the Pod is held while it runs; its exit status is returned."
    _add(added, "holds", "holding.holds", "the holds of this moment", json=True)
    release = _add(added, "release", "holding.release", "end holds")
    release.add_argument("id", nargs="*", help="as `idlewatch holds` shows it; without one, all of them")


def _add_saving(added: _Verbs) -> None:
    _add(added, "loss", "saving.loss", "what a stop now would destroy", json=True)
    _add(added, "save", "saving.save", "save what a stop would wipe, now, to the volume")
    _add(added, "snapshots", "saving.snapshots", "the saved copies of this Pod, the newest first", json=True)
    restore = _add(added, "restore", "saving.restore", "bring a saved copy back", json=True)
    restore.add_argument("id", nargs="?", help="the beginning of its id is enough (default: the newest)")
    restore.add_argument("--into", metavar="DIR", help="another place than the disk it was saved from")
    restore.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    restore.add_argument("--overwrite", action="store_true", help="replace files that are newer than the save, too")


def _add_doctor(added: _Verbs) -> None:
    doctor = _add(added, "doctor", "doctoring.doctor", "proof that a stop will work, and what is blind here", json=True)
    doctor.add_argument(
        "--drill", action="store_true", help="do the end sequence for real up to the stop call, and stop there"
    )
    doctor.add_argument("--tell", action="store_true", help="with --drill: tell the warning to everybody, as a drill")


def _add_readings(added: _Verbs) -> None:
    gpu = _add(added, "gpu", "gpus.gpu", "the GPUs live: what each did, what can't be read, and the verdict", json=True)
    gpu.add_argument("--once", action="store_true", help="one look, then end; also without a terminal")
    gpu.add_argument("--for", dest="for_s", type=_span, metavar="DURATION", help="end after so long")
    record = _add(added, "record", "replaying.record", "write all readings of this machine into a file for replay")
    record.add_argument("file", metavar="FILE", help="a new file; .gz is packed")
    record.add_argument(
        "--for", dest="for_s", type=_span, metavar="DURATION", help="end after so long (default: Ctrl-C)"
    )
    replay = _add(
        added,
        "replay",
        "replaying.replay",
        "the same policy over recordings and scenarios, with any settings",
        json=True,
    )
    replay.add_argument("file", nargs="+", metavar="FILE", help="a recording, or a scenario as in docs/scenarios.md")
    replay.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting: IDLEWATCH_IDLE_AFTER=20m"
    )


def _span(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not seconds:
        raise argparse.ArgumentTypeError("0 is no duration here; write 30m or 2h")
    return seconds
