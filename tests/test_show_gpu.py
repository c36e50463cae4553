"""`idlewatch gpu`: what is drawn of recorded polls, of the daemon's history, and of a real reader on a stub NVML."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.gpu.line import Instance
from idlewatch.gpu.merge import Merger
from idlewatch.gpu.reader import GpuReader, Taken
from idlewatch.history.store import DATABASE_FILE, History, newest_of
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Activity, Json, Reading
from idlewatch.settings import environment_with
from idlewatch.show.gpu import DAEMON, KEPT_S, OWN, SETTLING, View
from idlewatch.show.gpu_screen import screen, text_of
from idlewatch.show.sparkline import GLYPHS, UNSEEN, Column, Seen, axis, columns, drawn, glyph, settling
from idlewatch.state_folder import only_daemon
from idlewatch.verbs.gpus import GpuWatch, snapshot
from tests.gpu_polls import FakeReader, failed, gpu, poll
from tests.nvml_stub import NvmlScript, build, child_argv, environment, now_s
from tests.waiting import comes

WITHIN_S = 40.0
AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DRIVER_NOT_LOADED = 9
NOTHING: Mapping[str, Json] = {}


# -------------------------------------------------------------- the sparkline

COUNT, ROUNDING_S = 12, 1e-6


@dataclass(frozen=True)
class Looked:
    """Looks in order of time, none overlapping, some of them instants, with gaps; and the axis to draw them on."""

    seen: list[Seen]
    end_s: float
    column_s: float

    def drawn(self) -> list[Column]:
        return columns(self.seen, end_s=self.end_s, column_s=self.column_s, count=COUNT)

    def shared_s(self, one: Seen, index: int) -> float:
        """How much of a column it is of; below 0: as far away from it."""
        to_s = self.end_s - (COUNT - 1 - index) * self.column_s
        return min(one.to_s, to_s) - max(one.from_s, to_s - self.column_s)


@st.composite
def looked(draw: st.DrawFn) -> Looked:
    column_s = draw(st.sampled_from([5.0, 5.0, 0.2, 0.7]))
    end_s = draw(st.one_of(st.just(COUNT * column_s), st.integers(60_000, 10**9).map(lambda ms: ms / 1000)))
    seen, at_s = [], end_s - column_s * (COUNT - draw(st.one_of(st.integers(-4, 4), st.floats(-4, 4))))
    for _ in range(draw(st.integers(0, COUNT))):
        from_s = at_s + column_s * draw(st.sampled_from([0.0, 0.0, 0.002, 0.2, 0.8, 2.2]))
        at_s = from_s + column_s * draw(st.sampled_from([0.0, 0.04, 0.48, 0.5, 0.98, 1.0, 1.02, 2.8]))
        seen.append(Seen(from_s, at_s, draw(st.sampled_from([None, 0.0, 0.0, 3.0, 55.0, 100.0])), draw(st.booleans())))
    past = [one for one in seen if one.to_s <= end_s]
    if draw(st.booleans()):
        from_s = max([end_s - column_s * draw(st.sampled_from([0.0, 0.4])), *(one.to_s for one in past)])
        past.append(Seen(from_s, end_s, draw(st.sampled_from([0.0, 90.0]))))
    return Looked(past, end_s, column_s)


@pytest.mark.slow
@given(looked())
def test_work_that_was_seen_is_always_drawn(told: Looked) -> None:
    of = told.drawn()
    assert len(of) == COUNT
    for one in told.seen:
        if one.pct and one.to_s > told.end_s - COUNT * told.column_s + ROUNDING_S:
            there = [column.pct for index, column in enumerate(of) if told.shared_s(one, index) >= -ROUNDING_S]
            assert any(pct is not None and pct >= one.pct for pct in there), one


@given(looked())
def test_a_column_shows_what_was_seen_in_it_and_rest_only_where_most_was_seen(told: Looked) -> None:
    for index, column in enumerate(told.drawn()):
        shares = [(one.pct, told.shared_s(one, index)) for one in told.seen if one.pct is not None]
        there = [(pct, share_s) for pct, share_s in shares if share_s >= -ROUNDING_S]
        assert column.pct is None or column.pct in [pct for pct, _ in there]
        if column.pct == 0:
            assert sum(share_s for _, share_s in there) > told.column_s / 2 - ROUNDING_S
        if column.pct is None:
            assert sum(share_s for _, share_s in there) <= told.column_s / 2 + ROUNDING_S


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_higher_percentage_is_never_drawn_lower_and_only_0_is_drawn_as_0(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert GLYPHS.index(glyph(low)) <= GLYPHS.index(glyph(high))
    assert (glyph(one) == GLYPHS[0]) == (one == 0)


def test_the_lowest_block_is_0_and_the_highest_100() -> None:
    assert glyph(0) + glyph(1) + glyph(50) + glyph(100) + glyph(250) == "▁▂▅██"


def test_polls_that_come_a_little_late_are_drawn_in_one_column_each() -> None:
    seen = [Seen(5 * k + 0.3, 5 * k + 5.3, 100.0 if k == 4 else 0.0) for k in range(11)]
    assert drawn(columns(seen, end_s=55.3, column_s=5, count=11)) == "▁▁▁▁█▁▁▁▁▁▁"
    assert drawn(columns(seen, end_s=56.3, column_s=5, count=11)) == "▁▁▁▁█▁▁▁▁▁▁"


def test_a_column_of_which_most_was_seen_by_looks_drawn_beside_it_is_no_gap() -> None:
    assert drawn(columns([Seen(0, 7, 0.0), Seen(8, 15, 0.0)], end_s=15, column_s=5, count=3)) == "▁▁▁"
    assert drawn(columns([Seen(0, 6, 0.0), Seen(9, 15, 0.0)], end_s=15, column_s=5, count=3)) == "▁·▁"


def test_a_gap_is_a_gap_and_before_the_first_look_is_nothing() -> None:
    seen = [Seen(10, 20, 100.0), Seen(20, 25, None), Seen(30, 35, 0.0)]
    assert drawn(columns(seen, end_s=40, column_s=5, count=8)) == "  ██··▁·"


def test_what_does_not_count_is_marked_below() -> None:
    seen = [Seen(0, 10, 100.0, counts=False), Seen(10, 12, 0.0, counts=False), Seen(12, 20, 0.0)]
    assert settling(columns(seen, end_s=20, column_s=5, count=4)) == "~~"
    assert settling([Column(), Column(5.0)]) == ""


@given(st.integers(0, 200), st.sampled_from([0.2, 1.0, 5.0, 30.0, 600.0]))
def test_the_axis_has_a_character_a_column_and_ends_now(count: int, column_s: float) -> None:
    line = axis(count, column_s)
    assert len(line) == count
    assert line.endswith("now"[:count])


def test_the_axis_tells_the_time_of_the_column_below_it() -> None:
    assert axis(30, 5) == "      -2m         -1m      now"
    assert axis(24, 5).index("-1m") == 24 - 12


# ------------------------------------------------------------ what polls show


class Screen:
    """The view over a reader that says what a test puts in; no daemon watches."""

    def __init__(self, folder: Path, gpus: int = 1) -> None:
        self.reader = FakeReader()
        self.watch = GpuWatch(folder, gpus, reader=self.reader)
        self._joules: dict[str, float] = {}

    def see(self, at_s: float, *gpus: Any, error: str | None = None, now_s: float | None = None, **poll_: Any) -> View:
        polls = (poll(at_s, *gpus, **poll_),) if gpus else ()
        self.reader.next = Taken(polls=polls, error=error, pid=7)
        return self.watch.look(at_s + 0.5 if now_s is None else now_s)

    def drew(self, uuid: str, watts: float, span_s: float = 5.0) -> int:
        """The energy counter of a GPU after it drew so much."""
        self._joules[uuid] = self._joules.get(uuid, 0.0) + watts * span_s
        return int(self._joules[uuid] * 1000)


@pytest.fixture
def screen_of(tmp_path: Path) -> Screen:
    return Screen(tmp_path)


def lines(view: View, *, width: int = 80, height: int = 24, cut: bool = False) -> list[str]:
    return [text_of(line) for line in screen(view, width, height, cut=cut)]


def text(view: View, **size: Any) -> str:
    """All words, whatever line they stand in."""
    return " ".join(" ".join(lines(view, **size)).split())


def spark(view: View, label: str = "gpu0") -> str:
    line = next(line for line in lines(view) if line.startswith(label))
    return line[6 : 6 + 57]


def test_busy_rest_and_busy_again_are_drawn_with_the_verdict(screen_of: Screen) -> None:
    for k, pct in enumerate([100, 0, 0, 60]):
        view = screen_of.see(100 + 5 * k, gpu(util_max_pct=pct, util_second_pct=pct))
    assert spark(view) == "█▁▁▆".rjust(57)
    assert "60 % active" in text(view)
    assert lines(view)[0] == "GPU ACTIVE: gpu0 utilization 60 % > 5 %"
    assert "no daemon watches GPUs" in text(view)


def test_time_without_a_look_is_a_gap(screen_of: Screen) -> None:
    screen_of.see(100, gpu())
    view = screen_of.see(130, gpu())
    assert spark(view) == "▁·····▁".rjust(57)


def test_a_reader_that_is_silent_leaves_a_gap_at_the_right_and_no_figures_of_now(screen_of: Screen) -> None:
    screen_of.see(100, gpu())
    view = screen_of.see(130, error="GPU reader hung: no line for 30 s", now_s=130)
    assert spark(view).endswith("▁····")
    assert lines(view)[0] == "GPU UNKNOWN: GPU reader hung: no line for 30 s"
    assert "? unknown" in text(view)
    assert "GiB" not in text(view)
    assert view.rows[0].facts is None


def test_readings_that_do_not_count_yet_are_drawn_and_called_settling(screen_of: Screen) -> None:
    view = screen_of.see(100, gpu(util_max_pct=100, energy_total_mj=100_000), settles_in_s=25.0)
    assert view.verdict.activity == SETTLING
    assert view.verdict.settles_in_s == pytest.approx(24.5)
    assert spark(view) == "█".rjust(57)
    assert "100 % settling" in text(view)
    assert "~ does not count" in text(view)
    later = screen_of.watch.look(103.0)
    assert later.verdict.activity == SETTLING
    assert later.verdict.settles_in_s == pytest.approx(22.0)
    counted = screen_of.see(130, gpu(energy_total_mj=3_700_000))
    assert counted.verdict.activity == Activity.QUIET
    assert counted.rows[0].watts == pytest.approx(120)
    assert [one.counts for one in counted.rows[0].seen] == [False, True]


def test_polls_that_do_not_count_are_left_out_beside_one_that_does(screen_of: Screen) -> None:
    opening, counted = poll(100, gpu(util_max_pct=100), settles_in_s=1.0), poll(105, gpu())
    screen_of.reader.next = Taken(polls=(opening, counted), pid=7)
    view = screen_of.watch.look(105.5)
    assert view.verdict.activity == view.rows[0].verdict == Activity.QUIET
    assert [(one.pct, one.counts) for one in view.rows[0].seen] == [(0.0, True)]


def test_power_is_told_against_the_idle_power_that_was_learned_here(screen_of: Screen) -> None:
    for k in range(16):
        view = screen_of.see(100 + 5 * k, gpu(energy_total_mj=screen_of.drew("GPU-0", 120)))
    assert "power 120 W, its idle power is 120 W; at most 700 W" in text(view)
    busy = screen_of.see(180, gpu(energy_total_mj=screen_of.drew("GPU-0", 301), util_max_pct=90, util_second_pct=90))
    assert "power 301 W, 181 W above its idle power of 120 W" in text(busy)
    assert busy.rows[0].above_idle_w == pytest.approx(181)
    assert "301 W (+181)" in text(busy, height=5)


def test_power_that_is_not_known_is_no_zero(screen_of: Screen) -> None:
    assert "power not known yet" in text(screen_of.see(100, gpu(energy_total_mj=5)))
    why = {"energy": "Not Supported", "power": "Not Supported", "memory": "Not Supported"}
    view = screen_of.see(105, gpu(not_readable=why, mem_used_mib=None))
    assert "power not readable" in text(view)
    assert "memory not readable" in text(view)
    assert "Not readable: gpu0: energy, power, memory: Not Supported" in text(view)


def test_engines_and_memory_are_told(screen_of: Screen) -> None:
    view = screen_of.see(100, gpu(engines_max_pct={"encoder": 0, "decoder": 34}, mem_used_mib=3, processes=2))
    assert "engines: encoder 0 %, decoder 34 %" in text(view)
    assert "memory 3 MiB of 80.0 GiB, 2 processes" in text(view)
    assert "decoder 34 %, memory 3 MiB of 80.0 GiB, 2 processes" in text(view, height=5)


def test_a_card_without_a_ring_is_marked_single_looks(screen_of: Screen) -> None:
    view = screen_of.see(100, gpu(instant=True))
    for height in (24, 5):
        assert "single looks" in text(view, height=height)


def instance(**changes: Any) -> Any:
    return Instance(**{"uuid": "MIG-1234", "mem_used_mib": 4096, "util_mean_pct": None, **changes})


def test_mig_without_counters_says_why_in_place_of_a_line_at_zero(screen_of: Screen) -> None:
    blind = "MIG: this driver does not tell"
    mig = gpu(
        mig=True,
        instances=(instance(),),
        util_max_pct=None,
        util_second_pct=None,
        not_readable={"utilization": blind},
        unsupported=("utilization",),
    )
    view = screen_of.see(100, mig)
    assert spark(view).startswith(f"not seen: {blind}")
    assert "MIG, 1 instance" in text(view)
    assert "MIG-1234: memory 4.0 GiB, how busy is not told" in text(view)
    assert "? unknown" in text(view)
    assert not any(glyph_ in text(view) for glyph_ in GLYPHS)


def test_mig_with_counters_is_drawn_by_its_busiest_instance(screen_of: Screen) -> None:
    parts = (instance(util_mean_pct=2.0), instance(uuid="MIG-5678", util_mean_pct=71.5))
    view = screen_of.see(100, gpu(mig=True, instances=parts, util_max_pct=None, util_second_pct=None))
    assert spark(view).endswith(glyph(71.5))
    assert "MIG-5678: memory 4.0 GiB, worked 71.5 % of the time" in text(view)


def eight(**changes: Any) -> list[Any]:
    return [gpu(f"GPU-{number}", **changes) for number in range(8)]


def test_eight_gpus_fit_on_one_screen_and_every_line_on_80_columns(tmp_path: Path) -> None:
    lacks = {"jpeg": "Function Not Found (the driver's library is too old for it)", "ofa": "Function Not Found"}
    view = Screen(tmp_path, 8).see(100, *eight(name="NVIDIA H100 80GB HBM3", not_readable=lacks))
    shown = lines(view)
    assert [line[:4] for line in shown if line.startswith("gpu")] == [f"gpu{number}" for number in range(8)]
    assert len(shown) <= 24
    assert "8 NVIDIA H100 80GB HBM3" in text(view)
    assert "Not readable: gpu0, gpu1, gpu2, gpu3, gpu4, gpu5, gpu6, gpu7: ofa: Function Not Found" in text(view), (
        "said once, not eight times"
    )
    assert max(map(len, shown)) <= 80


def test_a_screen_that_is_too_small_says_what_it_leaves_out(tmp_path: Path) -> None:
    view = Screen(tmp_path, 8).see(100, *eight())
    whole = lines(view, height=10)
    cut = lines(view, height=10, cut=True)
    assert len(cut) == 10
    assert cut[:9] == whole[:9]
    assert cut[9] == f"… {len(whole) - 9} more lines; a higher terminal shows them"


def test_one_lost_gpu_of_eight_is_told_by_name_while_the_others_are_shown(tmp_path: Path) -> None:
    pod = Screen(tmp_path, 8)
    pod.see(100, *eight())
    view = pod.see(105, *eight()[:7], failed("GPU-7", "utilization: GPU is lost"))
    assert {row.label: row.verdict for row in view.rows} == {f"gpu{n}": "quiet" for n in range(7)} | {"gpu7": "unknown"}
    assert "Unknown: gpu7: utilization: GPU is lost" in text(view)


def test_a_gpu_that_is_no_longer_listed_shows_nothing_of_now(tmp_path: Path) -> None:
    pod = Screen(tmp_path, 2)
    pod.see(100, gpu("GPU-0"), gpu("GPU-1"))
    view = pod.see(105, gpu("GPU-0"))
    assert (view.rows[1].verdict, view.rows[1].reason, view.rows[1].facts) == (
        "unknown",
        "not in the newest reading",
        None,
    )
    assert "only 1 of 2 GPUs found" in text(view)
    assert len(pod.see(105 + KEPT_S + 5, gpu("GPU-0")).rows) == 1


def test_a_name_cannot_command_the_terminal(screen_of: Screen) -> None:
    evil = "\x1b[2J\x07\r\n[bold]\u202eH100\x9b"
    view = screen_of.see(100, gpu(name=evil, not_readable={"ofa": evil}, virtual=evil), driver=evil)
    for height in (24, 5):
        shown = "".join(lines(view, height=height))
        assert shown.isprintable()
        assert "\\x1b[2J\\x07" in shown
        assert "[bold]" in shown
    assert json.loads(json.dumps(view.as_json(AT)))["gpus"][0]["name"] == evil


def test_no_gpu_is_said_with_its_proof(tmp_path: Path) -> None:
    view = Screen(tmp_path, 0).see(100)
    assert lines(view) == ["No GPU here: RUNPOD_GPU_COUNT=0"]
    assert (view.absent, view.rows) == (True, ())


def test_a_gpu_that_may_hang_is_noted(screen_of: Screen) -> None:
    for at_s in range(100, 2000, 5):
        busy = gpu(util_max_pct=100, util_second_pct=100, util_mean_pct=100.0)
        view = screen_of.see(at_s, replace(busy, energy_total_mj=screen_of.drew("GPU-0", 71)))
    assert view.verdict.activity == Activity.ACTIVE
    assert "! gpu0 100 % busy at 71 W" in text(view)
    assert "busy, but maybe hung" in text(view)


def test_any_width_is_drawn(screen_of: Screen) -> None:
    view = screen_of.see(100, gpu(), settles_in_s=20.0)
    for width in (20, 40, 79, 200):
        assert max(map(len, lines(view, width=width))) <= max(width, 6 + 8 + 17)


def test_for_programs_everything_is_there_and_unknown_is_null(screen_of: Screen) -> None:
    screen_of.see(100, gpu())
    said = json.loads(json.dumps(screen_of.see(105, gpu(energy_total_mj=None, covered_s=15.0)).as_json(AT)))
    row = said.pop("gpus")[0]
    assert said == {
        "format": 1,
        "at": AT.isoformat(),
        "at_s": 105.5,
        "source": "own",
        "verdict": "quiet",
        "reason": "1 GPU at 0 % <= 5 %, no busy reading yet",
        "settles_in_s": None,
        "notes": [],
        "driver": None,
        "expected": 1,
        "found": 1,
        "newest_s": 105.0,
        "column_s": 5.0,
    }
    facts, points = row.pop("facts"), row.pop("points")
    assert row == {
        "label": "gpu0",
        "uuid": "GPU-0",
        "name": "H100",
        "verdict": "quiet",
        "reason": "",
        "idle_w": None,
        "limit_w": None,
        "power_mean_w": None,
        "above_idle_w": None,
    }
    assert (facts["util_max_pct"], facts["mem_used_mib"], facts["energy_mj"]) == (0, 16000, None)
    assert points == [
        {"from_s": 95.0, "to_s": 100.0, "util_max_pct": 0.0, "counts": True},
        {"from_s": 100.0, "to_s": 105.0, "util_max_pct": 0.0, "counts": True},
    ]
    lost = screen_of.see(110, error="GPU reader crashed: SIGSEGV").as_json(AT)
    assert (lost["verdict"], lost["reason"]) == ("unknown", "GPU reader crashed: SIGSEGV")
    rows: Any = lost["gpus"]
    assert (rows[0]["facts"], rows[0]["verdict"]) == (None, "unknown")


# -------------------------------------------------------- the daemon's history


class Untouched:
    """A reader that must not be asked: the daemon has one."""

    def __init__(self) -> None:
        self.taken = self.closed = False

    def take(self, now_s: float) -> Taken:
        self.taken = True
        return Taken(error="GPU reader is starting: no line yet", pid=1)

    def close(self) -> None:
        self.closed = True


@dataclass
class Daemon:
    """What a daemon leaves in the state folder, tick by tick."""

    state_dir: Path
    history: History
    merger: Merger

    def tick(self, at_s: float, *gpus: Any, error: str | None = None, status: Mapping[str, Json] = NOTHING) -> None:
        """One tick with one poll, or with an error; `status`: what it shows beside."""
        reading = Reading(signal="gpu", at_s=at_s, error=error)
        if gpus:
            facts, covers_s = self.merger.facts([poll(at_s, *gpus)])
            reading = Reading(signal="gpu", at_s=at_s, covers_s=covers_s, facts=facts)
        self.history.saw([reading, Reading(signal="host", at_s=at_s)], AT)
        shown: Json = {"host": {}, "gpu": {"activity": "quiet", "reason": error or "1 GPU at 0 %"}}
        self.history.show({"at_s": at_s, "interval_s": 5.0, "signals": shown, "troubles": {}, **status})


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    history = History(tmp_path)
    with only_daemon(tmp_path):
        yield Daemon(tmp_path, history, Merger(1))
    history.close()


def test_where_a_daemon_watches_its_readings_are_shown_and_no_second_reader_starts(daemon: Daemon) -> None:
    reader = Untouched()
    watch = GpuWatch(daemon.state_dir, 1, reader=reader)
    for k, pct in enumerate([0, 100, 0]):
        daemon.tick(100 + 5 * k, gpu(util_max_pct=pct, util_second_pct=pct))
    view = watch.look(111)
    assert (view.source, watch.ready) == (DAEMON, True)
    assert spark(view) == "▁█▁".rjust(57)
    assert lines(view)[0] == "GPU QUIET: 1 GPU at 0 %"
    assert "read by the daemon 1s ago" in text(view)
    daemon.tick(115, gpu(util_max_pct=55, util_second_pct=55))
    assert spark(watch.look(116)) == ("▁█▁" + glyph(55)).rjust(57)
    assert spark(watch.look(117)) == ("▁█▁" + glyph(55)).rjust(57)
    assert watch.look(117).rows[0].verdict == "active"
    assert watch._after == newest_of(daemon.state_dir).reading, "no reading is unpacked twice"
    watch.close()
    assert (reader.taken, reader.closed) == (False, True)


def test_idle_power_is_learned_from_the_daemons_last_readings(daemon: Daemon) -> None:
    for k in range(20):
        daemon.tick(100 + 5 * k, gpu(energy_total_mj=120_000 * 5 * k))
    row = GpuWatch(daemon.state_dir, 1, reader=Untouched()).look(196).rows[0]
    assert row.idle_w == pytest.approx(120)
    assert row.limit_w == pytest.approx(126)


def test_what_the_daemon_could_not_read_is_a_gap_with_its_words(daemon: Daemon) -> None:
    daemon.tick(100, gpu())
    for at_s in range(105, 125, 5):
        daemon.tick(at_s, error="GPU reader hung: no line for 20 s")
    view = GpuWatch(daemon.state_dir, 1, reader=Untouched()).look(125)
    assert spark(view).endswith("▁···")
    assert lines(view)[0] == "GPU QUIET: GPU reader hung: no line for 20 s"
    assert view.rows[0].facts is None


def test_readings_of_an_earlier_start_of_the_machine_are_left_out(daemon: Daemon) -> None:
    for at_s in (500, 505, 510, 990, 50_000):
        daemon.tick(at_s, gpu("GPU-9", util_max_pct=100))
    for at_s in (500, 505):
        daemon.tick(at_s, gpu("GPU-0"))
    view = GpuWatch(daemon.state_dir, 1, reader=Untouched()).look(506)
    assert [row.uuid for row in view.rows] == ["GPU-0"]


def test_the_daemons_alarms_about_gpus_are_told_with_its_verdict(daemon: Daemon) -> None:
    troubles: Json = {"notice:gpu": "gpu0 busy, but maybe hung", "blind:host": "not about GPUs"}
    daemon.tick(100, gpu(), status={"troubles": troubles})
    view = GpuWatch(daemon.state_dir, 1, reader=Untouched()).look(101)
    assert view.verdict.notes == ("gpu0 busy, but maybe hung",)
    assert "! gpu0 busy, but maybe hung" in text(view)


def test_a_history_that_cannot_be_read_is_said_and_starts_no_reader(daemon: Daemon, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    daemon.tick(100, gpu())
    (other / "status.json").write_text((daemon.state_dir / "status.json").read_text())
    (other / DATABASE_FILE).mkdir()
    with only_daemon(other):
        view = GpuWatch(other, 1, reader=Untouched()).look(101)
    assert view.verdict.activity == "quiet"
    assert "can't be read" in view.verdict.notes[0]
    assert view.rows == ()


def test_a_history_that_breaks_meanwhile_leaves_no_figures_of_now(daemon: Daemon) -> None:
    daemon.tick(100, gpu())
    watch = GpuWatch(daemon.state_dir, 1, reader=Untouched())
    assert watch.look(101).rows[0].facts
    (daemon.state_dir / DATABASE_FILE).rename(daemon.state_dir / "elsewhere.db")
    (daemon.state_dir / DATABASE_FILE).mkdir()
    view = watch.look(102)
    assert (view.rows[0].facts, view.rows[0].verdict) == (None, "unknown")


@pytest.mark.parametrize("status", [{"ended": True}, {"signals": {"host": {}}}, {"at_s": 0.0}])
def test_where_no_daemon_looks_at_gpus_an_own_reader_does(daemon: Daemon, status: dict[str, Json]) -> None:
    reader = Untouched()
    daemon.tick(100, gpu(), status=status)
    view = GpuWatch(daemon.state_dir, 1, reader=reader).look(101)
    assert (view.source, reader.taken) == (OWN, True)


def test_a_daemon_that_starts_meanwhile_takes_over_and_the_own_reader_ends(daemon: Daemon) -> None:
    reader = Untouched()
    watch = GpuWatch(daemon.state_dir, 1, reader=reader)
    assert watch.look(99).source == OWN
    daemon.tick(100, gpu())
    assert watch.look(101).source == DAEMON
    assert reader.closed


def test_a_daemon_that_has_just_died_is_not_read_from(tmp_path: Path) -> None:
    reader = Untouched()
    Daemon(tmp_path, History(tmp_path), Merger(1)).tick(100, gpu())
    assert GpuWatch(tmp_path, 1, reader=reader).look(101).source == OWN
    assert reader.taken


def test_a_column_is_never_shorter_than_the_daemons_tick(daemon: Daemon) -> None:
    for k in range(3):
        daemon.tick(100 + 30 * k, gpu(covered_s=15.0), status={"interval_s": 30.0})
    view = GpuWatch(daemon.state_dir, 1, reader=Untouched()).look(161)
    assert view.column_s == 30.0
    assert "Highest % of each 30s" in text(view)


# ------------------------------------------------- a real reader on a stub NVML


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script")


@pytest.fixture(params=[0.2])
def own(library: Path, script: NvmlScript, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GpuWatch]:
    """A view over a real reader that polls as often as asked for, and settles after six polls."""
    reader = GpuReader(argv=child_argv(library, script, poll_s=request.param))
    watch = GpuWatch(tmp_path / "no state", 1, reader=reader, column_s=request.param)
    yield watch
    watch.close()


def until(watch: GpuWatch, what: Callable[[View], bool]) -> View:
    """The first view of which `what` is true."""
    seen: list[View] = []

    def came() -> bool:
        seen.append(watch.look(now_s()))
        return what(seen[-1])

    assert comes(came, WITHIN_S), seen[-1:]
    return seen[-1]


@pytest.mark.slow
@pytest.mark.parametrize("own", [5.0], indirect=True)
def test_what_a_real_reader_says_at_once_is_drawn_as_settling(own: GpuWatch, script: NvmlScript) -> None:
    script.processes(0, 1)
    script.util(0, 87, since_s=now_s() - 60)
    view = until(own, lambda view: bool(view.rows))
    assert (view.verdict.activity, view.rows[0].verdict) == (SETTLING, SETTLING)
    assert not any(one.counts for one in view.rows[0].seen)
    assert glyph(87) in spark(view)
    assert "1 process" in text(view)


@pytest.mark.slow
def test_what_a_real_reader_says_then_is_judged(own: GpuWatch, script: NvmlScript) -> None:
    script.works(0)
    view = until(own, lambda view: view.verdict.activity == Activity.ACTIVE)
    assert "utilization 87 % > 5 %" in text(view)
    assert view.rows[0].seen[-1] == replace(view.rows[0].seen[-1], pct=87.0, counts=True)
    script.rests(0)
    until(own, lambda view: view.verdict.activity == Activity.QUIET and view.rows[0].seen[-1].pct == 0)


@pytest.mark.slow
def test_a_snapshot_waits_for_the_first_energy_and_no_longer(own: GpuWatch, script: NvmlScript) -> None:
    script.works(0)
    assert snapshot(own, MachineClock(), None).rows[0].watts is not None


@pytest.mark.slow
def test_a_snapshot_of_a_driver_that_cannot_be_opened_has_its_words(own: GpuWatch, script: NvmlScript) -> None:
    script.error("init", DRIVER_NOT_LOADED)
    view = snapshot(own, MachineClock(), None)
    assert view.verdict.activity == Activity.UNKNOWN
    assert "NVML can't be opened: Driver Not Loaded" in text(view)


VERB = (
    "import argparse, sys; from idlewatch.verbs.gpus import gpu;"
    "sys.exit(0 if gpu(argparse.Namespace(json='--json' in sys.argv, once='--once' in sys.argv, for_s=None)) else 1)"
)


def variables(tmp_path: Path, library: Path, script: NvmlScript, gpus: int) -> dict[str, str]:
    told = {"RUNPOD_GPU_COUNT": str(gpus), "IDLEWATCH_STATE_DIR": str(tmp_path / "state"), "TERM": "xterm"}
    here = {"PYTHONPATH": str(Path(__file__).parent.parent), "COLUMNS": "80", "LINES": "24"}
    return environment_with(told | here | environment(library, script))


@pytest.mark.slow
def test_through_a_pipe_the_verb_prints_plain_text_once(tmp_path: Path, library: Path, script: NvmlScript) -> None:
    script.error("init", DRIVER_NOT_LOADED)
    argv, environ = [sys.executable, "-c", VERB], variables(tmp_path, library, script, 1)
    done = subprocess.run(argv, env=environ, capture_output=True, timeout=WITHIN_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert shown.startswith("GPU UNKNOWN: NVML can't be opened: Driver Not Loaded")
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.slow
def test_a_cpu_pod_is_done_with_the_proof(tmp_path: Path, library: Path, script: NvmlScript) -> None:
    argv, environ = [sys.executable, "-c", VERB, "--json"], variables(tmp_path, library, script, 0)
    done = subprocess.run(argv, env=environ, capture_output=True, timeout=WITHIN_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    said = json.loads(done.stdout)
    assert (said["format"], said["verdict"], said["reason"], said["gpus"]) == (1, "absent", "RUNPOD_GPU_COUNT=0", [])


class Terminal:
    """The verb in a terminal of 80 columns and 24 lines, and what it wrote there."""

    def __init__(self, environ: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        argv = [sys.executable, "-c", VERB]
        self.process = subprocess.Popen(
            argv, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._ours, self.wrote = ours, b""
        self._reads = threading.Thread(target=self._read)
        self._reads.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the other end closed
            while chunk := os.read(self._ours, 65536):
                self.wrote += chunk

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reads.join()
        os.close(self._ours)


@pytest.fixture
def terminal(tmp_path: Path, library: Path, script: NvmlScript) -> Iterator[Terminal]:
    shown = Terminal(variables(tmp_path, library, script, 1))
    yield shown
    shown.end()


@pytest.mark.slow
@pytest.mark.parametrize("request_", [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_is_live_until_ctrl_c_and_leaves_no_reader(terminal: Terminal, request_: int) -> None:
    assert comes(lambda: b"SETTLING" in terminal.wrote and b"gpu0" in terminal.wrote, WITHIN_S), terminal.wrote
    readers = terminal.children()
    assert readers
    terminal.process.send_signal(request_)
    assert terminal.process.wait(WITHIN_S) == 0, terminal.wrote
    terminal._reads.join(WITHIN_S)
    assert b"Traceback" not in terminal.wrote
    assert terminal.wrote.index(b"\x1b[?1049h") < terminal.wrote.index(b"\x1b[?1049l")
    assert not any(Path(f"/proc/{pid}").exists() for pid in readers), "it waits for its reader's end"


def test_a_gap_is_drawn_with_another_sign_than_0() -> None:
    assert UNSEEN not in GLYPHS
