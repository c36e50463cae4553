"""The learned wait: its bound holds whatever comes, and it gains where gaps have a pattern."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.deciding.patience import (
    ENOUGH_GAPS,
    Gap,
    Patience,
    Stakes,
    cost_s,
    hindsight_s,
    patience,
    restart_usd,
    slack_s,
    without_price,
)

STAKES = Stakes(usd_per_hour=2.0, restart_usd=1.0, least_s=300.0, most_s=7200.0)
"""Its break-even is 30 min."""
WARNED = replace(STAKES, warn_s=300.0)
CHEAP = replace(WARNED, usd_per_hour=0.2)
"""Its break-even of 5 h is more than the owner allows."""
DEAR = replace(WARNED, usd_per_hour=16.0)
"""Its break-even of 3 min 45 s is less than the owner allows."""
ALL = (STAKES, WARNED, CHEAP, DEAR)
HOUR_S, DAY_S = 3600.0, 86400.0


def lived(lengths_s: list[float], stakes: Stakes = STAKES, remembered: int = 1000) -> tuple[list[Gap], list[Patience]]:
    """Let one gap after the other come, and wait in each as was learned from those `remembered` before it."""
    gaps: list[Gap] = []
    asked = []
    now_s = 100 * DAY_S
    for lasted_s in lengths_s:
        chosen = patience(gaps[-remembered:], stakes, now_s)
        asked.append(chosen)
        gaps.append(Gap(began_s=now_s, lasted_s=lasted_s, waited_s=chosen.wait_s + stakes.warn_s))
        now_s += lasted_s + HOUR_S
    return gaps, asked


def paid_s(gaps: list[Gap], stakes: Stakes = STAKES) -> float:
    return sum(cost_s(gap.lasted_s, gap.waited_s, stakes.restart_s) for gap in gaps)


def best_s(gaps: list[Gap], stakes: Stakes = STAKES) -> float:
    return sum(hindsight_s(gap.lasted_s, stakes.restart_s) for gap in gaps)


lengths = st.lists(
    st.one_of(st.floats(120.0, 40_000.0), st.sampled_from([121.0, 600.0, 901.0, 1799.0, 1801.0, 7201.0, 7501.0])),
    max_size=120,
)


def worst_of_break_even(stakes: Stakes) -> float:
    """The break-even rule's worst gap, as so many times hindsight: tried out, not calculated."""
    waited_s, restart_s = stakes.break_even_s + stakes.warn_s, stakes.restart_s
    tried_s = [1.0, restart_s, waited_s, waited_s + 1e-6, 10 * waited_s]
    return max(cost_s(one, waited_s, restart_s) / hindsight_s(one, restart_s) for one in tried_s)


@pytest.mark.parametrize(("stakes", "times"), [(STAKES, 2.0), (WARNED, 2.0), (CHEAP, 3.4), (DEAR, 1 + 600 / 225)])
def test_the_bound_is_what_the_break_even_has(stakes: Stakes, times: float) -> None:
    assert stakes.times == pytest.approx(times)
    assert worst_of_break_even(stakes) == pytest.approx(times)


@given(lengths, st.sampled_from(ALL), st.sampled_from([1000, 60, 25, 7, 1]))
def test_whatever_gaps_come_and_however_few_are_remembered_no_more_is_paid_than_the_break_evens_bound(
    lengths_s: list[float], stakes: Stakes, remembered: int
) -> None:
    gaps, _ = lived(lengths_s, stakes, remembered)
    assert paid_s(gaps, stakes) <= worst_of_break_even(stakes) * best_s(gaps, stakes) + 1e-3


@pytest.mark.slow
@given(st.integers(0, 10_000), st.sampled_from(ALL), st.floats(0.0, 1.0), st.sampled_from([1000, 25]))
def test_an_adversary_that_knows_the_wait_gets_no_more_either(
    seed: int, stakes: Stakes, kindness: float, remembered: int
) -> None:
    random, now_s = Random(seed), 100 * DAY_S
    gaps: list[Gap] = []
    for _ in range(80):
        waited_s = patience(gaps[-remembered:], stakes, now_s).wait_s + stakes.warn_s
        habit = random.random() < kindness
        lasted_s = random.uniform(150.0, 500.0) if habit else waited_s + 1e-6
        gaps.append(Gap(began_s=now_s, lasted_s=lasted_s, waited_s=waited_s))
        now_s += lasted_s + HOUR_S
    assert paid_s(gaps, stakes) <= worst_of_break_even(stakes) * best_s(gaps, stakes) + 1e-3


@pytest.mark.slow
@given(lengths, st.floats(300.0, 1800.0), st.floats(1800.0, 20_000.0))
def test_the_owners_bounds_hold(lengths_s: list[float], least_s: float, most_s: float) -> None:
    stakes = Stakes(usd_per_hour=2.0, restart_usd=5.0, least_s=least_s, most_s=most_s, warn_s=300.0)
    _, asked = lived(lengths_s, stakes)
    assert all(least_s <= one.wait_s <= most_s for one in asked)


