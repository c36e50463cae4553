"""
What each task does, in its child process: all that may hang on the volume, the provider's API or others' programs.

A request is what the daemon handed over; everything else is looked up anew in that process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from idlewatch.children.tasks import Progress
from idlewatch.model import Json
from idlewatch.work import meanwhile, starts, stops

TASKS: Mapping[str, Callable[[Json, Progress], Json]] = {
    "look_back": starts.look_back,
    "look_for_volume": starts.look_for_volume,
    "describe": starts.describe,
    "restore": starts.restore,
    "after_start": starts.after_start,
    "hooks": starts.hooks,
    "note_image": starts.note_image,
    "save_again": meanwhile.save_again,
    "archive": meanwhile.archive,
    "advise": meanwhile.advise,
    "heartbeat": meanwhile.beat,
    "ping": meanwhile.ping,
    "command": meanwhile.command,
    "promql": meanwhile.promql,
    "send": meanwhile.send,
    "tmux": meanwhile.tmux,
    "save": stops.save,
    "stop": stops.stop,
    "note": stops.note,
    "shutdown": stops.shutdown,
    "misconfigured": stops.misconfigured,
}
"""What `idlewatch _task NAME` can be asked for."""
