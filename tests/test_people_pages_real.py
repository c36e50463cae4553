"""
Who uses a page, as the real kernel shows it: a real HTTP server, asked by another machine over a real network.

Two network namespaces with a cable between them are the two machines. Instants are made up, bytes are real.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from idlewatch.signals.people_flow import PAGE_BURST_BYTES

pytestmark = [pytest.mark.system, pytest.mark.slow]

HERE, THERE = "10.77.0.1", "10.77.0.2"
HOUR = 3600.0

POD = """
import json, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from idlewatch.kernel import KernelTables, sockets
from idlewatch.model import Surroundings
from idlewatch.signals.people import PeopleSignal
from tests.waiting import until

def run(*words):
    subprocess.run(words, check=True)

run("ip", "link", "set", "lo", "up")
client = subprocess.Popen(["unshare", "--net", sys.executable, "-c", sys.argv[4], sys.argv[5]], stdin=-1, stdout=-1)
assert client.stdout.readline() == b"ready\\n"
run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(client.pid))
enter = ("nsenter", "--net", "--target", str(client.pid))
for before, address, name in (((), sys.argv[2], "here"), (enter, sys.argv[3], "there")):
    run(*before, "ip", "address", "add", address + "/24", "dev", name)
    run(*before, "ip", "link", "set", name, "up")
serve = [sys.executable, "-m", "http.server", "--protocol", sys.argv[5], "8000"]
server = subprocess.Popen(serve, stdout=-3, stderr=-3)
kernel = KernelTables(own_pid=lambda: -1, period_s=0.0)
signal = PeopleSignal(Surroundings(), kernel=kernel)
now = time.clock_gettime(time.CLOCK_BOOTTIME)
until(lambda: any(each.local.port == 8000 for each in sockets.look(Path("/proc"), now).listening()), "it listens")
try:
    for line in sys.stdin:
        what, count = line.split()
        if what == "ask":
            client.stdin.write(count.encode() + b"\\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"done\\n"
            answer = None
        else:
            now += float(count)
            reading = signal.read(now)
            finding = signal.judge(reading)
            pages = [one for one in reading.facts["connections"] if one["kind"] == "page"]
            answer = [finding.activity, finding.bars, finding.reason, pages]
        print(json.dumps(answer), flush=True)
finally:
    for each in (client, server):
        each.kill()
        each.wait()
"""

CLIENT = f"""
import socket, sys
print("ready", flush=True)
open_ones, is_kept = [], sys.argv[1] == "HTTP/1.1"
for line in sys.stdin:  # so many requests, over one connection where the server keeps it
    cookie = "c" * 900 if int(line) > 1 else ""
    for number in range(int(line)):
        if number == 0 or not is_kept:
            one = socket.create_connection(("{HERE}", 8000))
        one.sendall(f"HEAD / {{sys.argv[1]}}\\r\\nHost: {HERE}\\r\\nCookie: {{cookie}}\\r\\n\\r\\n".encode())
        answer = b""
        while not answer.endswith(b"\\r\\n\\r\\n"):
            answer += one.recv(65536)
        if not is_kept:
            assert one.recv(1) == b""  # the server closes first
            one.close()
    open_ones.append(one)
    print("done", flush=True)
"""


class Seen(NamedTuple):
    """What one look showed."""

    activity: str
    bars: bool
    reason: str
    pages: list[dict[str, Any]]


class World:
    """A Pod with a web server, and a machine that asks it."""

    def __init__(self, stack: ExitStack, protocol: str) -> None:
        for program in ("ip", "unshare", "nsenter"):
            if not shutil.which(program):
                pytest.fail(f"there is no {program} here: apt-get install iproute2 util-linux")
        words = [str(Path(__file__).parent.parent), HERE, THERE, CLIENT, protocol]
        self.pod = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", POD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        stack.callback(self._end)

    def _end(self) -> None:
        assert self.pod.stdin is not None
        assert self.pod.stdout is not None
        self.pod.stdin.close()
        self.pod.wait()
        self.pod.stdout.close()

    def ask(self, requests: int) -> None:
        """So many requests, one after the other, over one connection, as far as the server keeps it."""
        self._said(f"ask {requests}")

    def look(self, after_s: float = 15.0) -> Seen:
        return Seen(*self._said(f"look {after_s}"))

    def _said(self, what: str) -> list[Any]:
        assert self.pod.stdin is not None
        assert self.pod.stdout is not None
        self.pod.stdin.write(f"{what}\n".encode())
        self.pod.stdin.flush()
        answer = json.loads(self.pod.stdout.readline())
        return answer if isinstance(answer, list) else []


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/1.0"])
def test_who_opens_a_page_bars_for_the_cap_and_polls_do_not(stack: ExitStack, protocol: str) -> None:
    """A server of HTTP/1.0 closes each connection at once: only its end is seen."""
    world = World(stack, protocol)
    world.look()
    for _ in range(20):
        world.ask(1)
        polled = world.look()
        assert (polled.activity, polled.bars, polled.reason) == ("quiet", False, "nobody is connected")
    world.ask(12)
    opened = world.look()
    (before,), (page,) = polled.pages, opened.pages
    assert page["received_bytes"] - before["received_bytes"] > PAGE_BURST_BYTES
    assert (opened.activity, opened.bars) == ("quiet", True)
    assert opened.reason == f"{page['person']} was used from outside just now; bars the warning for 3h more"
    assert page["person"].endswith(" on port 8000")
    assert world.look(2.9 * HOUR).bars
    assert not world.look(0.2 * HOUR).bars
