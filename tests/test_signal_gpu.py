"""What the GPU signal makes of polls: one reading a tick, and a verdict that never takes unknown for idle."""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from idlewatch.errors import SignalError
from idlewatch.gpu.floor import PowerFloor
from idlewatch.gpu.line import GpuPoll, Poll
from idlewatch.gpu.reader import GpuReader
from idlewatch.model import Activity, Finding, Reading, Signal
from idlewatch.signals.gpu import GpuSignal
from tests.gpu_polls import IDLE_W, FakeReader, Pod, failed, gpu, poll
from tests.nvml_stub import NvmlScript, build, child_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACTIVE, QUIET, UNKNOWN, ABSENT = Activity.ACTIVE, Activity.QUIET, Activity.UNKNOWN, Activity.ABSENT
STANDS_ASIDE = "I will not stop this Pod on GPU evidence"
PATIENCE_S = 30.0


def with_gpu(folder: Path) -> Path:
    """A /dev with a GPU."""
    (folder / "nvidia0").touch()
    return folder


def test_it_is_a_signal() -> None:
    signal: Signal = Pod().signal
    assert signal.name == "gpu"


def test_judging_alone_needs_no_reader_and_starts_none() -> None:
    signal = GpuSignal()
    recorded = Reading(signal="gpu", at_s=5, facts={"gpus": [{"uuid": "GPU-0", "util_max_pct": 87}]})
    assert signal.judge(recorded).activity is ACTIVE
    signal.close()


def test_closing_closes_the_reader() -> None:
    pod = Pod()
    pod.signal.close()
    assert pod.reader.closed


# --- one reading of a tick's polls


def test_the_facts_of_one_poll() -> None:
    pod = Pod(gpu_count=2)
    lacking: dict[str, Any] = {"unsupported": ("ofa",), "not_readable": {"ofa": "Not Supported"}}
    pod.read(poll(5, gpu(energy_total_mj=1000), gpu("GPU-1")))
    reading = pod.read(
        poll(10, gpu(energy_total_mj=601_000, util_max_pct=87, util_mean_pct=41.5, **lacking), gpu("GPU-1"))
    )
    assert (reading.signal, reading.at_s, reading.covers_s, reading.error) == ("gpu", 10, 5.0, None)
    gpus: Any = reading.facts["gpus"]
    assert gpus[0] == {
        "index": 0,
        "uuid": "GPU-0",
        "name": "H100",
        "kind": "nvidia",
        "mig": False,
        "virtual": None,
        "instances": [],
        "instant": False,
        "ring_span_s": 16.5,
        "ring_period_s": 0.1667,
        "power_limit_w": 700.0,
        "mem_total_mib": 81920,
        "not_readable": {"ofa": "Not Supported"},
        "util_max_pct": 87,
        "util_second_pct": 0,
        "util_mean_pct": 41.5,
        "samples": 30,
        "covered_s": 5.0,
        "engines_max_pct": {"encoder": 0, "decoder": 0},
        "energy_mj": 600_000,
        "energy_span_s": 5.0,
        "power_mean_w": 120.0,
        "mem_used_mib": 16000,
        "processes": 1,
        "unsupported": ["ofa"],
        "error": None,
    }
    assert (gpus[1]["uuid"], gpus[1]["energy_mj"], gpus[1]["power_mean_w"]) == ("GPU-1", None, None)
    assert (reading.facts["expected"], reading.facts["found"], reading.facts["found_error"]) == (2, 2, None)


def test_polls_of_one_tick_add_up() -> None:
    busy = gpu(util_max_pct=60, util_second_pct=50, util_mean_pct=20.0, samples=10)
    reading = Pod().read(
        poll(10, busy), poll(15, gpu(engines_max_pct={"encoder": 9}, samples=30)), poll(20, gpu(util_max_pct=3))
    )
    facts: Any = reading.facts["gpus"]
    (only,) = facts
    assert (only["util_max_pct"], only["util_second_pct"], only["samples"]) == (60, 50, 70)
    assert only["util_mean_pct"] == round(20 * 10 / 70, 2)
    assert only["engines_max_pct"] == {"encoder": 9, "decoder": 0}
    assert (reading.at_s, reading.covers_s) == (20, 15.0)


