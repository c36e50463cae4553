"""
The promises, over lives made up from seeds: what a stop must look like is derived from the truth of each life, never
from what the policy says of itself. A broken promise prints its seed; `IDLEWATCH_TEST_SEEDS=10000` tries more.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.pod_promises import Promises
from tests.pod_story import story
from tests.pod_world import STATE_FOLDERS, World

pytestmark = pytest.mark.slow

LIVES = int(os.environ.get("IDLEWATCH_TEST_SEEDS", "200"))
BATCH = 10


def lived(seed: int) -> Promises:
    told = story(seed)
    promises = Promises(told)
    with tempfile.TemporaryDirectory(dir=STATE_FOLDERS) as folder:
        world = World(told, Path(folder), promises)
        world.live()
        promises.over(world)
    return promises


@pytest.mark.parametrize("first", range(0, LIVES, BATCH))
def test_the_promises_hold_in_every_life(first: int) -> None:
    lives = [lived(seed) for seed in range(first, min(first + BATCH, LIVES))]
    assert [text for life in lives for text in life.broken] == []
    assert any(life.stops for life in lives)


@pytest.mark.parametrize("seed", [6944, 8567, 8895])
def test_the_promises_hold_in_lives_that_once_broke_one(seed: int) -> None:
    assert lived(seed).broken == []
