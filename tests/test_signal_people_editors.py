"""Who works in an editor in a browser: whose connections those are, what counts, and that a robot is nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch.kernel import Endpoint
from idlewatch.model import Activity, Finding
from idlewatch.signals.people_editors import editor, tunnel
from idlewatch.signals.people_flow import BURST_BYTES
from tests.test_signal_people import HOUR, NOW, Container, Story, facts

CODE_SERVER = "/usr/lib/code-server/lib/node\0/usr/lib/code-server\0--bind-addr\0" + "0.0.0.0:8080"
VISITOR = ("100.64.1.7", 41000)


@pytest.mark.parametrize(
    ("comm", "command", "name"),
    [
        ("node", CODE_SERVER.split("\0"), "code-server"),
        ("node", ["/home/.openvscode-server/node", "/home/.openvscode-server/out/server-main.js"], "openvscode-server"),
        ("node", ["/root/.vscode-server/cli/servers/Stable-1/server/node", "server-main.js"], "a VS Code server"),
        ("node", ["/root/.cursor-server/bin/1/node", "server-main.js"], "a VS Code server"),
        ("node", ["/root/.kiro-server/bin/1/node", "/root/.kiro-server/bin/1/out/server-main.js"], "a VS Code server"),
        ("node", ["/root/.vscode/cli/servers/Stable-1/server/node", "server-main.js"], "a VS Code server"),
        ("node", ["/root/.my-mail-server/node", "index.js"], None),
        ("code-server", ["code-server"], "code-server"),
        ("node", ["node", "/workspace/my-code-server-notes/index.js"], None),
        ("node", ["node", "server.js"], None),
        ("python3", ["python3", "/opt/code-server/serve.py"], None),
        ("node", [], None),
    ],
)
def test_editors_are_known_by_their_command(comm: str, command: list[str], name: str | None) -> None:
    assert editor(comm, command) == name


@pytest.mark.parametrize(
    ("comm", "command", "name"),
    [
        ("code", ["./code", "tunnel", "--accept-server-license-terms"], "code's tunnel"),
        ("code-tunnel", ["/usr/bin/code-tunnel", "--verbose", "tunnel"], "code-tunnel's tunnel"),
        ("cursor", ["cursor", "tunnel"], "cursor's tunnel"),
        ("code", ["code", "serve-web"], None),
        ("codex", ["codex", "exec", "dig a hole", "tunnel"], None),
        ("bash", ["bash", "tunnel"], None),
    ],
)
def test_tunnels_are_known_by_their_command(comm: str, command: list[str], name: str | None) -> None:
    assert tunnel(comm, command) == name


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path / "proc")
    made.process(1, 0, "bash", title="bash\0/start.sh")
    made.process(60, 1, "node", title=CODE_SERVER)
    made.socket(120, 60, local=8080)
    return made


def test_a_browser_s_connection_to_an_editor_is_somebody_s(container: Container) -> None:
    container.socket(121, 60, local=8080, remote=VISITOR, received=900)
    (one,) = facts(container, "connections")
    assert (one["kind"], one["person"], one["received_bytes"]) == ("editor", "100.64.1.7 in code-server", 900)


def test_what_the_editor_asks_for_itself_and_what_idlewatch_asks_it_is_nobody_s(container: Container) -> None:
    container.socket(121, 60, local=50000, remote=("93.184.216.34", 443), received=900)
    container.process(70, 1, "python")
    container.own = frozenset({70})
    container.socket(122, 60, local=8080, remote=("127.0.0.1", 3333))
    container.socket(123, 70, local=3333, remote=("127.0.0.1", 8080))
    assert facts(container, "connections") == []


def test_what_an_editor_s_tunnel_holds_open_to_its_relay_is_somebody_s(container: Container) -> None:
    container.process(80, 1, "code", title="./code\0tunnel")
    container.socket(140, 80, local=50001, remote=("20.103.221.187", 443), received=700)
    container.socket(141, 80, local=50002, remote=("127.0.0.1", 8080))
    (one,) = facts(container, "connections")
    assert (one["kind"], one["person"], one["received_bytes"]) == ("editor", "code's tunnel", 700)


def test_what_ssh_forwards_to_an_editor_is_the_session_s(container: Container) -> None:
    container.process(20, 1, "sshd", title="sshd: root@notty")
    container.socket(100, 20, local=22, remote=("203.0.113.7", 50000))
    container.socket(101, 20, local=41001, remote=("127.0.0.1", 8080))
    container.socket(121, 60, local=8080, remote=("127.0.0.1", 41001))
    forwarding = container.sockets[-2]
    container.sockets[-2] = replace(forwarding, local=Endpoint("127.0.0.1", 41001))
    assert [one["kind"] for one in facts(container, "connections")] == ["ssh"]


def test_a_connection_that_serves_a_terminal_too_is_told_once(container: Container) -> None:
    container.process(61, 60, "bash", terminal=34821)
    container.socket(121, 60, local=8080, remote=VISITOR)
    container.terminal(5, 61)
    (one,) = facts(container, "connections")
    assert one["kind"] == "editor"
    (terminal,) = facts(container, "terminals")
    assert (terminal["kind"], terminal["peers"]) == ("served", [one["id"]])


# ---------------------------------------------------------------- judging


def opened(story: Story, *ids: str, person: str = "100.64.1.7 in code-server") -> None:
    for id_ in ids:
        story.ssh(id_, person=person)
        story.connections[id_] |= {"kind": "editor"}
        del story.connections[id_]["started_at_s"], story.connections[id_]["terminal"]


@pytest.fixture
def story() -> Story:
    story = Story()
    story.look(-15)
    story.at_s += 15
    opened(story, "p1", "p2")
    return story


def writes(story: Story) -> Finding:
    story.sent(BURST_BYTES + 500, "p2")
    return story.look(15)


def test_a_page_that_is_only_open_is_nobody(story: Story) -> None:
    finding = story.hum(HOUR, 10.0, "p1")
    assert (finding.activity, finding.bars, finding.reason) == (Activity.QUIET, False, "nobody is connected")


def test_who_writes_is_active_and_then_bars_to_the_cap(story: Story) -> None:
    story.hum(120, 10.0, "p1")
    finding = writes(story)
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, story.at_s)
    assert finding.reason == "100.64.1.7 in code-server: 433 B/s from the client just now"
    finding = story.hum(2.9 * HOUR, 10.0, "p1")
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert finding.reason == "100.64.1.7 in code-server is connected, quiet for 2h 54m; bars the warning for 6m more"
    assert not story.hum(0.2 * HOUR, 10.0, "p1").bars


def test_a_page_that_was_closed_or_no_longer_answers_bars_nothing(story: Story) -> None:
    story.hum(120, 10.0, "p1")
    writes(story)
    for id_ in ("p1", "p2"):
        story.connections[id_]["queued_bytes"] = 400
    story.look(15)
    assert not story.look(200).bars
    story.connections.clear()
    finding = story.look(15)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


def test_pages_that_come_and_go_are_robots(story: Story) -> None:
    for number in range(100):
        story.connections.clear()
        opened(story, f"r{number}", person=f"192.0.2.{number} in code-server")
        story.look(15)
        story.sent(20_000, f"r{number}")
        finding = story.look(15)
        assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert story.at_s > NOW
    assert not story.signal._judge._people