def test_a_lone_sample_in_each_of_two_polls_is_not_lone() -> None:
    facts: Any = Pod().read(poll(10, gpu(util_max_pct=60)), poll(15, gpu(util_max_pct=50))).facts["gpus"]
    assert facts[0]["util_second_pct"] == 50


def test_only_the_newest_span_without_a_hole_is_covered() -> None:
    reading = Pod().read(poll(10, gpu()), poll(15, gpu()), poll(40, gpu()), poll(45, gpu()))
    assert (reading.at_s, reading.covers_s) == (45, 10.0)


def test_a_late_poll_covers_what_the_ring_held() -> None:
    assert Pod().read(poll(10, gpu()), poll(30, gpu(covered_s=15.0))).covers_s == 15.0


def test_a_poll_that_failed_is_no_hole_where_the_next_one_had_its_samples() -> None:
    assert Pod().read(poll(10, gpu()), poll(15, failed()), poll(20, gpu(covered_s=10.0))).covers_s == 15.0
    assert Pod().read(poll(10, gpu()), poll(15, failed()), poll(20, gpu(covered_s=5.0))).covers_s == 5.0


def test_the_gpu_that_was_seen_least_tells_what_was_covered() -> None:
    reading = Pod(gpu_count=2).read(
        poll(10, gpu(), failed("GPU-1")), poll(15, gpu(), gpu("GPU-1", covered_s=4.0)), poll(20, gpu(), gpu("GPU-1"))
    )
    assert reading.covers_s == 9.0


def test_without_a_new_poll_the_reading_is_repeated_and_so_is_its_finding() -> None:
    pod = Pod()
    reading = pod.read(poll(10, gpu(util_max_pct=87)))
    finding = pod.signal.judge(reading)
    again = pod.read(now_s=13.0)
    assert again == reading
    assert pod.signal.judge(again) == finding


def test_an_energy_counter_that_went_back_is_unknown() -> None:
    pod = Pod()
    pod.read(poll(5, gpu(energy_total_mj=900_000)))
    back: Any = pod.read(poll(10, gpu(energy_total_mj=1000))).facts["gpus"]
    assert (back[0]["energy_mj"], back[0]["energy_span_s"], back[0]["power_mean_w"]) == (None, None, None)
    on: Any = pod.read(poll(15, gpu(energy_total_mj=601_000))).facts["gpus"]
    assert on[0]["power_mean_w"] == 120.0


def test_the_energy_counter_bridges_a_reader_that_was_away() -> None:
    pod = Pod()
    pod.read(poll(5, gpu(energy_total_mj=0)))
    pod.read(error="GPU reader crashed: SIGSEGV", now_s=10)
    facts: Any = pod.read(poll(105, gpu(energy_total_mj=12_000_000))).facts["gpus"]
    assert (facts[0]["energy_span_s"], facts[0]["power_mean_w"], facts[0]["covered_s"]) == (100.0, 120.0, 5.0)


def test_the_facts_survive_a_file() -> None:
    facts = Pod().read(poll(10, gpu(util_max_pct=87, unsupported=("jpeg",)))).facts
    assert json.loads(json.dumps(facts)) == facts


# --- unknown is never idle


@pytest.mark.parametrize(
    "error",
    [
        "GPU reader hung: no line for 16 s",
        "GPU reader crashed: SIGSEGV; starts again in 1 s",
        "NVML can't be opened: NVML Shared Library Not Found",
        "GPU reader is starting: no line yet",
    ],
)
def test_an_error_of_the_reader_is_unknown_with_its_words(tmp_path: Path, error: str) -> None:
    finding = Pod(device_dir=with_gpu(tmp_path)).see(error=error, now_s=20.0)
    assert (finding.activity, finding.reason) == (UNKNOWN, error)
    assert (finding.seen_from_s, finding.seen_to_s, finding.evidence_s) == (0.0, 0.0, None)


