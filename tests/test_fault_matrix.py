"""
Every step of the end sequence with every fault in the middle of it: nothing lost, no stop after evidence, no silence.

The daemon, its policy, its actions and its record are real, the world around them is `pod_world`'s; what each answer of
the API amounts to is found out by the real provider against RunPod's API on loopback.
`pytest -rP -k table tests/test_fault_matrix.py` prints the table.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from idlewatch.children.tasks import TaskEnd
from idlewatch.deciding.tick import Tick
from idlewatch.demo.loopback_api import RIGHTS, LoopbackApi, LoopbackPod
from idlewatch.durations import format_duration
from idlewatch.errors import IdlewatchError, ProviderError, ProviderRefused, SnapshotError
from idlewatch.model import Phase, PodIdentity
from idlewatch.providers.runpod import ApiKey, RunpodProvider
from tests.pod_promises import Promises
from tests.pod_story import BORN_S, SIGNALS, Story
from tests.pod_world import ACCEPTED, LIMITS, SAVED, STATE_FOLDERS, Fate, World

# one group: each life is lived once, for its own test and for the table
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

POD, KEY = "abc123def456", "rpa_AKEYOFATEST00000000000000000000001"
SOON_S = 1.0
WELL_SAVED, WELL_STOPPED = Fate(takes_s=60.0, end=SAVED), Fate(takes_s=20.0, end=ACCEPTED, ends_pod_after_s=30.0)


def calm() -> Story:
    """A Pod that nobody uses, and in which nothing goes wrong."""
    return Story(
        seed=1,
        used={name: [] for name in SIGNALS},
        faults={name: [] for name in SIGNALS},
        stuck={name: [] for name in SIGNALS},
        holds=[],
        requests=[],
        deaths=[],
        suspensions=[],
        wall_jumps_s=[],
        ceiling_s=0.0,
        trouble_to_s=0.0,
        faulty=True,
        provocations=0,
        calm_s=BORN_S,
    )


@dataclass
class Script:
    """What becomes of the first saves and stops; all later ones go well."""

    saves: Sequence[Fate] = ()
    stops: Sequence[Fate] = ()
    made: dict[str, int] = field(default_factory=lambda: {"save": 0, "stop": 0})

    def save(self, _now_s: float) -> Fate:
        return self._next("save", self.saves, WELL_SAVED)

    def stop(self, _now_s: float) -> Fate:
        return self._next("stop", self.stops, WELL_STOPPED)

    def _next(self, name: str, fates: Sequence[Fate], well: Fate) -> Fate:
        at, self.made[name] = self.made[name], self.made[name] + 1
        return fates[at] if at < len(fates) else well


def _nearly_idle(report: Tick) -> bool:
    return report.decision.idle_for_s > LIMITS.idle_after_s - 30.0


STEPS: Mapping[str, Callable[[Tick], bool]] = {
    "nearly idle": _nearly_idle,
    "warned": lambda report: report.state.phase is Phase.WARNED,
    "saving": lambda report: report.state.phase is Phase.SAVING,
    "last look": lambda report: report.state.phase is Phase.LAST_LOOK,
    "stop asked for": lambda report: report.state.phase is Phase.STOPPING,
    "stop accepted": lambda report: report.state.accepted_s is not None,
}


def _spans(lists: Callable[[Story], list[tuple[float, float]]], for_s: float) -> Callable[[Story, float], None]:
    def put(story: Story, now_s: float) -> None:
        lists(story).append((now_s + SOON_S, now_s + SOON_S + for_s))

    return put


def _wall(by_s: float) -> Callable[[Story, float], None]:
    def put(story: Story, now_s: float) -> None:
        story.wall_jumps_s.append((now_s + SOON_S, by_s))

    return put


INJECTED: Mapping[str, Callable[[Story, float], None]] = {
    "the daemon is killed (-9)": _spans(lambda story: story.deaths, 5.0),
    "the daemon is away for 20m": _spans(lambda story: story.deaths, 1200.0),
    "the machine stands still for 1h": _spans(lambda story: story.suspensions, 3600.0),
    "the wall clock jumps by +3h": _wall(3 * 3600.0),
    "the wall clock jumps by -3h": _wall(-3 * 3600.0),
    "a GPU works": _spans(lambda story: story.used["gpu"], 5.0),
    "a person types": _spans(lambda story: story.used["people"], 1.0),
    "a hold appears": _spans(lambda story: story.holds, 900.0),
    "the GPU can't be read for 30m": _spans(lambda story: story.faults["gpu"], 1800.0),
    "host shows its old reading for 3m": _spans(lambda story: story.stuck["host"], 180.0),
    "people can't be read for 30m": _spans(lambda story: story.faults["people"], 1800.0),
}
EVIDENCE = ("a GPU works", "a person types", "a hold appears")


class Injecting(Promises):
    """Lets one thing happen when a step is reached."""

    def __init__(
        self, story: Story, step: str | None = None, put: Callable[[Story, float], None] | None = None
    ) -> None:
        super().__init__(story)
        self._reached, self._put = STEPS[step] if step else None, put
        self.injected_s: float | None = None
        self.troubles: dict[str, str] = {}

    def ticked(self, report: Tick, told: Sequence[str]) -> None:
        super().ticked(report, told)
        self.troubles |= dict(report.state.troubles)
        if self._put and self._reached and self.injected_s is None and self._reached(report):
            self.injected_s = report.moment.now_s
            self._put(self.story, self.injected_s)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One life, as a row of the table."""

    step: str
    fault: str
    promises: Injecting
    ended_s: float | None

    def __str__(self) -> str:
        ended = "not stopped" if self.ended_s is None else f"stopped after {format_duration(self.ended_s - BORN_S)}"
        said = "; ".join(f"{name}: {text}" for name, text in self.promises.troubles.items()) or "-"
        kept = "every promise kept" if not self.promises.broken else f"BROKEN: {'; '.join(self.promises.broken)}"
        return f"{self.step:<15} {self.fault:<34} {ended:<21} {kept}   said: {said[:110]}"


