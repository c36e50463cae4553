"""Servers of models with real processes: found by who owns the port, driven over real HTTP, nobody else ever asked."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import Tables
from idlewatch.model import Activity, Finding, Reading, Surroundings
from idlewatch.servers.named import named_servers
from idlewatch.signals.servers import STALE_S, ServersSignal
from tests.own_kernel import OwnKernel

pytestmark = pytest.mark.slow

MODEL_SERVER = Path(__file__).with_name("model_server.py")
WAIT_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Pod:
    """Processes, and the signal that watches them by ticks on a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        self.now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.kernel = OwnKernel()
        self.signal = ServersSignal(Surroundings(), kernel=self.kernel)

    def start(self, argv: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=self.folder, **more)  # type: ignore[call-overload]  # env, executable
        self.processes.append(process)
        return process  # type: ignore[no-any-return]  # see above

    def serves(self, argv: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
        """Start it and wait until it listens."""
        process = self.start(argv, **more)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], WAIT_S)[0]
        assert process.stdout.readline() == b"ready\n"
        return process

    def vllm(self, port: int, *options: str) -> subprocess.Popen[bytes]:
        """`python .../vllm serve MODEL --port N`, as its console script is seen in the process table."""
        script = self.folder / "vllm"
        script.write_text(f"import runpy; runpy.run_path({str(MODEL_SERVER)!r}, run_name='__main__')")
        return self.serves([sys.executable, str(script), "serve", "m", "--port", str(port), *options])

    def look(self, after_s: float = 30.0) -> Finding:
        self.now_s += after_s
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            try:
                reading = self.signal.read(self.now_s)
            except SignalError as error:
                reading = Reading(signal="servers", at_s=self.now_s, error=str(error))
            if self.signal._round is None:
                return self.signal.judge(reading)
            time.sleep(0.01)
        raise AssertionError("the round never ended")

    def close(self) -> None:
        self.signal.close()
        for process in self.processes:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stdin):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    pod = Pod(tmp_path)
    yield pod
    pod.close()


