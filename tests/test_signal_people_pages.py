"""Who works in a page, or asks a server without counters: what comes to a port bars, what robots send never."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import Endpoint, SocketState
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.signals.people import PeopleSignal
from idlewatch.signals.people_flow import PAGE_BURST_BYTES
from idlewatch.signals.people_pages import ENDED_BYTES
from tests.test_signal_people import BOOT, HOUR, NOW, Container, NoKernel, facts

OUTSIDE = ("100.64.1.7", 41000)
GET = 400
"""Bytes of a scrape's request."""


# ---------------------------------------------------------------- looking


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path / "proc")
    made.process(1, 0, "bash", title="bash\0/start.sh")
    made.process(60, 1, "streamlit", title="/usr/bin/python3\0/usr/local/bin/streamlit\0run\0app.py")
    made.socket(120, 60, local=8501)
    return made


def signal_of(container: Container) -> PeopleSignal:
    return PeopleSignal(Surroundings(started_s=BOOT), kernel=container)


def pages(signal: PeopleSignal, container: Container, after_s: float = 15.0) -> list[dict[str, Json]]:
    container.at_s += after_s
    found = signal.read(container.at_s).facts["connections"]
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, dict) and one["kind"] == "page"]


def got(container: Container, inode: int, received: int) -> None:
    container.sockets = [
        replace(each, bytes_received=received) if each.inode == inode else each for each in container.sockets
    ]


def test_a_port_that_nobody_reached_is_no_page(container: Container) -> None:
    assert facts(container, "connections") == []


def test_what_comes_to_a_port_is_counted_over_all_its_connections(container: Container) -> None:
    signal = signal_of(container)
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=900)
    (one,) = pages(signal, container)
    assert (one["person"], one["open"], one["received_bytes"]) == ("streamlit on port 8501", 1, 900)
    got(container, 121, 1500)
    container.socket(122, 60, local=8501, remote=("100.64.1.8", 41001), received=300)
    (one,) = pages(signal, container)
    assert (one["open"], one["received_bytes"]) == (2, 1800)
    container.sockets = [each for each in container.sockets if each.inode == 120]
    (one,) = pages(signal, container)
    assert (one["open"], one["received_bytes"]) == (0, 1800)
    container.socket(123, 60, local=8501, remote=OUTSIDE, received=200)
    assert pages(signal, container)[0]["received_bytes"] == 2000


def test_what_comes_and_goes_between_two_passes_is_counted_at_the_next(container: Container) -> None:
    signal, pass_s = signal_of(container), NOW
    container.at_s = pass_s
    signal.read(pass_s)
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=4000)
    assert signal.read(pass_s + 5).facts["connections"] == []  # the judge reckons from pass to pass
    container.sockets = [each for each in container.sockets if each.inode == 120]
    signal.read(pass_s + 10)
    (one,) = pages(signal, container)
    assert (one["open"], one["received_bytes"]) == (0, 4000)


def test_the_end_of_a_connection_tells_of_a_request_once(container: Container) -> None:
    signal = signal_of(container)
    pages(signal, container)
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=2000)
    assert pages(signal, container)[0]["received_bytes"] == 2000
    ended = [replace(each, state=SocketState.TIME_WAIT, bytes_received=None, inode=0) for each in container.sockets[1:]]
    container.sockets[1:] = ended
    assert pages(signal, container)[0]["received_bytes"] == 2000
    container.sockets.append(replace(ended[0], remote=Endpoint("100.64.1.7", 41002)))
    for _ in range(4):
        (one,) = pages(signal, container)
        assert (one["open"], one["received_bytes"]) == (0, 2000 + ENDED_BYTES)


def test_the_same_look_twice_counts_once(container: Container) -> None:
    signal = signal_of(container)
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=900)
    assert pages(signal, container) == pages(signal, container, 0.0)


def test_a_port_that_is_opened_anew_begins_anew(container: Container) -> None:
    signal = signal_of(container)
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=900)
    pages(signal, container)
    listening, container.sockets = container.sockets[0], []
    assert pages(signal, container) == []
    container.sockets = [replace(listening, inode=130)]
    container.socket(131, 60, local=8501, remote=OUTSIDE, received=100)
    assert pages(signal, container)[0]["received_bytes"] == 100


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "172.17.0.2"])
def test_programs_of_this_machine_are_nobody_by_whatever_address(container: Container, host: str) -> None:
    container.socket(121, 60, local=8501, remote=(host, 41000), received=9000)
    container.sockets[-1] = replace(container.sockets[-1], local=Endpoint("172.17.0.2", 8501))
    assert facts(container, "connections") == []


@pytest.mark.parametrize(
    ("comm", "title"),
    [
        ("sshd", "sshd: root@notty"),
        ("jupyter-lab", "/usr/bin/python3\0/usr/bin/jupyter-lab"),
        ("node", "/usr/lib/code-server/lib/node\0/usr/lib/code-server"),
    ],
)
def test_ports_whose_people_are_told_elsewhere_are_no_pages(container: Container, comm: str, title: str) -> None:
    container.process(70, 1, comm, title=title)
    container.socket(130, 70, local=9000)
    container.socket(131, 70, local=9000, remote=OUTSIDE, received=9000)
    assert "page" not in [one["kind"] for one in facts(container, "connections")]


def test_idlewatch_s_own_page_is_none(container: Container) -> None:
    container.own = frozenset({60})
    container.socket(121, 60, local=8501, remote=OUTSIDE, received=9000)
    assert facts(container, "connections") == []


