"""
Where evidence comes from: one file a source, named here and made in `making`.

Importing this is light: a signal's own module is loaded when the first signal is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from idlewatch.model import Signal, Surroundings

_NAMES = ("gpu", "host", "people", "jupyter", "jobs", "transfers", "servers", "command", "promql")


def gpu_count(pod_variables: Mapping[str, str]) -> int | None:
    """What RunPod says of the GPUs of this Pod; None where it says nothing that is a number."""
    told = pod_variables.get("RUNPOD_GPU_COUNT", "")
    return int(told) if told.isdecimal() else None


def _made(name: str, pod: Surroundings) -> Signal | None:
    from idlewatch.signals.making import MAKERS

    return MAKERS[name](pod)


SIGNALS: Mapping[str, Callable[[Surroundings], Signal | None]] = {name: partial(_made, name) for name in _NAMES}
"""Name, as in IDLEWATCH_SIGNALS and IDLEWATCH_IGNORE, to what makes one for this Pod; in report order.

None: its owner has not asked for it.
"""
