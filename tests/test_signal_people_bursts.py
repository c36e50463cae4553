"""Who uses an editor over SSH without a terminal: every burst of typing is seen, an editor's own hum never is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from idlewatch.deciding import policy, remembered
from idlewatch.deciding.moment import Moment
from idlewatch.model import Action, Activity, Finding, Reading, Surroundings
from idlewatch.signals.people import PeopleSignal
from idlewatch.signals.people_flow import BURST_BYTES, FLOOR_BYTES_PER_S
from tests.policy_life import LIMITS, finding
from tests.test_signal_people import NoKernel

BEGAN = 5_000.0
CAP_S = 3 * 3600.0
KEY_EXCHANGE_BYTES, KEEP_ALIVE_BYTES = 2780, 52
"""From the client, as OpenSSH 9.2 sent them."""
ABOVE = 1.1
"""Looks cut a hum's messages unevenly, so a burst that just reaches the floor may fall short by one of them."""


@dataclass(frozen=True)
class Burst:
    """So many bytes in so long, from an instant after the connection's beginning on."""

    at_s: float
    lasts_s: float
    count: float

    def sent_by(self, at_s: float) -> float:
        """Return what had come of it by an instant."""
        return self.count * min(1.0, max(0.0, (at_s - self.at_s) / self.lasts_s))


