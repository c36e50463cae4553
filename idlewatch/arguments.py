"""What can be written after `idlewatch`: the verbs with their options, and what is said of words that are none."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from typing import TypeAlias

from idlewatch.durations import parse_duration

BAD_USAGE = 2
"""Exit code where what was written can't be understood."""
PURPOSE = "Stops the Pod that nobody uses, after saving what the stop would wipe."
_MORE = "`idlewatch VERB --help` says more about one."
GROUPS = {
    "Every day": ("run", "status", "why", "hold", "stop"),
    "Holds": ("holds", "release"),
    "What a stop wipes": ("loss", "save", "snapshots", "restore"),
    "What was seen": ("history", "report", "metrics", "gpu", "record", "replay"),
    "Fit it into a Pod": ("install", "upgrade", "uninstall", "exec", "web"),
    "Proof and settings": ("doctor", "notify", "settings", "demo"),
}
"""How the help lists the verbs."""


def parsed(arguments: list[str]) -> argparse.Namespace:
    """
    Return what was written, understood; ends this process with 2 where it can't be.

    What follows `hold … --` is a command and none of ours to understand.
    """
    command: list[str] = []
    if arguments[0] == "hold" and "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
        if not command:
            parser_of_all().error("hold: there is no command after --")
    parser = parser_of_all()
    _refuse_unknown(parser, arguments[0])
    options, rest = parser.parse_known_args(arguments)
    if rest:
        verb = parser.get_default("parsers").get(arguments[0], parser)
        verb.error(f"it has no {' '.join(rest)}; `idlewatch {arguments[0]} --help` says what it has")
    if command and options.pid is not None:
        parser.error("hold: --pid goes without a command: a hold with a command ends with that command")
    if command:
        options.command = command
    elif getattr(options, "then_stop", False):
        parser.error("hold: --then-stop needs a command: idlewatch hold --then-stop -- python train.py")
    return options


def _refuse_unknown(parser: argparse.ArgumentParser, verb: str) -> None:
    verbs = parser.get_default("verbs")
    if verb.startswith("-") or verb in verbs:
        return
    near = difflib.get_close_matches(verb, verbs, n=1)
    meant = f"did you mean {near[0]}?" if near else "`idlewatch --help` lists them all"
    parser.exit(BAD_USAGE, f"idlewatch: there is no verb {verb!r}; {meant}\n")


