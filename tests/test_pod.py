"""Which Pod, which start: never guessed, never from a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.pod.identity import identity, started
from idlewatch.settings import Source, parse_environ_block, parse_rp_environment


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "stat").write_text("1 (odd ) name) S 0 " + " ".join(["0"] * 17) + " 4200 0 0\n")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b00t\n")
    return tmp_path


def named(**ids: str) -> list[Source]:
    return [Source(name=name, variables={"RUNPOD_POD_ID": pod_id} if pod_id else {}) for name, pod_id in ids.items()]


def test_the_nearest_source_names_the_pod(proc: Path) -> None:
    found = identity(named(environment="", pid1="abc123"), proc)
    assert (found.pod_id, found.source) == ("abc123", "pid1")
    assert found.started_s == pytest.approx(42.0)
    assert found.boot_key == "abc123@b00t+42.00"


def test_two_sources_that_disagree_name_no_pod(proc: Path) -> None:
    found = identity(named(environment="abc", pid1="xyz"), proc)
    assert found.pod_id is None
    assert "abc" in found.source
    assert "xyz" in found.source


def test_no_source_names_no_pod_and_says_where_it_looked(proc: Path) -> None:
    found = identity(named(environment="", pid1=""), proc)
    assert found.pod_id is None
    assert "environment, pid1" in found.source


def test_a_start_time_that_is_no_number_is_an_error(proc: Path) -> None:
    (proc / "1" / "stat").write_text("1 (init")
    with pytest.raises(SignalError, match="no start time"):
        started(proc)


def test_this_machine_has_a_start() -> None:
    assert started() >= 0


def test_the_variables_of_pid_1_and_of_runpods_file_are_read() -> None:
    assert parse_environ_block(b"A=1\0B=x=y\0\0junk\0") == {"A": "1", "B": "x=y"}
    text = 'export RUNPOD_POD_ID="abc"\nnot a line\nexport B="say "hi""\n'
    assert parse_rp_environment(text) == {"RUNPOD_POD_ID": "abc", "B": 'say "hi"'}