def test_a_port_whose_owner_is_hidden_is_a_page_without_a_name(container: Container) -> None:
    container.socket(130, local=9000)
    container.socket(131, local=9000, remote=OUTSIDE, received=9000)
    assert [one["person"] for one in facts(container, "connections")] == ["port 9000"]


def test_bytes_that_are_not_counted_are_not_known(container: Container) -> None:
    container.socket(121, 60, local=8501, remote=OUTSIDE)
    container.without_bytes = "netlink refused"
    assert [one["received_bytes"] for one in facts(container, "connections")] == [None]


def test_sockets_that_can_t_be_read_are_told_and_no_fault(container: Container) -> None:
    container.refusal = SignalError("TCP sockets cannot be read: denied")
    assert signal_of(container).read(NOW).facts["unseen"] == "TCP sockets cannot be read: denied"


# ---------------------------------------------------------------- judging


@dataclass
class Port:
    """One port of an app, and what has come to it; a look each 15 s."""

    at_s: float = NOW
    received: float | None = 0.0
    reached: bool = True
    signal: PeopleSignal = field(default_factory=lambda: PeopleSignal(Surroundings(started_s=BOOT), kernel=NoKernel()))

    def look(self, count: float = 0.0, after_s: float = 15.0) -> Finding:
        self.at_s += after_s
        self.received = None if self.received is None else self.received + count
        page = {
            "id": "port 8501",
            "kind": "page",
            "person": "streamlit on port 8501",
            "open": 1,
            "received_bytes": self.received,
            "acked_bytes": None,
            "queued_bytes": 0,
            "retransmits": 0,
        }
        facts = {
            "counted_at_s": self.at_s,
            "unseen": None,
            "terminals": [],
            "connections": [page] if self.reached else [],
        }
        return self.signal.judge(Reading(signal="people", at_s=self.at_s, facts=json.loads(json.dumps(facts))))

    def all(self, for_s: float, sent_by: Callable[[float], float], look_s: float = 15.0) -> list[tuple[float, Finding]]:
        """Looks at what had been sent by each instant of a stretch, with how long after its beginning each was."""
        began_s, found = self.at_s, list[tuple[float, Finding]]()
        while self.at_s - began_s < for_s:
            passed_s = self.at_s - began_s
            found.append((passed_s + look_s, self.look(sent_by(passed_s + look_s) - sent_by(passed_s), look_s)))
        return found


@pytest.fixture
def port() -> Port:
    """A Pod that was seen before anybody reached it."""
    port = Port()
    port.reached = False
    port.look()
    port.reached = True
    return port


def opened(port: Port) -> Finding:
    """A browser has asked for a page's parts; whether polls go on like that is seen two minutes later."""
    port.look(4 * 1500)
    return port.all(105, lambda _: 0.0)[-1][1]


def each(every_s: float, count: float) -> Callable[[float], float]:
    return lambda at_s: count * (at_s // every_s)


def test_a_page_that_is_opened_bars_and_is_not_called_use(port: Port) -> None:
    finding = opened(port)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert finding.reason == "streamlit on port 8501 was used from outside just now; bars the warning for 3h more"
    finding = port.look(after_s=2.9 * HOUR)
    assert finding.bars
    finding = port.look(after_s=0.2 * HOUR)
    assert (finding.bars, finding.reason) == (False, "nobody is connected")


def test_it_bars_too_when_its_connection_is_closed_but_not_when_its_server_has_ended(port: Port) -> None:
    opened(port)
    assert port.look(after_s=HOUR).bars
    port.reached = False
    assert not port.look().bars


def test_one_request_each_45_min_to_a_server_without_counters_keeps_it(port: Port) -> None:
    found = port.all(9 * HOUR, each(2700, 8000))
    assert all(finding.bars for after_s, finding in found if after_s >= 2760)


@pytest.mark.parametrize("look_s", [5.0, 14.3, 15.0, 20.0])
@pytest.mark.parametrize(
    "sent_by",
    [
        pytest.param(each(5, 300), id="a health poll"),
        pytest.param(each(1, 300), id="a health poll each second"),
        pytest.param(each(15, GET), id="a scrape"),
        pytest.param(lambda s: each(5, 300)(s) + each(15, GET)(s) + each(60, 700)(s) + each(300, 500)(s), id="all"),
        pytest.param(lambda s: sum(each(5, 300)(s + n / 4) for n in range(20)), id="a load balancer's polls"),
        pytest.param(each(20, 6), id="a websocket's pings"),
        pytest.param(lambda s: each(240, 90)(s) + each(410, 500)(s) + each(997, 1200)(s), id="scanners"),
    ],
)
def test_robots_keep_nothing(port: Port, sent_by: Callable[[float], float], look_s: float) -> None:
    barred = [after_s for after_s, finding in port.all(6 * HOUR, sent_by, look_s) if finding.bars]
    assert not barred


def test_a_page_that_is_left_open_and_asks_evenly_is_let_go(port: Port) -> None:
    found = port.all(8 * HOUR, lambda s: (20_000 if s else 0) + each(30, 7000)(s))
    assert all(finding.bars for after_s, finding in found if 120 < after_s < 3 * HOUR)
    assert not any(finding.bars for after_s, finding in found if after_s > 6.1 * HOUR)


def test_what_came_before_the_first_look_may_have_been_anything() -> None:
    port = Port(received=PAGE_BURST_BYTES + 1)
    assert port.look().bars
    port = Port(received=PAGE_BURST_BYTES - 1)
    assert not port.look().bars


def test_where_bytes_are_not_counted_nothing_is_made_up() -> None:
    port = Port(received=None)
    assert not any(port.look().bars for _ in range(20))
