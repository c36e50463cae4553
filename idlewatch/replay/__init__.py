"""
The same judges and the same policy over readings that were recorded or written down.

    scenario.py     a life written by hand, with what must come of it      (facts.py, stretches.py, expected.py)
    recorded.py     a life that a real daemon, or `idlewatch record`, wrote down
    gpu_log.py      what others logged of GPUs      (gpu_csv.py, prometheus.py, text_file.py)
    story.py        any of them, and what the policy makes of it
    engine.py       lives it again: readings in, decisions out; nothing is touched      (tape.py, life.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from idlewatch.replay import gpu_log, prometheus
from idlewatch.replay.engine import relive
from idlewatch.replay.gpu_csv import columns_of, delimiter_of, read_table
from idlewatch.replay.life import Life, Lived, Look
from idlewatch.replay.lines import BadFile
from idlewatch.replay.recorded import read_recording
from idlewatch.replay.scenario import read_scenario
from idlewatch.replay.story import Factories, Story
from idlewatch.replay.text_file import TextFile

__all__ = ["BadFile", "Factories", "Life", "Lived", "Look", "Story", "read_story", "relive"]


_BEGINNING = 4096
_TABLES = (".csv", ".tsv")


def read_story(path: Path, signals: Sequence[str]) -> Story:
    """
    Read a scenario (`.toml`), a recording, or what others logged of GPUs; which, its name and beginning tell.

    `signals` are the names that can be judged. Raises BadFile.
    """
    if path.suffix == ".toml":
        return read_scenario(path, signals)
    with TextFile(path) as file:
        beginning = file.beginning(_BEGINNING)
    if prometheus.is_told(beginning):
        return gpu_log.story(prometheus.read_prometheus(path))
    first = beginning.partition("\n")[0]
    if path.name.removesuffix(".gz").endswith(_TABLES) or columns_of(first.split(delimiter_of(first))):
        return gpu_log.story(read_table(path))
    return read_recording(path, signals)