@dataclass(frozen=True)
class Hum:
    """Messages of one size in even steps."""

    count: int
    every_s: float

    def sent_by(self, at_s: float) -> float:
        return self.count * (at_s // self.every_s)


def judged(
    parts: list[Burst | Hum], looks_s: float, phase_s: float, until_s: float, cap_s: float = CAP_S
) -> Iterator[tuple[float, Finding]]:
    """Return each look's instant after the connection's beginning, and its finding."""
    signal, at_s = PeopleSignal(Surroundings(connected_for_s=cap_s), kernel=NoKernel()), phase_s - looks_s
    while at_s < until_s:
        sent = 4000 + round(sum(part.sent_by(max(0.0, at_s)) for part in parts))
        yield at_s, signal.judge(reading(BEGAN + at_s, sent if at_s >= 0 else None))
        at_s += looks_s


def reading(at_s: float, sent: int | None) -> Reading:
    connection = {
        "id": "c1",
        "kind": "ssh",
        "person": "alice from 203.0.113.7",
        "started_at_s": BEGAN,
        "terminal": False,
        "received_bytes": sent,
        "acked_bytes": 9000,
        "queued_bytes": 0,
        "retransmits": 0,
    }
    facts = {"counted_at_s": at_s, "unseen": None, "terminals": [], "connections": [connection] if sent else []}
    return Reading(signal="people", at_s=at_s, facts=json.loads(json.dumps(facts)))


def typing(gaps_s: list[float], lasts_s: float, count: float) -> list[Burst]:
    bursts, at_s = list[Burst](), 300.0
    for gap_s in gaps_s:
        bursts.append(Burst(at_s, lasts_s, count))
        at_s += lasts_s + gap_s
    return bursts


HUMS = st.builds(Hum, st.integers(0, 150), st.sampled_from([0.5, 1.0, 5.0, 10.0]))
VS_CODE = [Hum(KEEP_ALIVE_BYTES, 5.0), Hum(KEEP_ALIVE_BYTES, 5.0), Hum(3 * KEEP_ALIVE_BYTES, 60.0)]
"""Two connections that are kept alive, and a look at the latency each minute."""
LOOKS_S = st.sampled_from([5.0, 10.0, 14.7, 15.0, 20.0])


@pytest.mark.slow
@given(
    gaps_s=st.lists(st.floats(100, 1700), min_size=2, max_size=6),
    lasts_s=st.floats(0.5, 10),
    count=st.floats(ABOVE * BURST_BYTES, 100_000),
    hum=HUMS,
    looks_s=LOOKS_S,
    phase=st.floats(0, 0.999),
)
@example(gaps_s=[35.0] * 60, lasts_s=10.0, count=ABOVE * BURST_BYTES, hum=Hum(52, 5.0), looks_s=15.0, phase=1 / 3)
@example(gaps_s=[170.0] * 20, lasts_s=10.0, count=ABOVE * BURST_BYTES, hum=Hum(52, 5.0), looks_s=60.0, phase=1 / 12)
@example(gaps_s=[100.0] * 20, lasts_s=10.0, count=ABOVE * BURST_BYTES, hum=Hum(52, 5.0), looks_s=5.0, phase=0.5)
@settings(max_examples=60)
def test_every_burst_of_typing_is_a_sign_whatever_its_phase_against_the_looks(
    gaps_s: list[float], lasts_s: float, count: float, hum: Hum, looks_s: float, phase: float
) -> None:
    bursts = typing(gaps_s, lasts_s, count)
    until_s = bursts[-1].at_s + lasts_s + 2 * looks_s
    looks = list(judged([hum, *bursts], looks_s, phase * looks_s, until_s))
    signs = {f.evidence_s - BEGAN for _, f in looks if f.activity is Activity.ACTIVE and f.evidence_s is not None}
    for burst in bursts:
        ended_s = burst.at_s + burst.lasts_s
        assert any(burst.at_s <= sign_s <= ended_s + looks_s for sign_s in signs), burst


@pytest.mark.slow
@given(
    gaps_s=st.lists(st.floats(60, LIMITS.idle_after_s - 40), min_size=4, max_size=8),
    lasts_s=st.floats(0.5, 10),
    hum=HUMS,
    phase=st.floats(0, 14.9),
)
@settings(max_examples=40)
def test_who_types_once_in_each_idle_after_is_never_warned(
    gaps_s: list[float], lasts_s: float, hum: Hum, phase: float
) -> None:
    """Without a bar: their signs alone must do."""
    bursts = typing(gaps_s, lasts_s, ABOVE * BURST_BYTES)
    state = remembered.started(BEGAN)
    for at_s, found in judged([hum, *bursts], 15.0, phase, bursts[-1].at_s + 60, cap_s=1.0):
        now_s = BEGAN + at_s
        host = finding(now_s, Activity.QUIET, seen_from_s=now_s - 15, seen_to_s=now_s)
        state, decision = policy.decide(state, [host, found], Moment(now_s=now_s, uptime_s=now_s), LIMITS)
        assert decision.action is Action.WAIT, f"{at_s}: {decision}"


@pytest.mark.slow
@given(
    editor=st.sampled_from(
        [
            VS_CODE,
            [Hum(2 * KEEP_ALIVE_BYTES, 0.5)],  # a heartbeat twice a second
            [Hum(KEEP_ALIVE_BYTES, 10.0)],  # ServerAliveInterval
            [Hum(KEEP_ALIVE_BYTES, 60.0)],
        ]
    ),
    exchanged_s=st.floats(0, 3600),
    looks_s=LOOKS_S,
    phase=st.floats(0, 0.999),
)
@example(editor=VS_CODE, exchanged_s=0.0, looks_s=5.0, phase=1 / 16)
@settings(max_examples=20)
def test_an_editor_left_open_never_holds_past_the_cap(
    editor: list[Hum], exchanged_s: float, looks_s: float, phase: float
) -> None:
    exchanges = [Burst(exchanged_s + hour * 3600, 0.5, 1.25 * KEY_EXCHANGE_BYTES) for hour in range(5)]
    after_cap = [
        (at_s, found)
        for at_s, found in judged([*editor, *exchanges], looks_s, phase * looks_s, 5 * 3600)
        if at_s > CAP_S + looks_s
    ]
    held = [(at_s, found.reason) for at_s, found in after_cap if found.activity is not Activity.QUIET or found.bars]
    assert after_cap
    assert not held


@pytest.mark.parametrize("count", [BURST_BYTES - 10, BURST_BYTES + 10])
def test_the_floor_of_a_burst_is_the_floor_of_two_looks(count: float) -> None:
    assert BURST_BYTES == FLOOR_BYTES_PER_S * 30
    looks = judged([Burst(302.0, 5.0, count)], 15.0, 0.0, 330.0)
    assert any(found.activity is Activity.ACTIVE for at_s, found in looks if at_s > 120) is (count > BURST_BYTES)


def test_a_burst_is_one_sign_and_not_another_at_the_next_look() -> None:
    looks = list(judged([Burst(302.0, 5.0, 5 * BURST_BYTES)], 15.0, 0.0, 400.0))
    assert {f.evidence_s for at_s, f in looks if at_s > 120 and f.activity is Activity.ACTIVE} == {BEGAN + 315.0}


def test_smaller_bursts_are_a_sign_from_the_second_within_a_minute_on() -> None:
    looks = list(judged([Burst(302.0, 5.0, 3500), Burst(332.0, 5.0, 3500)], 15.0, 0.0, 350.0))
    assert [at_s for at_s, f in looks if at_s > 120 and f.activity is Activity.ACTIVE] == [345.0]


def test_after_an_hour_without_a_look_a_hum_that_is_a_little_louder_is_no_burst() -> None:
    signal = PeopleSignal(Surroundings(connected_for_s=1.0), kernel=NoKernel())
    sent = 4000
    for at_s in range(0, 1200, 15):
        sent += 15 * 20
        signal.judge(reading(BEGAN + at_s, sent))
    louder = signal.judge(reading(BEGAN + 1200 + 3600, sent + 3600 * 30))
    assert louder.activity is Activity.QUIET
    assert signal.judge(reading(BEGAN + 4815, sent + 3600 * 30 + 9000)).activity is Activity.ACTIVE
