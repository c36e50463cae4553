"""Looks whether the addresses of IDLEWATCH_NOTIFY can be sent to at all; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable

from idlewatch import assembly
from idlewatch.model import Json
from idlewatch.pod import identity as pod
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import load, pod_sources


def channels(_request: Json, progress: Callable[[Json], None]) -> Json:
    """Return `unsendable`: why some notices would reach nobody, in words without a secret; None where none is known."""
    loaded = load(pod_sources())
    progress({"at": "asking Apprise"})
    here = Assembly(loaded=loaded, pod=pod.identity(loaded.sources), volume=None, save_root=None)
    return {"unsendable": assembly.unsendable(here)}
