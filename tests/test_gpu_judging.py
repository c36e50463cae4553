"""What is said of GPUs beyond busy or not: that one may hang, which one is meant, and how far single looks reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from idlewatch.gpu.line import Instance
from idlewatch.gpu.numbers import Numbers
from idlewatch.model import Activity, Finding
from idlewatch.signals.gpu import GpuSignal
from tests.gpu_polls import IDLE_W, FakeReader, Pod, failed, gpu, poll

if TYPE_CHECKING:
    from pathlib import Path

ACTIVE, QUIET, UNKNOWN, ABSENT = Activity.ACTIVE, Activity.QUIET, Activity.UNKNOWN, Activity.ABSENT
FULL: dict[str, Any] = {"util_max_pct": 100, "util_second_pct": 100, "util_mean_pct": 100.0}
HALF_AN_HOUR_S = 1800


# ---------------------------------------------------------------- a suspicion


def works(pod: Pod, from_s: int, for_s: int, watts: float, **changes: Any) -> Finding:
    """The finding after `for_s` seconds of full utilization at that power; each on the way is ACTIVE, too."""
    finding = None
    for at_s in range(from_s, from_s + for_s + 1, 5):
        finding = pod.draws(at_s, watts, **{**FULL, **changes})
        assert finding.activity is ACTIVE
    assert finding is not None
    return finding


def idle_then(watts: float, for_s: int = 2400, idle_w: float = 69.0, **changes: Any) -> Finding:
    pod = Pod()
    pod.settle(watts=idle_w)
    return works(pod, 105, for_s, watts, **changes)


def test_full_utilization_at_idle_power_for_long_is_a_suspicion_and_stays_active() -> None:
    finding = idle_then(70.0)
    assert (finding.activity, finding.evidence_s, finding.pauses) == (ACTIVE, 2505, False)
    assert finding.reason == "gpu0 utilization 100 % > 5 %"
    assert finding.notice == (
        "gpu0 100 % busy at 70 W, near its idle power of 69 W, for 40 min with nothing changing: busy, but maybe hung"
    )


def test_before_half_an_hour_nothing_is_suspected() -> None:
    assert idle_then(70.0, HALF_AN_HOUR_S - 5).notice is None
    assert idle_then(70.0, HALF_AN_HOUR_S).notice is not None


def test_work_draws_power() -> None:
    assert idle_then(300.0).notice is None


@pytest.mark.parametrize("changes", [{"util_mean_pct": 97.0}, {"engines_max_pct": {"encoder": 3}}])
def test_a_gpu_that_does_anything_else_is_not_suspected(changes: dict[str, Any]) -> None:
    assert idle_then(70.0, **changes).notice is None


@pytest.mark.parametrize(
    "changes", [{"mem_used_mib": 16004}, {"processes": 2}, {"watts": 90.0}, {"util_mean_pct": 80.0}]
)
def test_one_change_begins_it_anew(changes: dict[str, Any]) -> None:
    pod = Pod()
    pod.settle(watts=85.0)
    works(pod, 105, HALF_AN_HOUR_S - 100, 80.0)
    changed = {**FULL, **changes}
    pod.draws(1810, changed.pop("watts", 80.0), **changed)
    assert works(pod, 1815, 600, 80.0).notice is None


def test_a_poll_that_failed_is_no_change() -> None:
    pod = Pod()
    pod.settle(watts=69.0)
    works(pod, 105, 1000, 70.0)
    broken: dict[str, Any] = {"util_max_pct": None, "util_mean_pct": None, "error": "utilization: Unknown Error"}
    assert pod.draws(1110, 70.0, **broken).activity is UNKNOWN
    assert works(pod, 1115, 1000, 70.0).notice is not None


def test_a_long_gap_may_hide_a_change() -> None:
    looked: dict[str, Any] = {**FULL, "power_w": 40.0, "power_limit_w": 300.0}

    def notice(from_s: int, to_s: int) -> str | None:
        return [pod.see(poll(at_s, gpu(**looked))).notice for at_s in range(from_s, to_s, 5)][-1]

    pod = Pod()
    assert notice(5, 1805) is None
    assert notice(1805, 2000) is not None
    assert notice(2100, 2200) is None


def test_a_context_whose_idle_power_was_never_seen_is_held_against_that_of_the_empty_gpu() -> None:
    pod = Pod()
    pod.settle(watts=69.0, mem_used_mib=3, processes=0)
    notice = works(pod, 105, 2400, 72.0, power_limit_w=None).notice
    assert notice is not None
    assert "72 W, near its idle power of 69 W" in notice


@pytest.mark.parametrize(("watts", "suspected"), [(45.0, True), (52.0, False)])
def test_without_any_idle_power_a_fifth_of_the_limit_is_near_idle(watts: float, *, suspected: bool) -> None:
    notice = works(Pod(), 5, 2400, watts, power_limit_w=250.0).notice
    assert (notice is not None) is suspected
    if notice:
        assert "100 % busy at 45 W, 18 % of the 250 W that it may draw, for 40 min" in notice


def test_without_anything_to_compare_with_nothing_is_suspected() -> None:
    assert works(Pod(), 5, 2400, 45.0, power_limit_w=None).notice is None


def test_the_gpus_that_may_hang_are_named() -> None:
    pod, finding = Pod(gpu_count=3), None
    hung: dict[str, Any] = {**FULL, "power_w": 40.0, "power_limit_w": 300.0}
    for at_s in range(5, 2000, 5):
        finding = pod.see(poll(at_s, gpu(), gpu("GPU-1", **hung), gpu("GPU-2", **hung)))
    assert finding is not None
    assert finding.notice is not None
    assert [part[:5] for part in finding.notice.split("; ")] == ["gpu1 ", "gpu2 "]


# ---------------------------------------------------------------- floors


EMPTY: dict[str, Any] = {"mem_used_mib": 3, "processes": 0}


def test_the_floor_of_the_empty_gpu_is_kept_while_something_holds_it() -> None:
    pod = Pod()
    pod.settle(watts=70.0, **EMPTY)
    for at_s in range(105, 305, 5):
        pod.draws(at_s, 120.0)
    assert pod.draws(355, 120.0, span_s=50, covered_s=15.0).activity is QUIET
    assert pod.draws(360, 70.0, **EMPTY).activity is QUIET
    finding = pod.draws(410, 90.0, span_s=50, covered_s=15.0, **EMPTY)
    assert finding.reason == "gpu0 drew 90 W > 76 W in 50 s, 35 s of them without samples"


def test_another_model_has_a_floor_of_its_own() -> None:
    pod = Pod()
    pod.settle(watts=120.0, mem_used_mib=16000)
    assert pod.draws(105, 150.0, mem_used_mib=40000).activity is ACTIVE  # it is loaded
    for at_s in range(110, 200, 5):
        assert pod.draws(at_s, 150.0, mem_used_mib=40000).activity is QUIET
    assert pod.draws(250, 150.0, span_s=50, covered_s=15.0, mem_used_mib=40000).activity is QUIET


def test_a_card_without_an_energy_counter_learns_its_floor_from_looks_and_gets_no_energy_vote() -> None:
    pod = Pod()
    for at_s in range(5, 105, 5):
        pod.see(poll(at_s, gpu(power_w=30.0, **EMPTY)))
    lone = pod.see(poll(105, gpu(power_w=31.0, **{**EMPTY, "util_max_pct": 93})))
    assert (lone.activity, lone.pauses) == (QUIET, True)
    assert pod.see(poll(160, gpu(power_w=200.0, covered_s=15.0, **EMPTY))).activity is QUIET


def test_each_gpu_is_shown_with_its_own_verdict_floor_and_limit() -> None:
    pod = Pod(gpu_count=2)
    for at_s in range(5, 105, 5):
        pod.see(poll(at_s, gpu(energy_total_mj=int(at_s * IDLE_W * 1000)), gpu("GPU-1")))
    pod.see(poll(105, gpu(util_max_pct=40, energy_total_mj=int(105 * IDLE_W * 1000)), failed("GPU-1")))
    zero, one = pod.signal.looks
    assert (zero.label, zero.activity, zero.reason) == ("gpu0", ACTIVE, "utilization 40 % > 5 %")
    assert zero.idle_w == pytest.approx(120)
    assert zero.limit_w == pytest.approx(126)
    assert (one.label, one.activity, one.reason, one.idle_w) == ("gpu1", UNKNOWN, "utilization: GPU is lost", None)


# ---------------------------------------------------------------- single looks, MIG's means


@pytest.mark.parametrize(("pct", "activity"), [(3, QUIET), (4, ACTIVE)])
def test_single_looks_are_taken_carefully(pct: int, activity: Activity) -> None:
    finding = Pod().see(poll(10, gpu(instant=True, kind="amd", util_max_pct=pct)))
    assert finding.activity is activity
    if activity is QUIET:
        assert finding.reason == "1 GPU at 3 % <= 3 %, by one look a second, no busy reading yet"


def counted(pct: float | None) -> dict[str, Any]:
    part = Instance(uuid="MIG-12345678-9abc", mem_used_mib=300, util_mean_pct=pct)
    return {"mig": True, "util_max_pct": None, "util_mean_pct": None, "samples": 0, "instances": (part,)}


def test_an_instance_that_worked_a_little_is_active() -> None:
    finding = Pod().see(poll(10, gpu(**counted(4.0))))
    assert (finding.activity, finding.reason) == (ACTIVE, "gpu0 MIG-12345678 worked 4.0 % of the time > 1 %")


def test_instances_that_are_counted_and_rest_are_quiet() -> None:
    finding = Pod().see(poll(10, gpu(**counted(0.4))))
    assert (finding.activity, finding.seen_to_s - finding.seen_from_s) == (QUIET, 5)


def test_the_busiest_poll_of_an_instance_counts() -> None:
    assert Pod().see(poll(10, gpu(**counted(9.0))), poll(15, gpu(**counted(0.0)))).activity is ACTIVE


def test_instances_that_are_not_counted_are_unknown_and_say_so() -> None:
    why = {"utilization": "MIG: this driver does not tell how busy its instances are, and GPM was not asked"}
    finding = Pod().see(poll(10, gpu(**counted(None), unsupported=("utilization",), not_readable=why)))
    assert finding.activity is UNKNOWN
    assert finding.reason == f"gpu0 {why['utilization']}; I will not stop this Pod on GPU evidence"
    assert Pod().see(poll(10, gpu(**counted(None)))).reason == "gpu0 MIG: its counters have only begun"


def test_a_vgpu_is_named_as_one() -> None:
    finding = Pod().see(poll(10, gpu(util_max_pct=None, unsupported=("utilization",), virtual="vGPU")))
    assert finding.reason.startswith("gpu0 utilization of a vGPU can't be read")


def test_what_is_said_of_several_gpus_is_said_once() -> None:
    gpus = [failed(f"GPU-{number}") if number % 2 else gpu(f"GPU-{number}") for number in range(8)]
    finding = Pod(gpu_count=8).see(poll(10, *gpus))
    assert (finding.activity, finding.reason) == (UNKNOWN, "gpu1, gpu3, gpu5, gpu7 utilization: GPU is lost")


# ---------------------------------------------------------------- numbers


def test_a_gpu_keeps_its_number_when_the_drivers_indices_shift() -> None:
    pod = Pod(gpu_count=2)
    pod.see(poll(5, gpu("GPU-0"), gpu("GPU-1")))
    finding = pod.see(poll(60, gpu("GPU-1", index=0, util_max_pct=40)))
    assert finding.reason == "gpu1 utilization 40 % > 5 %"
    assert pod.see(poll(65, gpu("GPU-1", index=0))).reason == "only 1 of 2 GPUs found: gpu0 H100 is gone"


def test_a_gpu_that_can_not_even_be_named_takes_the_number_that_is_free() -> None:
    numbers = Numbers()
    assert numbers.of([gpu("GPU-a", index=0), gpu("GPU-b", index=1)]) == [0, 1]
    assert numbers.of([gpu("GPU-b", index=0), gpu("index 1", index=1)]) == [1, 0]
    assert numbers.of([gpu("GPU-a", index=0), gpu("GPU-b", index=1)]) == [0, 1]
    assert numbers.gone([gpu("GPU-b", name="H100")]) == ["gpu0 H100"]


# ---------------------------------------------------------------- no GPU


def test_a_pod_that_came_back_without_its_gpu_is_told_so() -> None:
    finding = Pod(gpu_count=0, gpus_before=lambda: 2).see(now_s=5)
    assert (finding.activity, finding.reason) == (ABSENT, "RUNPOD_GPU_COUNT=0")
    assert finding.notice == "this Pod had 2 GPUs before its last stop and came back without any"


@pytest.mark.parametrize("before", [None, 0])
def test_a_pod_that_never_had_one_hears_nothing(before: int | None) -> None:
    assert Pod(gpu_count=0, gpus_before=lambda: before).see(now_s=5).notice is None


def test_a_recorded_absence_tells_the_same() -> None:
    reading = Pod(gpu_count=0, gpus_before=lambda: 1).read(now_s=5)
    replayed = GpuSignal(reader=FakeReader()).judge(reading)
    assert replayed.notice == "this Pod had 1 GPU before its last stop and came back without any"


def test_the_device_that_windows_hands_to_wsl_is_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "dxg").touch()
    finding = Pod(gpu_count=None, device_dir=tmp_path).see(error="NVML can't be opened: Not Found", now_s=5)
    assert finding.activity is UNKNOWN


def test_a_pod_that_should_have_a_gpu_and_has_no_device_is_unknown_and_says_it(tmp_path: Path) -> None:
    finding = Pod(gpu_count=1, device_dir=tmp_path).see(error="NVML can't be opened: Driver Not Loaded", now_s=5)
    assert (finding.activity, finding.reason) == (
        UNKNOWN,
        f"NVML can't be opened: Driver Not Loaded; there is no GPU in {tmp_path}",
    )
