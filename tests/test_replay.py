"""Lives that are lived again: what files mean, what is wrong with them, and what the policy makes of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from idlewatch.errors import SignalError
from idlewatch.history import recording
from idlewatch.history.archive import keep_on_volume
from idlewatch.history.store import History
from idlewatch.history.verdicts import Span
from idlewatch.model import Action, Activity, Finding, Hold, Json, Reading, Signal, Surroundings
from idlewatch.replay import BadFile, Life, Lived, Story, read_story, relive
from idlewatch.replay.facts import Pen, with_likes
from idlewatch.replay.life import HELD
from idlewatch.replay.recorder import Recorder, new_file, record
from idlewatch.replay.stretches import pieces, written_out
from idlewatch.replay.tape import together
from idlewatch.settings import Source, load

BOOT = 1000.0
WALL = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Plain:
    """A signal whose facts are its verdict: `use`, and what else a finding can have."""

    name: str = "host"
    refines: bool = False
    judged: list[Reading] = field(default_factory=list)

    def read(self, now_s: float) -> Reading:
        raise AssertionError("a replay reads nothing")

    def judge(self, reading: Reading) -> Finding:
        self.judged.append(reading)
        use = bool(reading.facts.get("use"))
        return Finding(
            signal=self.name,
            activity=Activity.ACTIVE if use else Activity.QUIET,
            reason=f"use {use}",
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=reading.at_s if use else None,
            bars=bool(reading.facts.get("bars")),
        )

    def close(self) -> None: ...


FACTORIES: Mapping[str, Callable[[Surroundings], Signal | None]] = {
    "host": lambda _: Plain(),
    "people": lambda _: Plain("people", refines=True),
}


def readings(spans: Sequence[tuple[float, bool]], every_s: float = 5.0, signal: str = "host") -> list[Reading]:
    """Minutes and whether in use, one after the other, from BOOT on."""
    found, at_s = [], BOOT
    for minutes, use in spans:
        end_s = at_s + minutes * MINUTE
        while at_s < end_s:
            at_s += every_s
            found.append(Reading(signal=signal, at_s=at_s, covers_s=every_s, facts={"use": use}))
    return found


def life(spans: Sequence[tuple[float, bool]], **more: Any) -> Life:
    told = readings(spans)
    return Life(**{"started_s": BOOT, "ends_s": told[-1].at_s, "readings": told, **more})


def lived(one: Life, *, until_stopped: bool = True, **variables: str) -> Lived:
    named = {f"IDLEWATCH_{name.upper()}": value for name, value in variables.items()}
    settings = load([Source(name="test", variables=named)]).settings
    return relive(one, lambda: [Plain()], settings, until_stopped=until_stopped)


def after(one: Lived, action: Action) -> list[float]:
    """Minutes since the start at which that was decided."""
    return [round((at_s - BOOT) / MINUTE, 1) for at_s in one.when(action)]


# ---------------------------------------------------------------- living again


def test_an_idle_pod_is_warned_and_stopped_on_time() -> None:
    told = lived(life([(10, True), (60, False)]))
    assert after(told, Action.WARN) == [40.0]
    assert after(told, Action.SAVE) == [45.0]
    assert after(told, Action.STOP) == pytest.approx([45.1], abs=0.2)
    assert {look.pod for look in told.looks if look.at_s <= BOOT + 600} == {"unknown", "active"}


def test_a_stop_ends_it_or_is_only_noted() -> None:
    spans = [(60, False), (10, True), (60, False)]
    assert len(after(lived(life(spans)), Action.STOP)) == 1
    told = lived(life(spans), until_stopped=False)
    assert after(told, Action.STOP) == pytest.approx([35.1, 105.1], abs=0.2)


def test_other_settings_judge_otherwise() -> None:
    assert after(lived(life([(60, False)]), idle_after="20m", warn_for="1m"), Action.WARN) == [20.0]
    assert after(lived(life([(60, False)]), max_uptime="30m", idle_after="0"), Action.STOP) == [30.1]


def test_a_hold_keeps_it_up_while_it_lasts() -> None:
    hold = Hold(id="a", who="ann", reason="reads", until_s=BOOT + 90 * MINUTE)
    told = lived(life([(120, False)], holds=[(BOOT + 20 * MINUTE, hold)]))
    assert after(told, Action.WARN) == [90.0]
    held = [look for look in told.looks if look.pod == "held"]
    assert held[0].decisive == "hold: ann: reads"
    assert [span.verdict for span in told.spans if span.name == "hold"] == ["held"]


def test_in_working_hours_it_is_given_longer() -> None:
    began = WALL - timedelta(seconds=BOOT)  # 9:00 at the start
    variables = {"working_hours": "Fri 08:00-09:50", "working_idle_after": "2h"}
    told = lived(life([(70, False)], began_at=began), until_stopped=True, **variables)
    assert after(told, Action.WARN) == [50.0]


def test_a_budget_needs_a_price_and_is_a_ceiling() -> None:
    spans = [(120, True)]
    assert after(lived(life(spans), budget_usd="2"), Action.STOP) == []
    told = lived(life(spans), budget_usd="2", usd_per_hour="2")
    assert after(told, Action.STOP) == pytest.approx([60.0], abs=0.5)


def test_time_in_which_nobody_looked_does_not_count() -> None:
    quiet = [one for one in readings([(90, False)]) if not BOOT + 600 <= one.at_s < BOOT + 1800]
    told = lived(life([(90, False)], readings=quiet, asleep=[(BOOT + 600, BOOT + 1800)]))
    assert after(told, Action.WARN) == pytest.approx([60.0], abs=0.2)
    assert not [look for look in told.looks if BOOT + 605 < look.at_s < BOOT + 1800]


def test_a_daemon_that_is_started_again_warns_again_and_its_judges_look_back() -> None:
    made: list[Plain] = []

    def make() -> list[Signal]:
        made.append(Plain())
        return [made[-1]]

    at_s = BOOT + 33 * MINUTE
    one = life([(60, False)], asleep=[(at_s - 30, at_s)], restarts=[at_s])
    told = relive(one, make, load([]).settings)
    assert after(told, Action.WARN) == pytest.approx([30.0, 33.0], abs=0.2)
    assert after(told, Action.STOP) == pytest.approx([38.1], abs=0.2)
    assert len(made) == 2
    assert made[1].judged[0].at_s == pytest.approx(at_s - 15 * MINUTE, abs=10)


def test_a_save_may_take_long_and_be_called_off() -> None:
    told = lived(life([(40, False), (5, True)], save_takes_s=600.0))
    assert after(told, Action.SAVE) == [35.0]
    assert after(told, Action.CANCEL) == pytest.approx([40.1], abs=0.1)
    assert after(told, Action.STOP) == []


def test_longer_ticks_than_readings_lose_no_evidence_and_no_seen_time() -> None:
    """A keystroke between two ticks counts, at its own instant; what was seen in between was seen."""
    spans = [(10, False), (1 / 12, True), (60, False)]
    often, seldom = lived(life(spans)), lived(life(spans), interval="2m")
    assert after(seldom, Action.WARN) == pytest.approx(after(often, Action.WARN), abs=2.1)
    assert "active" in {look.pod for look in seldom.looks}


def finding(activity: Activity, from_s: float, to_s: float, **more: Any) -> Finding:
    return Finding(signal="x", activity=activity, reason=activity.value, seen_from_s=from_s, seen_to_s=to_s, **more)


def test_findings_told_together_keep_activity_pauses_and_holes() -> None:
    quiet = finding(Activity.QUIET, 0, 5)
    assert together([quiet]) is quiet
    busy = finding(Activity.ACTIVE, 5, 10, evidence_s=7.0)
    told = together([quiet, busy, finding(Activity.QUIET, 10, 15, bars=True)])
    assert (told.activity, told.evidence_s, told.seen_from_s, told.seen_to_s, told.bars) == (
        Activity.ACTIVE,
        7.0,
        0.0,
        15.0,
        True,
    )
    assert together([quiet, finding(Activity.QUIET, 8, 12)]).seen_from_s == 8.0
    assert together([quiet, finding(Activity.UNKNOWN, 0, 0), finding(Activity.QUIET, 5, 10)]).seen_from_s == 5.0
    assert together([quiet, finding(Activity.UNKNOWN, 5, 10), finding(Activity.QUIET, 10, 15)]).seen_from_s == 10.0
    assert together([finding(Activity.QUIET, 0, 5, pauses=True), finding(Activity.QUIET, 5, 10)]).pauses


# ---------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", 1600.0),
        ("now-40s", 1560.0),
        ("now+1m", 1660.0),
        ("at 5m", 1300.0),
        ("at -5m", 700.0),
        ("since 5m", 300.0),
        ("0.5/s", 7.5),
        ("none", None),
        ("nowhere", "nowhere"),
        ("at the door", "at the door"),
        ("a+b/s", "a+b/s"),
        (0, 0),
        (True, True),
    ],
)
def test_how_a_fact_is_written(said: object, meant: Json) -> None:
    assert Pen(BOOT).written("host", {"fact": [{"deep": said}]}, 1600.0, 15.0) == {"fact": [{"deep": meant}]}


def test_an_amount_over_nothing_is_not_known() -> None:
    assert Pen(BOOT).written("host", {"cpu_s": "1/s"}, BOOT, 0.0) == {"cpu_s": None}


def test_a_counter_goes_on_wherever_its_object_stands() -> None:
    pen = Pen(BOOT)

    def bytes_at(at_s: float, said: str, place: int) -> Json:
        others = [{"id": "other", "bytes": 1}] * place
        facts = pen.written("people", {"connections": [*others, {"id": "c", "bytes": said}]}, at_s, 15.0)
        connections: Any = facts["connections"]
        return connections[place]["bytes"]  # type: ignore[no-any-return]  # JSON of our own

    assert [bytes_at(BOOT, "100+2/s", 0), bytes_at(BOOT + 10, "100+2/s", 1)] == [100.0, 120.0]
    assert bytes_at(BOOT + 20, "+50/s", 0) == 620.0
    assert Pen(BOOT).written("x", {"a": "+5/s"}, BOOT, 0.0) == {"a": 0.0}


def test_a_table_like_another() -> None:
    likes: dict[str, dict[str, Any]] = {"a": {"x": 1, "y": 2}, "b": {"like": "a", "y": 3}}
    assert with_likes([{"like": "b", "z": {"like": "a"}}], likes) == [{"x": 1, "y": 3, "z": {"x": 1, "y": 2}}]
    with pytest.raises(ValueError, match=r"no \[like.c\]"):
        with_likes({"like": "c"}, likes)
    with pytest.raises(ValueError, match="like itself"):
        with_likes({"like": "c"}, {"c": {"like": "c"}})


# ---------------------------------------------------------------- stretches


def written(*stretches: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> list[tuple[float, float, Any]]:
    """Instant after the start, seconds covered, and facts (or error, or absent)."""
    told = [piece for stretch in stretches for piece in pieces(stretch, base or {}, ("host", "people"))]
    return [
        (one.at_s - BOOT, one.covers_s, one.error or one.absent or dict(one.facts))
        for one in written_out(told, BOOT).readings
    ]


def test_a_stretch_has_a_reading_at_its_beginning_and_each_15_s() -> None:
    told = written({"lasts": "40s", "host": {"a": 1}}, {"lasts": "20s", "every": "20s", "host": {"b": 2}}, base={})
    assert [each[:2] for each in told] == [(0, 0), (15, 15), (30, 15), (40, 10), (60, 20)]
    assert [each[2] for each in told][-2:] == [{"a": 1}, {"b": 2}]


def test_a_pattern_is_repeated_until_the_stretch_is_over() -> None:
    pattern = [{"lasts": "15s"}, {"lasts": "30s", "host": {"a": 2}}]
    told = written({"lasts": "75s", "pattern": pattern}, base={"host": {"a": 1, "b": 0}})
    assert [(at_s, facts["a"]) for at_s, _, facts in told] == [(0, 1), (15, 1), (30, 2), (45, 2), (60, 1), (75, 2)]
    assert all(facts["b"] == 0 for _, _, facts in told)


def test_what_could_not_be_read_hides_the_base_and_the_next_reading_covers_the_gap_up_to_its_cap() -> None:
    base = {"host": {"a": 1}}
    lost = {"lasts": "60s", "host": {"error": "lost"}}
    told = written({"lasts": "15s"}, lost, {"lasts": "15s"}, base=base)
    assert [each[2] for each in told] == [{"a": 1}, {"a": 1}, "lost", "lost", "lost", "lost", {"a": 1}]
    assert told[-1][1] == 75
    assert written({"lasts": "15s"}, lost, {"lasts": "15s"}, base={"host": {"a": 1, "covers": "15s"}})[-1][1] == 15
    assert [each[2] for each in written({"lasts": "15s", "host": {"a": 1}}, base={"host": {"absent": "none"}})] == [
        {"a": 1},
        {"a": 1},
    ]
    assert written({"lasts": "15s", "host": {"silent": True}}, base=base) == []


def test_asleep_nothing_is_read_and_a_new_daemon_has_nothing_to_compare_with() -> None:
    base = {"host": {"a": 1}}
    assert written({"lasts": "15s"}, {"lasts": "60s", "asleep": True}, {"lasts": "15s"}, base=base)[-1][:2] == (90, 75)
    asleep = {"lasts": "60s", "asleep": True, "restarted": True}
    told = written({"lasts": "15s"}, asleep, {"lasts": "15s"}, base=base)
    assert [each[:2] for each in told[-2:]] == [(75, 0), (90, 15)]


# ---------------------------------------------------------------- scenario files

GOOD = """scenario = 1
id = "X1"
title = "nobody"
source = "here"