def post(port: int, path: str, **asked: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("POST", path, json.dumps(asked))
    assert connection.getresponse().status == 200
    connection.close()


def get(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("GET", path)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("names", ["colon", "underscore"])
def test_the_life_of_a_vllm_server(pod: Pod, names: str) -> None:
    port = free_port()
    process = pod.vllm(port, "--names", names)
    first = pod.look()
    assert (first.activity, first.reason) == (
        Activity.UNKNOWN,
        f"vLLM on port {port}: nothing to compare its counters with yet",
    )
    idle = pod.look()
    assert (idle.activity, idle.bars, idle.reason) == (Activity.QUIET, False, f"vLLM on port {port}: no requests")
    assert {pid for pid, _ in pod.signal.known_server_pids} == {process.pid}

    get(port, "/health")
    get(port, "/metrics")
    for _ in range(6):
        post(port, "/v1/completions", prompt="ping", max_tokens=1)
    polled = pod.look()
    assert (polled.activity, polled.bars, "only health polls" in polled.reason) == (Activity.QUIET, False, True)

    for _ in range(3):
        post(port, "/v1/completions", prompt="write a poem about an idle machine", max_tokens=130)
    used = pod.look()
    assert (used.activity, used.evidence_s) == (Activity.ACTIVE, pod.now_s)
    assert used.reason == f"vLLM on port {port}: 3 requests, 411 tokens in the last 30s"
    assert pod.signal.known_server_pids == frozenset()
    assert pod.look().bars

    post(port, "/reset")
    assert "went back" in pod.look().reason
    post(port, "/lose")
    lost = pod.look()
    assert (lost.activity, "shows no counter of requests or tokens" in lost.reason) == (Activity.UNKNOWN, True)

    process.terminate()
    process.wait()
    gone = pod.look()
    assert gone.activity is Activity.ABSENT
    assert gone.reason.startswith(f"vLLM on port {port} has ended, its port is closed; none of ")


def test_an_answer_that_is_streamed_is_use_and_one_that_hangs_bars(pod: Pod) -> None:
    port = free_port()
    pod.vllm(port)
    pod.look()
    pod.look()
    stream = {"prompt": "a b", "max_tokens": 40, "until_released": True}
    ask = threading.Thread(target=post, args=(port, "/v1/completions"), kwargs=stream)
    ask.start()
    until_s = time.monotonic() + WAIT_S
    found = pod.look()
    while found.activity is not Activity.ACTIVE and time.monotonic() < until_s:
        found = pod.look()
    post(port, "/release")
    ask.join(WAIT_S)
    assert "1 request runs, " in found.reason
    pod.look()
    post(port, "/hang")
    hung = pod.look()
    assert (hung.activity, hung.bars) == (Activity.QUIET, True)
    assert hung.reason.startswith(f"vLLM on port {port} says that 1 request runs, and nothing moves for 30s; bars")


def test_an_idle_server_that_spins_is_quiet(pod: Pod) -> None:
    process = pod.vllm(free_port(), "--spin")
    pod.look()
    assert pod.look().activity is Activity.QUIET
    assert {pid for pid, _ in pod.signal.known_server_pids} == {process.pid}


def test_a_server_that_has_ended_lends_its_processes_to_nobody(pod: Pod) -> None:
    process = pod.vllm(free_port(), "--spin")
    pod.look()
    pod.look()
    pids = {pid for pid, _ in pod.signal.known_server_pids}
    process.kill()
    process.wait()
    pod.now_s += 30
    reading = pod.signal.read(pod.now_s)
    assert reading.absent is not None
    assert (pids, pod.signal.known_server_pids) == ({process.pid}, frozenset())  # before it is judged
    assert pod.signal._judge.idle_pids == pids
    pod.signal.judge(reading)
    assert pod.signal._judge.idle_pids == frozenset()


def test_where_nothing_can_be_read_or_for_long_no_server_is_idle(pod: Pod) -> None:
    pod.vllm(free_port())
    pod.look()
    pod.look()
    assert pod.signal.known_server_pids
    kernel, pod.signal._kernel = pod.signal._kernel, Unreadable()
    assert pod.look().activity is Activity.UNKNOWN
    assert not pod.signal.known_server_pids
    pod.signal._kernel = kernel
    pod.look()
    assert pod.signal.known_server_pids
    pod.signal._began_s = pod.now_s + STALE_S  # no round begins
    pod.signal.read(pod.now_s + STALE_S)
    assert not pod.signal.known_server_pids


class Unreadable:
    """A /proc that shows no process."""

    def at(self, now_s: float) -> Tables:
        raise SignalError("/proc shows no process")


STUBS = {
    "vllm": ("-m vllm.entrypoints.openai.api_server", "vLLM"),
    "sglang": ("-m sglang.launch_server", "SGLang"),
}


@pytest.mark.parametrize("key", STUBS)
def test_modules_are_recognised(pod: Pod, key: str) -> None:
    words, name = STUBS[key]
    module = pod.folder.joinpath(*words.removeprefix("-m ").split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    module.write_text(f"import runpy; runpy.run_path({str(MODEL_SERVER)!r}, run_name='__main__')")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(pod.folder)}
    pod.serves([sys.executable, *words.split(), "--port", str(port)], env=environment)
    found = pod.look()
    if key == "vllm":
        assert found.reason == f"vLLM on port {port}: nothing to compare its counters with yet"
    else:  # it shows vLLM's metrics: known, there and unreadable
        assert found.activity is Activity.UNKNOWN
        assert found.reason.startswith(f"{name} on port {port} shows no counter")


LISTENS = """
import socket, sys, time
ports = [int(port) for port in sys.argv[-1].split(",")]
servers = [socket.create_server(("127.0.0.1", port)) for port in ports]
print("ready", flush=True)
for server in servers:
    server.settimeout(0.2)
while True:
    for server in servers:
        try:
            print(server.accept()[0].recv(8), flush=True)
        except TimeoutError:
            pass
"""


def was_asked(process: subprocess.Popen[bytes], *ports: int) -> bool:
    """Whether a `LISTENS` got anything before what it gets from us now: connections are taken in their order."""
    assert process.stdout is not None
    lines = []
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
            connection.sendall(b"the test")
            while (line := process.stdout.readline()) not in {b"b'the test'\n", b""}:
                lines.append(line)
    return bool(lines)


def test_nothing_is_sent_to_a_port_whose_owner_is_no_known_server(pod: Pod) -> None:
    """Somebody's torch store, on the usual ports and beside a known server; a script that only names one."""
    port, others = free_port(), [free_port(), free_port()]
    script = pod.folder / "main.py"
    script.write_text(LISTENS)
    stranger = pod.serves([sys.executable, str(script), "vllm", "serve", "--port", str(others[0]), str(others[0])])
    store = pod.serves([sys.executable, "-c", LISTENS, str(others[1])])
    pod.vllm(port)
    for _ in range(3):
        assert f"vLLM on port {port}" in pod.look().reason
    assert not was_asked(stranger, others[0])
    assert not was_asked(store, others[1])


def test_a_known_server_is_not_asked_on_its_other_ports(pod: Pod) -> None:
    ports = [free_port(), free_port()]
    script = pod.folder / "vllm"
    script.write_text(LISTENS)
    process = pod.serves([sys.executable, str(script), "serve", "m", ",".join(map(str, ports))])
    found = pod.look()
    assert found.activity is Activity.UNKNOWN
    listed = ", ".join(map(str, sorted(ports)))
    assert f"listens on {listed} and not where it was told to or usually does" in found.reason
    assert not was_asked(process, *ports)


def test_a_known_server_that_answers_no_http_is_unknown(pod: Pod) -> None:
    port = free_port()
    script = pod.folder / "vllm"
    script.write_text(LISTENS)
    process = pod.serves([sys.executable, str(script), "serve", f"--port={port}", str(port)])
    found = pod.look()
    assert found.activity is Activity.UNKNOWN
    assert found.reason.startswith(f"vLLM on port {port} ")
    assert was_asked(process, port)


def test_a_port_that_is_shared_with_somebody_else_is_not_asked(pod: Pod) -> None:
    port = free_port()
    shared = "import socket\nreal = socket.socket.bind\ndef bind(s, a):\n s.setsockopt(1, 15, 1)\n real(s, a)\n"
    script = pod.folder / "vllm"
    script.write_text(shared + "socket.socket.bind = bind\n" + LISTENS)
    known = pod.serves([sys.executable, str(script), "serve", f"--port={port}", str(port)])
    other = pod.serves([sys.executable, "-c", script.read_text(), str(port)])
    found = pod.look()
    assert (found.activity, found.reason) == (
        Activity.UNKNOWN,
        f"vLLM on port {port} is not asked: another process listens on that port, too",
    )
    for process in (known, other):
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_a_port_that_changed_hands_since_it_was_seen_is_not_asked(pod: Pod) -> None:
    """The kernel's tables are some seconds old when the question is due."""
    port = free_port()
    process = pod.vllm(port)
    pod.look()
    pod.look()
    pod.now_s += 25.0
    pod.signal._finder.look(pod.kernel.at(pod.now_s))
    process.terminate()
    process.wait()
    stranger = pod.serves([sys.executable, "-c", LISTENS, str(port)])
    found = pod.look(5.0)
    assert (found.activity, found.reason) == (
        Activity.UNKNOWN,
        f"vLLM on port {port} has closed its port since it was seen",
    )
    assert not was_asked(stranger, port)
    assert pod.look().activity is Activity.ABSENT


def test_a_server_that_is_still_starting_bars(pod: Pod) -> None:
    script = pod.folder / "vllm"
    script.write_text("import time; print('ready', flush=True); time.sleep(600)")
    process = pod.serves([sys.executable, str(script), "serve", "m"])
    pod.now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = pod.look(0.0)
    assert (found.activity, found.bars) == (Activity.QUIET, True)
    assert found.reason.startswith(f"vLLM (process {process.pid}) was started ")
    assert not pod.look(4 * 3600.0).bars


def test_ollama_by_its_name_and_any_port_and_not_its_runner(pod: Pod) -> None:
    port, runner_port = free_port(), free_port()
    (pod.folder / "serve").write_text(LISTENS)
    (pod.folder / "runner").write_text(LISTENS)
    python = os.path.realpath(sys.executable)
    process = pod.serves(["ollama", "serve", str(port)], executable=python)
    runner = pod.serves(["ollama", "runner", str(runner_port)], executable=python)
    assert pod.look().reason.startswith(f"Ollama on port {port} ")
    assert was_asked(process, port)
    assert not was_asked(runner, runner_port)


@pytest.mark.parametrize(("option", "path"), [("--sleep-idle-seconds", b"/pro"), ("--parallel", b"/met")])
def test_a_llama_server_that_may_sleep_is_not_woken(pod: Pod, option: str, path: bytes) -> None:
    """`/metrics` would load the model again, and keep it from ever sleeping."""
    port = free_port()
    (pod.folder / "listens").write_text(LISTENS)
    argv = ["llama-server", "listens", option, "60", "--port", str(port), str(port)]
    process = pod.serves(argv, executable=os.path.realpath(sys.executable))
    assert pod.look().reason.startswith(f"llama.cpp on port {port} ")
    assert process.stdout is not None
    assert process.stdout.readline() == b"b'GET %s'\n" % path


@pytest.mark.parametrize(("folder", "name"), [("ComfyUI", "ComfyUI"), ("examples", None)])
def test_a_script_is_recognised_by_the_folder_it_runs_in(pod: Pod, folder: str, name: str | None) -> None:
    port = free_port()
    pod.folder = pod.folder / folder
    pod.folder.mkdir()
    (pod.folder / "main.py").write_text(LISTENS)
    process = pod.serves([sys.executable, "main.py", "--port", str(port), str(port)])
    found = pod.look()
    if name is None:
        assert found.activity is Activity.ABSENT
    else:
        assert found.reason.startswith(f"{name} on port {port} ")
    assert was_asked(process, port) is (name is not None)


def test_a_named_server_of_unknown_make(pod: Pod) -> None:
    port = free_port()
    script = pod.folder / "renderer"
    script.write_text(f"import runpy; runpy.run_path({str(MODEL_SERVER)!r}, run_name='__main__')")
    pod.serves([sys.executable, str(script), "--port", str(port)])
    assert pod.look().activity is Activity.ABSENT
    pod.signal.close()
    pod.signal = ServersSignal(Surroundings(), kernel=pod.kernel, named=named_servers([f"renderer={port}/metrics"]))
    pod.look()
    post(port, "/v1/completions", prompt="a b c", max_tokens=9)
    assert pod.look().reason == f"renderer on port {port}: 1 request, 12 tokens in the last 30s"


CLIENT = """
import http.client, json, sys, socket
if sys.argv[2] == "serves others":
    other = socket.create_server(("127.0.0.1", 0))
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("POST", "/v1/completions", json.dumps({"prompt": "a b c", "max_tokens": 50}))
connection.getresponse().read()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("client", "bars"), [("serves nobody", False), ("serves others", True)])
def test_requests_of_a_program_of_this_pod_leave_a_warm_server_only_where_it_serves_others(
    pod: Pod,
    client: str,
    bars: bool,  # noqa: FBT001 -- a parameter
) -> None:
    port = free_port()
    pod.vllm(port)
    pod.look()
    pod.serves([sys.executable, "-c", CLIENT, str(port), client], stdin=subprocess.PIPE)
    assert pod.look().activity is Activity.ACTIVE
    assert pod.look().bars is bars
