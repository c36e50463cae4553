"""
The whole path on a Pod with GPUs: a real daemon, its reader with the real pynvml on an NVML that is scripted to be
idle, to work in bursts, to hang, to crash, to lie, or not to be there.

What takes long runs side by side: `long_runs` begins with the first test and is looked at in the last ones, and all
faults of NVML (`gpu_faults`) happen at once in several Pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from idlewatch.history.status import number
from idlewatch.history.store import events_of
from idlewatch.snapshot import snapshots
from tests.gpu_faults import FAULTS, Told, a_library_is_here, faulty_pods, table
from tests.gpu_pods import HURRIED, SLOW, VERB, GpuPod, gpu_pod, screen_of
from tests.nvml_stub import ALL, build, now_s
from tests.side_by_side import Steps, Story, all_live, until
from tests.waiting import comes
from tests.whole_path import POD_ID, proven

PATIENCE_S = 60.0
ALL_WITHIN_S = 150.0

# one group: its Pods live side by side, once for all tests and not once a worker
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("gpu pods")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def pod(tmp_path: Path, library: Path) -> Iterator[GpuPod]:
    with gpu_pod(tmp_path, library) as made:
        yield made


# ---------------------------------------------------------------- what takes long, begun first


@dataclass(frozen=True)
class LongRuns:
    """One GPU of 1 or of 4 that works 0.2 s in 12 s, a GPU that never does, and the verb `run` on an idle GPU."""

    alone: GpuPod
    last_of_four: GpuPod
    never: GpuPod
    verb: GpuPod
    began_s: float


BURST_EVERY_S, BURST_IDLE_AFTER_S = 12.0, 13.5


@pytest.fixture(scope="module", autouse=True)
def long_runs(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[LongRuns]:
    with ExitStack() as stack:

        def made(command: tuple[str, ...], gpus: int = 1) -> GpuPod:
            return stack.enter_context(gpu_pod(tmp_path_factory.mktemp("long"), library, gpus=gpus, command=command))

        runs = LongRuns(made(SLOW), made(SLOW, gpus=4), made(SLOW), made(VERB), now_s())
        for loaded in (runs.alone, runs.last_of_four, runs.never):
            loaded.place.settings["IDLEWATCH_BLIND_LIMIT"] = "8s"
            loaded.place.settings["IDLEWATCH_IDLE_AFTER"] = f"{BURST_IDLE_AFTER_S}s"
            loaded.script.mem(ALL, 16000)
            loaded.script.processes(ALL, 1)
        runs.alone.script.burst(0, busy_s=0.2, every_s=BURST_EVERY_S)
        runs.last_of_four.script.burst(3, busy_s=0.2, every_s=BURST_EVERY_S)
        runs.verb.place.settings |= {
            "IDLEWATCH_IDLE_AFTER": "9s",
            "IDLEWATCH_INTERVAL": "1s",
            "IDLEWATCH_BLIND_LIMIT": "10s",
        }
        for run in (runs.verb, runs.alone, runs.last_of_four, runs.never):
            run.place.start()
        yield runs


# ---------------------------------------------------------------- NVML breaks


def sound(pod: GpuPod) -> Steps:
    """What becomes of a Pod whose GPU rests, beside those that have a fault."""
    pod.script.works(0)
    pod.place.start()
    yield from until(lambda: pod.activity() == "active")
    pod.script.rests(0)
    yield from until(pod.place.stopped)


def sat_out(pod: GpuPod) -> Steps:
    """45 s in a Pod, where a silence of 15 s is a hang and the reader is granted 60 s more; here a twentieth."""
    pod.script.works(0)
    pod.place.start()
    yield from until(lambda: pod.activity() == "active")
    before = pod.readers()
    pod.script.stall("count", 2.5)
    yield from until(lambda: pod.activity() == "unknown" and "GPU reader hung: no line for" in pod.reason())
    pod.script.stall("count", 0)
    yield from until(lambda: pod.activity() == "active")
    assert (pod.readers(), pod.place.kinds()) == (before, [])
    pod.script.rests(0)
    yield from until(pod.place.stopped)


def halted(pod: GpuPod) -> Steps:
    pod.place.command = HURRIED
    pod.place.settings |= {"IDLEWATCH_WARN_FOR": "12s", "IDLEWATCH_BLIND_LIMIT": "15s"}
    pod.script.works(0)
    pod.place.start()
    yield from until(lambda: pod.activity() == "active")
    pod.script.rests(0)
    yield from until(lambda: pod.place.phase() == "warned")
    save_due_s = number(pod.place.status().get("acts_at_s"))
    pod.script.stall("count", 600)
    yield from until(lambda: "cancel" in pod.place.kinds())
    warned, cancelled = events_of(pod.place.state_dir)
    assert (warned["kind"], cancelled["kind"]) == ("warn", "cancel")
    assert number(cancelled["at_s"]) > save_due_s
    assert "gpu unknown: GPU reader hung" in str(cancelled["text"])
    pod.script.reset()
    pod.script.works(0)
    yield from until(lambda: pod.activity() == "active")
    pod.script.rests(0)
    yield from until(pod.place.stopped)
    assert pod.place.kinds()[2:6] == ["warn", "save", "save done", "stop"]


def story(lives: Callable[[GpuPod], Steps], pod: GpuPod) -> Story:
    return Story(lives(pod), lambda: f"{pod.place.status()} {pod.place.kinds()}")


@dataclass(frozen=True)
class Broken:
    """Pods whose NVML breaks, what was told of every fault, and what was wrong with that."""

    stories: Mapping[str, Story]
    told: list[Told]
    wrong: list[str]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Broken]:
    """All of it side by side."""
    folder = tmp_path_factory.mktemp("broken")
    with ExitStack() as stack:
        stories = {
            lives.__name__: story(lives, stack.enter_context(gpu_pod(folder / lives.__name__, library)))
            for lives in (sound, sat_out, halted)
        }
        pods = faulty_pods(stack, folder, library)
        comes(all_live([one.told() for one in stories.values()] + [pod.lives() for pod in pods]), ALL_WITHIN_S)
        for pod in pods:
            pod.ask_to_end()
        for pod in pods:
            pod.end()
        yield Broken(stories, [told for pod in pods for told in pod.told], [line for pod in pods for line in pod.wrong])


def test_an_nvml_that_breaks_is_said_and_never_stops_the_pod(broken: Broken) -> None:
    broken.stories["sound"].right()
    assert not broken.wrong, "\n".join(broken.wrong)


def test_the_table_of_gpu_faults(broken: Broken) -> None:
    """What `pytest -rP -k table_of_gpu_faults` shows."""
    print("\n".join(["", *table(broken.told)]))  # noqa: T201
    here = {name for name in FAULTS if FAULTS[name].library is not None or not a_library_is_here()}
    assert here <= {told.fault for told in broken.told}


def test_a_stall_that_ends_is_sat_out_by_the_same_reader(broken: Broken) -> None:
    broken.stories["sat_out"].right()


def test_a_hang_in_the_warning_halts_the_countdown_and_then_cancels_it(broken: Broken) -> None:
    broken.stories["halted"].right()


# ---------------------------------------------------------------- NVML is well


def test_an_idle_gpu_pod_is_saved_and_stopped(pod: GpuPod) -> None:
    pod.place.settings["IDLEWATCH_BLIND_LIMIT"] = "1s"  # else the reader's start counts as a fifth that was not seen
    pod.place.start()
    pod.place.until(lambda: pod.activity() == "quiet")
    assert len(pod.readers()) == 1
    pod.place.until(pod.place.stopped)
    assert pod.place.kinds()[:4] == ["warn", "save", "save done", "stop"]
    assert pod.place.api.problems == []
    proven(pod.place)
    assert pod.ended() == (0, [])


def test_a_gpu_that_works_a_fifth_of_a_second_in_twelve_is_in_use(long_runs: LongRuns) -> None:
    long_runs.never.place.until(long_runs.never.place.stopped, PATIENCE_S)
    for bursts in (long_runs.alone, long_runs.last_of_four):
        long_ago_s = long_runs.began_s + 12 + 2.2 * BURST_IDLE_AFTER_S
        bursts.place.until(lambda: bursts.at_s() > long_ago_s, PATIENCE_S)  # noqa: B023  (called at once)
        assert "no busy reading" not in bursts.reason()
        assert (bursts.place.kinds(), bursts.place.stopped()) == ([], False)


def test_the_verb_itself_comes_to_the_stop_that_it_only_observes(long_runs: LongRuns) -> None:
    place = long_runs.verb.place
    place.until(lambda: "would stop" in place.kinds(), PATIENCE_S)
    assert place.kinds() == ["would warn", "would save", "would stop"]
    assert "1 GPU at 0 % <= 5 %" in screen_of(place.status())
    assert [request.call for request in place.api.requests if request.method != "GET"] == []
    assert snapshots(place.volume, POD_ID) == []
    assert long_runs.verb.ended() == (0, [])
