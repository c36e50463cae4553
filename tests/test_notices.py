"""What notices say, where they go, how often, and what becomes of one that can't be delivered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.children.tasks import TaskEnd
from idlewatch.errors import TaskError
from idlewatch.model import Action, Alarm, Cause, Decision, Json, Outcome
from idlewatch.notify import COLUMNS, Kind, Notice
from idlewatch.notify.addresses import addresses
from idlewatch.notify.channel import BROKEN_AFTER, LONGEST_LINE, Channel
from idlewatch.notify.limits import OF_ALL, OF_ONE_NAME, WITHIN_S, AlarmLimits
from idlewatch.notify.words import PodNow
from tests.notices import words

# ---------------------------------------------------------------- addresses


def test_addresses_are_told_apart_and_hold_commas_of_their_own() -> None:
    written = "https://hooks.example/a,b?c=1, slack://T1/T2/T3,  ntfys://topic ,http://u:pw@127.0.0.1:8080/x"
    found = addresses(written)
    assert [address.url for address in found] == [
        "https://hooks.example/a,b?c=1",
        "slack://T1/T2/T3",
        "ntfys://topic",
        "http://u:pw@127.0.0.1:8080/x",
    ]
    labels = ["https://hooks.example", "slack://…", "ntfys://…", "http://127.0.0.1:8080"]
    assert [address.label for address in found] == labels
    assert [address.webhook for address in found] == [True, False, False, True]
    assert addresses("") == addresses(" , ") == ()


def test_two_of_a_kind_have_labels_of_their_own() -> None:
    found = addresses("slack://A/B/C slack://D/E/F https://h/1 https://h/2 slack://G/H/I")
    assert [one.label for one in found] == ["slack://…", "slack://… (2)", "https://h", "https://h (2)", "slack://… (3)"]


@pytest.mark.parametrize(
    "url",
    ["https://discord.com/api/webhooks/1/x", "https://hooks.slack.com/services/x", "https://ntfy.sh/topic"],
)
def test_services_that_refuse_our_json_are_left_to_apprise(url: str) -> None:
    assert addresses(url)[0].webhook is False
    assert addresses("https://notdiscord.com/x")[0].webhook is True


@pytest.mark.parametrize("written", ["s3cr3t", "https://", "https:///s3cr3t", "https://host:s3cr3t/x", "a b s3cr3t"])
def test_what_is_no_address_is_refused_without_being_quoted(written: str) -> None:
    with pytest.raises(ValueError, match="address 1") as raised:
        addresses(written)
    assert "s3cr3t" not in str(raised.value)


def test_an_address_is_in_no_repr() -> None:
    assert "SECRET" not in repr(addresses("https://h/SECRET slack://SECRET/x"))


# ---------------------------------------------------------------- words


def decision(action: Action = Action.WARN, cause: Cause = Cause.IDLE, reason: str = "quiet for 30m") -> Decision:
    return Decision(action=action, reason=reason, cause=cause, idle_for_s=1800.0, acts_at_s=400.0)


def test_a_warning_says_why_what_when_how_to_keep_and_dollars() -> None:
    now = PodNow(spent_usd=3.417, usd_per_hour=2.5, pod_name="lab", ends=("2 notebooks (a.ipynb, b.ipynb)",))
    notice = words(now=now).warning(decision(), 100.0)
    assert notice.text.splitlines() == [
        "idlewatch: this Pod will be stopped in 5m (17:05 UTC). It has cost $3.42 so",
        "  far.",
        "Why: quiet for 30m",
        "Files outside the volume will be saved to /workspace first.",
        "Ends with the stop: 2 notebooks (a.ipynb, b.ipynb)",
        "Keep it up: idlewatch hold 2h",
    ]
    said = notice.as_json()
    assert (said["format"], said["kind"], said["pod_id"], said["pod_name"]) == (1, "warning", "p1", "lab")
    assert (said["begins_in_s"], said["begins_at"]) == (300.0, "2026-11-24T17:05:00+00:00")
    assert (said["usd_so_far"], said["usd_per_hour"], said["cause"], said["alarm"]) == (3.417, 2.5, "idle", None)


def test_a_link_that_keeps_the_pod_goes_out_only_where_it_helps_and_never_to_a_terminal() -> None:
    told = words(link=lambda: "https://abc-8990.proxy.runpod.net/keep/x")
    idle = told.warning(decision(), 100.0)
    assert idle.as_json()["keep_link"] == "https://abc-8990.proxy.runpod.net/keep/x"
    assert "proxy" not in idle.text + idle.headline
    assert told.warning(decision(cause=Cause.REQUEST), 100.0).as_json()["keep_link"] is None


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        (Cause.IDLE, "keep it up: idlewatch hold 2h"),
        (Cause.REQUEST, "take it back: idlewatch stop --cancel"),
        (Cause.CEILING, "a hold does not help here"),
    ],
)
def test_the_remedy_is_that_of_the_cause(cause: Cause, remedy: str) -> None:
    saved = Outcome(action=Action.SAVE, ok=True, reason="saved 3 files")
    for text in (words().warning(decision(cause=cause), 0.0).text, words().saved(saved, cause, "why").text):
        assert remedy in text.lower()
        assert ("hold 2h" in text) is (cause is Cause.IDLE)


def test_a_stop_says_what_it_goes_on_costing_and_that_a_gpu_may_be_missing() -> None:
    told = words(storage="$0.20 per GB a month", now=PodNow(spent_usd=1.0)).stop(decision(Action.STOP), "s1")
    for part in ("It has cost $1.00", "idlewatch restore s1", "While stopped it costs $0.20", "may get no GPU"):
        assert part in told.text.replace("\n  ", " ")
    assert told.as_json()["storage"] == "$0.20 per GB a month"
    lost = words(lost="everything").stop(decision(Action.STOP), None)
    assert "NOT SAVED: everything" in lost.text


def test_an_alarm_says_what_it_means_and_what_was_left_out() -> None:
    alarm = Alarm(name="save failed", text="disk full")
    assert "this Pod stays up" in words().alarm(alarm, 0).text
    assert "stopped all the same" in words(stops_unsaved=True).alarm(alarm, 0).text.replace("\n  ", " ")
    assert "Left out since it was last told: 4." in words().alarm(alarm, 4).text
    assert "Left out" not in words().alarm(alarm, 0).text
    near = words().alarm(Alarm(name="ceiling near", text="the budget is used up in less than 15m"), 0)
    assert "A hold does not help here" in near.text.replace("\n  ", " ")
    said = words().alarm(alarm, 0).as_json()
    assert (said["kind"], said["alarm"], said["reason"]) == ("alarm", "save failed", "disk full")


@given(st.text(max_size=400))
def test_what_comes_from_the_pod_stays_short_narrow_and_steers_nothing(reason: str) -> None:
    said = words()
    notices = [
        said.warning(decision(reason=reason), 0.0),
        said.off(decision(Action.CANCEL, reason=reason)),
        said.saved(Outcome(action=Action.SAVE, ok=True, reason=reason), Cause.IDLE, reason),
        said.stop(decision(Action.STOP, reason=reason), "s1"),
        said.alarm(Alarm(name="x", text=reason), 1),
        said.ended(reason),
        said.test(reason),
    ]
    for notice in notices:
        assert "\n" not in notice.headline
        assert max(len(line) for line in notice.text.splitlines()) <= COLUMNS
        assert len(notice.text.splitlines()) <= 16
        assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in notice.text.replace("\n", ""))


# ---------------------------------------------------------------- how often


def test_the_same_alarm_is_told_once_an_hour_and_what_was_left_out_is_counted() -> None:
    limits = AlarmLimits()
    assert limits.takes("a", "x", 0.0) == 0
    assert [limits.takes("a", "x", at_s) for at_s in (5.0, 3000.0, WITHIN_S)] == [None, None, None]
    assert limits.takes("a", "x", WITHIN_S + 1) == 3
    assert limits.takes("a", "x", 2 * WITHIN_S + 3) == 0


def test_a_ceiling_that_comes_near_is_told_at_each_step() -> None:
    limits = AlarmLimits()
    told = [limits.takes("ceiling near", f"in {step}", at_s) for at_s, step in ((0.0, "6h"), (1.0, "1h"), (2.0, "15m"))]
    assert told == [0, 0, 0]
    assert OF_ONE_NAME == 3
    assert limits.takes("ceiling near", "in 5m", 3.0) is None


def test_a_flood_of_names_is_cut_off_and_what_still_stands_is_told_later() -> None:
    limits = AlarmLimits()
    assert sum(limits.takes(str(n), "x", 0.0) is not None for n in range(OF_ALL + 5)) == OF_ALL
    late = str(OF_ALL)
    assert not limits.due(late, "x", 10.0)
    assert limits.due(late, "x", WITHIN_S + 1)
    assert not limits.due("0", "x", WITHIN_S + 1)
    assert limits.takes(late, "x", WITHIN_S + 1) == 1
    assert not limits.due(late, "x", 3 * WITHIN_S)


# ---------------------------------------------------------------- channels


@dataclass
class Sending:
    """A task that sends one notice, and ends as it is told to."""

    notice: dict[str, Json]
    ends: TaskEnd | None = None
    ended: bool = False

    def poll(self, now_s: float) -> TaskEnd | None:
        return self.ends

    def end(self, within_s: float) -> None:
        self.ended = True


@dataclass
class Post:
    """A channel, and the tasks that it started."""

    begun: list[Sending] = field(default_factory=list)
    cannot_start: bool = False

    def __post_init__(self) -> None:
        self.channel = Channel("https://h", self.start)

    def start(self, notice: dict[str, Json], now_s: float, within_s: float) -> Any:
        if self.cannot_start:
            raise TaskError("no process left")
        self.begun.append(Sending(notice))
        return self.begun[-1]

    def ends(self, now_s: float, end: TaskEnd | None = None) -> None:
        """The task under way ends, delivered if nothing else is said."""
        self.begun[-1].ends = end or TaskEnd(result={})
        self.channel.poll(now_s)

    def fails(self, now_s: float, why: str = "it answered HTTP 500", **more: Json) -> None:
        self.ends(now_s, TaskEnd(result={"why": why, **more}))


def notice(kind: Kind = Kind.ALARM, **other: Any) -> Notice:
    return replace(Notice(kind=kind, headline="h", text="t", at="now"), **other)


def test_notices_are_sent_one_after_the_other_in_their_order() -> None:
    post = Post()
    for name in ("a", "b"):
        post.channel.post(notice(alarm=name), 0.0)
        post.channel.poll(0.0)
    assert [task.notice["alarm"] for task in post.begun] == ["a"]
    post.ends(1.0)
    assert [task.notice["alarm"] for task in post.begun] == ["a", "b"]
    post.ends(2.0)
    assert not post.channel.waiting
    assert (post.channel.trouble, post.channel.told()) == (None, [])


def test_a_failing_channel_is_tried_again_ever_more_seldom_and_reported_once() -> None:
    post = Post()
    post.channel.post(notice(alarm="a"), 0.0)
    post.channel.poll(0.0)
    at_s, tried_s = 0.0, []
    for number in range(8):
        assert (post.channel.trouble is not None) is (number >= BROKEN_AFTER)
        post.fails(at_s, f"reason {number}")
        before = len(post.begun)
        while len(post.begun) == before:
            at_s += 5.0
            post.channel.poll(at_s)
        tried_s.append(at_s)
    gaps_s = [later - earlier for earlier, later in zip([0.0, *tried_s], tried_s, strict=False)]
    assert gaps_s == [15.0, 60.0, 300.0, 900.0, 3600.0, 3600.0, 3600.0, 3600.0]
    assert post.channel.trouble == "https://h takes no notices: reason 1"
    assert post.channel.told() == []
    post.ends(at_s)
    assert post.channel.trouble is None
    assert [event["text"] for event in post.channel.told()] == ["https://h takes notices again"]
    assert post.channel.told() == []


def test_every_try_of_one_notice_has_the_same_id() -> None:
    post = Post()
    post.channel.post(notice(), 0.0)
    post.channel.poll(0.0)
    post.fails(0.0)
    post.channel.poll(20.0)
    assert len({task.notice["id"] for task in post.begun}) == 1
    assert len(post.begun) == 2


def test_a_server_that_asks_for_time_gets_it_but_not_for_ever() -> None:
    for asked_s, next_s in ((120, 120.0), (10**9, 3600.0), (1, 15.0)):
        post = Post()
        post.channel.post(notice(), 0.0)
        post.channel.poll(0.0)
        post.fails(0.0, retry_after_s=asked_s)
        post.channel.poll(next_s - 1)
        assert len(post.begun) == 1
        post.channel.poll(next_s)
        assert len(post.begun) == 2


def test_a_task_that_ends_badly_or_can_not_be_started_is_a_failure() -> None:
    post = Post()
    post.channel.post(notice(), 0.0)
    post.channel.poll(0.0)
    post.ends(0.0, TaskEnd(error=TaskError("silent for 30 s")))
    post.cannot_start = True
    post.channel.poll(15.0)
    assert post.channel.trouble == "https://h takes no notices: no process left"


def test_what_is_too_old_or_too_much_is_left_out_and_counted_alarms_first() -> None:
    post = Post()
    post.channel.post(notice(Kind.WARNING, useful_for_s=100.0), 0.0)
    post.channel.poll(0.0)
    post.fails(0.0)
    post.channel.post(notice(Kind.STOP), 50.0)
    for number in range(LONGEST_LINE):
        post.channel.post(notice(alarm=str(number)), 60.0)
    post.channel.poll(101.0)
    assert post.begun[-1].notice["kind"] == "stop"
    assert post.begun[-1].notice["left_out"] == 3
    post.ends(101.0)
    assert post.begun[-1].notice["alarm"] == "2"
    assert post.begun[-1].notice["left_out"] == 0


def test_what_is_under_way_is_not_begun_twice_when_it_grows_old() -> None:
    post = Post()
    post.channel.post(notice(Kind.WARNING, useful_for_s=10.0), 0.0)
    post.channel.post(notice(Kind.STOP), 0.0)
    post.channel.poll(0.0)
    post.channel.poll(20.0)
    post.ends(21.0)
    assert [task.notice["kind"] for task in post.begun] == ["warning", "stop"]
    post.ends(22.0)
    assert not post.channel.waiting


def test_what_is_under_way_is_never_what_is_left_out() -> None:
    post = Post()
    post.channel.post(notice(alarm="first"), 0.0)
    post.channel.poll(0.0)
    for number in range(LONGEST_LINE):
        post.channel.post(notice(alarm=str(number)), 1.0)
    for number in range(LONGEST_LINE):
        post.ends(2.0 + number)
    told = [task.notice["alarm"] for task in post.begun]
    assert told == ["first", *(str(number) for number in range(1, LONGEST_LINE))]
    assert post.begun[1].notice["left_out"] == 1


def test_a_channel_is_not_told_of_its_own_trouble() -> None:
    post = Post()
    post.channel.post(notice(alarm=post.channel.name), 0.0)
    post.channel.poll(0.0)
    assert post.begun == []


def test_at_the_end_what_is_under_way_is_ended() -> None:
    post = Post()
    post.channel.post(notice(), 0.0)
    post.channel.poll(0.0)
    post.channel.end()
    assert post.begun[0].ended
    assert not Post().channel.waiting
