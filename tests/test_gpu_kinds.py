"""
Every kind of device, through the real child: MIG with and without GPM, vGPU, WSL, old drivers, cards without an
energy counter, and AMD cards. What can't be known is said and never read as idle.
"""

from __future__ import annotations

import json
import select
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from idlewatch.gpu import REOPEN
from tests.nvml_stub import ALL, NvmlScript, build, child_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOT_SUPPORTED, NO_PERMISSION, UNKNOWN = 3, 4, 999
PATIENCE_S = 60.0

pytestmark = pytest.mark.slow


class Lines:
    """The lines of a child process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        self._out = process.stdout

    def next(self) -> dict[str, Any]:
        assert select.select([self._out], [], [], PATIENCE_S)[0], "the child said nothing"
        said = self._out.readline()
        assert said, "the child ended"
        return dict(json.loads(said))

    def gpu(self, seen: Callable[[dict[str, Any]], object] = bool) -> dict[str, Any]:
        """The first GPU of the first line of which `seen` is true."""
        for _ in range(200):
            gpu: dict[str, Any] = self.next()["gpus"][0]
            if seen(gpu):
                return gpu
        raise AssertionError(gpu)


@contextmanager
def child(argv: list[str]) -> Iterator[Lines]:
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield Lines(process)
    finally:
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("old"), old=True)


@pytest.fixture
def script(tmp_path: Path) -> NvmlScript:
    return NvmlScript(tmp_path / "script")


def on(library: Path, script: NvmlScript, *options: str, poll_s: float = 0.15) -> list[str]:
    return child_argv(library, script, *options, poll_s=poll_s)


# ---------------------------------------------------------------- MIG


@pytest.fixture
def mig(script: NvmlScript) -> NvmlScript:
    """One GPU with two instances; the rest of it is other people's."""
    script.mig(0)
    script.mem(0, 30000)
    script.instance(0, 1, 900)
    script.instance(0, 4, 20)
    return script


def test_mig_tells_the_memory_of_our_instances_and_no_utilization(library: Path, mig: NvmlScript) -> None:
    with child(on(library, mig)) as lines:
        gpu = lines.gpu()
    assert [(part["uuid"], part["mem_used_mib"], part["util_mean_pct"]) for part in gpu["instances"]] == [
        ("MIG-0000-1", 900, None),
        ("MIG-0000-4", 20, None),
    ]
    assert (gpu["mig"], gpu["util_max_pct"], gpu["covered_s"]) == (True, None, 0)
    assert (gpu["mem_used_mib"], gpu["mem_total_mib"]) == (920, 81920)
    assert gpu["not_readable"]["utilization"].startswith("MIG: this driver does not tell how busy")
    assert gpu["error"] is None


def test_an_instance_whose_memory_is_not_told_leaves_it_unknown(library: Path, mig: NvmlScript) -> None:
    for call in ("part_mem", "mem", "mem2"):
        mig.error(call, NO_PERMISSION)
    with child(on(library, mig)) as lines:
        gpu = lines.gpu()
    assert [part["mem_used_mib"] for part in gpu["instances"]] == [None, None]
    assert gpu["mem_used_mib"] is None


def test_mig_without_an_instance_in_sight_says_so(library: Path, script: NvmlScript) -> None:
    script.mig(0)
    with child(on(library, script)) as lines:
        assert lines.gpu()["not_readable"]["utilization"] == ("MIG: none of its instances can be seen from here")


def test_instances_that_cannot_be_listed_are_said(library: Path, mig: NvmlScript) -> None:
    mig.error("instances", UNKNOWN)
    with child(on(library, mig)) as lines:
        why = lines.gpu()["not_readable"]["utilization"]
    assert why == "MIG: its instances can't be listed: Unknown Error"