@functools.cache
def disturbed(step: str, fault: str) -> Cell:
    return lived(step, fault, Script(), INJECTED[fault])


def lived(step: str, fault: str, script: Script, put: Callable[[Story, float], None] | None = None) -> Cell:
    told = calm()
    promises = Injecting(told, step if put else None, put)
    with tempfile.TemporaryDirectory(dir=STATE_FOLDERS) as folder:
        world = World(told, Path(folder), promises, script)
        world.live()
        promises.over(world)
    return Cell(step=step, fault=fault, promises=promises, ended_s=world.ended_s)


UNDISTURBED_S = 2000.0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", INJECTED)
def test_whatever_comes_between_nothing_is_lost_and_it_is_stopped_in_the_end(step: str, fault: str) -> None:
    cell = disturbed(step, fault)
    assert cell.promises.broken == []
    assert cell.promises.injected_s is not None
    assert cell.ended_s is not None
    before_the_call = step not in ("stop asked for", "stop accepted")
    if before_the_call and fault in EVIDENCE:
        assert cell.ended_s > cell.promises.injected_s + 360.0, "the sequence went on"
    if fault.startswith("the wall clock"):
        assert cell.ended_s < BORN_S + UNDISTURBED_S, "the wall clock is for people only"


READ_ONLY = TaskEnd(error=SnapshotError("the volume is mounted read-only: injected"))
NO_SPACE = TaskEnd(error=SnapshotError("no space left on the volume: injected"))
SAVES = {
    "hangs": Fate(),
    "ENOSPC": Fate(end=NO_SPACE),
    "read-only volume": Fate(end=READ_ONLY),
    "can't be started": Fate(unstartable=True),
}


@functools.cache
def save_failed(fault: str) -> Cell:
    return lived("saving", fault, Script(saves=[SAVES[fault]]))


@pytest.mark.parametrize("fault", SAVES)
def test_a_save_that_fails_is_said_and_made_again_before_the_stop(fault: str) -> None:
    cell = save_failed(fault)
    assert cell.promises.broken == []
    assert cell.ended_s is not None
    assert "save failed" in cell.promises.troubles


@pytest.mark.parametrize("fault", SAVES)
def test_a_save_that_always_fails_keeps_the_pod(fault: str) -> None:
    cell = lived("saving", fault, Script(saves=[SAVES[fault]] * 100))
    assert (cell.promises.broken, cell.ended_s, cell.promises.stops) == ([], None, [])
    assert "save failed" in cell.promises.troubles