def test_an_error_does_not_hide_what_was_seen_before_it() -> None:
    pod = Pod()
    seen = pod.see(poll(10, gpu(util_max_pct=87)), error="GPU reader crashed: SIGSEGV")
    assert seen.activity is ACTIVE
    assert pod.see(error="GPU reader crashed: SIGSEGV", now_s=15).activity is UNKNOWN


def test_an_error_is_not_covered_by_an_older_quiet_reading() -> None:
    pod = Pod()
    assert pod.see(poll(10, gpu())).activity is QUIET
    assert pod.see(error="GPU reader hung: no line for 16 s", now_s=26).activity is UNKNOWN


def test_before_anything_was_said_it_is_unknown() -> None:
    assert Pod().see(now_s=3).activity is UNKNOWN


def test_polls_just_after_the_opening_do_not_count_either_way() -> None:
    pod = Pod()
    waking = poll(10, gpu(util_max_pct=100), settles_in_s=20.0)
    finding = pod.see(waking)
    assert (finding.activity, finding.reason) == (UNKNOWN, "NVML was just opened: readings count in 20 s")
    assert pod.see(now_s=12).activity is UNKNOWN
    assert pod.see(poll(30, gpu())).activity is QUIET


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (failed(), "gpu0 utilization: GPU is lost"),
        (gpu(error="encoder: Unknown Error"), "gpu0 encoder: Unknown Error"),
        (gpu(util_max_pct=None), "gpu0 has no utilization reading"),
        (
            gpu(util_max_pct=None, unsupported=("utilization",)),
            f"gpu0 utilization can't be read: not supported or not permitted here; {STANDS_ASIDE}",
        ),
        (
            gpu(util_max_pct=None, unsupported=("utilization",), mig=True),
            f"gpu0 MIG: how busy its instances are is not told; {STANDS_ASIDE}",
        ),
    ],
)
def test_a_gpu_that_cannot_be_read_is_unknown(seen: GpuPoll, reason: str) -> None:
    finding = Pod().see(poll(10, seen))
    assert (finding.activity, finding.reason, finding.evidence_s) == (UNKNOWN, reason, None)
    assert finding.seen_to_s == finding.seen_from_s == 0.0


def test_one_unreadable_gpu_makes_the_pod_unknown_unless_another_works() -> None:
    pod = Pod(gpu_count=2)
    assert pod.see(poll(10, gpu(), failed("GPU-1"))).activity is UNKNOWN
    working = pod.see(poll(15, gpu(util_max_pct=87), failed("GPU-1")))
    assert (working.activity, working.reason) == (ACTIVE, "gpu0 utilization 87 % > 5 %")


def test_an_error_beside_a_busy_instant_reading_is_active() -> None:
    assert Pod().see(poll(10, gpu(util_max_pct=40, error="utilization: Unknown Error"))).activity is ACTIVE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"found": 1}, "only 1 of 2 GPUs found"),
        ({"found": 0}, "the driver lists no GPU of 2 expected"),
        ({"found": None, "found_error": "Unknown Error"}, "GPUs can't be counted: Unknown Error"),
    ],
)
def test_a_gpu_that_is_missed_is_unknown(changes: dict[str, Any], reason: str) -> None:
    pod = Pod(gpu_count=2)
    assert pod.see(poll(5, gpu(), gpu("GPU-1"))).activity is QUIET
    finding = pod.see(poll(10, gpu(), gpu("GPU-1"), **changes))
    assert (finding.activity, finding.reason) == (UNKNOWN, reason)


def test_fewer_gpus_than_the_pod_was_rented_with_is_unknown_from_the_start() -> None:
    finding = Pod(gpu_count=2).see(poll(10, gpu()))
    assert (finding.activity, finding.reason) == (UNKNOWN, "only 1 of 2 GPUs found")