def test_gpm_tells_the_share_of_the_whole_time_between_two_polls(library: Path, mig: NvmlScript) -> None:
    mig.instance_util(0, 4, 40)
    with child(on(library, mig, "--gpm")) as lines:
        first = lines.gpu()
        gpu = lines.gpu(lambda gpu: gpu["covered_s"])
        assert [part["util_mean_pct"] for part in first["instances"]] == [None, None]
        assert [part["util_mean_pct"] for part in gpu["instances"]] == [0, 40]
        assert "utilization" not in gpu["not_readable"]
        assert gpu["util_max_pct"] is None
        mig.instance_util(0, 4, 0)
        lines.gpu(lambda gpu: [part["util_mean_pct"] for part in gpu["instances"]] == [0, 0])


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        (lambda script: script.without_gpm(0), "this GPU has no GPM"),
        (lambda script: script.error("gpm_support", NOT_SUPPORTED), "Not Supported"),
        (lambda script: script.error("gpm_sample", NO_PERMISSION), "Insufficient Permissions"),
        (lambda script: script.error("gpm_metrics", UNKNOWN), "Unknown Error"),
    ],
    ids=["none", "unsupported", "denied", "failing"],
)
def test_gpm_that_is_refused_leaves_mig_unknown(
    library: Path, mig: NvmlScript, refuse: Callable[[NvmlScript], None], words: str
) -> None:
    refuse(mig)
    with child(on(library, mig, "--gpm")) as lines:
        gpu = lines.gpu(lambda gpu: gpu["not_readable"].get("utilization"))
    assert gpu["not_readable"]["utilization"].startswith(f"MIG: GPM can't be read: {words}")
    assert [part["util_mean_pct"] for part in gpu["instances"]] == [None, None]
    assert gpu["covered_s"] == 0


def test_gpm_that_is_refused_after_a_while_covers_nothing_from_then_on(library: Path, mig: NvmlScript) -> None:
    with child(on(library, mig, "--gpm")) as lines:
        lines.gpu(lambda gpu: gpu["covered_s"])
        mig.error("gpm_sample", NO_PERMISSION)
        gpu = lines.gpu(lambda gpu: not gpu["covered_s"] and "utilization" in gpu["not_readable"])
    assert "Insufficient Permissions" in gpu["not_readable"]["utilization"]


# ---------------------------------------------------------------- vGPU, WSL, old drivers, no energy counter


def test_a_vgpu_without_utilization_and_energy(library: Path, script: NvmlScript) -> None:
    script.virtual(0, 2)
    for call in ("util_samples", "util", "energy", "power", *(f"{name}{kind}" for name in ENGINES for kind in KINDS)):
        script.error(call, NOT_SUPPORTED)
    with child(on(library, script)) as lines:
        gpu = lines.gpu()
    assert (gpu["virtual"], gpu["util_max_pct"], gpu["error"]) == ("vGPU", None, None)
    assert gpu["unsupported"] == ["utilization", *ENGINES, "energy", "power"]
    assert set(gpu["not_readable"].values()) == {"Not Supported"}


ENGINES, KINDS = ("encoder", "decoder", "jpeg", "ofa"), ("", "_samples")


def test_a_passed_through_gpu_is_like_any_other(library: Path, script: NvmlScript) -> None:
    script.virtual(0, 1)
    with child(on(library, script)) as lines:
        assert lines.gpu()["virtual"] is None


def test_wsl_with_an_old_driver_reads_nothing_and_is_no_zero(library: Path, script: NvmlScript) -> None:
    """Utilization, processes and engines are refused, memory works."""
    for call in (
        "util_samples",
        "util",
        "energy",
        "processes",
        *(f"{name}{kind}" for name in ENGINES for kind in KINDS),
    ):
        script.error(call, NOT_SUPPORTED)
    with child(on(library, script)) as lines:
        gpu = lines.gpu()
    assert (gpu["util_max_pct"], gpu["samples"], gpu["covered_s"]) == (None, 0, gpu["covered_s"])
    assert (gpu["mem_used_mib"], gpu["processes"], gpu["energy_total_mj"]) == (3, None, None)
    assert "utilization" in gpu["unsupported"]


def test_an_old_driver_lacks_symbols_and_is_read_all_the_same(old_library: Path, script: NvmlScript) -> None:
    script.util(ALL, 20, since_s=0)
    script.processes(0, 3)
    with child(on(old_library, script)) as lines:
        gpu = lines.gpu(lambda gpu: len(gpu["engines_max_pct"]) == len(ENGINES))  # the newer ones by their rings
    assert (gpu["util_max_pct"], gpu["mem_used_mib"], gpu["processes"]) == (20, 483, 3)
    assert (gpu["mig"], gpu["virtual"], gpu["error"]) == (False, None, None)