def test_with_little_history_it_is_the_break_even_and_that_is_said() -> None:
    few = [Gap(began_s=100 * DAY_S, lasted_s=400.0, waited_s=1800.0)]
    chosen = patience(few, WARNED, 0.0)
    assert chosen.wait_s == 1500.0, "its warning is part of it"
    assert chosen.why == (
        "1 gap on 1 day are too few to learn from, 20 on 3 are needed; "
        "a restart costs as much as 30m of waiting, so the limit is 25m"
    )
    assert patience([], replace(STAKES, most_s=900.0), 0.0).wait_s == 900.0, "the owner's bounds hold"


def test_what_is_cheaper_by_a_trifle_is_not_followed() -> None:
    def chosen(short_s: float) -> Patience:
        lengths = [short_s] * 100 + [9 * HOUR_S] * 60
        gaps = [Gap(began_s=(100 + at) * DAY_S, lasted_s=one, waited_s=1800.0) for at, one in enumerate(lengths)]
        return patience(gaps, replace(STAKES, least_s=900.0), 500 * DAY_S)

    assert chosen(1700.0).wait_s == 1800.0, "99 s less a night: 2 % of all that is paid"
    assert chosen(1700.0).why.startswith("no other limit would have been clearly cheaper so far; a restart costs")
    assert chosen(899.0).wait_s == 900.0


def test_a_restart_that_the_owner_does_not_wait_for_costs_what_it_costs_all_the_same() -> None:
    nights = [Gap(began_s=(100 + at) * DAY_S, lasted_s=4 * HOUR_S, waited_s=7500.0) for at in range(30)]
    assert patience(nights, CHEAP, 130 * DAY_S).wait_s == CHEAP.least_s
    back_within_an_hour = [replace(gap, lasted_s=HOUR_S) for gap in nights[:10]]
    assert patience([*nights, *back_within_an_hour], CHEAP, 130 * DAY_S).wait_s >= HOUR_S - CHEAP.warn_s


def test_without_a_price_it_says_what_is_missing() -> None:
    said = without_price(1800.0)
    assert said.wait_s == 1800.0
    assert "IDLEWATCH_USD_PER_HOUR" in said.why
    assert said.why.endswith("until then it is 30m")


def minutes_or_morning(count: int, seed: int = 1) -> list[float]:
    random = Random(seed)
    return [
        random.uniform(200.0, 700.0) if random.random() < 0.7 else random.uniform(8, 14) * HOUR_S for _ in range(count)
    ]


def test_who_comes_back_within_minutes_or_not_before_morning_pays_less_than_the_break_even() -> None:
    gaps, asked = lived(minutes_or_morning(200))
    even_s = STAKES.break_even_s
    with_even_s = sum(cost_s(gap.lasted_s, even_s, even_s) for gap in gaps)
    assert paid_s(gaps) < 0.85 * with_even_s
    assert asked[-1].wait_s == pytest.approx(700.0, abs=60.0)
    assert asked[-1].why.startswith("at this time of day you came back within 11m")
    assert asked[-1].why.endswith("; so the stop comes then")


def test_the_warning_is_part_of_the_wait() -> None:
    _, asked = lived(minutes_or_morning(200), WARNED)
    assert asked[-1].wait_s == pytest.approx(400.0, abs=60.0)
    assert asked[-1].why.endswith("so the stop comes then, the warning 5m before")


def test_after_costly_guesses_it_falls_back() -> None:
    gaps, _ = lived(minutes_or_morning(60))
    spoiled = [*gaps, *(Gap(began_s=gaps[-1].began_s + i * HOUR_S, lasted_s=701.0, waited_s=700.0) for i in range(200))]
    assert slack_s(spoiled, STAKES) < 0
    chosen = patience(spoiled, STAKES, spoiled[-1].began_s)
    assert (chosen.wait_s, "have cost too much" in chosen.why) == (1800.0, True)


def test_pauses_in_the_work_are_no_gaps() -> None:
    pauses = [Gap(began_s=i * HOUR_S, lasted_s=60.0, waited_s=1800.0) for i in range(10 * ENOUGH_GAPS)]
    assert "0 gaps on 0 days" in patience(pauses, STAKES, 0.0).why


def test_the_time_of_day_counts_around_midnight_too() -> None:
    night = [Gap(began_s=d * DAY_S + 23.9 * HOUR_S, lasted_s=9 * HOUR_S, waited_s=1800.0) for d in range(100, 130)]
    day = [Gap(began_s=d * DAY_S + 12 * HOUR_S, lasted_s=1500.0, waited_s=1800.0) for d in range(100, 130)]
    assert patience(night + day, STAKES, 130 * DAY_S + 0.1 * HOUR_S).wait_s == 300.0
    assert patience(night + day, STAKES, 130 * DAY_S + 12.0 * HOUR_S).wait_s == STAKES.break_even_s


def test_a_restart_costs_the_pod_its_person_and_bad_luck() -> None:
    assert restart_usd(usd_per_hour=2.0, takes_s=600.0, person_usd_per_hour=10.0, unlucky=0.05) == pytest.approx(2.5)