class _Version(argparse.Action):
    """Looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from idlewatch import version

        sys.stdout.write(f"{version.described()}\n")
        parser.exit()


def parser_of_all() -> argparse.ArgumentParser:
    """Return the parser of every verb; its defaults `verbs` (name -> summary) and `parsers` tell of them."""
    parser = argparse.ArgumentParser(
        prog="idlewatch",
        usage="idlewatch VERB [OPTION ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{_MORE}\nExit codes: 0 done, 1 failed, 2 bad settings or usage, 3 refused (and why).",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="the version, and the commit where it is known")
    added = parser.add_subparsers(required=True, metavar="VERB", prog="idlewatch", help=argparse.SUPPRESS)
    _add_watching(added)
    _add_holds(added)
    _add_saving(added)
    _add_readings(added)
    _add_doctor(added)
    _add_fitting(added)
    settings = _add(added, "settings", "showing.settings", "every setting, its value and where it came from", json=True)
    settings.set_defaults(strict=True)
    settings.add_argument("--changed", action="store_true", help="only what was set, one line each")
    _add(added, "demo", "saving.demo", "the whole path on a simulated Pod: no GPU, no account")
    verbs = {name: verb.get_default("summary") for name, verb in added.choices.items()}
    parser.set_defaults(verbs=verbs, parsers=added.choices)
    parser.description = "\n\n".join([PURPOSE, *grouped(verbs)])
    return parser


def grouped(verbs: Mapping[str, str]) -> list[str]:
    """A paragraph for each group; verbs that are in none come last."""
    named = {name for group in GROUPS.values() for name in group}
    groups = {**GROUPS, "More": tuple(name for name in verbs if name not in named)}
    width = max(map(len, verbs))
    return [
        "\n".join([f"{title}:", *(f"  {name:<{width}}  {verbs[name]}" for name in names)])
        for title, names in groups.items()
        if names
    ]


_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)


def _add(added: _Verbs, name: str, target: str, text: str, *, json: bool = False) -> argparse.ArgumentParser:
    """`target`: module and function in `idlewatch.verbs`, loaded only where the verb is run: the daemon stays light."""
    verb = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(target=target, summary=text, strict=False)
    if json:
        verb.add_argument("--json", action="store_true", help="as JSON, for programs")
    return verb


def _add_watching(added: _Verbs) -> None:
    run = _add(added, "run", "watching.run_daemon", "the daemon: watch this Pod until it is stopped")
    run.add_argument("--observe", action="store_true", help="decide and record, but act on nothing")
    run.add_argument("--debug", action="store_true", help="log every tick")
    status = _add(
        added, "status", "showing.status", "what is true now: phase, quiet time, signals, troubles", json=True
    )
    status.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    _add(added, "why", "showing.why", "what keeps this Pod up, and what would have been without it", json=True)
    history = _add(added, "history", "showing.history", "what was decided and done since this start", json=True)
    history.add_argument(
        "--hours", type=_hours, default=24.0, metavar="N", help="draw verdicts of so long (default: 24)"
    )
    stop = _add(added, "stop", "stopping.stop", "ask the daemon to save and stop this Pod now, in use or not")
    stop.add_argument(
        "--after", type=_span, default=30.0, metavar="DURATION", help="warn people for so long (default: 30s)"
    )
    stop.add_argument("--cancel", action="store_true", help="take the request back")


def _add_holds(added: _Verbs) -> None:
    hold = _add(added, "hold", "holding.hold", "keep this Pod up for a while; a hold always ends")
    hold.add_argument(
        "duration", type=_span, nargs="?", metavar="DURATION", help="such as 2h (default: IDLEWATCH_HOLD_MAX)"
    )
    hold.add_argument("--reason", default="", metavar="R", help="why, shown everywhere the hold is")
    hold.add_argument("--pid", type=int, help="end the hold with this process")
    hold.add_argument("--then-stop", action="store_true", help="with a command: stop the Pod when it ends, well or not")
    hold.set_defaults(command=[])
    hold.usage = (
        "idlewatch hold [--reason R] [--pid PID] [DURATION]\n"
        "       idlewatch hold [--reason R] [--then-stop] [DURATION] -- CMD [ARG ...]"
    )
    hold.epilog = "After `--` a command is run, and the Pod is held while it runs; its exit status is returned."
    _add(added, "holds", "holding.holds", "the holds of this moment", json=True)
    release = _add(added, "release", "holding.release", "end holds")
    release.add_argument("id", nargs="*", help="as `idlewatch holds` shows it; without one, all of them")


def _add_saving(added: _Verbs) -> None:
    _add(added, "loss", "losing.loss", "what a stop now would destroy", json=True)
    save = _add(added, "save", "saving.save", "save what a stop would wipe, now, to the volume", json=True)
    save.set_defaults(strict=True)
    listed = _add(added, "snapshots", "saving.snapshots", "the saved copies of this Pod, the newest first", json=True)
    restore = _add(added, "restore", "saving.restore", "bring a saved copy back", json=True)
    restore.add_argument("id", nargs="?", help="the beginning of its id is enough (default: the newest)")
    for verb in (listed, restore):
        verb.add_argument("--pod", metavar="POD", help="those of another Pod in the same place")
    restore.add_argument("--into", metavar="DIR", help="another place than the disk it was saved from")
    restore.add_argument(
        "--only", action="append", default=[], metavar="PATH", help="only this, with all below it; again for more"
    )
    restore.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    restore.add_argument("--overwrite", action="store_true", help="replace files that are newer than the save, too")


def _add_fitting(added: _Verbs) -> None:
    for name, target, text in (
        ("install", "installing.install", "fit it into this machine: systemd, supervisord or RunPod's image"),
        ("upgrade", "installing.install", "the same again, with the version that runs this"),
        ("uninstall", "installing.uninstall", "take out what install put in; settings and snapshots stay"),
    ):
        fitting = _add(added, name, target, text)
        fitting.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
        fitting.add_argument("--volume", metavar="DIR", help="the volume, where it is not found by itself")
    command = _add(added, "exec", "installing.run_command", "as the container's command: start CMD, guarded")
    command.usage = "idlewatch exec -- COMMAND [ARGUMENT ...]"
    command.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    web = _add(added, "web", "paging.web", "the page, in a process of its own; off unless started")
    web.add_argument("--port", type=_port, default=8990, metavar="PORT", help="default: 8990")
    web.add_argument("--host", metavar="ADDRESS", help="default: all addresses in a Pod, else 127.0.0.1")
    web.add_argument("--link", action="store_true", help="print the link to sign in, and end")
    web.add_argument("--new-link", action="store_true", help="another one; the old ones sign nobody in any more")


def _add_doctor(added: _Verbs) -> None:
    doctor = _add(added, "doctor", "doctoring.doctor", "proof that a stop will work, and what is blind here", json=True)
    doctor.add_argument(
        "--drill", action="store_true", help="do the end sequence for real up to the stop call, and stop there"
    )
    notify = _add(added, "notify", "notifying.notify", "where notices go")
    notify.add_argument("--test", action="store_true", help="send a test every way, and say what took it")
    doctor.add_argument("--tell", action="store_true", help="with --drill: tell the warning to everybody, as a drill")


def _add_readings(added: _Verbs) -> None:
    report = _add(added, "report", "reporting.report", "what this Pod cost, and what stopping saved", json=True)
    report.add_argument("--days", type=_days, default=30.0, metavar="N", help="look back so far (default: 30)")
    report.add_argument("--csv", action="store_true", help="one line a day")
    report.add_argument("--html", metavar="FILE", help="one page with its chart in it")
    report.add_argument("--usd-per-hour", type=_dollars, metavar="PRICE", help="another price than the API told")
    report.add_argument("--card", metavar="NAME", help="compare with Serverless on this card: 4090, A100, H100")
    report.add_argument(
        "--others-within",
        dest="others_within_s",
        type=_span,
        default=20.0,
        metavar="DURATION",
        help="CPU time to find out what other settings would have done (default: 20s)",
    )
    metrics = _add(added, "metrics", "measuring.told", "what Prometheus is told, see docs/monitoring")
    metrics.add_argument("--push", metavar="URL", help="push it to a Pushgateway: http://HOST:9091")
    gpu = _add(added, "gpu", "gpus.gpu", "the GPUs live: what each did, what can't be read, and the verdict", json=True)
    gpu.add_argument("--once", action="store_true", help="one look, then end; also without a terminal")
    gpu.add_argument("--for", dest="for_s", type=_span, metavar="DURATION", help="end after so long")
    record = _add(added, "record", "replaying.record", "write all readings of this machine into a file for replay")
    record.set_defaults(strict=True)
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
    replay.add_argument(
        "file", nargs="+", metavar="FILE", help="a recording, a scenario, a CSV or nvidia-smi log, a Prometheus export"
    )
    replay.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting: IDLEWATCH_IDLE_AFTER=20m"
    )
    replay.add_argument("--compare", nargs=2, metavar=("A.env", "B.env"), help="the same under two files of settings")
    replay.add_argument("--usd-per-hour", type=_dollars, metavar="PRICE", help="of the Pod, for --compare")


def _span(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not seconds:
        raise argparse.ArgumentTypeError("0 is no duration here; write 30m or 2h")
    return seconds


def _days(text: str) -> float:
    return _above_zero(text, "a number of days, such as 7")


def _hours(text: str) -> float:
    return _above_zero(text, "a number of hours, such as 6")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write a number from 1 to 65535")
    return int(text)


def _dollars(text: str) -> float:
    return _above_zero(text, "dollars an hour, such as 1.59")


def _above_zero(text: str, means: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not {means}")
    return number