def test_a_ring_that_stands_still_without_an_instant_reading_is_not_said_to_be_missing(
    old_library: Path, script: NvmlScript
) -> None:
    with child(on(old_library, script)) as lines:
        lines.gpu()
        script.dry(ALL)
        gpu = lines.gpu(lambda gpu: "jpeg" not in gpu["engines_max_pct"])
    assert "jpeg" in gpu["not_readable"]
    assert gpu["unsupported"] == []


def test_an_old_driver_without_rings_lacks_the_new_engines(old_library: Path, script: NvmlScript) -> None:
    for name in ENGINES:
        script.error(f"{name}_samples", NOT_SUPPORTED)
    with child(on(old_library, script)) as lines:
        gpu = lines.gpu()
    assert gpu["engines_max_pct"] == {"encoder": 0, "decoder": 0}
    assert gpu["not_readable"]["jpeg"] == "Function Not Found (the driver's library is too old for it)"


def test_a_card_without_an_energy_counter_tells_what_it_draws(library: Path, script: NvmlScript) -> None:
    script.error("energy", NOT_SUPPORTED)
    script.energy_w(0, 31)
    with child(on(library, script)) as lines:
        gpu = lines.gpu()
    assert (gpu["energy_total_mj"], gpu["power_w"]) == (None, 31)


# ---------------------------------------------------------------- a ring that is not there from the start


def test_a_ring_that_only_fills_is_measured_once_it_has_filled(library: Path, script: NvmlScript) -> None:
    """A GPU that just woke has a few samples; what they span is not the depth of its ring."""
    script.ring(depth=10)
    with child(on(library, script)) as lines:
        assert lines.gpu(lambda gpu: gpu["covered_s"])["ring_span_s"] is None
        script.ring(depth=60)
        gpu = lines.gpu(lambda gpu: gpu["ring_span_s"])
    assert gpu["ring_span_s"] == pytest.approx(59 / 6, abs=0.01)
    assert gpu["samples"] < 60  # those that were handed over before are not counted again


# ---------------------------------------------------------------- AMD


