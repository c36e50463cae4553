"""`python -m idlewatch.doctor.child NAME`: one look, or one step of the drill, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeAlias

from idlewatch.children import tasks
from idlewatch.children.interpreter import load_log_without_rich
from idlewatch.model import Json

LOOKS: Mapping[str, str] = {
    "machine": "looks_machine",
    "api": "looks_api",
    "network": "looks_api",
    "signals": "looks_signals",
    "channels": "looks_channels",
    "volume": "looks_volume",
    "loss": "looks_volume",
    "rehearse": "looks_volume",
    "remember": "looks_volume",
}
"""Name of a look, and the function of that name's module: each child loads only its own."""

Looking: TypeAlias = Callable[[Json, Callable[[Json], None]], Json]


def looking(name: str) -> Looking:
    """The function that looks; `name` is one of LOOKS."""
    found: Looking = getattr(import_module(f"idlewatch.doctor.{LOOKS[name]}"), name)
    return found


if __name__ == "__main__":
    load_log_without_rich()
    raise SystemExit(tasks.serve(looking(sys.argv[1])))
