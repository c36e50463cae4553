"""
The same judges and the same policy over readings that were recorded or written down.

    scenario.py     a life written by hand, with what must come of it      (facts.py, stretches.py, expected.py)
    recorded.py     a life that a real daemon, or `idlewatch record`, wrote down
    story.py        either of them, and what the policy makes of it
    engine.py       lives it again: readings in, decisions out; nothing is touched      (tape.py, life.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from idlewatch.replay.engine import relive
from idlewatch.replay.life import Life, Lived, Look
from idlewatch.replay.lines import BadFile
from idlewatch.replay.recorded import read_recording
from idlewatch.replay.scenario import read_scenario
from idlewatch.replay.story import Factories, Story

__all__ = ["BadFile", "Factories", "Life", "Lived", "Look", "Story", "read_story", "relive"]


def read_story(path: Path, signals: Sequence[str]) -> Story:
    """Read a scenario (`.toml`) or a recording; `signals` are the names that can be judged. Raises BadFile."""
    return read_scenario(path, signals) if path.suffix == ".toml" else read_recording(path, signals)