def test_without_the_variable_the_most_that_were_ever_listed_are_expected(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    pod = Pod(gpu_count=None, device_dir=tmp_path)
    assert pod.see(poll(10, gpu(), gpu("GPU-1"))).activity is QUIET
    finding = pod.see(poll(60, gpu()))  # a fresh reader, that found one
    assert (finding.activity, finding.reason) == (UNKNOWN, "only 1 of 2 GPUs found: gpu1 H100 is gone")


def test_devices_without_any_listed_gpu_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    finding = Pod(gpu_count=None, device_dir=tmp_path).see(poll(10))
    assert (finding.activity, finding.reason) == (UNKNOWN, "the driver lists no GPU of 1 expected")


def test_a_gpu_that_is_not_in_the_newest_poll_is_unknown() -> None:
    finding = Pod(gpu_count=2).see(poll(10, gpu(), gpu("GPU-1")), poll(15, gpu(), found=2))
    assert (finding.activity, finding.reason) == (UNKNOWN, "gpu1 not in the newest reading")


# --- the proof that there is none


def test_a_count_of_zero_proves_absence_and_starts_nothing() -> None:
    pod = Pod(gpu_count=0)
    finding = pod.see(poll(10, gpu(util_max_pct=87)))
    assert (finding.activity, finding.reason) == (ABSENT, "RUNPOD_GPU_COUNT=0")
    assert pod.reader.next.polls


def test_no_device_file_proves_absence_without_the_variable(tmp_path: Path) -> None:
    (tmp_path / "null").touch()
    finding = Pod(gpu_count=None, device_dir=tmp_path).see(now_s=5)
    assert (finding.activity, finding.reason) == (ABSENT, f"no {tmp_path}/nvidia* and no {tmp_path}/kfd")


@pytest.mark.parametrize("device", ["nvidia0", "nvidiactl", "kfd"])
def test_a_device_file_without_nvml_is_unknown(tmp_path: Path, device: str) -> None:
    (tmp_path / device).touch()
    finding = Pod(gpu_count=None, device_dir=tmp_path).see(error="NVML can't be opened", now_s=5)
    assert finding.activity is UNKNOWN


def test_devices_that_vanish_prove_nothing(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    pod = Pod(gpu_count=None, device_dir=tmp_path)
    pod.see(poll(10, gpu()))
    (tmp_path / "nvidia0").unlink()
    assert pod.see(error="NVML can't be opened: Unknown Error", now_s=20).activity is UNKNOWN


def test_a_device_folder_that_cannot_be_listed_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="can't be listed"):
        Pod(gpu_count=None, device_dir=tmp_path / "none").see(now_s=5)


# --- what is activity


@pytest.mark.parametrize(("pct", "activity"), [(0, QUIET), (5, QUIET), (6, ACTIVE), (100, ACTIVE)])
def test_the_highest_sample_decides(pct: int, activity: Activity) -> None:
    assert Pod().see(poll(10, gpu(util_max_pct=pct, util_mean_pct=0.1))).activity is activity


def test_the_limit_is_a_setting() -> None:
    assert Pod(active_above_pct=10.0).see(poll(10, gpu(util_max_pct=8))).activity is QUIET


def test_a_busy_finding_has_its_instant_and_its_span() -> None:
    finding = Pod().see(poll(10, gpu(util_max_pct=87)))
    assert finding == Finding(
        signal="gpu",
        activity=ACTIVE,
        reason="gpu0 utilization 87 % > 5 %",
        seen_from_s=5.0,
        seen_to_s=10.0,
        evidence_s=10.0,
    )


def test_one_of_eight_is_enough() -> None:
    gpus = [gpu(f"GPU-{number}", util_max_pct=6 if number == 7 else 0) for number in range(8)]
    finding = Pod(gpu_count=8).see(poll(10, *gpus))
    assert (finding.activity, finding.reason) == (ACTIVE, "gpu7 utilization 6 % > 5 %")


@pytest.mark.parametrize("engine", ["encoder", "decoder", "jpeg", "ofa"])
def test_an_engine_is_work_of_its_own(engine: str) -> None:
    finding = Pod().see(poll(10, gpu(engines_max_pct={engine: 12})))
    assert (finding.activity, finding.reason) == (ACTIVE, f"gpu0 {engine} 12 % > 5 %")


def test_a_quiet_finding_tells_how_long_ago_the_last_busy_reading_was() -> None:
    pod = Pod(gpu_count=2)
    assert pod.see(poll(5, gpu(), gpu("GPU-1"))).reason == "2 GPUs at 0 % <= 5 %, no busy reading yet"
    pod.see(poll(10, gpu(util_max_pct=87), gpu("GPU-1")))
    assert pod.see(poll(70, gpu(), gpu("GPU-1"))).reason == "2 GPUs at 0 % <= 5 %, last busy reading 60 s ago"
    finding = pod.see(poll(10 + 31 * 60, gpu(), gpu("GPU-1", util_max_pct=3)))
    assert finding.reason == "2 GPUs at 3 % <= 5 %, last busy reading 31 min ago"
    assert (finding.evidence_s, finding.pauses, finding.bars) == (None, False, False)
    assert (finding.seen_from_s, finding.seen_to_s) == (1865.0, 1870.0)


def test_memory_that_grows_is_a_model_being_loaded() -> None:
    pod = Pod()
    pod.see(poll(5, gpu(mem_used_mib=600)))
    assert pod.see(poll(10, gpu(mem_used_mib=800))).activity is QUIET
    finding = pod.see(poll(15, gpu(mem_used_mib=1400)))
    assert (finding.activity, finding.reason) == (ACTIVE, "gpu0 memory grew by 800 MiB > 200 MiB")
    assert pod.see(poll(20, gpu(mem_used_mib=1400))).activity is QUIET
    assert pod.see(poll(25, gpu(mem_used_mib=3))).activity is QUIET


def test_memory_that_grows_slowly_is_one_too() -> None:
    pod = Pod()
    found = [pod.see(poll(at_s, gpu(mem_used_mib=16000 + at_s))).activity for at_s in range(5, 605, 5)]
    assert found.count(ACTIVE) == 2


def test_memory_that_was_unknown_in_between_is_no_growth_and_hides_none() -> None:
    pod = Pod()
    pod.see(poll(5, gpu(mem_used_mib=600)))
    assert pod.see(poll(10, gpu(mem_used_mib=None))).activity is QUIET
    assert pod.see(poll(15, gpu(mem_used_mib=9000))).activity is ACTIVE


def test_memory_growth_counts_where_utilization_cannot_be_read() -> None:
    pod = Pod()
    mig: dict[str, Any] = {"util_max_pct": None, "unsupported": ("utilization",), "mig": True, "covered_s": 0.0}
    assert pod.see(poll(5, gpu(mem_used_mib=600, **mig))).activity is UNKNOWN
    assert pod.see(poll(10, gpu(mem_used_mib=9000, **mig))).activity is ACTIVE


# --- a lone sample


EMPTY: dict[str, Any] = {"mem_used_mib": 3, "processes": 0}


def lone(pod: Pod, **changes: Any) -> Finding:
    watts = changes.pop("watts", 72.0)
    return pod.draws(105, watts, **{**EMPTY, "util_max_pct": 93, "util_second_pct": 0, **changes})


def test_a_lone_sample_without_memory_or_power_pauses_and_never_clears() -> None:
    pod = Pod()
    pod.settle(watts=70.0, **EMPTY)
    finding = lone(pod)
    assert (finding.activity, finding.pauses, finding.evidence_s) == (QUIET, True, None)
    assert finding.reason.startswith("gpu0 one sample of 93 % > 5 % with 3 MiB < 200 MiB in use and 72 W <= 76 W")
    assert pod.draws(110, 70.0, **EMPTY).pauses is False


@pytest.mark.parametrize(
    "changes",
    [
        {"util_second_pct": 6},
        {"util_second_pct": None},
        {"mem_used_mib": 200},
        {"mem_used_mib": None},
        {"processes": 1},
        {"watts": 80.0},
        {"engines_max_pct": {"encoder": 30}},
    ],
)
def test_a_lone_sample_with_anything_beside_it_or_anything_unknown_counts(changes: dict[str, Any]) -> None:
    pod = Pod()
    pod.settle(watts=70.0, **EMPTY)
    assert lone(pod, **changes).activity is ACTIVE


def test_a_lone_sample_where_a_process_holds_a_small_context_counts() -> None:
    pod = Pod()
    small: dict[str, Any] = {"mem_used_mib": 150, "processes": 1}
    pod.settle(watts=70.0, **small)
    assert lone(pod, **small).activity is ACTIVE


def test_a_lone_sample_before_the_floor_is_known_counts() -> None:
    assert lone(Pod()).activity is ACTIVE


def test_a_lone_sample_on_an_unreadable_gpu_is_unknown() -> None:
    pod = Pod()
    pod.settle(watts=70.0, **EMPTY)
    assert lone(pod, error="encoder: Unknown Error").activity is UNKNOWN


# --- energy


def test_energy_has_no_vote_where_the_samples_cover_the_time() -> None:
    pod = Pod()
    pod.settle()
    assert pod.draws(105, 400.0).activity is QUIET


def test_energy_votes_over_time_without_samples() -> None:
    pod = Pod()
    pod.settle()
    finding = pod.draws(150, 150.0, span_s=50, covered_s=15.0)
    assert (finding.activity, finding.evidence_s) == (ACTIVE, 150)
    assert finding.reason == "gpu0 drew 150 W > 126 W in 50 s, 35 s of them without samples"


@pytest.mark.parametrize(("watts", "activity"), [(119.0, QUIET), (125.9, QUIET), (126.5, ACTIVE)])
def test_the_margin_is_the_larger_of_6_w_and_5_percent(watts: float, activity: Activity) -> None:
    pod = Pod()
    pod.settle()
    assert pod.draws(150, watts, span_s=50, covered_s=15.0).activity is activity
    hot = Pod()
    hot.settle(watts=300.0)
    assert hot.draws(150, 314.0, span_s=50, covered_s=15.0).activity is QUIET
    assert hot.draws(200, 316.0, span_s=50, covered_s=15.0).activity is ACTIVE


def test_energy_votes_beside_an_error_too() -> None:
    pod = Pod()
    pod.settle()
    broken: dict[str, Any] = {"util_max_pct": None, "covered_s": 0.0, "error": "utilization: Unknown Error"}
    assert pod.draws(105, 121.0, **broken).activity is UNKNOWN
    assert pod.draws(110, 180.0, **broken).activity is ACTIVE


def test_energy_has_no_vote_before_a_floor_is_known() -> None:
    pod = Pod()
    for at_s in range(5, 60, 5):
        pod.draws(at_s, IDLE_W)
    assert pod.draws(100, 400.0, span_s=45, covered_s=15.0).activity is QUIET


def test_energy_has_no_vote_in_the_first_minute_after_activity() -> None:
    pod = Pod()
    pod.settle()
    assert pod.draws(105, 300.0, util_max_pct=100).activity is ACTIVE
    assert pod.draws(155, 150.0, span_s=50, covered_s=15.0).activity is QUIET
    assert pod.draws(205, 150.0, span_s=50, covered_s=15.0).activity is ACTIVE


def test_a_context_alone_is_no_activity_for_ever() -> None:
    """A bare context adds 50 W: the floor of before it must not make every later gap look like work."""
    pod = Pod()
    pod.settle(watts=70.0, **EMPTY)
    loaded: dict[str, Any] = {"mem_used_mib": 190, "processes": 1}
    assert pod.draws(105, 120.0, **loaded).activity is QUIET
    assert pod.draws(155, 120.0, span_s=50, covered_s=15.0, **loaded).activity is QUIET


def test_energy_votes_where_utilization_cannot_be_read() -> None:
    pod = Pod()
    vgpu: dict[str, Any] = {"util_max_pct": None, "unsupported": ("utilization",), "virtual": "vGPU", "covered_s": 0.0}
    for at_s in range(5, 105, 5):
        assert pod.draws(at_s, IDLE_W, **vgpu).activity is UNKNOWN
    finding = pod.draws(105, 180.0, **vgpu)
    assert (finding.activity, finding.evidence_s) == (ACTIVE, 105)


def test_energy_has_no_vote_with_mig_because_others_may_have_drawn_it() -> None:
    pod = Pod()
    mig: dict[str, Any] = {"util_max_pct": None, "unsupported": ("utilization",), "mig": True, "covered_s": 0.0}
    for at_s in range(5, 105, 5):
        pod.draws(at_s, IDLE_W, **mig)
    assert pod.draws(105, 180.0, **mig).activity is UNKNOWN


def test_the_floor_is_the_lowest_minute_of_the_last_15() -> None:
    floor = PowerFloor()
    for at_s in range(5, 60, 5):
        floor.note(at_s, 5, 100)
    assert floor.floor_w() is None
    for at_s in range(60, 300, 5):
        floor.note(at_s, 5, 100 if at_s < 200 else 130)
    assert floor.floor_w() == pytest.approx(100)
    for at_s in range(300, 1200, 5):
        floor.note(at_s, 5, 130)
    assert floor.floor_w() == pytest.approx(130)
    floor.forget()
    assert floor.limit_w() is None


def test_the_floor_needs_its_minute_in_one_piece() -> None:
    floor = PowerFloor()
    for at_s in range(10, 400, 10):
        floor.note(at_s, 5, 100)
    assert floor.floor_w() is None


def test_short_readings_add_up_to_the_same_floor() -> None:
    floor = PowerFloor()
    for number in range(1, 601):
        floor.note(number / 5, 0.2, 100 if number % 2 else 110)
    assert floor.floor_w() == pytest.approx(105, abs=0.2)


# --- the same readings give the same findings


def walk(seed: int) -> list[Poll]:
    """Polls of two GPUs with everything that may happen, made of a seed."""
    draw = random.Random(seed)
    joules, mib, polls = 0.0, 600, []
    for at_s in itertools.accumulate(draw.choice([5, 5, 5, 5, 40]) for _ in range(200)):
        joules += draw.choice([120, 121, 180]) * 5
        mib += draw.choice([0] * 20 + [500])
        busy = draw.choice([0] * 15 + [93])
        one = gpu(util_max_pct=busy, util_second_pct=draw.choice([0, busy]), energy_total_mj=int(joules * 1000))
        polls.append(poll(at_s, one, draw.choice([gpu("GPU-1", mem_used_mib=mib)] * 9 + [failed("GPU-1")])))
    return polls


@pytest.mark.parametrize("seed", range(5))
def test_recorded_readings_are_judged_as_they_were(seed: int) -> None:
    """Through a file, on another signal, and with each reading repeated: the verdicts are the same."""
    pod, replayed = Pod(gpu_count=2), GpuSignal(reader=FakeReader(), gpu_count=None)
    for one in walk(seed):
        reading = pod.read(one)
        finding = pod.signal.judge(reading)
        recorded = Reading(
            signal="gpu", at_s=reading.at_s, covers_s=reading.covers_s, facts=json.loads(json.dumps(reading.facts))
        )
        assert replayed.judge(recorded) == finding
        assert replayed.judge(recorded) == finding


@pytest.mark.parametrize("seed", range(5))
def test_quiet_is_only_said_where_everything_was_read_and_at_rest(seed: int) -> None:
    pod = Pod(gpu_count=2)
    for one in walk(seed):
        finding = pod.see(one)
        at_rest = all(seen.error is None and (seen.util_max_pct or 0) <= 5 for seen in one.gpus)
        if finding.activity is QUIET and not finding.pauses:
            assert at_rest
        if any((seen.util_second_pct or 0) > 5 for seen in one.gpus):
            assert finding.activity is ACTIVE


# --- the whole of it: signal, reader, child, pynvml, stub


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script", gpus=2)


@pytest.fixture
def whole(library: Path, script: NvmlScript) -> Iterator[Callable[[Activity, str], Finding]]:
    """Reads and judges until a finding of that activity, with these words, comes; says what came instead."""
    reader = GpuReader(argv=child_argv(library, script, poll_s=0.1), poll_s=0.1, grace_s=0.5)
    signal = GpuSignal(reader=reader, gpu_count=2)
    seen: list[Finding] = []

    def until(activity: Activity, words: str) -> Finding:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            seen.append(signal.judge(signal.read(time.clock_gettime(time.CLOCK_BOOTTIME))))
            if seen[-1].activity is activity and words in seen[-1].reason:
                return seen[-1]
            time.sleep(0.02)
        raise AssertionError(seen[-5:])

    yield until
    signal.close()


@pytest.mark.slow
def test_from_idle_to_work_and_back(whole: Callable[[Activity, str], Finding], script: NvmlScript) -> None:
    whole(UNKNOWN, "NVML was just opened")
    quiet = whole(QUIET, "2 GPUs at 0 % <= 5 %")
    assert 0 < quiet.seen_to_s - quiet.seen_from_s <= 15
    script.works(1)
    active = whole(ACTIVE, "gpu1 utilization 87 % > 5 %")
    assert active.evidence_s == active.seen_to_s
    script.rests(1)
    whole(QUIET, "last busy reading")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda script: script.segv("util_samples", 1), "GPU reader crashed: SIGSEGV"),
        (lambda script: script.exit("count", 9), "GPU reader ended: exit code 9"),
        (lambda script: script.stall("util_samples", 600), "GPU reader hung: no line for"),
        (lambda script: script.error("*", 15, 1), "GPU is lost"),
        (lambda script: script.error("*", 999, 0), "Unknown Error"),
        (lambda script: script.error("util_samples", 18, 0), "NVML/RM version mismatch"),
        (lambda script: script.count(1), "only 1 of 2 GPUs found"),
        (lambda script: script.error("count", 999), "GPUs can't be counted: Unknown Error"),
        (lambda script: script.mig(0), "gpu0 MIG: none of its instances can be seen from here"),
    ],
    ids=["crash", "exit", "hang", "lost", "unknown", "mismatch", "fewer", "uncounted", "mig"],
)
def test_no_fault_reads_as_idle_and_all_pass(
    whole: Callable[[Activity, str], Finding],
    script: NvmlScript,
    fault: Callable[[NvmlScript], None],
    words: str,
) -> None:
    whole(QUIET, "2 GPUs at 0 %")
    fault(script)
    whole(UNKNOWN, words)
    script.reset(gpus=2)
    whole(QUIET, "2 GPUs at 0 %")


