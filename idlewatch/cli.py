"""
The verbs, and the one place where real things are put together.

Exit codes: 0 done · 1 failed · 2 bad settings or usage (named) · 3 refused, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from idlewatch import __version__, logs
from idlewatch.errors import IdlewatchError, Refused, SettingsError
from idlewatch.settings import Loaded, Settings, load, pod_sources, shown, variable, verb_sources

DONE, FAILED, BAD_SETTINGS, REFUSED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code and prints one sentence a problem to stderr."""
    options = _parser().parse_args(arguments)
    logs.set_up()
    try:
        return int(options.run(options))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idlewatch",
        description="Decides when a GPU Pod has been idle for too long.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad settings or usage, 3 refused.",
    )
    parser.add_argument("--version", action="version", version=f"idlewatch {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    settings = verbs.add_parser("settings", help="every setting, its value and where it came from")
    settings.add_argument("--json", action="store_true", help="as one JSON object")
    settings.set_defaults(run=_settings)
    demo = verbs.add_parser("demo", help="the decision on a recorded evening of GPU use; touches nothing")
    demo.set_defaults(run=_demo)
    return parser


def _settings(options: argparse.Namespace) -> int:
    loaded = load(verb_sources(pod_sources()))
    if options.json:
        sys.stdout.write(json.dumps(_as_json(loaded), indent=2) + "\n")
        return DONE
    for field, description in Settings.model_fields.items():
        value, origin = shown(getattr(loaded.settings, field)), loaded.origins[field]
        sys.stdout.write(f"{variable(field)}={value}  ({origin})\n    {description.description}\n")
    return DONE


def _as_json(loaded: Loaded) -> dict[str, dict[str, str]]:
    return {
        variable(field): {"value": shown(getattr(loaded.settings, field)), "from": loaded.origins[field]}
        for field in Settings.model_fields
    }


def _demo(_options: argparse.Namespace) -> int:
    from rich.console import Console

    from idlewatch.demo.rehearsal import rehearse

    return DONE if rehearse(Console(), Settings().limits()) else FAILED
