"""
The command line: runs one verb, and says in a sentence and an exit code how it went.

Exit codes: 0 done · 1 failed · 2 bad settings or usage (named) · 3 refused, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from idlewatch import logs
from idlewatch.arguments import BAD_USAGE, PURPOSE, grouped, parsed, parser_of_all
from idlewatch.errors import IdlewatchError, Refused, SettingsError
from idlewatch.verbs import output
from idlewatch.verbs.faults import meaning

DONE, FAILED, BAD_SETTINGS, REFUSED = 0, 1, BAD_USAGE, 3
_TASK = "_task"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code and prints one sentence a problem to stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [_TASK]:
        logs.set_up()
        return _outcome(lambda: _task(words[1:]))
    with output.guarded():
        try:
            try:
                return _run(words)
            finally:
                sys.stdout.flush()
        except output.OutputError as error:
            return output.given_up(error)


def _run(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(_shortly())
        return BAD_SETTINGS
    options = parsed(arguments)
    logs.set_up()
    return _outcome(lambda: _carried_out(options))


def _outcome(run: Callable[[], bool]) -> int:
    try:
        return DONE if run() else FAILED
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
    except OSError as error:
        sys.stderr.write(f"idlewatch: {meaning(error)}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("idlewatch: interrupted; nothing half done counts\n")
        return FAILED


def _carried_out(options: argparse.Namespace) -> bool:
    if options.strict:
        import_module("idlewatch.verbs.words").loaded(strict=True)
    module, _, function = options.target.partition(".")
    done: bool = getattr(import_module(f"idlewatch.verbs.{module}"), function)(options)
    return done


def _task(arguments: list[str]) -> bool:
    """A slow effect of the daemon's, in this child process; no verb, because its words are for the daemon alone."""
    from idlewatch import work
    from idlewatch.children import tasks

    return tasks.serve(work.TASKS[arguments[0]]) == 0


def _shortly() -> str:
    """For somebody who wrote `idlewatch` and nothing else."""
    first = grouped(parser_of_all().get_default("verbs"))[0]
    return f"{PURPOSE}\n\n{first}\n\nAll verbs: idlewatch --help. To see it at work: idlewatch demo.\n"