class Amd:
    """A machine with AMD cards: /sys/class/drm and /dev as folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.drm, self.dev = root, root / "drm", root / "dev"
        self.drm.mkdir()
        (self.dev / "dri").mkdir(parents=True)
        (self.dev / "kfd").touch()

    def card(self, number: int, *, given: bool = True, vendor: str = "0x1002", **files: str) -> Path:
        """A card; `given`: this container has its render node."""
        device = self.root / f"0000:{number:02d}:00.0"
        (device / "drm" / f"renderD{128 + number}").mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        for name, text in {"gpu_busy_percent": "0", **files}.items():
            (device / name).write_text(f"{text}\n")
        (self.drm / f"card{number}").mkdir()
        (self.drm / f"card{number}" / "device").symlink_to(device)
        (self.drm / f"card{number}-DP-1").mkdir()
        if given:
            (self.dev / "dri" / f"renderD{128 + number}").touch()
        return device

    def argv(self, library: Path, script: NvmlScript, poll_s: float = 0.15) -> list[str]:
        return on(library, script, "--drm", str(self.drm), "--dev", str(self.dev), poll_s=poll_s)


@pytest.fixture
def amd(tmp_path: Path) -> Amd:
    return Amd(tmp_path)


@pytest.fixture
def no_library(tmp_path: Path) -> Path:
    """So that a real library of this machine is not found either."""
    folder = tmp_path / "none"
    folder.mkdir()
    (folder / "libnvidia-ml.so.1").write_bytes(b"")
    return folder


def test_an_amd_card_is_read_without_nvml(amd: Amd, no_library: Path, script: NvmlScript) -> None:
    device = amd.card(1, unique_id="f00d", product_name="Instinct", mem_info_vram_used=str(700 << 20))
    (device / "hwmon" / "hwmon3").mkdir(parents=True)
    (device / "hwmon" / "hwmon3" / "power1_average").write_text("41000000")
    with child(amd.argv(no_library, script)) as lines:
        line = lines.next()
        gpu = lines.gpu(lambda gpu: gpu["covered_s"])
        (device / "gpu_busy_percent").write_text("63\n")
        busy = lines.gpu(lambda gpu: gpu["util_max_pct"] == 63)
        (device / "gpu_busy_percent").write_text("0\n")
        lines.gpu(lambda gpu: gpu["util_max_pct"] == 0)
    assert (line["expected"], line["found"], line["settles_in_s"], line["driver"]) == (1, 1, 0, None)
    assert (gpu["kind"], gpu["uuid"], gpu["name"], gpu["instant"]) == ("amd", "f00d", "Instinct", True)
    assert (gpu["util_max_pct"], gpu["mem_used_mib"], gpu["power_w"], gpu["error"]) == (0, 700, 41, None)
    assert (gpu["energy_total_mj"], gpu["processes"]) == (None, None)
    assert busy["error"] is None


def test_an_amd_card_is_looked_at_each_second_and_a_look_stands_for_no_more(
    amd: Amd, no_library: Path, script: NvmlScript
) -> None:
    amd.card(0)
    with child(amd.argv(no_library, script, poll_s=2.5)) as lines:
        gpu = lines.gpu(lambda gpu: gpu["samples"] >= 2)
    assert gpu["covered_s"] <= gpu["samples"]


def test_only_the_amd_cards_that_this_container_was_given_count(amd: Amd, no_library: Path, script: NvmlScript) -> None:
    amd.card(0, given=False, gpu_busy_percent="99")
    amd.card(1, unique_id="ours")
    amd.card(2, vendor="0x8086", gpu_busy_percent="99")
    with child(amd.argv(no_library, script)) as lines:
        assert [gpu["uuid"] for gpu in lines.next()["gpus"]] == ["ours"]


def test_an_amd_card_whose_load_is_not_told_is_unsupported_and_no_zero(
    amd: Amd, no_library: Path, script: NvmlScript
) -> None:
    device = amd.card(0)
    (device / "gpu_busy_percent").unlink()
    with child(amd.argv(no_library, script)) as lines:
        gpu = lines.gpu()
    assert (gpu["util_max_pct"], gpu["covered_s"], gpu["error"]) == (None, 0, None)
    assert gpu["not_readable"]["utilization"] == "gpu_busy_percent: No such file or directory"
    assert "utilization" in gpu["unsupported"]


@pytest.mark.parametrize(
    ("said", "words"), [("130", "gpu_busy_percent reads 130 %"), ("", "gpu_busy_percent holds no")]
)
def test_an_amd_card_that_says_nonsense_is_an_error(
    amd: Amd, no_library: Path, script: NvmlScript, said: str, words: str
) -> None:
    amd.card(0, gpu_busy_percent=said)
    with child(amd.argv(no_library, script)) as lines:
        gpu = lines.gpu()
    assert gpu["error"].startswith(f"utilization: {words}")
    assert gpu["covered_s"] == 0


def test_video_engines_of_an_amd_card_are_seen(amd: Amd, no_library: Path, script: NvmlScript) -> None:
    amd.card(0, vcn_busy_percent="44")
    with child(amd.argv(no_library, script, poll_s=1.5)) as lines:
        assert lines.gpu(lambda gpu: gpu["engines_max_pct"])["engines_max_pct"] == {"video": 44}


def test_an_amd_machine_of_which_no_card_is_ours_is_said(amd: Amd, no_library: Path, script: NvmlScript) -> None:
    amd.card(0, given=False)
    argv = amd.argv(no_library, script)
    done = subprocess.run(argv, stdin=subprocess.PIPE, capture_output=True, timeout=PATIENCE_S, check=False)
    line = json.loads(done.stdout)
    assert done.returncode == REOPEN
    assert f"no AMD GPU under {amd.drm} has a render node in {amd.dev}/dri" in line["error"]
    assert "NVML Shared Library Not Found" in line["error"]


def test_an_nvidia_driver_is_asked_first(amd: Amd, library: Path, script: NvmlScript) -> None:
    amd.card(0)
    with child(amd.argv(library, script)) as lines:
        assert lines.gpu()["kind"] == "nvidia"
