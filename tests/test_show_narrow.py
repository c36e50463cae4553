"""What is shown in a terminal of 60 columns, and of any width: nothing is wider than it, and nothing is lost."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.history.store import History
from idlewatch.history.verdicts import HELD, HOLD, Span
from idlewatch.hold import place
from idlewatch.model import Activity, Json
from idlewatch.settings import environment_with
from idlewatch.show.folding import NARROWEST, Paragraph, folded
from idlewatch.show.lanes import LEGEND, lanes
from idlewatch.show.status import status_lines
from idlewatch.state_folder import only_daemon

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LONG = "gpu0 (NVIDIA H100 80GB HBM3) utilization 0 % in 14 samples, memory 61.2 GB, 3 processes, power 121 W"
STATUS: dict[str, Json] = {
    "interval_s": 5.0,
    "mode": "stop",
    "pod_id": "abc123",
    "phase": "watching",
    "reason": "quiet for 3m of 30m; people: root is connected from 203.0.113.7",
    "idle_for_s": 180.0,
    "idle_after_s": 1800.0,
    "spent_usd": 4.2,
    "usd_per_hour": 2.0,
    "troubles": {"save failed": "no space is left on the volume /workspace; make room on it, or mount another one"},
    "holds": [{"who": "ann (pts/0)", "reason": "a training that must not be stopped before Tuesday", "until_s": 2e9}],
    "signals": {
        "gpu": {"activity": "quiet", "reason": LONG, "since_s": 0.0, "read_s": 0.0},
        "transfers": {"activity": "unknown", "reason": LONG, "since_s": 0.0, "read_s": 0.0},
    },
}

words = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12), max_size=30)


@given(words, st.integers(0, 120), st.integers(0, 90))
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(said: list[str], columns: int, indent: int) -> None:
    text = " ".join(said)
    lines = Paragraph(text, " " * min(indent, 20), " " * indent).lines(columns)
    assert max(map(len, lines)) <= max(columns, NARROWEST)
    assert " ".join(lines).split() == text.split()


def test_a_line_is_folded_below_itself_and_paths_stay_whole() -> None:
    assert folded("  short", 40) == ["  short"]
    assert folded("x" * 100, None) == ["x" * 100]
    path = "/workspace/" + "deep/" * 10
    assert folded(f"  brought back without all of their attributes: {path}", 40) == [
        "  brought back without all of their",
        "    attributes:",
        f"    {path}",
    ]


@pytest.mark.parametrize("columns", [60, 40])
def test_status_fits_a_narrow_terminal(columns: int) -> None:
    lines = status_lines(STATUS | {"at_s": 999.0}, 1000.0, columns=columns)
    assert max(map(len, lines)) <= columns
    assert "  transfers  unknown  gpu0" in "\n".join(lines)


@pytest.mark.parametrize("width", [60, 40])
def test_lanes_and_their_legend_fit_a_narrow_terminal(width: int) -> None:
    spans = [Span("transfers", 0, 7200, Activity.QUIET), Span(HOLD, 3600, 7200, HELD)]
    lines = list(lanes(spans, 7200.0, NOW, hours=2.0, width=width))
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines[4:]).split()) == " ".join(LEGEND.split())
    assert lines[2].split()[1].count(".") == width - len("transfers") - 4


def in_terminal(columns: int, state_dir: Path, *words: str) -> list[str]:
    """What a verb shows in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {"IDLEWATCH_STATE_DIR": str(state_dir), "IDLEWATCH_SAVE_ROOT": str(state_dir), "IDLEWATCH_VOLUME": ""}
    here = {name: value for name, value in environment_with(given).items() if name not in ("COLUMNS", "LINES")}
    verb = subprocess.Popen([sys.executable, "-m", "idlewatch", *words], env=here, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    try:
        while part := os.read(ours, 65536):
            told += part
    except OSError:  # EIO: its last writer has closed it
        pass
    finally:
        os.close(ours)
        verb.wait(60)
    return told.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "last"),
    [
        ("status", "by Tuesday"),
        ("why", "set IDLEWATCH_IGNORE="),
        ("history", "the end"),
        ("report", "Serverless"),
        ("holds", "before the end of the week"),
        ("notify", "where the daemon's variables are"),
    ],
)
def test_every_screen_fits_a_terminal_of_60_columns(tmp_path: Path, verb: str, last: str) -> None:
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    history = History(tmp_path)
    history.judged([Span("gpu", now_s - 3000, now_s, Activity.UNKNOWN, reason=LONG)])
    history.happened("alarm", f"{LONG} and so on to the end", at_s=now_s, wall=NOW, facts={})
    holds: Json = [{"who": "ann", "reason": "a training that must be done by Tuesday", "until_s": now_s + 60}]
    history.show({**STATUS, "at_s": now_s, "started_s": now_s - 4000, "holds": holds})
    history.close()
    with only_daemon(tmp_path):
        place("a training that must be done before the end of the week", for_s=60.0, who="ann", state_dir=tmp_path)
        lines = in_terminal(60, tmp_path, *verb.split())
    assert max(map(len, lines)) <= 60, lines
    assert last in " ".join(" ".join(lines).split())


def test_the_documentation_of_each_setting_and_the_help_fit_their_terminal(tmp_path: Path) -> None:
    lines = in_terminal(60, tmp_path, "settings")
    assert max(len(line) for line in lines if line.startswith(" ")) <= 60
    for words in (["--help"], ["hold", "--help"]):
        assert max(map(len, in_terminal(80, tmp_path, *words))) <= 80
