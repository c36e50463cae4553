"""The benchmark of decisions: lives are what they are said to be, rules do what was published, money is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.judgement import band, published, sensitive
from benchmarks.judgement.days import FAINT, FAINT_KINDS, KINDS, life
from benchmarks.judgement.doing import DAY_S, HOUR_S, Connection, Doing, PodLife
from benchmarks.judgement.facts import Scribe
from benchmarks.judgement.learned import learned, left_out, used
from benchmarks.judgement.measures import RESTART_S, STAKES, USD_PER_HOUR, Cost, all_knowing, cost, optimum_usd
from benchmarks.judgement.observed import Gpu, Seen, observed
from benchmarks.judgement.product import Product
from benchmarks.judgement.rules import RULES, Rule
from benchmarks.judgement.table import Row, Table, kind_lines, lines, measured
from idlewatch.deciding import sight
from idlewatch.model import Signal, Surroundings
from idlewatch.signals import SIGNALS

STEP_S = 60.0
AT_WORK = Doing(bursts_per_min=1e6, peak_pct=80, share=0.8, watts=300)


def rule(name: str) -> Rule:
    return next(one for one in RULES if one.name.startswith(name))


def made(*parts: tuple[float, Doing, bool], **more: object) -> PodLife:
    """A life of these hours."""
    one = PodLife(kind="made", seed=0)
    for name, value in more.items():
        setattr(one, name, value)
    for hours, doing, needed in parts:
        one.add(hours * 60, doing, needed=needed)
    return one


def looks(one: PodLife) -> list[Seen]:
    return observed(one, STEP_S)


def at_hours(one: PodLife, place: int | None) -> float | None:
    return None if place is None else round((place + 1) * STEP_S / HOUR_S, 2)


# ---------------------------------------------------------------- lives


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_one_life_of_a_day_and_another_seed_another(kind: str) -> None:
    one, again, other = life(kind, 3), life(kind, 3), life(kind, 4)
    assert one == again
    assert one.stretches != other.stretches
    assert one.ends_s == DAY_S
    assert all(before.to_s == after.from_s for before, after in zip(one.stretches, one.stretches[1:], strict=False))
    assert observed(one, 300.0) == observed(again, 300.0)
    assert {one.needed for one in observed(one, 300.0)} == {True, False}


def test_what_is_published_is_what_is_drawn_from() -> None:
    assert len(published.utilization("util_gpu_seren")) > 500
    assert min(published.utilization("util_gpu_philly")) > published.BUSY_ABOVE_PCT
    assert 5 < published.pauses().median < 10
    assert published.watts_at(0.05) < 70
    assert published.watts_at(0.95) > 300
    assert all(gap_s >= 120 for _, gap_s in left_out())


def test_a_look_tells_what_happened_and_a_gpu_that_does_nothing_is_seen() -> None:
    seen = looks(made((1, replace(AT_WORK, gpus=1), True), gpus=2))
    assert all(one.gpus[0].highest == 80 and one.gpus[1].highest <= 1 for one in seen)
    assert 0.7 < sum(one.gpus[0].newest == 80 for one in seen) / len(seen) <= 1


def test_faint_use_is_each_limits_own_and_reaches_the_readings() -> None:
    kinds = [life(FAINT, seed) for seed in range(len(FAINT_KINDS))]
    memory, gpu_memory, energy, unread = (observed(one, 30.0) for one in kinds[3:7])
    assert max(one.grown_mib for one in memory) > 1
    assert max(one.mib for one in gpu_memory) > 700
    assert 100 < sum(one.late for one in energy) < 500
    assert 0.02 < sum(one.unread for one in unread) / len(unread) < 0.65
    assert not any(one.unread or one.late or one.grown_mib for one in observed(life("training", 1), 30.0))


def test_what_a_look_lacks_is_lacking_in_its_reading() -> None:
    plain, late = seen(0)._replace(at_s=30.0), seen(0)._replace(at_s=60.0, late=True, watts=100.0)
    scribe = Scribe(editor=False, notebook=False, server=False, zero_s=1000.0)
    told = list(scribe.readings([plain, late, plain._replace(at_s=90.0, unread=True)], 30.0))
    gpu = [one for one in told if one.signal == "gpu"]
    facts: Any = gpu[1].facts["gpus"]
    assert (gpu[1].covers_s, facts[0]["covered_s"], facts[0]["energy_span_s"]) == (15, 15, 30)
    assert facts[0]["power_mean_w"] == 100.0
    assert gpu[2].error == "the driver does not answer"
    assert all(one.error is None and one.covers_s != 15 for one in told if one.signal != "gpu")


def test_a_limit_that_is_moved_is_put_back() -> None:
    before = sight.LEAST_COVERAGE
    [moved] = [
        one
        for _, name, _, told in sensitive._limits()
        if name.startswith("coverage")
        for one in told
        if one.value == "30"
    ]
    cost_of = sensitive._cost([FAINT], [6], moved)
    assert (cost_of.days, sight.LEAST_COVERAGE) == (1.0, before)


def test_what_lies_between_two_limits_is_counted_and_whether_it_decides() -> None:
    rows = [{"t_s": str(at_s), "util_pct": str(percent)} for at_s, percent in ((0, 4), (900, 4), (950, 6), (2000, 3))]
    assert band._band("made", rows) == band.Band("made", samples=4, between=2, alone=1)
    assert 0 < band.share_between("util_gpu_seren") < band.share_between("util_gpu_philly") < 0.02
    assert sum(one.samples for one in band.recorded()) > 9000


# ---------------------------------------------------------------- rules


def idle_after_an_hour(**more: object) -> PodLife:
    return made((1, AT_WORK, True), (9, Doing(), False), **more)


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("never", None),
        ("sleep 2h", 2.0),
        ("mean GPU", 1.17),
        ("max GPU", 1.5),
        ("GPU < 5 %", 2.0),
        ("any GPU", 1.5),
        ("GPU, core", 2.05),
        ("API", 2.0),
        ("nobody connected", 0.5),
        ("CPU, GPU, net", 1.5),
    ],
)
def test_each_rule_stops_when_its_authors_say(name: str, hours: float | None) -> None:
    one = idle_after_an_hour()
    assert at_hours(one, rule(name).stop(looks(one), 0, STEP_S)) == pytest.approx(hours, abs=0.04)


def test_a_rule_begins_anew_with_each_start() -> None:
    one = made((10, Doing(), False))
    assert rule("max GPU").stop(looks(one), 120, STEP_S) == 120 + 29


def seen(*newest: float, **more: Any) -> Seen:
    [one] = looks(made((1 / 60, Doing(), False)))
    return one._replace(gpus=tuple(Gpu(pct, pct, pct) for pct in newest), **more)


def test_the_traps_of_the_rules_are_theirs() -> None:
    assert rule("mean GPU").quiet(seen(0, 0, 0, 0, 0, 0, 0, 30)) == [True], "a mean hides one busy GPU of eight"
    assert rule("any GPU").quiet(seen(0, 90)) == [True, False], "each GPU has its own clock"
    assert rule("GPU < 5 %").quiet(seen(0, 0)) == [False], "with two GPUs its comparison fails"
    assert rule("GPU max 0").quiet(seen(0, watts=200.0)) == [False], "power vetoes"
    assert rule("GPU, core").quiet(seen(0, cpu_cores=0.2)) == [False]
    asleep = Connection(0.0, 9e9, answers_until_s=0.0)
    assert rule("nobody").quiet(seen(90, connected=asleep)) == [True], "it sees no work"
    assert rule("nobody").quiet(seen(0, connected=replace(asleep, answers_until_s=9e9))) == [False]


# ---------------------------------------------------------------- money


def test_idle_hours_are_paid_until_the_stop_and_a_restart_for_each_stop() -> None:
    one = idle_after_an_hour()
    told = cost(one, looks(one), STEP_S, lambda _looks, start: 119 if start == 0 else None)
    assert told == Cost(days=10 / 24, idle_usd=USD_PER_HOUR, stops=1, in_use=0, undone=0, lives_hurt=0)
    assert told.usd == USD_PER_HOUR + STAKES.restart_usd
    never = cost(one, looks(one), STEP_S, lambda *_: None)
    assert never.idle_usd == pytest.approx(9 * USD_PER_HOUR)


def test_a_stop_in_use_is_started_again_after_a_restart_and_one_that_was_too_soon_is_told() -> None:
    one = made((1, AT_WORK, True), (0.5, Doing(), False), (1, AT_WORK, True))
    starts = []

    def stop(_: Sequence[Seen], start: int) -> int | None:
        starts.append(start)
        return {0: 29, 29 + round(RESTART_S / STEP_S): 69}.get(start)

    told = cost(one, looks(one), STEP_S, stop)
    assert starts == [0, 39, 90]
    assert (told.stops, told.in_use, told.undone, told.lives_hurt) == (2, 1, 1, 1)
    assert told.idle_usd == pytest.approx(10 / 60 * USD_PER_HOUR)


def test_hindsight_waits_out_what_is_shorter_than_the_break_even() -> None:
    short, long = 0.25, 8.0
    one = made((1, AT_WORK, True), (short, Doing(), False), (1, AT_WORK, True), (long, Doing(), False))
    assert optimum_usd(one) == pytest.approx(short * USD_PER_HOUR + STAKES.restart_usd)
    assert short < STAKES.restart_s / HOUR_S < long


def test_who_knows_the_truth_waits_only_where_it_is_not_needed() -> None:
    one = idle_after_an_hour()
    assert at_hours(one, all_knowing(1800.0, STEP_S)(looks(one), 0)) == pytest.approx(1.5, abs=0.03)


# ---------------------------------------------------------------- the product


@pytest.mark.parametrize(
    ("doing", "more"),
    [
        (AT_WORK, {}),
        (Doing(cpu_cores=1.0, job="python3"), {}),
        (Doing(moved=3e6, network=3e6), {}),
        (Doing(keys_per_min=60), {"connections": [Connection(0.0, DAY_S, DAY_S)]}),
        (Doing(keys_per_min=60), {"connections": [Connection(0.0, DAY_S, DAY_S)], "editor": True}),
        (Doing(cells_per_min=1), {"notebook": True}),
        (Doing(busy_kernel=True, cpu_cores=1.0), {"notebook": True}),
        (Doing(asked_per_min=2, bursts_per_min=2, peak_pct=90, share=0.2), {"server": True}),
        (Doing(commands_per_min=1), {}),
    ],
)
def test_each_kind_of_use_reaches_the_real_judges(doing: Doing, more: dict[str, object]) -> None:
    one = made((3, doing, True), **more)
    assert Product().stop(one, observed(one, 30.0), 0, 30.0) is None


def test_a_pod_that_nobody_uses_is_stopped_after_its_limit_and_the_warning() -> None:
    one = idle_after_an_hour()
    stop = Product().stop(one, observed(one, 30.0), 0, 30.0)
    assert stop is not None
    assert 95 <= (stop + 1) / 2 <= 98
    longer = Product(variables={"IDLEWATCH_IDLE_AFTER": "2h"}).stop(one, observed(one, 30.0), 0, 30.0)
    assert longer == stop + 180


def test_it_is_started_again_at_the_look_after_its_stop() -> None:
    one = made((4, Doing(), False))
    assert Product().stop(one, observed(one, 30.0), 240, 30.0) == pytest.approx(240 + 72, abs=3)


def test_other_limits_reach_the_judges() -> None:
    def blind(_: Surroundings) -> Signal | None:
        return None

    one = made((3, AT_WORK, True))
    without = Product(factories={**SIGNALS, "gpu": blind})
    assert without.stop(one, observed(one, 30.0), 0, 30.0) is not None


# ---------------------------------------------------------------- auto


@pytest.mark.parametrize("kind", ["training", "download", "inference"])
def test_the_learned_wait_keeps_the_bound_on_days_that_nothing_was_chosen_on(kind: str) -> None:
    told = learned(kind, used(kind, first=77, days=8), STAKES)
    assert told.gaps > 20
    assert told.auto_s <= 2 * told.hindsight_s
    assert told.auto_s <= 1.05 * told.even_s
    assert told.hindsight_s <= told.best_fixed_s <= told.even_s


def test_with_too_little_history_it_is_the_break_even() -> None:
    some = [(1_761_955_200.0 + 9 * 3600 * place, 900.0 if place % 2 else 8 * HOUR_S) for place in range(19)]
    told = learned("few", some, STAKES)
    assert told.auto_s == told.even_s > told.fixed_s > told.hindsight_s


# ---------------------------------------------------------------- words


def test_the_table_says_what_was_counted() -> None:
    row = Row("rule", by_kind={"a": Cost(2.0, 10.0, 4, 1, 2, 1), "b": Cost(2.0, 0.0, 0, 0, 0, 0)})
    table = Table([row], {"a": 4.0, "b": 4.0})
    usd = 10.0 + 4 * STAKES.restart_usd
    assert f"| rule | 2.50 | 1.00 | 1 | 2 | {usd / 4:.2f} | {usd / 8:.2f} |" in list(lines(table))
    assert f"| rule | {usd / 2:.1f} (1 in use) | 0.0 |" in list(kind_lines(table))


@pytest.mark.slow
def test_the_whole_of_it_runs_and_the_product_stops_nobody_in_a_training() -> None:
    table = measured([1], ["training"])
    assert table.row("idlewatch").total.in_use == 0
    assert table.row("mean GPU <= 5 % for 10 min").total.in_use > 0
    assert table.row("never").total.stops == 0