[settings]
IDLEWATCH_INTERVAL = "15s"

[base.host]
use = false

[[stretch]]
lasts = "10m"

[[stretch]]
lasts = "1h"

[[hold]]
at = "5m"
for = "10m"
who = "ann"

[[expect]]
from = "30m"
to = "40m"
stopped = true
"""


def scenario(folder: Path, text: str = GOOD, name: str = "x.toml") -> Story:
    path = folder / name
    path.write_text(text)
    return read_story(path, ("host", "people"))


def unmet(folder: Path, text: str) -> list[str]:
    told = scenario(folder, text)
    return told.unmet(told.relived(told.loaded(), FACTORIES))


@pytest.mark.parametrize("facts", ["gpus = [{ util_mean_pct = 180 }]", "gpus = [{ engines_max_pct = { sm = -3 } }]"])
def test_a_scenario_with_a_utilization_that_is_none_is_refused(tmp_path: Path, facts: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace('lasts = "1h"', f'lasts = "1h"\ngpu.{facts}', 1))
    with pytest.raises(BadFile, match=r"x.toml:15: \w+_pct: (180|-3) is no utilization in percent of one GPU"):
        read_story(path, ("host", "people", "gpu"))


def test_a_scenario_is_understood(tmp_path: Path) -> None:
    told = scenario(tmp_path)
    assert (told.id, told.title, told.source, told.signals) == ("X1", "nobody", "here", ("host",))
    assert told.life.ends_s - told.life.started_s == 70 * MINUTE
    assert unmet(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("wrong", "right", "line", "words"),
    [
        ("scenario = 1", "scenario = 2", 1, "begins with `scenario = 1`"),
        ('title = "nobody"', "titel = 3", 3, "titel: there is no such key"),
        ('title = "nobody"', "", 1, "title: write a text"),
        ('id = "X1"', 'id = "X1', 2, ""),
        ("IDLEWATCH_INTERVAL", "IDLEWATCH_INTERVALL", 7, "did you mean IDLEWATCH_INTERVAL?"),
        ('"15s"', '"15"', 7, "IDLEWATCH_INTERVAL"),
        ("IDLEWATCH_INTERVAL", "PATH", 7, "neither a setting"),
        ("[base.host]", "[base.hosts]", 9, "no such signal"),
        ('lasts = "1h"', 'lasts = "1"', 16, "1m or 1s"),
        ('lasts = "1h"', 'last = "1h"', 15, "has no lasts"),
        ('lasts = "1h"', 'lasts = "1h"\nhots = {}', 17, "hots: there is no such signal"),
        ('lasts = "1h"', 'lasts = "1h"\nrestarted = true', 17, "only an `asleep` stretch"),
        ('lasts = "1h"', 'lasts = "1h"\nhost = { like = "y" }', 15, "no [like.y]"),
        ('for = "10m"', 'fro = "10m"', 20, "fro: there is no such key"),
        ('for = "10m"', 'for = "10"', 20, "not a duration"),
        ("stopped = true", "stoped = true", 26, "stoped: there is no such key"),
        ("stopped = true", "stopped = 1", 26, "true or false"),
        ("stopped = true", 'pod = "busy"', 26, "active, held, unknown, idle"),
        ("stopped = true", "", 23, "expects nothing"),
        ("stopped = true", "verdict = { gpu = 'idle' }", 23, "no such signal"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, wrong: str, right: str, line: int, words: str) -> None:
    assert wrong in GOOD
    with pytest.raises(BadFile) as told:
        scenario(tmp_path, GOOD.replace(wrong, right, 1))
    assert str(told.value).startswith(f"{tmp_path}/x.toml:{line}: ")
    assert words in str(told.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="No such file"):
        read_story(tmp_path / "no.toml", ())
    (tmp_path / "latin.toml").write_bytes(b"title = '\xe9'")
    with pytest.raises(BadFile, match=r"latin\.toml"):
        read_story(tmp_path / "latin.toml", ())
    with pytest.raises(BadFile, match=r"x.toml:2: include: there is no .*/no.toml"):
        scenario(tmp_path, 'scenario = 1\ninclude = ["no.toml"]\n')


def test_an_included_file_is_the_background_and_its_errors_are_its_own(tmp_path: Path) -> None:
    shared = tmp_path / "shared.toml"
    shared.write_text('[settings]\nIDLEWATCH_IDLE_AFTER = "10m"\n[base.people]\nuse = false\n[like.a]\nuse = true\n')
    text = GOOD.replace("\n[settings]", '\ninclude = ["shared.toml"]\n\n[settings]', 1)
    told = scenario(tmp_path, text.replace('lasts = "10m"', 'lasts = "10m"\nhost = { like = "a" }'))
    assert told.signals == ("host", "people")
    assert told.variables == {"IDLEWATCH_IDLE_AFTER": "10m", "IDLEWATCH_INTERVAL": "15s"}
    assert next(one.facts for one in told.life.readings if one.signal == "host") == {"use": True}
    shared.write_text("[expect]\n")
    with pytest.raises(BadFile, match=r"shared.toml:1: expect: there is no such key"):
        scenario(tmp_path, text)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ('stopped = false\nfrom = "20m"', "it was stopped after 35m"),
        ('stopped = true\nto = "10m"', "it was stopped after 35m"),
        ("cancelled = true", "it was cancelled never"),
        ("warned = false", "it was warned after 30m"),
        ('pod = "active"\nfrom = "1m"\nto = "4m"', "after 1m the Pod was idle (host: use False)"),
        ('pod = ["active", "unknown"]\nfrom = "6m"\nto = "7m"', "the Pod was held (hold: ann: no reason given)"),
        ('verdict = { host = ["active", "absent"] }', "after 0s host was quiet"),
        ('verdict = { people = "quiet" }', "people was not there"),
        ('alarm = "blind:host"', "there was no alarm blind:host, but none at all"),
        ('reason = "use True"', "at its end it was idle (host: use False)"),
        ('pod = "idle"\nfrom = "65m"', "nobody looked"),
    ],
)
def test_an_expectation_that_is_not_met_says_what_was(tmp_path: Path, expected: str, words: str) -> None:
    failures = unmet(tmp_path, GOOD.replace('from = "30m"\nto = "40m"\nstopped = true', expected))
    assert len(failures) == 1
    assert words in failures[0]


@pytest.mark.parametrize(
    "expected",
    [
        'stopped = false\nto = "34m"',
        'warned = true\nfrom = "30m"\nto = "30m"',
        'pod = ["idle", "held"]',
        'verdict = { host = "quiet" }\nreason = "use False"',
        'no_alarm = ["blind:host"]',
        "cancelled = false",
    ],
)
def test_an_expectation_that_is_met_says_nothing(tmp_path: Path, expected: str) -> None:
    assert unmet(tmp_path, GOOD.replace('from = "30m"\nto = "40m"\nstopped = true', expected)) == []


def test_an_alarm_is_expected_by_its_name(tmp_path: Path) -> None:
    blind = GOOD.replace('lasts = "1h"', 'lasts = "1h"\nhost = { error = "lost" }')
    expected = 'from = "30m"\nto = "40m"\nstopped = true'
    assert unmet(tmp_path, blind.replace(expected, 'alarm = "blind:host"\nto = "26m"')) == []
    assert (
        "there was an alarm blind:host: host not seen"
        in unmet(tmp_path, blind.replace(expected, 'no_alarm = "blind:host"'))[0]
    )


# ---------------------------------------------------------------- recordings


def lines(*told: Reading, **head: Json) -> list[dict[str, Any]]:
    first = {"recording": 1, "pod_id": "p1", "started_s": BOOT, "settings": {}, **head}
    return [first, *({"reading": recorded_reading(one), "at": wall(one.at_s)} for one in told)]


GPU_AT: dict[str, Any] = {"signal": "gpu", "at_s": BOOT, "covers_s": 5.0}


def recorded_reading(one: Reading) -> dict[str, Any]:
    return {"signal": one.signal, "at_s": one.at_s, "covers_s": one.covers_s, "facts": {**one.facts}}


def wall(at_s: float) -> str:
    return (WALL + timedelta(seconds=at_s - BOOT)).isoformat()


def recorded(folder: Path, told: Sequence[Mapping[str, Any]], name: str = "x.jsonl") -> Story:
    path = folder / name
    text = "".join(f"{json.dumps(line)}\n" for line in told)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_story(path, tuple(FACTORIES))


def relived(told: Story, **overrides: str) -> Lived:
    named = {f"IDLEWATCH_{name.upper()}": value for name, value in overrides.items()}
    return told.relived(told.loaded(named), FACTORIES)


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_recording_is_judged_as_it_was_and_by_other_settings(tmp_path: Path, name: str) -> None:
    told = recorded(tmp_path, lines(*readings([(60, False), (5, True)])), name)
    assert (told.id, told.title, told.recorded) == ("x", "recording of Pod p1", True)
    assert after(relived(told), Action.WARN) == [30.1]
    assert after(relived(told, idle_after="20m"), Action.WARN) == [20.1]
    assert told.life.wall(BOOT) == WALL


def test_a_recording_goes_on_after_a_stop_that_would_have_been_made(tmp_path: Path) -> None:
    again = relived(recorded(tmp_path, lines(*readings([(60, False), (5, True), (60, False)]))))
    assert len(after(again, Action.STOP)) == 2


def test_what_a_daemon_keeps_of_a_boot_can_be_replayed(tmp_path: Path) -> None:
    history = History(tmp_path)
    for one in readings([(60, False)]):
        history.saw([one], WALL + timedelta(seconds=one.at_s - BOOT))
    history.judged([Span("hold", BOOT + 600, BOOT + 2700, "held", reason="ann: reads; bob: waits")])
    history.happened("warn", "quiet", at_s=BOOT + 1, wall=WALL, facts={})
    history.close()
    head: dict[str, Json] = {
        "pod_id": "p1",
        "boot_key": "p1@1",
        "started_s": BOOT,
        "settings": {"IDLEWATCH_WARN_FOR": "1m", "RUNPOD_GPU_COUNT": "0"},
    }
    kept = keep_on_volume(tmp_path / "pod", tmp_path, recording.name_of(WALL, "p1@1"), head)
    told = read_story(kept, tuple(FACTORIES))
    again = relived(told)
    assert after(again, Action.WARN) == pytest.approx([45.0], abs=0.2)
    assert after(again, Action.STOP) == pytest.approx([46.1], abs=0.2)
    assert {look.decisive for look in again.looks if look.pod == "held"} == {"hold: ann: reads; bob: waits"}


@pytest.mark.slow
def test_a_learned_wait_is_learned_again_from_the_recording_alone(tmp_path: Path) -> None:
    day: list[tuple[float, bool]] = [(1, True), *[(9, False), (1, True)] * 8, (24 * 60 - 82, False)]
    told = list(readings(day * 4, every_s=60.0))
    story = recorded(tmp_path, lines(*told, whole=True), "x.jsonl.gz")
    again = relived(story, idle_after="auto", usd_per_hour="2.5", interval="60s")
    warned = [at_s % (24 * 60) - 80 for at_s in after(again, Action.WARN)]
    assert warned == pytest.approx([57, 57, 10, 10], abs=2), (
        "after three days it knows that nobody is away for 9 min only"
    )
    assert len(after(relived(story, idle_after="auto", interval="60s"), Action.WARN)) == 4, "30m without a price"


def test_the_recordings_settings_hold_unless_others_are_set(tmp_path: Path) -> None:
    told = recorded(tmp_path, lines(*readings([(60, False)]), settings={"IDLEWATCH_IDLE_AFTER": "40m"}))
    assert after(relived(told), Action.WARN) == [40.1]
    assert after(relived(told, idle_after="10m", boot_grace="0"), Action.WARN) == [10.1]
    assert after(relived(told, ignore="host"), Action.WARN) == []


def test_a_gap_is_time_in_which_nobody_looked(tmp_path: Path) -> None:
    told = [one for one in readings([(90, False)]) if not BOOT + 600 < one.at_s < BOOT + 1200]
    again = relived(recorded(tmp_path, lines(*told)))
    assert not [look for look in again.looks if BOOT + 606 < look.at_s < BOOT + 1200]
    assert after(again, Action.WARN) == pytest.approx([49.6], abs=0.3)  # when 80 % of the time was seen


def test_of_a_daemons_long_history_only_its_full_detail_is_judged_anew(tmp_path: Path) -> None:
    day = 24 * 60.0
    told = readings([(4 * day, True)], every_s=600.0)
    story = recorded(tmp_path, lines(*told))
    assert next(iter(story.life.readings)).at_s == told[-1].at_s - 3 * 86400.0
    assert "older than 3 days" in story.notes[0]
    whole = recorded(tmp_path, lines(*told, whole=True))
    assert (next(iter(whole.life.readings)).at_s, whole.notes) == (told[0].at_s, ())


def test_signals_that_are_not_known_here_are_named_and_left_out(tmp_path: Path) -> None:
    told = recorded(tmp_path, lines(*readings([(1, False)]), *readings([(1, True)], signal="mine")))
    assert told.signals == ("host",)
    assert told.notes == ("not judged, because there is no such signal here: mine",)


def test_a_last_line_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    recorded(tmp_path, lines(*readings([(60, False)])))
    path = tmp_path / "x.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    told = read_story(path, ("host",))
    assert "last line (721) is cut off" in told.notes[0]
    assert after(relived(told), Action.WARN) == [30.1]


@pytest.mark.parametrize(
    ("place", "line", "words"),
    [
        (0, {"recording": 9}, "or a newer one"),
        (0, {"recording": 1, "settings": {"IDLEWATCH_IDEL_AFTER": "1m"}}, "did you mean IDLEWATCH_IDLE_AFTER?"),
        (0, {"recording": 1, "settings": 3}, ""),
        (2, {"reading": {"signal": "host"}}, "not a reading"),
        (2, {"reading": None}, ""),
        (2, {"reading": {**GPU_AT, "facts": {"gpus": [{"util_max_pct": 180}]}}}, "util_max_pct: 180 is no utilization"),
        (2, {"reading": {**GPU_AT, "facts": {"gpus": [{"engines_max_pct": {"sm": -3}}]}}}, "engines_max_pct: -3 is no"),
        (3, {"verdict": {"name": "hold", "reason": "x"}}, "to_s"),
        (4, [1], "it is no object"),
    ],
)
def test_what_is_wrong_with_a_recording_is_told_with_its_line(
    tmp_path: Path, place: int, line: Mapping[str, Any], words: str
) -> None:
    told: list[Any] = lines(*readings([(1, False)]))
    told[place] = line
    with pytest.raises(BadFile) as failure:
        recorded(tmp_path, told)
    assert str(failure.value).startswith(f"{tmp_path}/x.jsonl:{place + 1}: ")
    assert words in str(failure.value)


def test_a_recording_without_a_reading_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="it has no reading"):
        recorded(tmp_path, lines())
    with pytest.raises(BadFile, match=r"x\.jsonl:1: it is empty"):
        recorded(tmp_path, [])
    (tmp_path / "x.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(BadFile, match=r"x\.jsonl\.gz:1: can't be read"):
        read_story(tmp_path / "x.jsonl.gz", ("host",))


@pytest.mark.parametrize("end", [slice(-40), slice(None)])
def test_a_recording_that_is_torn_in_its_packing_is_read_up_to_there(tmp_path: Path, end: slice) -> None:
    """Its daemon was killed while it wrote: a cut member, or garbage where the next one was to be."""
    recorded(tmp_path, lines(*readings([(9, False)])), "y.jsonl.gz")
    path = tmp_path / "y.jsonl.gz"
    path.write_bytes(path.read_bytes()[end] + b"\x1f\x8b\x07" * (9 if end == slice(None) else 0))
    story = read_story(path, ("host",))
    assert "is cut off and left out" in story.notes[0]
    assert len(list(story.life.readings)) > 50


# ---------------------------------------------------------------- recording


@dataclass
class Ticking:
    """A clock that `sleep` moves, and that is asked to end after some ticks."""

    ticks: int
    at_s: float = BOOT

    def now_s(self) -> float:
        return self.at_s

    def wall(self) -> datetime:
        return WALL + timedelta(seconds=self.at_s - BOOT)

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds
        self.ticks -= 1

    def ended(self) -> bool:
        return self.ticks <= 0


@dataclass
class Seeing:
    """A signal that reads: a new reading each other tick, and once nothing."""

    file: Path
    name: str = "host"
    refines: bool = False
    closed: bool = False
    whole: list[bool] = field(default_factory=list)
    newest: Reading | None = None

    def read(self, now_s: float) -> Reading:
        self.whole.append(packed_text(self.file).endswith("}\n"))
        if now_s == BOOT + 10:
            raise SignalError("lost")
        if self.newest is None or now_s - self.newest.at_s >= 10:
            self.newest = Reading(signal=self.name, at_s=now_s, covers_s=10.0, facts={"use": False})
        return self.newest

    def judge(self, reading: Reading) -> Finding:
        raise AssertionError("recording judges nothing")

    def close(self) -> None:
        self.closed = True


def packed_text(path: Path) -> str:
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_what_is_recorded_is_whole_lines_at_any_time_and_can_be_replayed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    seeing = Seeing(path)
    with new_file(path) as file:
        recorder = Recorder(file, {"pod_id": None, "started_s": BOOT, "settings": {}}, packed=path.suffix == ".gz")
        seen = record(recorder, [seeing], Ticking(900), 5.0, HOUR)
    assert seeing.closed
    assert all(seeing.whole)
    assert seen.lasted_s > HOUR
    told = [json.loads(line) for line in packed_text(path).splitlines()]
    assert seen.readings == len(told) - 1 == 361
    assert told[0]["whole"] is True
    assert told[2]["reading"]["error"] == "lost"
    story = read_story(path, ("host",))
    assert story.title == "recording of a machine that is no Pod"
    assert after(relived(story), Action.WARN) == pytest.approx([30.2], abs=0.2)


def test_what_is_held_while_it_is_recorded_is_held_again(tmp_path: Path) -> None:
    path, lunch = tmp_path / "x.jsonl", Hold(id="1", who="sam", reason="lunch", until_s=0.0)

    def holds(now_s: float) -> list[Hold]:
        return [lunch] if 100 <= now_s - BOOT < 200 or 300 <= now_s - BOOT < 310 else []

    with new_file(path) as file:
        head: dict[str, Json] = {"pod_id": None, "started_s": BOOT, "settings": {}}
        record(Recorder(file, head, packed=False), [Seeing(path)], Ticking(100), 5.0, HOUR, holds)
    story = read_story(path, ("host",))
    assert [(since_s - BOOT, round(hold.until_s - BOOT, 1)) for since_s, hold in story.life.holds] == [
        (100, 195.0),
        (300, 305.0),
    ]
    held = [look for look in relived(story).looks if look.pod == HELD]
    assert [look.at_s - BOOT for look in held] == [*range(100, 200, 5), 300, 305]
    assert {look.decisive for look in held} == {"hold: sam: lunch"}


def test_a_recording_ends_with_a_shutdown_request_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with new_file(path) as file:
        seen = record(Recorder(file, {}, packed=False), [Seeing(path)], Ticking(3), 5.0, float("inf"))
    assert seen.lasted_s == 15.0
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        new_file(path)