# ---------------------------------------------------------------- what the API answers

API: Mapping[str, Mapping[str, Any]] = {
    **{f"HTTP {code}": {"status": code} for code in (401, 403, 404, 409, 410, 429, 500, 502, 503)},
    "hangs": {"kind": "hang"},
    "slow drip": {"kind": "drip"},
    "drips headers": {"kind": "drip_head"},
    "truncated JSON": {"kind": "truncated_json", "status": 500},
    "HTML": {"kind": "html"},
    "an empty answer": {"kind": "empty", "status": 500},
    "connection closed": {"kind": "close"},
    "cut off": {"kind": "cut_off"},
    "GraphQL errors": {"kind": "errors"},
}
UNREACHABLE = {
    "TLS error": "https://127.0.0.1:{port}",
    "DNS failure": "http://api.runpod.invalid",
    "nobody listens": "http://127.0.0.1:9",
}


def _provider(base: str) -> RunpodProvider:
    return RunpodProvider(
        identity=PodIdentity(pod_id=POD, source="environment", started_s=0.0, boot_key="boot"),
        environment={"RUNPOD_POD_ID": POD},
        keys=[ApiKey("RUNPOD_API_KEY", KEY)],
        rest_url=f"{base}/v2",
        graphql_url=f"{base}/graphql",
        call_timeout_s=0.3,
        total_deadline_s=3.0,
    )


def _answered(api: LoopbackApi, fault: str) -> TaskEnd:
    """What the real provider makes of the fault, on every rung."""
    base = api.rest_url.removesuffix("/v2")
    if fault in UNREACHABLE:
        base = UNREACHABLE[fault].format(port=base.rpartition(":")[2])
    else:
        for call in RIGHTS:
            api.fail(call, **API[fault], times=None)
    try:
        return TaskEnd(result={"text": f"accepted by {_provider(base).stop().accepted_by}"})
    except ProviderError as error:
        return TaskEnd(error=error)


@functools.cache
def answers() -> Mapping[str, TaskEnd]:
    """Each fault of the API, and what it amounts to."""
    found = {}
    for fault in (*API, *UNREACHABLE):
        with LoopbackApi(pods=[LoopbackPod(pod_id=POD)], keys=[KEY]) as api:
            found[fault] = _answered(api, fault)
    return found


STOPS = {
    "hangs (the task)": Fate(),
    "can't be started": Fate(unstartable=True),
    "accepted, lives on": Fate(end=ACCEPTED),
}


def _fate(fault: str) -> Fate:
    return STOPS[fault] if fault in STOPS else Fate(end=answers()[fault])


@functools.cache
def stop_failed(fault: str) -> Cell:
    return lived("stop asked for", fault, Script(stops=[_fate(fault)]))


def _refused(error: IdlewatchError | None) -> bool:
    return isinstance(error, ProviderRefused)


@pytest.mark.parametrize("fault", [*STOPS, *API, *UNREACHABLE])
def test_a_stop_that_goes_wrong_once_is_said_and_asked_for_again(fault: str) -> None:
    fate = _fate(fault)
    cell = stop_failed(fault)
    assert cell.promises.broken == []
    assert cell.promises.troubles
    assert len(cell.promises.stops) == (1 if cell.ended_s is None else 2)
    assert (cell.ended_s is None) == _refused(fate.end.error if fate.end else None), "for good: only after six hours"


@pytest.mark.parametrize("fault", [*STOPS, *API, *UNREACHABLE])
def test_a_stop_that_always_goes_wrong_is_never_called_one(fault: str) -> None:
    cell = lived("stop asked for", fault, Script(stops=[_fate(fault)] * 1000))
    assert (cell.promises.broken, cell.ended_s) == ([], None)
    assert cell.promises.last is not None
    assert cell.promises.last.state.troubles
    assert len(cell.promises.stops) < 30, "a rate-limited API is not to be stormed"


def test_the_table() -> None:
    rows = [disturbed(step, fault) for fault in INJECTED for step in STEPS]
    rows += [save_failed(fault) for fault in SAVES]
    rows += [stop_failed(fault) for fault in (*STOPS, *API, *UNREACHABLE)]
    for row in rows:
        print(row)  # noqa: T201  (this is what it is for)
    assert all(row.promises.broken == [] for row in rows)
