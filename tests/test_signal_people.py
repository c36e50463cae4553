"""People: what counts as a sign of them, how long a connection bars, and whose terminal it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import Endpoint, Process, ProcessTable, Socket, SocketState, SocketTable, Tables, Terminal
from idlewatch.kernel.owners import SocketOwners
from idlewatch.kernel.terminals import standard_terminal, terminal_number
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.signals.people import PeopleSignal
from idlewatch.signals.people_look import Users, logged_in, plain

HOUR = 3600.0
BOOT = 1_000.0
NOW = BOOT + 20 * HOUR
ALICE = "alice from 203.0.113.7"


# ---------------------------------------------------------------- judging, from made-up readings


@dataclass
class Story:
    """Readings in their order, each some seconds after the last, and the verdict on each."""

    at_s: float = NOW
    counted_s: float | None = None
    connections: dict[str, dict[str, Json]] = field(default_factory=dict)
    terminals: dict[str, dict[str, Json]] = field(default_factory=dict)
    signal: PeopleSignal = field(default_factory=lambda: PeopleSignal(Surroundings(started_s=BOOT), kernel=NoKernel()))
    readings: list[Reading] = field(default_factory=list)

    def ssh(
        self, id_: str = "c1", *, person: str = ALICE, since_s: float | None = None, terminal: bool = False
    ) -> None:
        self.connections[id_] = {
            "id": id_,
            "kind": "ssh",
            "person": person,
            "started_at_s": self.at_s if since_s is None else since_s,
            "terminal": terminal,
            "received_bytes": 5000,
            "acked_bytes": 5000,
            "queued_bytes": 0,
            "retransmits": 0,
        }

    def terminal(self, kind: str, *, name: str = "pts/3", typed_s: float | None = None, **more: Json) -> None:
        opened_s = min(self.at_s, self.at_s if typed_s is None else typed_s)
        self.terminals[name] = {
            "name": name,
            "user": "root",
            "leader": "bash",
            "opened_at_s": opened_s,
            "input_at_s": typed_s,
            "kind": kind,
            "peers": [],
            "person": None,
            **more,
        }

    def type(self, name: str = "pts/3") -> None:
        self.terminals[name]["input_at_s"] = self.at_s

    def sent(self, count: float, id_: str = "c1") -> None:
        received = self.connections[id_]["received_bytes"]
        assert isinstance(received, int | float)
        self.connections[id_]["received_bytes"] = received + count

    def look(self, after_s: float = 0.0) -> Finding:
        self.at_s += after_s
        facts: dict[str, Json] = {
            "counted_at_s": self.at_s if self.counted_s is None else self.counted_s,
            "unseen": None,
            "terminals": list[Json](self.terminals.values()),
            "connections": list[Json](self.connections.values()),
        }
        reading = Reading(signal="people", at_s=self.at_s, facts=json.loads(json.dumps(facts)))
        self.readings.append(reading)
        return self.signal.judge(reading)

    def hum(self, for_s: float, bytes_per_s: float = 20.0, id_: str = "c1") -> Finding:
        """An editor that is left open: a small message now and then, a look each 15 s."""
        finding = self.look()
        for _ in range(int(for_s / 15)):
            self.sent(bytes_per_s * 15, id_)
            finding = self.look(15)
        return finding


class NoKernel:
    """For signals that only judge."""

    def at(self, now_s: float) -> Tables:
        raise AssertionError("judging reads nothing")

    def terminals(self, now_s: float) -> tuple[Terminal, ...]:
        raise AssertionError("judging reads nothing")

    def sockets_now(self, now_s: float) -> SocketTable:
        raise AssertionError("judging reads nothing")


@pytest.fixture
def story() -> Story:
    """A Pod that was seen empty."""
    story = Story()
    story.look(-15)
    story.at_s += 15
    return story


def test_nobody_is_quiet(story: Story) -> None:
    finding = story.look(15)
    assert (finding.activity, finding.bars, finding.reason) == (Activity.QUIET, False, "nobody is connected")
    assert (finding.seen_from_s, finding.seen_to_s) == (NOW - 15, NOW + 15)


@pytest.mark.parametrize("kind", ["ssh", "outside", "served", "entrypoint", "hidden", "detached"])
def test_typing_is_a_sign_in_whatever_terminal(story: Story, kind: str) -> None:
    story.terminal(kind, typed_s=NOW - 5 * HOUR, person=ALICE if kind == "ssh" else None)
    story.look()
    story.look(15)
    story.at_s += 40
    story.type()
    typed_s = story.at_s
    finding = story.look(40)
    assert finding.activity is Activity.ACTIVE
    assert finding.evidence_s == typed_s
    assert finding.reason.startswith("root on pts/3")
    assert "typed 40s ago" in finding.reason


def test_a_sign_stays_active_for_a_minute_and_counts_from_its_own_instant(story: Story) -> None:
    story.terminal("detached", typed_s=NOW)
    assert story.look(59).activity is Activity.ACTIVE
    finding = story.look(2)
    assert (finding.activity, finding.evidence_s) == (Activity.QUIET, None)


def test_an_old_sign_is_told_once_at_the_first_look() -> None:
    story = Story()
    story.terminal("detached", typed_s=NOW - 600)
    finding = story.look()
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, NOW - 600)
    assert story.signal.judge(story.readings[-1]) == finding
    assert story.look(15).activity is Activity.QUIET


@pytest.mark.parametrize(("typed_s", "believed_s"), [(BOOT - 500, BOOT), (NOW + 900, NOW)])
def test_instants_are_clamped_to_this_start_and_now(typed_s: float, believed_s: float) -> None:
    story = Story()
    story.terminal("entrypoint", typed_s=typed_s)
    assert story.look().evidence_s == believed_s


def test_a_keystroke_between_two_looks_at_processes_is_seen_at_once(story: Story) -> None:
    story.terminal("outside", typed_s=NOW - HOUR)
    story.look()
    story.counted_s = story.at_s
    story.at_s += 5
    story.type()
    finding = story.look()
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, NOW + 5)
    assert finding.seen_to_s == NOW


def test_a_reading_handed_over_twice_changes_nothing(story: Story) -> None:
    story.ssh(since_s=NOW - 15)
    story.hum(120)
    first = story.signal.judge(story.readings[-1])
    for _ in range(5):
        assert story.signal.judge(story.readings[-1]) == first
    story.sent(20 * 15)
    assert story.look(15).activity is Activity.QUIET


# ---------------------------------------------------------------- payload without a terminal


def test_an_editor_in_use_is_active_by_its_payload(story: Story) -> None:
    story.ssh()
    story.hum(1800)
    story.sent(15 * 1200)
    story.look(15)
    story.sent(15 * 1200)
    finding = story.look(15)
    assert finding.activity is Activity.ACTIVE
    assert finding.evidence_s == story.at_s
    assert finding.reason == f"ssh {ALICE}: 1.2 kB/s from the client just now"


def test_an_editor_left_open_is_quiet_and_bars_to_the_cap(story: Story) -> None:
    story.ssh()
    finding = story.hum(3 * HOUR - 60)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert finding.reason == f"{ALICE} is connected, quiet for 2h 59m; bars the warning for 1m more"
    finding = story.hum(120)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert finding.reason == f"{ALICE} is connected, quiet for 3h 1m"


@pytest.mark.parametrize("hum", [0.0, 20.0, 350.0, 900.0])
def test_a_steady_hum_is_no_sign_and_what_stands_out_of_it_is(story: Story, hum: float) -> None:
    story.ssh()
    assert story.hum(1800, hum).activity is Activity.QUIET
    for _ in range(2):
        story.sent(15 * (hum + 190))
        assert story.look(15).activity is Activity.QUIET
    for _ in range(2):
        story.sent(15 * (hum + 210))
        finding = story.look(15)
    assert finding.activity is Activity.ACTIVE


def test_an_upload_for_an_hour_is_not_its_own_hum(story: Story) -> None:
    story.ssh()
    assert story.hum(3600, 60_000.0).activity is Activity.ACTIVE


def test_one_burst_an_hour_is_a_key_exchange_and_no_person(story: Story) -> None:
    story.ssh()
    for _ in range(4):
        story.sent(4000)
        finding = story.hum(HOUR)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


def test_what_a_connection_begins_with_is_no_sign(story: Story) -> None:
    story.ssh(since_s=NOW - 4 * HOUR)
    story.hum(4 * HOUR)
    story.connections.clear()
    story.look(15)
    story.ssh("c2")
    story.look(15)
    for _ in range(2):
        story.sent(60_000, "c2")
        finding = story.look(15)
    assert finding.activity is Activity.QUIET
    assert not finding.bars


def test_bytes_that_are_not_counted_are_no_sign_and_the_connection_still_bars(story: Story) -> None:
    story.ssh()
    story.connections["c1"] |= {"received_bytes": None, "acked_bytes": None}
    story.look()
    finding = story.look(600)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)


# ---------------------------------------------------------------- connections


def test_somebody_who_comes_is_a_sign(story: Story) -> None:
    story.ssh(since_s=NOW - 10)
    finding = story.look()
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, NOW - 10)
    assert finding.reason == f"{ALICE} connected 10s ago"


def test_a_reconnect_makes_nobody_younger(story: Story) -> None:
    story.ssh("c0")
    story.look()
    for number in range(1, 13):
        story.connections.clear()
        story.ssh(f"c{number}")
        finding = story.look(15 * 60)
        assert finding.activity is Activity.QUIET
        assert finding.bars is (number < 12)


def test_who_was_away_for_longer_than_the_cap_comes_anew(story: Story) -> None:
    story.ssh()
    story.look()
    story.connections.clear()
    story.look(15)
    story.look(3 * HOUR)
    story.ssh("c2", since_s=story.at_s)
    assert story.look(15).activity is Activity.ACTIVE


def test_after_hours_without_a_look_only_a_new_connection_is_somebody_who_came(story: Story) -> None:
    story.ssh()
    story.look()
    assert story.look(5 * HOUR).activity is Activity.QUIET
    story.connections.clear()
    story.ssh("c2", since_s=story.at_s + 4 * HOUR)
    assert story.look(5 * HOUR).evidence_s == story.at_s - HOUR


def test_who_comes_back_after_a_connection_that_was_long_dead_comes_anew(story: Story) -> None:
    story.ssh()
    story.look()
    story.connections["c1"]["queued_bytes"] = 500
    for _ in range(9):
        finding = story.look(HOUR / 2)
    assert finding.reason == f"{ALICE}: the peer no longer answers"
    story.ssh("c2")
    assert story.look(15).activity is Activity.ACTIVE


def test_people_who_are_gone_for_long_are_forgotten(story: Story) -> None:
    for number in range(50):
        story.connections.clear()
        story.ssh(person=f"bot{number} from 192.0.2.1")
        story.look(HOUR)
    assert len(story.signal._judge._people) <= 4
    assert len(story.signal._judge._flows) == 1


def test_each_person_has_a_cap_of_their_own(story: Story) -> None:
    story.ssh("c1", since_s=NOW)
    story.look()
    story.look(4 * HOUR)
    story.ssh("c2", person="bob from 198.51.100.2")
    assert story.look(15).activity is Activity.ACTIVE
    finding = story.look(HOUR)
    assert finding.bars
    assert "bob" in finding.reason
    assert "alice" not in finding.reason


def test_typing_in_ones_own_terminal_makes_the_connection_young(story: Story) -> None:
    story.ssh(terminal=True)
    story.terminal("ssh", typed_s=NOW, person=ALICE, peers=["c1"])
    story.look()
    story.at_s += 2.5 * HOUR
    story.type()
    story.look()
    assert story.look(2 * HOUR).bars
    assert not story.look(1.1 * HOUR).bars


def test_typing_in_a_terminal_of_nobody_known_counts_for_all_who_are_connected(story: Story) -> None:
    story.ssh()
    story.terminal("detached", typed_s=NOW)
    story.look()
    story.at_s += 2.5 * HOUR
    story.type()
    story.look()
    assert story.look(2 * HOUR).bars


def test_a_peer_that_acknowledges_nothing_bars_no_more(story: Story) -> None:
    story.ssh()
    story.look()
    story.connections["c1"] |= {"queued_bytes": 400, "retransmits": 3}
    assert story.look(15).bars
    story.connections["c1"] |= {"queued_bytes": 900, "retransmits": 9}
    assert story.look(60).bars
    finding = story.look(60)
    assert not finding.bars
    assert finding.reason == f"{ALICE}: the peer no longer answers"


def test_a_slow_peer_is_no_dead_one(story: Story) -> None:
    story.ssh()
    for number in range(40):
        story.connections["c1"] |= {"queued_bytes": 60_000, "acked_bytes": 5000 + number}
        finding = story.look(60)
    assert finding.bars


def test_without_byte_counts_retransmits_tell_who_is_gone(story: Story) -> None:
    story.ssh()
    story.connections["c1"] |= {"received_bytes": None, "acked_bytes": None, "queued_bytes": 500}
    story.look()
    assert story.look(600).bars
    story.connections["c1"] |= {"retransmits": 5}
    story.look(15)
    assert not story.look(600).bars


def test_before_the_first_look_anything_may_have_come_without_a_terminal() -> None:
    story = Story()
    story.ssh(since_s=NOW - 10 * HOUR)
    finding = story.look()
    assert finding.evidence_s == NOW - 10 * HOUR
    assert story.look(2.9 * HOUR).bars
    assert not story.look(0.2 * HOUR).bars


def test_a_terminal_left_open_over_night_is_known_at_the_first_look() -> None:
    story = Story()
    story.ssh(since_s=NOW - 10 * HOUR, terminal=True)
    story.terminal("ssh", typed_s=NOW - 9 * HOUR, person=ALICE, peers=["c1"])
    assert not story.look().bars


# ---------------------------------------------------------------- terminals without SSH


def test_a_terminal_from_outside_is_a_person_to_the_cap(story: Story) -> None:
    story.terminal("outside")
    assert story.look().reason == "root on pts/3 (web terminal or proxied SSH) connected just now"
    finding = story.look(2.9 * HOUR)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert not story.look(0.2 * HOUR).bars


def test_a_web_terminal_that_reconnects_makes_nobody_younger(story: Story) -> None:
    story.terminal("outside")
    story.look()
    story.look(2 * HOUR)
    story.terminals.clear()
    story.terminal("outside", name="pts/4")
    assert story.look(15).activity is Activity.QUIET
    assert not story.look(1.1 * HOUR).bars


@pytest.mark.parametrize("kind", ["entrypoint", "detached"])
def test_a_terminal_that_nobody_looks_at_bars_nothing(story: Story, kind: str) -> None:
    story.terminal(kind, typed_s=NOW - 120)
    story.look()
    finding = story.look(15)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


def test_a_served_terminal_bars_while_somebody_is_there(story: Story) -> None:
    story.connections["p1"] = {
        "id": "p1",
        "kind": "served",
        "received_bytes": 0,
        "acked_bytes": 0,
        "queued_bytes": 0,
        "retransmits": 0,
    }
    story.terminal("served", typed_s=NOW - 600, peers=["p1"])
    story.look()
    assert story.look(15).bars
    story.connections["p1"]["queued_bytes"] = 10
    story.look(15)
    assert not story.look(200).bars


def test_a_served_terminal_that_was_only_opened_bars_nothing(story: Story) -> None:
    story.terminal("served", peers=["p1"])
    finding = story.look()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


def test_where_processes_are_hidden_a_terminal_bars(story: Story) -> None:
    story.terminal("hidden", typed_s=NOW - HOUR)
    story.look()
    assert story.look(15).bars
    assert not story.look(3 * HOUR).bars


# ---------------------------------------------------------------- garbage


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"counted_at_s": "soon", "unseen": None, "terminals": [], "connections": []},
        {"counted_at_s": 1.0, "unseen": None, "terminals": "none", "connections": []},
        {"counted_at_s": 1.0, "unseen": None, "terminals": [7], "connections": []},
        {"counted_at_s": 1.0, "unseen": None, "terminals": [], "connections": [{"id": "x"}]},
    ],
)
def test_facts_that_make_no_sense_are_unknown(facts: dict[str, Json]) -> None:
    finding = PeopleSignal(Surroundings(), kernel=NoKernel()).judge(Reading(signal="people", at_s=5.0, facts=facts))
    assert finding.activity is Activity.UNKNOWN
    assert "make no sense" in finding.reason


def test_an_error_is_unknown_and_a_proof_is_absent() -> None:
    signal = PeopleSignal(Surroundings(), kernel=NoKernel())
    assert signal.judge(Reading(signal="people", at_s=1.0, error="no /proc")).activity is Activity.UNKNOWN
    assert signal.judge(Reading(signal="people", at_s=1.0, absent="proof")).activity is Activity.ABSENT


# ---------------------------------------------------------------- looking, at a made-up container


PTS = {number: terminal_number(os.makedev(136, number)) for number in range(9)}
LISTENER, SCANNER, ROOT_SSH, ALICE_PRIV, ALICE_SSH = 20, 21, 22, 23, 24


@dataclass
class Container:
    """Processes, sockets and terminals as the test wants them."""

    proc: Path
    at_s: float = NOW
    processes: dict[int, Process] = field(default_factory=dict)
    sockets: list[Socket] = field(default_factory=list)
    open_terminals: list[Terminal] = field(default_factory=list)
    own: frozenset[int] = frozenset()
    refusal: SignalError | None = None
    without_bytes: str | None = None

    def process(self, pid: int, parent: int, comm: str, *, title: str = "", terminal: int = 0) -> Process:
        self.processes[pid] = Process(
            pid=pid,
            parent=parent,
            session=pid,
            terminal=terminal,
            comm=comm,
            state="S",
            started_ticks=int((NOW - 600) * os.sysconf("SC_CLK_TCK")),
            cpu_s=0.0,
            waited_cpu_s=0.0,
            io=None,
        )
        (self.proc / f"{pid}/fd").mkdir(parents=True, exist_ok=True)
        (self.proc / f"{pid}/cmdline").write_text(title + "\0\0")
        return self.processes[pid]

    def socket(
        self,
        inode: int,
        *pids: int,
        local: int,
        remote: tuple[str, int] = ("0.0.0.0", 0),  # noqa: S104 -- what a listening socket shows
        received: int = 0,
    ) -> None:
        state = SocketState.ESTABLISHED if remote[1] else SocketState.LISTEN
        host = "127.0.0.1" if remote[0].startswith("127.") else "172.17.0.2"
        self.sockets.append(
            Socket(
                state=state,
                local=Endpoint(host, local),
                remote=Endpoint(*remote),
                inode=inode,
                user_id=0,
                receive_queue=0,
                send_queue=0,
                retransmits=0,
                bytes_acked=1,
                bytes_received=received,
                unacked=0,
                data_received_ago_s=1.0,
                ack_received_ago_s=1.0,
            )
        )
        for pid in pids:
            (self.proc / f"{pid}/fd/{inode}").symlink_to(f"socket:[{inode}]")

    def terminal(self, number: int, leader: int | None) -> None:
        process = self.processes[leader] if leader is not None else None
        self.open_terminals.append(
            Terminal(f"pts/{number}", PTS[number], 0, opened_s=NOW - 600, input_s=NOW - 60, leader=process)
        )

    def sshd(self) -> None:
        """A listener, a scanner, root without and alice with a terminal."""
        self.process(LISTENER, 1, "sshd", title="sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups")
        self.process(SCANNER, LISTENER, "sshd", title="sshd: root [net]")
        self.process(ROOT_SSH, LISTENER, "sshd", title="sshd: root@notty")
        self.process(ALICE_PRIV, LISTENER, "sshd", title="sshd: alice [priv]")
        self.process(ALICE_SSH, ALICE_PRIV, "sshd", title="sshd: alice@pts/1")
        self.socket(100, LISTENER, local=22)
        self.socket(101, SCANNER, local=22, remote=("192.0.2.66", 4444))
        self.socket(102, ROOT_SSH, local=22, remote=("203.0.113.7", 50000), received=777)
        self.socket(103, ALICE_PRIV, ALICE_SSH, local=22, remote=("198.51.100.2", 50001))

    # What the signal asks of the kernel:

    def at(self, now_s: float) -> Tables:
        children: dict[int, tuple[int, ...]] = {}
        for each in self.processes.values():
            children[each.parent] = (*children.get(each.parent, ()), each.pid)
        table = ProcessTable(self.at_s, self.processes, self.own, self.proc, children)
        sockets = self.refusal or SocketTable(self.at_s, tuple(self.sockets), self.without_bytes)
        return Tables(self.at_s, table, sockets, SocketOwners(proc=self.proc))

    def terminals(self, now_s: float) -> tuple[Terminal, ...]:
        return tuple(self.open_terminals)

    def sockets_now(self, now_s: float) -> SocketTable:
        if self.refusal is not None:
            raise self.refusal
        return SocketTable(now_s, tuple(self.sockets), self.without_bytes)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path / "proc")
    made.process(1, 0, "bash", title="bash\0/start.sh")
    return made


def signal_of(container: Container) -> PeopleSignal:
    passwd = container.proc.parent / "passwd"
    passwd.write_text("root:x:0:0:root:/root:/bin/bash\nbroken\n")
    return PeopleSignal(Surroundings(started_s=BOOT), kernel=container, passwd=passwd)


def facts(container: Container, kind: str) -> list[dict[str, Json]]:
    found = signal_of(container).read(NOW).facts[kind]
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, dict)]


def kind_of(container: Container) -> tuple[Json, Json]:
    (one,) = facts(container, "terminals")
    return one["kind"], one["peers"]


def test_logged_in_sessions_are_connections_and_scanners_are_not(container: Container) -> None:
    container.sshd()
    root, alice = facts(container, "connections")
    assert (root["person"], root["terminal"], root["received_bytes"]) == ("root from 203.0.113.7", False, 777)
    assert (alice["person"], alice["terminal"]) == ("alice from 198.51.100.2", True)
    assert root["id"] == "203.0.113.7:50000 to port 22"
    assert root["started_at_s"] == NOW - 600


def test_what_a_session_forwards_is_not_its_connection(container: Container) -> None:
    container.sshd()
    container.socket(90, ROOT_SSH, local=41000, remote=("127.0.0.1", 8888), received=9)
    container.socket(91, ROOT_SSH, local=9000)
    container.socket(92, ROOT_SSH, local=9000, remote=("127.0.0.1", 41001), received=9)
    assert facts(container, "connections")[0]["id"] == "203.0.113.7:50000 to port 22"


def test_a_session_whose_connection_is_gone_is_none(container: Container) -> None:
    container.sshd()
    container.sockets = [each for each in container.sockets if each.inode != 102]
    assert [one["person"] for one in facts(container, "connections")] == ["alice from 198.51.100.2"]


def test_a_session_whose_descriptors_are_hidden_is_still_one(container: Container) -> None:
    container.sshd()
    (container.proc / f"{ROOT_SSH}/fd/102").unlink()
    (container.proc / f"{ROOT_SSH}/fd").rmdir()
    root = facts(container, "connections")[0]
    assert (root["person"], root["received_bytes"]) == ("root", None)


def test_dropbear_says_nothing_so_a_program_below_it_tells(container: Container) -> None:
    container.process(30, 1, "dropbear")
    container.process(31, 30, "dropbear")
    container.process(32, 30, "dropbear")
    shell = container.process(33, 32, "zsh", terminal=PTS[2])
    container.socket(110, 30, local=22)
    container.socket(111, 31, local=22, remote=("192.0.2.66", 4444))
    container.socket(112, 32, local=22, remote=("203.0.113.7", 50000))
    container.terminal(2, shell.pid)
    (one,) = facts(container, "connections")
    assert one["terminal"] is True
    assert str(one["person"]).endswith(" from 203.0.113.7")
    assert kind_of(container) == ("ssh", [one["id"]])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("sshd: root", ("root", False)),
        ("sshd: root@notty", ("root", False)),
        ("sshd: alice@pts/0,pts/3", ("alice", True)),
        ("sshd-session: alice@pts/0", ("alice", True)),
        ("sshd: alice@example.org@pts/0", ("alice@example.org", True)),
        ("sshd: alice@example.org", ("alice@example.org", False)),
        ("sshd: [accepted]", None),
        ("sshd: unknown [net]", None),
        ("sshd: root [priv]", None),
        ("sshd-session: root [priv]", None),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", None),
        ("/usr/sbin/sshd -D", None),
        ("", None),
    ],
)
def test_titles_of_sshd(title: str, expected: tuple[str, bool] | None) -> None:
    assert logged_in(title) == expected


def test_a_terminal_below_a_session_is_that_person_s_whatever_shell_it_is(container: Container) -> None:
    container.sshd()
    container.process(40, ALICE_SSH, "zsh", terminal=PTS[1])
    container.terminal(1, 40)
    (one,) = facts(container, "terminals")
    assert (one["kind"], one["person"], one["leader"]) == ("ssh", "alice from 198.51.100.2", "zsh")
    assert (one["user"], one["input_at_s"], one["opened_at_s"]) == ("root", NOW - 60, NOW - 600)


def test_a_shell_put_in_from_outside_is_outside(container: Container) -> None:
    container.process(40, 0, "bash", terminal=PTS[1])
    container.terminal(1, 40)
    assert kind_of(container) == ("outside", [])


def test_a_terminal_of_a_program_below_such_a_shell_is_outside_too(container: Container) -> None:
    container.process(40, 0, "bash", terminal=PTS[1])
    container.process(41, 40, "script")
    container.process(42, 41, "bash", terminal=PTS[2])
    container.terminal(2, 42)
    assert kind_of(container) == ("outside", [])


def test_the_entrypoint_s_terminal_is_the_entrypoint_s(container: Container) -> None:
    container.process(1, 0, "bash", terminal=PTS[0])
    container.terminal(0, 1)
    assert kind_of(container) == ("entrypoint", [])


def test_so_it_is_where_a_child_of_pid_1_leads_the_session(container: Container) -> None:
    master, ours = os.openpty()
    try:
        number = terminal_number(os.fstat(ours).st_rdev)
        (container.proc / "1/fd/0").symlink_to(os.ttyname(ours))
        assert standard_terminal(container.proc, 1) == number
        leader = container.process(2, 1, "start.sh", terminal=number)
        container.open_terminals.append(Terminal("pts/0", number, 0, opened_s=NOW, input_s=None, leader=leader))
        assert kind_of(container) == ("entrypoint", [])
    finally:
        os.close(master)
        os.close(ours)


def test_a_pane_of_tmux_is_detached_whoever_is_attached(container: Container) -> None:
    container.process(50, 1, "tmux: server")
    container.process(51, 50, "bash", terminal=PTS[4])
    container.terminal(4, 51)
    container.socket(120, 1, local=8888)
    container.socket(121, 1, local=8888, remote=("10.0.0.9", 3333))  # an open tab of what happens to be PID 1
    assert kind_of(container) == ("detached", [])


def test_a_terminal_of_a_program_whose_descriptors_are_hidden_is_hidden(container: Container) -> None:
    container.process(50, 1, "ttyd")
    container.process(51, 50, "bash", terminal=PTS[4])
    container.terminal(4, 51)
    (container.proc / "50/fd").rmdir()
    assert kind_of(container) == ("hidden", [])


@pytest.mark.parametrize("server_is_pid_1", [False, True])
def test_a_terminal_of_a_server_with_an_open_tab_is_served(container: Container, *, server_is_pid_1: bool) -> None:
    server = 1 if server_is_pid_1 else 60
    container.process(
        server, 0 if server_is_pid_1 else 1, "jupyter-lab", title="/usr/bin/python3\0/usr/bin/jupyter-lab"
    )
    container.process(61, server, "bash", terminal=PTS[5])
    container.socket(120, server, local=8888)
    container.terminal(5, 61)
    assert kind_of(container) == ("detached", [])
    container.socket(121, server, local=8888, remote=("10.0.0.9", 3333))
    assert kind_of(container) == ("served", ["10.0.0.9:3333 to port 8888"])
    (peer,) = facts(container, "connections")
    assert (peer["kind"], peer["queued_bytes"]) == ("served", 0)


def test_our_own_requests_are_nobody_s_open_tab(container: Container) -> None:
    container.process(60, 1, "jupyter-lab")
    container.process(61, 60, "bash", terminal=PTS[5])
    container.process(70, 1, "python")
    container.own = frozenset({70})
    container.socket(120, 60, local=8888)
    container.socket(121, 60, local=8888, remote=("127.0.0.1", 3333))
    container.terminal(5, 61)
    assert kind_of(container)[0] == "served"
    container.socket(122, 70, local=3333, remote=("127.0.0.1", 8888))
    assert kind_of(container) == ("detached", [])


def test_our_own_terminals_are_left_out(container: Container) -> None:
    container.process(70, 1, "python", terminal=PTS[6])
    container.terminal(6, 70)
    container.own = frozenset({70})
    assert facts(container, "terminals") == []


def test_a_terminal_without_a_leader_is_detached_but_hidden_where_proc_hides(container: Container) -> None:
    container.terminal(3, None)
    assert kind_of(container) == ("detached", [])
    del container.processes[1]
    assert kind_of(container) == ("hidden", [])


def test_a_line_of_parents_that_breaks_off_is_hidden(container: Container) -> None:
    container.process(41, 40, "bash", terminal=PTS[1])
    container.terminal(1, 41)
    assert kind_of(container) == ("hidden", [])


def test_sockets_that_cannot_be_read_leave_sessions_and_say_so(container: Container) -> None:
    container.sshd()
    container.refusal = SignalError("TCP sockets cannot be read: gone")
    signal = signal_of(container)
    finding = signal.judge(signal.read(NOW))
    assert finding.bars
    assert "TCP sockets cannot be read: gone" in finding.reason
    container.refusal, container.without_bytes = None, "netlink refused: no"
    finding = signal.judge(signal.read(NOW + 20))
    assert "bytes are not counted: netlink refused: no" in finding.reason


def test_a_reading_without_news_is_the_last_one_again(container: Container) -> None:
    signal = signal_of(container)
    first = signal.read(NOW)
    assert signal.read(NOW) is first
    assert signal.read(NOW + 5) is first
    container.at_s = NOW + 15
    second = signal.read(NOW + 15)
    assert (second.at_s, second.covers_s) == (NOW + 15, 15.0)


def test_words_from_outside_cannot_write_on_a_terminal(container: Container) -> None:
    assert plain("\x1b[2Jroot\n" + "x" * 99) == "?[2Jroot?" + "x" * 55
    assert plain("\u202eevil") == "?evil"
    container.sshd()
    container.process(40, ALICE_SSH, "ba\x1b]0;h", terminal=PTS[1])
    container.terminal(1, 40)
    assert facts(container, "terminals")[0]["leader"] == "ba?]0;h"


def test_a_user_without_an_account_is_a_number(tmp_path: Path) -> None:
    users = Users(tmp_path / "none")
    assert users.name(1234) == "uid 1234"
