"""The GPU benchmarks: their series have the measured shapes, and what they claim holds on a short one."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from benchmarks import gpu_series
from benchmarks.gpu_cost import Cost, built
from benchmarks.gpu_fidelity import (
    POLL_S,
    IdleRow,
    Share,
    WorkRow,
    alike,
    called,
    falsely,
    found_by_instant,
    polled,
    show,
    tapped,
)
from benchmarks.gpu_replay import RING, UTILIZATION, SteppedReader, replayed
from benchmarks.gpu_series import DATA, PERIOD_S, Sample, Series
from tests.nvml_stub import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.gpu_replay import Seen

MAKERS = [
    gpu_series.offload_training,
    gpu_series.server_bursts,
    gpu_series.short_kernels,
    gpu_series.streaming,
    gpu_series.idle_h100,
    gpu_series.woken_h100,
    gpu_series.cooling_card,
]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def replay(stub: Path, tmp_path: Path) -> Callable[..., list[Seen]]:
    def replay(series: Series, steps: list[tuple[float, float]], without: tuple[str, ...] = ()) -> list[Seen]:
        return replayed(stub, tmp_path / "script", series, steps, without=without)

    return replay


def own_samples(series: Series) -> list[Sample]:
    """Without what is held before the beginning."""
    return series.between(0, series.ends_s)


# --- series


@pytest.mark.parametrize("make", MAKERS)
def test_a_series_is_what_its_seed_makes_it(make: Callable[[int, float], Series]) -> None:
    series = make(3, 4)
    assert own_samples(series) == own_samples(make(3, 4))
    assert own_samples(series) != own_samples(make(4, 4))
    assert [sample.at_s for sample in own_samples(series)] == [round(PERIOD_S * k, 6) for k in range(1, 1201)]
    assert all(0 <= sample.pct <= 100 for sample in series.samples)


@pytest.mark.parametrize("seed", [1, 2])
def test_offload_training_reads_zero_in_83_percent_with_gaps_to_3_s(seed: int) -> None:
    samples = own_samples(gpu_series.offload_training(seed))
    gaps = [len(list(run)) for idle, run in groupby(samples, lambda sample: sample.pct == 0) if idle]
    assert sum(gaps) / len(samples) == pytest.approx(0.83, abs=0.015)
    assert max(gaps) * PERIOD_S == pytest.approx(3.0, abs=0.2)
    assert sum(sample.watts or 0 for sample in samples) / len(samples) == pytest.approx(187, abs=10)


def test_a_sample_is_the_share_of_its_period_that_kernels_fill() -> None:
    series = gpu_series.short_kernels(1, 10)
    busy = [sample.pct for sample in own_samples(series) if sample.pct]
    assert 10 < len(busy) < 120
    assert max(busy) <= 30


def test_a_short_series_is_held_before_and_after() -> None:
    series = Series("short", [Sample(0.0, 7, 100.0), Sample(0.5, 50, 200.0), Sample(1.0, 0, 100.0)])
    assert (series.newest(-30).pct, series.newest(0.6).pct, series.newest(30).pct) == (7, 50, 0)
    assert series.ends_s == gpu_series.SHORTEST_S
    assert [sample.at_s for sample in series.between(0.0, 1.0)] == [0.5, 1.0]
    assert series.joules(1.0) - series.joules(0.0) == pytest.approx(150)


def test_work_is_a_sample_above_5_percent_unless_nothing_runs() -> None:
    samples = [Sample(0.0, 0), Sample(1.0, 5), Sample(2.0, 6), Sample(3.0, 0)]
    series = Series("edge", samples)
    assert [series.works(from_s, from_s + 1.0) for from_s in (0.0, 1.0, 2.0)] == [False, True, False]
    assert not Series("woken", samples, nothing_runs=True).works(0, 3)


@pytest.mark.slow
def test_the_recordings_are_there_with_their_notice() -> None:
    notice = (DATA / "NOTICE.md").read_text()
    assert [len(gpu_series.read_trace(DATA / f"{name}.csv.gz")) for name in gpu_series.TRACES] == [1, 1, 1, 8, 1]
    packed = {path.name for path in DATA.glob("*.gz")}
    assert packed >= {f"{name}.csv.gz" for name in gpu_series.TRACES}
    told = {path.partition(".")[0] for path in packed}
    assert [name for name in told if name not in notice and f"_{name.rpartition('_')[2]}" not in notice] == []
    assert all(name in notice for name in ("devyoongu/Qwen3-ASR", "karpathy/nanoGPT", "AndyZzzZzzZzz/miris"))
    assert sum(path.stat().st_size for path in DATA.glob("*.gz")) < 1_000_000


def test_instant_readings_miss_the_more_the_rarer_they_are() -> None:
    series = gpu_series.offload_training(1, 10)
    found = [found_by_instant(series, every_s) for every_s in (5, 10, 30, 60)]
    assert [round(share.hit / share.of, 1) for share in found] == [0.9, 0.7, 0.3, 0.2]


# --- counting


def test_a_share_is_100_percent_only_where_it_is_all() -> None:
    assert [str(Share(hit, 10_000)) for hit in (0, 1, 9_999, 10_000)] == ["0 %", "0.1 %", "99.9 %", "100 %"]
    assert str(Share()) == "-"


def test_the_result_survives_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    work, idle = WorkRow("training", Share(3, 4)), IdleRow("at rest", Share(1, 9), reasons={"memory grew": 1})
    show([work], [idle], 18, 55.0, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["work"][0]["signal"], told["idle"][0]["reasons"]) == ({"hit": 3, "of": 4}, {"memory grew": 1})
    show([work], [idle], 18, 55.0, as_json=False)
    table = capsys.readouterr().out
    assert "75.0 %" in table
    assert "at rest: 1 times memory grew" in table


def test_readings_are_alike_within_a_rounding_only() -> None:
    assert alike({"gpus": [{"covered_s": 5.0, "util_max_pct": 7}]}, {"gpus": [{"covered_s": 5.001, "util_max_pct": 7}]})
    assert not alike({"gpus": [{"util_max_pct": 7}]}, {"gpus": [{"util_max_pct": 8}]})
    assert not alike({"covered_s": 5.0}, {"covered_s": 4.8})
    assert not alike([1], [1, 2])
    assert not alike({"a": None}, {"b": None})


def test_a_cost_says_whether_its_target_is_met() -> None:
    met, missed = Cost("reader", 2.5, at_most_pct=0.05), Cost("reader", 2.6, at_most_pct=0.05)
    assert met.core_pct == pytest.approx(0.05)
    assert ("met: at most 0.05 %" in str(met), "MISSED: at most 0.05 %" in str(missed)) == (True, True)
    assert "1.80" in str(met)  # seconds an hour


# --- through the stub


@pytest.mark.slow
@pytest.mark.parametrize("make", [gpu_series.offload_training, gpu_series.server_bursts, gpu_series.short_kernels])
def test_every_window_with_work_is_called_active(
    replay: Callable[..., list[Seen]], make: Callable[[int, float], Series]
) -> None:
    series = make(5, 5)
    share = called(series, replay(series, polled(series, 1.3)))
    assert share.of >= 30
    assert share.hit == share.of


@pytest.mark.slow
def test_without_the_ring_short_kernels_are_missed(replay: Callable[..., list[Seen]]) -> None:
    """The same count falls where there is something to miss: it can."""
    series = gpu_series.short_kernels(5, 5)
    share = called(series, replay(series, tapped(series, 0.0), RING))
    assert share.hit < share.of


@pytest.mark.slow
def test_an_idle_gpu_is_called_active_only_when_a_context_comes(replay: Callable[..., list[Seen]]) -> None:
    series = gpu_series.idle_h100(5, 6)
    reasons: dict[str, int] = {}
    share = falsely(series, replay(series, polled(series, 0.0)), POLL_S, reasons)
    assert (share.hit, share.of) == (1, 72)
    assert reasons == {"gpu0 memory grew by 527 MiB > 200 MiB": 1}


@pytest.mark.slow
def test_what_a_gpu_does_not_support_reaches_the_signal_as_such(replay: Callable[..., list[Seen]]) -> None:
    series = gpu_series.idle_h100(5, 2)
    seen = replay(series, polled(series, 0.0), UTILIZATION)
    assert "utilization can't be read" in seen[10].finding.reason


@pytest.mark.slow
def test_what_was_not_recorded_is_unknown_to_the_signal(replay: Callable[..., list[Seen]]) -> None:
    series = Series("utilization alone", [Sample(0.0, 0), Sample(1.0, 40), Sample(2.0, 0)])
    facts = str(replay(series, polled(series, 0.0))[-1].reading.facts)
    assert "'energy_mj': None" in facts
    assert "'mem_used_mib': None" in facts
    assert "'util_max_pct': 0," in facts


@pytest.mark.slow
def test_the_steady_library_answers_everything_that_the_reader_asks(tmp_path: Path) -> None:
    reader = SteppedReader(built(tmp_path), poll_s=5.0)
    for at_s in (0.0, 5.0):
        reader.step(at_s)
    polls = reader.take(5.0).polls
    reader.close()
    assert [len(poll.gpus) for poll in polls] == [8, 8]
    assert {(gpu.util_max_pct, gpu.samples, gpu.error) for gpu in polls[1].gpus} == {(29, 30, None)}
    assert {len(gpu.engines_max_pct) for gpu in polls[1].gpus} == {4}
    assert {gpu.mem_used_mib for gpu in polls[1].gpus} == {19 << 10}
    assert int((tmp_path / "calls").read_text()) > 8 * 10
