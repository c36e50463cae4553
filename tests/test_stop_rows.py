"""
Every row of what may go wrong with a stop (docs/scenarios.md), as it happened in this run: row, injected, happened.

`pytest -rP -k table_of_stops tests/test_stop_rows.py` shows the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.side_by_side import Story, all_live
from tests.stop_stories import STORIES, Rows, lines, pods
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("stop rows")]

DOCUMENT = Path(__file__).parent.parent / "docs/scenarios.md"
ALL_WITHIN_S = 120.0


@dataclass(frozen=True)
class Told:
    """Every story, and the rows that came of them."""

    stories: Mapping[str, Story]
    rows: Rows


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    rows: Rows = {}
    with ExitStack() as stack:
        stories = {}
        for tells, pod in pods(stack, tmp_path_factory.mktemp("stops"), rows):
            stories[tells.__name__] = Story(
                tells(pod),
                lambda place=pod.place: f"{place.status()} {place.kinds()}",  # type: ignore[misc]  # a default
            )
        comes(all_live([story.told() for story in stories.values()]), ALL_WITHIN_S)
        yield Told(stories, rows)


@pytest.mark.parametrize("name", [story.__name__ for story in STORIES])
def test_a_story(told: Told, name: str) -> None:
    told.stories[name].right()


def test_the_table_of_stops(told: Told) -> None:
    print("\n".join(["", *lines(told.rows)]))  # noqa: T201
    documented = re.findall(r"^\| (S\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(documented) == len({*documented})
    assert {*told.rows} == {*documented}
