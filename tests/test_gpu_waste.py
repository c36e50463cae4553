"""GPUs that were hardly needed: told once an hour has shown it, and never a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from idlewatch.gpu.waste import HOUR_S, Waste
from idlewatch.model import Activity
from tests.gpu_polls import Pod, gpu, poll

TICK_S = 5.0


def said(
    *percents: float | None, hours: float = 1.0, waste: Waste | None = None, from_s: float = 1000.0, **more: Any
) -> str | None:
    """What is said after so long with GPUs at these means."""
    waste, at_s = waste or Waste(), from_s
    facts = [{"index": n, "util_mean_pct": pct, "covered_s": TICK_S, **more} for n, pct in enumerate(percents)]
    told = waste.look(facts, at_s)
    while at_s < from_s + hours * HOUR_S:
        at_s += TICK_S
        told = waste.look(facts, at_s)
    return told


def test_one_gpu_of_two_below_half_of_the_other_is_waste_after_an_hour() -> None:
    assert said(30.0, 100.0) == "gpu0 worked 30 % of the last hour, gpu1 100 %: all 2 are billed"
    assert said(30.0, 100.0, hours=0.99) is None


def test_seven_of_eight_are_counted_and_not_listed() -> None:
    assert said(*[0.0] * 3, 25.0, *[1.0] * 4) == (
        "7 of 8 GPUs worked 1 % of the last hour at most, gpu3 25 %: all 8 are billed"
    )
    assert said(90.0, 2.0, 4.0) == "gpu1, gpu2 worked 4 % of the last hour at most, gpu0 90 %: all 3 are billed"


@pytest.mark.parametrize(
    "percents",
    [(98.6, 98.2, 98.7, 98.5), (51.0, 100.0), (0.0, 0.0), (0.0, 5.0), (100.0,), (), (None, 100.0)],
    ids=["a training", "half", "nobody works", "hardly anybody works", "one GPU", "no GPU", "one that can't be read"],
)
def test_else_nothing_is_said(percents: tuple[float | None, ...]) -> None:
    assert said(*percents) is None


def test_an_hour_that_was_hardly_seen_says_nothing() -> None:
    assert said(0.0, 100.0, covered_s=TICK_S * 0.81) is not None
    assert said(0.0, 100.0, covered_s=TICK_S * 0.79) is None
    assert said(0.0, 100.0, error="gpu is lost") is None
    assert said(0.0, 100.0, covered_s=None) is None


def test_the_next_hour_decides_anew() -> None:
    waste = Waste()
    assert said(30.0, 100.0, waste=waste) is not None
    assert said(90.0, 100.0, waste=waste, from_s=1000.0 + HOUR_S, hours=0.9) is not None
    assert said(90.0, 100.0, waste=waste, from_s=1000.0 + 1.9 * HOUR_S, hours=0.2) is None


def test_the_signal_says_it_beside_its_verdict_and_beside_a_suspicion() -> None:
    pod = Pod()
    full: dict[str, Any] = {"util_max_pct": 100, "util_second_pct": 100, "util_mean_pct": 100.0}
    for at_s in range(0, 3700, 5):
        found = pod.see(poll(at_s, gpu("GPU-0", **full, power_w=45.0), gpu("GPU-1")))
    assert found.activity is Activity.ACTIVE
    waste, suspicion = str(found.notice).split("; ")
    assert waste == "gpu1 worked 0 % of the last hour, gpu0 100 %: all 2 are billed"
    assert suspicion.endswith("for 62 min with nothing changing: busy, but maybe hung")
