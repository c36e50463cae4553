"""What the daemon sees and does, as people are told it: each kind once, alarms as they stand, nothing in observe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from idlewatch.children.tasks import TaskEnd
from idlewatch.deciding import remembered
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import State
from idlewatch.deciding.tick import Tick
from idlewatch.effects.observed import ObservedActions
from idlewatch.model import Action, Alarm, Cause, Decision, Json, Outcome, Reading
from idlewatch.notify.channel import Channel
from idlewatch.notify.limits import WITHIN_S
from idlewatch.stopping.in_memory import ends_with_the_stop
from idlewatch.telling.announcing import Announcer
from tests.notices import Heard, words


@dataclass
class Instant:
    """A task that delivers at the second look."""

    looked: int = 0

    def poll(self, now_s: float) -> TaskEnd | None:
        self.looked += 1
        return TaskEnd(result={}) if self.looked > 1 else None

    def end(self, within_s: float) -> None: ...


@dataclass
class Pod:
    """An announcer with one channel, and what it sent."""

    people: Heard = field(default_factory=Heard)
    sent: list[dict[str, Json]] = field(default_factory=list)

    def __post_init__(self) -> None:
        channels = [Channel("https://h", self.start)]
        self.announcer = Announcer(words=words(), people=self.people, channels=channels)

    def start(self, notice: dict[str, Json], now_s: float, within_s: float) -> Any:
        self.sent.append(notice)
        return Instant()

    def hears(
        self, *alarms: Alarm, troubles: Mapping[str, str] | None = None, now_s: float = 0.0, **moment: Any
    ) -> None:
        state = replace(remembered.started(0.0), troubles=dict(troubles or {}))
        self.announcer.hear(tick(alarms, state, Moment(now_s=now_s, uptime_s=now_s, **moment)))
        self.settles(now_s)

    def decides(self, action: Action, now_s: float = 0.0, snapshot: str | None = None) -> None:
        decision = Decision(action=action, reason="quiet for 30m", cause=Cause.IDLE, acts_at_s=now_s + 300)
        self.announcer.decided(decision, now_s, snapshot)
        self.settles(now_s)

    def settles(self, now_s: float) -> None:
        for _ in range(20):
            self.announcer.poll(now_s)

    def kinds(self) -> list[str]:
        return [str(notice["kind"]) for notice in self.sent]


def tick(alarms: Sequence[Alarm], state: State, moment: Moment, readings: Sequence[Reading] = ()) -> Tick:
    return Tick(
        moment=moment,
        readings=readings,
        findings=(),
        decision=Decision(action=Action.WAIT, reason="x"),
        state=state,
        outcome=None,
        alarms=alarms,
    )


def test_an_end_sequence_is_told_from_the_warning_to_the_stop_and_the_stop_once() -> None:
    pod = Pod()
    pod.hears(spent_usd=2.0, usd_per_hour=1.0)
    pod.decides(Action.WARN)
    pod.decides(Action.SAVE)
    pod.announcer.came(Outcome(action=Action.SAVE, ok=True, reason="saved 3 files", snapshot="s1"), 1.0)
    pod.decides(Action.STOP, snapshot="s1")
    pod.decides(Action.STOP, snapshot="s1")
    pod.decides(Action.WAIT)
    assert pod.kinds() == ["warning", "saved", "stop"]
    assert [notice["usd_so_far"] for notice in pod.sent] == [2.0, 2.0, 2.0]
    assert pod.sent[-1]["snapshot"] == "s1"
    assert [text.splitlines()[0][:24] for text in pod.people.texts] == [
        "idlewatch: this Pod will",
        "idlewatch: saved 3 files",
        "idlewatch: stopping this",
    ]


def test_one_that_is_called_off_is_told_and_the_next_one_anew() -> None:
    pod = Pod()
    for action in (Action.WARN, Action.STOP, Action.CANCEL, Action.WARN, Action.STOP):
        pod.decides(action)
    assert pod.kinds() == ["warning", "stop", "off", "warning", "stop"]


def test_a_failed_save_and_a_failed_stop_are_told_by_their_alarms_alone() -> None:
    pod = Pod()
    pod.announcer.came(Outcome(action=Action.SAVE, ok=False, reason="disk full"), 0.0)
    pod.announcer.came(Outcome(action=Action.STOP, ok=True, reason="accepted"), 0.0)
    pod.settles(0.0)
    assert pod.sent == []
    pod.hears(Alarm(name="save failed", text="disk full"))
    assert pod.sent[0]["alarm"] == "save failed"


def test_alarms_of_one_tick_are_one_text_on_terminals_and_a_notice_each_elsewhere() -> None:
    pod = Pod()
    pod.hears(Alarm(name="blind:gpu", text="a"), Alarm(name="STOP NOT CONFIRMED", text="b"))
    assert [notice["alarm"] for notice in pod.sent] == ["blind:gpu", "STOP NOT CONFIRMED"]
    assert len(pod.people.texts) == 1
    assert "blind:gpu: a" in pod.people.texts[0]
    assert "STOP NOT CONFIRMED: b" in pod.people.texts[0]


def test_an_alarm_that_flaps_is_told_once_and_told_as_it_stands_when_its_time_has_come() -> None:
    pod = Pod()
    for number in range(10):
        text = f"gpu0 may hang {number}"
        pod.hears(Alarm(name="notice:gpu", text=text), troubles={"notice:gpu": text}, now_s=number)
    assert [notice["reason"] for notice in pod.sent] == [f"gpu0 may hang {number}" for number in range(3)]
    pod.hears(troubles={"notice:gpu": "gpu0 may hang 9"}, now_s=WITHIN_S)
    assert len(pod.sent) == 3
    pod.hears(troubles={"notice:gpu": "gpu0 may hang 9"}, now_s=WITHIN_S + 20)
    assert pod.sent[-1]["reason"] == "gpu0 may hang 9"
    assert "Left out since it was last told: 7." in str(pod.sent[-1]["text"])
    pod.hears(troubles={"notice:gpu": "gpu0 may hang 9"}, now_s=WITHIN_S + 30)
    assert len(pod.sent) == 4


def test_what_was_left_out_and_is_over_is_not_told() -> None:
    pod = Pod()
    for number in range(5):
        pod.hears(Alarm(name="a", text=str(number)), troubles={"a": str(number)}, now_s=number)
    pod.hears(now_s=2 * WITHIN_S)
    assert len(pod.sent) == 3


def test_a_broken_channel_is_told_to_the_others_as_a_trouble() -> None:
    pod = Pod()
    assert pod.announcer.troubles() == {"notices to https://h": None}
    pod.hears(Alarm(name="notices to https://h", text="https://h takes no notices"))
    assert pod.sent == []
    assert "https://h takes no notices" in pod.people.texts[0]


def test_at_the_end_what_is_under_way_gets_a_little_time() -> None:
    pod = Pod()
    slept: list[float] = []
    pod.announcer.ended("ann ended idlewatch", 0.0)
    pod.announcer.close(lambda: 0.0, slept.append, 5.0)
    assert pod.kinds() == ["ended"]
    assert len(slept) <= 3
    assert "nothing guards this Pod: ann ended idlewatch" in pod.people.texts[0]


def test_while_observing_nobody_is_told_anything() -> None:
    actions = ObservedActions()
    actions.hear(tick([Alarm(name="a", text="b")], remembered.started(0.0), Moment(now_s=0.0, uptime_s=0.0)))
    actions.ended("x", 0.0)
    actions.finish(lambda: 0.0, lambda _: None, 1.0)
    assert (actions.troubles(), actions.told(), actions.poll(0.0)) == ({}, [], None)


def test_what_ends_with_the_stop_is_named() -> None:
    jupyter: dict[str, Json] = {"servers": [{"kernels": [{"path": "b.ipynb"}, {"path": "a.ipynb"}, {"path": None}]}, 7]}
    terminals: dict[str, Json] = {
        "terminals": [{"name": "pts/0", "kind": "ssh"}, {"name": "pts/1", "kind": "entrypoint"}]
    }
    trees: list[Json] = [{"name": f"job{number}"} for number in range(5)]
    readings = [
        Reading(signal="jupyter", at_s=1.0, facts=jupyter),
        Reading(signal="people", at_s=1.0, facts=terminals),
        Reading(signal="jobs", at_s=1.0, facts={"trees": trees}),
        Reading(signal="host", at_s=1.0, facts={"servers": "no list"}),
    ]
    assert ends_with_the_stop(readings) == (
        "2 notebooks (a.ipynb, b.ipynb)",
        "1 terminal",
        "5 jobs (job0, job1, job2, 2 more)",
    )
    assert ends_with_the_stop([replace(readings[0], error="not read")]) == ()
    assert ends_with_the_stop([replace(readings[0], facts={"servers": [{"kernels": 3}]})]) == ()


def test_a_notice_has_the_name_that_the_owner_gave_the_pod() -> None:
    pod = Pod()
    pod.announcer.hear(tick([], remembered.started(0.0), Moment(now_s=0.0, uptime_s=0.0)), "lab")
    pod.decides(Action.STOP)
    assert (pod.sent[0]["pod_id"], pod.sent[0]["pod_name"]) == ("p1", "lab")


def test_a_warning_names_what_ends_with_the_stop() -> None:
    pod = Pod()
    reading = Reading(signal="people", at_s=1.0, facts={"terminals": [{"name": "pts/0", "kind": "ssh"}]})
    pod.announcer.hear(tick([], remembered.started(0.0), Moment(now_s=0.0, uptime_s=0.0), [reading]))
    pod.decides(Action.WARN)
    assert "Ends with the stop: 1 terminal" in pod.people.texts[0]
