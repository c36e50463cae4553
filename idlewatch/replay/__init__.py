"""
The same judges and the same policy over readings that were recorded or written down.

    engine.py     lives a life again: readings in, decisions out; nothing is touched
    recording     (idlewatch/recording.py) what a real daemon wrote down
    scenario.py   a life written by hand, with what must come of it
"""

from __future__ import annotations

from idlewatch.replay.engine import Life, Lived, Look, relive
from idlewatch.replay.scenario import Scenario, read_scenario

__all__ = ["Life", "Lived", "Look", "Scenario", "read_scenario", "relive"]