@pytest.mark.slow
def test_a_fresh_reader_names_the_gpu_that_is_gone(
    whole: Callable[[Activity, str], Finding], script: NvmlScript
) -> None:
    """The first of two falls off; the driver's index 0 is then the second, and is called by its name of before."""
    whole(QUIET, "2 GPUs at 0 %")
    script.gone(0)
    whole(UNKNOWN, "only 1 of 2 GPUs found")
    script.exit("util_samples", 9)
    whole(UNKNOWN, "exit code 9")
    script.exit("util_samples", 0)
    whole(UNKNOWN, "only 1 of 2 GPUs found: gpu0 Stub GPU is gone")
    script.util(1, 60)
    whole(ACTIVE, "gpu1 utilization 60 % > 5 %")


@pytest.mark.slow
def test_a_library_that_is_not_there_is_unknown(tmp_path: Path, script: NvmlScript) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    reader = GpuReader(argv=child_argv(tmp_path, script, poll_s=0.1), poll_s=0.1)
    signal = GpuSignal(reader=reader, gpu_count=1)
    end_s, now_s, finding = time.monotonic() + PATIENCE_S, 100.0, None
    while time.monotonic() < end_s:
        finding = signal.judge(signal.read(now_s))
        assert finding.activity is UNKNOWN
        if "NVML Shared Library Not Found" in finding.reason:
            break
        time.sleep(0.02)
    signal.close()
    assert finding is not None
    assert finding.reason.startswith("NVML can't be opened: NVML Shared Library Not Found")
