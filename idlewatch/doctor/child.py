"""`python -m idlewatch.doctor.child NAME`: one look, or one step of the drill, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from idlewatch import tasks
from idlewatch.doctor import looks_api, looks_machine, looks_signals, looks_volume
from idlewatch.model import Json

LOOKS: Mapping[str, Callable[[Json, Callable[[Json], None]], Json]] = {
    "machine": looks_machine.machine,
    "api": looks_api.api,
    "network": looks_api.network,
    "signals": looks_signals.signals,
    "volume": looks_volume.volume,
    "loss": looks_volume.loss,
    "rehearse": looks_volume.rehearse,
    "remember": looks_volume.remember,
}

if __name__ == "__main__":
    raise SystemExit(tasks.serve(LOOKS[sys.argv[1]]))
