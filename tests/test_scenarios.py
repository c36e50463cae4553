"""
Every row that is to be judged right: as a scenario that is lived again, or by the real test that covers it.

`pytest -rP -k table tests/test_scenarios.py` shows the table of them: row, verdict, what decided it. It is printed and
stands in no document, because judges reword their reasons freely, and no such change should fail a test.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import logging
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from idlewatch import logs
from idlewatch.model import Json
from idlewatch.replay import Story, read_story
from idlewatch.show.replayed import Replayed, table
from idlewatch.signals import SIGNALS
from idlewatch.verbs.replaying import replayed_story

# one group: each is lived once, for its own test and for the table
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scenarios")]

HERE = Path(__file__).parent
FOLDER = HERE / "scenarios"
SHARED = {"quiet.toml", "ROWS.toml"}
ROWS: Mapping[str, str] = tomllib.loads((FOLDER / "ROWS.toml").read_text())["rows"]
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.toml")) if path.name not in SHARED}

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "F31": ("test_history.py::test_the_state_comes_back_for_this_start_and_these_settings_only",),
    "F37": (
        "test_record.py::test_other_settings_have_another_key",
        "test_history.py::test_the_state_comes_back_for_this_start_and_these_settings_only",
    ),
    "N20": (
        "test_gpu_child.py::test_each_gpu_speaks_for_itself",
        "test_gpu_reader.py::test_any_value_in_a_line_is_taken_whole_or_refused",
    ),
    "N23": (
        "test_questions.py::test_a_command_that_hangs_is_ended_with_all_that_it_started",
        "test_asking.py::test_a_server_that_drips_does_not_pass_the_deadline",
        "test_gpu_reader.py::test_a_hang_inside_nvml_is_ended_and_replaced",
    ),
    "N25": (
        "test_holds.py::test_a_hold_expires",
        "test_holds.py::test_no_hold_lasts_longer_than_the_longest",
        "test_holds.py::test_a_process_that_is_gone_ends_its_hold_and_one_that_is_hidden_does_not",
    ),
    "N27": ("test_places.py::test_a_status_of_another_boot_or_of_long_ago_is_not_shown_as_now",),
    "N28": ("test_stop_rows.py::test_a_story",),
}
"""Rows that readings can't tell, and the tests that cover them."""

FREE_NAMES = {"utilization", "prompt"}
"""Of a table whose keys are no facts: what can't be read, a server's marks."""


@pytest.fixture(autouse=True)
def silent_daemon() -> None:
    logs.set_up(least=logging.CRITICAL)


@functools.cache
def story(row: str) -> Story:
    return read_story(FILES[row], tuple(SIGNALS))


@functools.cache
def lived(row: str) -> Replayed:
    return replayed_story(story(row), {}, SIGNALS)


@pytest.mark.parametrize("row", FILES)
def test_a_row_is_judged_right(row: str) -> None:
    replayed = lived(row)
    assert replayed.ok, "\n".join(replayed.lines())


@pytest.mark.parametrize("row", FILES)
def test_no_judge_of_a_row_breaks(row: str) -> None:
    """Else a fault of ours would pass for a Pod that can't be seen, and keep it up."""
    assert "can't be judged" not in " ".join(" ".join(lived(row).lines()).split())


@pytest.mark.parametrize("row", FILES)
def test_a_rows_file_is_named_for_it_and_says_where_it_happened(row: str) -> None:
    told = story(row)
    assert told.id == row
    assert told.source
    assert told.title != ROWS[row]


@pytest.mark.parametrize("signal", ["gpu", "host", "people", "jobs", "transfers", "servers", "jupyter"])
def test_scenarios_use_no_fact_that_the_signal_does_not_know(signal: str) -> None:
    module = importlib.import_module(f"idlewatch.signals.{signal}")
    known = set(re.findall(r"\w+", inspect.getsource(module)))
    assert used_names(signal) <= known | FREE_NAMES


def used_names(signal: str) -> set[str]:
    """Every key in every fact of a signal; what scenarios repeat unchanged is one object, and looked at once."""
    met: dict[int, Json] = {}
    names: set[str] = set()
    coming: list[Json] = [
        {**reading.facts} for row in FILES for reading in story(row).life.readings if reading.signal == signal
    ]
    while coming:
        value = coming.pop()
        if isinstance(value, dict | list) and id(value) not in met:
            met[id(value)] = value
            names |= value.keys() if isinstance(value, dict) else set()
            coming += value.values() if isinstance(value, dict) else value
    return names


def test_no_row_is_missing() -> None:
    assert {*FILES, *ELSEWHERE} == {*ROWS}
    assert not {*FILES} & {*ELSEWHERE}


@pytest.mark.parametrize("name", sorted({name for names in ELSEWHERE.values() for name in names}))
def test_a_test_that_covers_a_row_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    tree = ast.parse((HERE / file).read_text())
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", FILES)
def test_a_rows_expectations_can_fail(row: str) -> None:
    """None is met both by a Pod that nobody uses and by one whose GPU works."""
    told = story(row)
    assert any(told.unmet(lived(other).lived) for other in ("N10", "F41"))


def test_the_table_has_every_row() -> None:
    print()  # noqa: T201  (what `pytest -rP` shows)
    lines = [*table([lived(row) for row in FILES])]
    lines += [f"{row:<6}{'elsewhere':<10}{', '.join(names)}" for row, names in ELSEWHERE.items()]
    print("\n".join(lines))  # noqa: T201
    assert {line.split(maxsplit=1)[0] for line in lines[1:] if not line.startswith(" ")} == {*ROWS}
