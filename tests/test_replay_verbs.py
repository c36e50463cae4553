"""`idlewatch replay` and `idlewatch record`: what they print, how they end, and that what the document says is true."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from idlewatch import hold
from idlewatch.cli import main
from idlewatch.errors import Refused, SettingsError
from idlewatch.replay import expected, facts, scenario, stretches
from idlewatch.verbs.replaying import record, replay, variables_of

DOCUMENT = Path(__file__).parent.parent / "docs" / "scenarios.md"
IDLE = """scenario = 1
id = "X1"
title = "nobody uses a Pod without a GPU, whose whole story is told here in a title that is longer than one line can be"
source = "here"

[base.gpu]
absent = "RUNPOD_GPU_COUNT=0"

[base.host]
cpu_busy_s = 0.0
net_bytes = 0

[[stretch]]
lasts = "1h"

[[expect]]
stopped = true
"""


@pytest.fixture(autouse=True)
def own_logs() -> Any:
    """A replay silences the daemon for its process; here that ends with the test."""
    yield
    structlog.reset_defaults()


def options(*files: Path, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "file": [str(file) for file in files],
            "json": False,
            "set": [],
            "compare": None,
            "usd_per_hour": None,
            **more,
        }
    )


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    path = tmp_path / "idle.toml"
    path.write_text(IDLE)
    return path


def recording(folder: Path) -> Path:
    """45 min of quiet, then use."""
    path = folder / "pod.jsonl"
    told: list[Any] = [{"recording": 1, "pod_id": "p1", "started_s": 100.0, "settings": {}}]
    for at_s in range(105, 100 + 3600, 5):
        cpu_s = 5.0 if at_s > 2800 else 0.0
        reading = {"at_s": at_s, "covers_s": 5.0, "facts": {"cpu_busy_s": cpu_s, "net_bytes": 0}, "signal": "host"}
        told.append({"reading": reading, "at": "2026-11-20T09:00:00+00:00"})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    return path


# ---------------------------------------------------------------- replay


def test_a_scenario_is_told_in_80_columns(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(options(idle)) is True
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert printed.err == ""
    text = re.sub(r"\s+", " ", printed.out)
    assert "X1: nobody uses a Pod without a GPU" in text
    assert re.search(r"10s idle \d+m.*: host: CPU 0.0 % of a core", text)
    assert re.search(r"30m WARN nothing used this Pod for 30m 35m SAVE .* 35m.* STOP nothing used", text)
    assert "1 of 1 expectations met." in text


def test_what_is_not_met_is_said_and_is_a_failure(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(options(idle, set=["IDLEWATCH_IDLE_AFTER=2h"])) is False
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "It is not stopped. NOT MET: stopped yes: it was stopped never 0 of 1 expectations met." in text
    assert "settings: IDLEWATCH_IDLE_AFTER=2h" in text


def test_what_is_known_to_be_wrong_is_no_failure_until_it_is_right(
    idle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = 'known_wrong = "host is blind to this"\n[[expect]]\nstopped = false\n'
    idle.write_text(IDLE.replace("[base.gpu]", f"{wrong}\n[base.gpu]", 1))
    assert replay(options(idle)) is True
    assert "Known to be judged wrong: host is blind to this" in capsys.readouterr().out
    idle.write_text(IDLE.replace("[base.gpu]", 'known_wrong = "so it was"\n[base.gpu]', 1))
    assert replay(options(idle)) is False
    assert "take known_wrong out" in capsys.readouterr().out


def test_several_files_end_in_a_table(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(options(idle, recording(idle.parent))) is True
    table = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(table) if line.startswith("row "))
    assert table[start + 1].startswith("X1    right     stopped after 35m")
    assert any(line.startswith("pod   right     stopped after 35m") for line in table[start:])


def test_a_recording_shows_wall_times_and_that_it_was_in_use_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(options(recording(tmp_path))) is True
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(r"Nov 20 09:35 STOP nothing used this Pod for 30m", text)
    assert re.search(r"AGAIN in use 1\dm.* after that stop", text)


def test_the_heading_tells_how_long_was_looked_and_not_how_long_the_pod_was_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path)
    head, *rest = path.read_text().splitlines()
    early = {**json.loads(head), "started_s": json.loads(head)["started_s"] - 20 * 86400.0}
    path.write_text("\n".join([json.dumps(early), *rest]) + "\n")
    assert replay(options(path)) is True
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(r"\b59m 50s of looks, from 20d after the start on; signals: ", text), text


def test_for_programs_it_is_json_of_format_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(options(recording(tmp_path), json=True, set=["IDLEWATCH_WARN_FOR=1m"])) is True
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["ok"], len(told["files"])) == (1, True, 1)
    one = told["files"][0]
    assert (one["id"], one["recorded"], one["signals"]) == ("pod", True, ["host"])
    assert one["settings"] == {"IDLEWATCH_WARN_FOR": "1m"}
    assert one["started_at"] == "2026-11-20T08:59:55+00:00"
    stops = [each for each in one["decisions"] if each["action"] == "stop"]
    assert [each["cause"] for each in stops] == ["idle"]
    assert stops[0]["in_use_again_s"] > stops[0]["at_s"] + 600
    assert [each["state"] for each in one["pod"]] == ["idle", "held", "active"]
    assert {each["verdict"] for each in one["verdicts"] if each["signal"] == "host"} >= {"quiet", "active"}


def test_the_documented_keys_of_the_json_are_those_that_come(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from idlewatch.show import replayed

    replay(options(idle, json=True))
    told = json.loads(capsys.readouterr().out)
    documented = set(re.findall(r"\w+", str(replayed.__doc__)))
    assert {*told, *told["files"][0]} <= documented
    for several in ("pod", "verdicts", "decisions", "alarms", "expectations"):
        assert all({*each} <= documented for each in told["files"][0][several])


@pytest.mark.slow
def test_a_long_flapping_life_is_told_in_few_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flaps.toml"
    stretch = 'lasts = "20h"\npattern = [{ lasts = "20m" }, { lasts = "1m", host = { error = "lost" } }]'
    path.write_text(IDLE.replace('lasts = "1h"', stretch).replace("stopped = true", "stopped = false"))
    path.write_text(path.read_text().replace("[base.gpu]", '[settings]\nIDLEWATCH_IDLE_AFTER = "0"\n\n[base.gpu]', 1))
    assert replay(options(path)) is True
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(r" unknown 19h \d+m, 5% of it: host: lost", text)
    assert len(re.findall(r"\d (active|idle|held|unknown) \d", text)) <= 40


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("IDLEWATCH_IDEL_AFTER=1m", "did you mean IDLEWATCH_IDLE_AFTER?"),
        ("IDLEWATCH_IDLE_AFTER=1", "not a duration"),
        ("IDLEWATCH_IDLE_AFTER", "write NAME=VALUE"),
        ("PATH=/bin", "no such setting"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(idle: Path, word: str, words: str) -> None:
    with pytest.raises(SettingsError) as failure:
        replay(options(idle, set=[word]))
    assert words in str(failure.value)
    assert word.partition("=")[0] in str(failure.value)


def test_its_exit_code_tells_a_wrong_file_from_a_wrong_verdict(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(idle)]) == 0
    assert main(["replay", "--set", "IDLEWATCH_IDLE_AFTER=2h", str(idle)]) == 1
    idle.write_text(IDLE.replace("stopped", "stoped"))
    assert main(["replay", str(idle)]) == 2
    assert f"idlewatch: {idle}:17: stoped: there is no such key" in capsys.readouterr().err


def test_a_setting_may_hold_equals_signs() -> None:
    assert variables_of(["IDLEWATCH_COMMAND=a=b c"]) == {"IDLEWATCH_COMMAND": "a=b c"}


# ---------------------------------------------------------------- record


def recorder(path: Path, *more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IDLEWATCH_", "RUNPOD_"))}
    told = {"IDLEWATCH_INTERVAL": "0.2s", "IDLEWATCH_SIGNALS": "host", "IDLEWATCH_STATE_DIR": str(path.parent / "s")}
    return subprocess.Popen(
        [sys.executable, "-m", "idlewatch", "record", str(path), *more],
        env=kept | told,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_who_holds_this_machine_is_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    (tmp_path / "s").mkdir(mode=0o700)
    hold.place("lunch", who="sam", state_dir=tmp_path / "s")
    child = recorder(path, "--for", "0.5s")
    assert child.communicate(timeout=60)[1] == ""
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["verdict"]["reason"] for line in told if "verdict" in line} == {"sam: lunch"}
    assert len(list((tmp_path / "s" / "holds").iterdir())) == 1, "it only looks"


@pytest.mark.slow
def test_this_machine_is_recorded_for_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    child = recorder(path, "--for", "1s")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert re.search(r"\d+ readings in ", out)
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert told[0]["settings"]["IDLEWATCH_SIGNALS"] == "host"
    assert told[0]["whole"] is True
    assert {line["reading"]["signal"] for line in told[1:]} == {"host"}
    assert not (tmp_path / "s").exists()
    assert replay(options(path)) is True
    assert "recording of a machine that is no Pod" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_ends_a_recording_well(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    child = recorder(path)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("Recording host into ")
    deadline_s = time.monotonic() + 60
    while path.stat().st_size < 1000 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0
    child.communicate()
    assert replay(options(path)) is True


def test_a_recording_never_overwrites_and_needs_a_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("precious")
    with pytest.raises(Refused, match="is there already"):
        record(argparse.Namespace(file=str(path), for_s=None))
    assert path.read_text() == "precious"
    with pytest.raises(Refused, match=r"there is no folder .*/no for the recording"):
        record(argparse.Namespace(file=str(tmp_path / "no" / "x.jsonl"), for_s=None))


# ---------------------------------------------------------------- the document


def test_the_documents_example_is_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "example.toml"
    path.write_text(blocks[0])
    assert replay(options(path)) is True, capsys.readouterr().out
    assert "3 of 3 expectations met." in capsys.readouterr().out


def test_the_document_has_every_key() -> None:
    told = set(re.findall(r"`([^`\n]+)`", DOCUMENT.read_text()))
    keys = {*scenario._TOP, *scenario._HOLD, *scenario._EXPECT, *stretches._STRETCH_KEYS, *stretches._NO_FACTS}
    keys |= {stretches._COVERS, facts._LIKE, *expected.HAPPENINGS}
    tables = {"settings": "[settings]", "base": "[base.SIGNAL]", "like": "[like.NAME]"}
    tables |= {"stretch": "[[stretch]]", "hold": "[[hold]]", "expect": "[[expect]]"}
    assert {tables.get(key, key) for key in keys} <= told
