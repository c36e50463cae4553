"""
The Jupyter signal beside a real JupyterLab, real kernels and real WebSockets.

JupyterLab comes from the package index into an environment that is kept in pytest's cache. Time is moved by the test
(a look every 30 s costs no 30 s), what processes do is real; so a share of CPU is shown smaller than it is.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from idlewatch.kernel import KernelTables, Tables
from idlewatch.model import Activity, Finding, Reading, Surroundings
from idlewatch.signals.jupyter import JupyterSignal
from idlewatch.signals.jupyter_find import is_server

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("jupyter"), pytest.mark.timeout(900)]

TOKEN = "s3cr3t-t0k3n"
HOUR = 3600.0


def eventually(what: Callable[[], Any], within_s: float = 120.0) -> Any:
    until_s = time.monotonic() + within_s
    while True:
        found = what()
        if found or time.monotonic() > until_s:
            return found
        time.sleep(0.1)


@pytest.fixture(scope="session")
def jupyter_lab(request: pytest.FixtureRequest) -> Path:
    """The program, installed when it is not there yet; a failure to install fails the test."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("jupyter")
    program = folder / "venv/bin/jupyter-lab"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            pip = folder / "venv/bin/pip"
            subprocess.run([pip, "install", "--quiet", "jupyterlab"], check=True, stdin=subprocess.DEVNULL)
            (folder / "ready").touch()
    return program


class Lab:
    """One running JupyterLab, and what a browser would do with it."""

    def __init__(self, program: Path, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.home = folder
        # In a file, not on the command line, where idlewatch would find it, too.
        (folder / ".jupyter").mkdir()
        settings = {"IdentityProvider": {"token": TOKEN}, "ServerApp": {"port_retries": 0}}
        (folder / ".jupyter/jupyter_server_config.json").write_text(json.dumps(settings))
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [program, "--allow-root", "--no-browser", f"--port={self.port}", "--ip=127.0.0.1"],
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SHELL": "/bin/sh"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        assert eventually(self._answers), (folder / "log").read_text()

    def _answers(self) -> bool:
        try:
            self.api("/api/status")
        except OSError:
            assert self.process.poll() is None, (self.home / "log").read_text()
            return False
        return True

    def api(self, path: str, body: object = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())

    def start_kernel(self, notebook: str = "train.ipynb") -> str:
        wanted = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
        return str(self.api("/api/sessions", wanted)["kernel"]["id"])

    def tab(self, kernel: str) -> Tab:
        return Tab(self.port, kernel)

    def run(self, kernel: str, code: str) -> None:
        """Run a cell and close the tab."""
        with self.tab(kernel) as tab:
            tab.run(code)
            assert eventually(lambda: self.state(kernel) == "busy" or self.moved(kernel))

    def state(self, kernel: str) -> str:
        return str(self.api(f"/api/kernels/{kernel}?no_track_activity=1")["execution_state"])

    def moved(self, kernel: str) -> bool:
        """Whether it ran something since it was last asked."""
        stamp = str(self.api(f"/api/kernels/{kernel}?no_track_activity=1")["last_activity"])
        before, self._stamp = getattr(self, "_stamp", stamp), stamp
        return before != stamp

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._log.close()


class Tab:
    """A WebSocket to a kernel, as a browser's tab has it (RFC 6455, client frames masked)."""

    def __init__(self, port: int, kernel: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        path = f"/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Authorization: token {TOKEN}"]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(1)
        assert b" 101 " in answer, answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, code: str) -> None:
        self.send("execute_request", {"code": code, "silent": False, "store_history": True, "user_expressions": {}})

    def send(self, kind: str, content: dict[str, object]) -> None:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": "", "version": "5.3"}
        said = {"header": header | {"date": ""}, "parent_header": {}, "metadata": {}, "content": content}
        data = json.dumps(said | {"channel": "shell", "buffers": []}).encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._socket.sendall(struct.pack("!BBH", 0x81, 0x80 | 126, len(data)) + mask + masked)


class OnlyThis:
    """The machine's processes without other people's Jupyter servers."""

    def __init__(self, pid: int) -> None:
        self._pid, self._kernel = pid, KernelTables(own_pid=lambda: -1)  # the test itself is a browser, too

    def at(self, now_s: float) -> Tables:
        tables = self._kernel.at(now_s)
        table = tables.processes
        kept = {pid: p for pid, p in table.by_pid.items() if pid == self._pid or not is_server(table.command(pid))}
        return replace(tables, processes=replace(table, by_pid=kept))


class Watch:
    """A signal that looks at one Lab, on a clock that the test moves."""

    def __init__(self, lab: Lab, **variables: str) -> None:
        self.now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        pod = Surroundings(variables=variables, started_s=self.now_s - 9 * HOUR, connected_for_s=3 * HOUR)
        self.signal = JupyterSignal(pod, kernel=OnlyThis(lab.process.pid))
        self.look()

    def look(self, after_s: float = 30.0) -> Finding:
        self.now_s += after_s
        return self.until(self._fresh)

    def until(self, enough: Callable[[Reading], bool]) -> Finding:
        def seen() -> Finding | None:
            reading = self.signal.read(self.now_s)
            finding = self.signal.judge(reading)
            return finding if enough(reading) else None

        finding = eventually(seen)
        assert isinstance(finding, Finding)
        return finding

    def _fresh(self, reading: Reading) -> bool:
        if reading.absent:
            return reading.at_s == self.now_s
        servers: Any = reading.facts["servers"]
        waiting = ("has not answered yet", "its runtime file is being read")
        return all(one["at_s"] == self.now_s and one["error"] not in waiting for one in servers)

    def active(self) -> Finding:
        """The first finding that is active, within some looks."""
        found = eventually(lambda: (one := self.look()).activity is Activity.ACTIVE and one)
        assert isinstance(found, Finding)
        return found

    def settled(self) -> Finding:
        """The first finding that is not active any more."""
        found = eventually(lambda: (one := self.look()).activity is not Activity.ACTIVE and one)
        assert isinstance(found, Finding)
        return found


def cpu_s(kernel: str) -> float:
    """What the process of this kernel has used."""
    table = KernelTables().at(time.clock_gettime(time.CLOCK_BOOTTIME)).processes
    return sum(each.cpu_s for each in table if any(f"kernel-{kernel}" in word for word in table.command(each.pid)))


@pytest.fixture
def lab(jupyter_lab: Path, tmp_path: Path) -> Iterator[Lab]:
    running = Lab(jupyter_lab, tmp_path)
    yield running
    running.end()


@pytest.fixture
def watch(lab: Lab) -> Iterator[Watch]:
    watching = Watch(lab)
    yield watching
    watching.signal.close()


@pytest.fixture
def kernel(lab: Lab, watch: Watch) -> str:
    """A kernel that somebody has started and used a moment ago."""
    started = lab.start_kernel()
    assert watch.active().reason == "kernel python3 (train.ipynb) started"
    lab.moved(started)
    lab.run(started, "warm = 1")
    assert eventually(lambda: lab.state(started) == "idle")
    watch.active()
    watch.settled()
    return started


def test_a_busy_kernel_whose_tab_is_closed(lab: Lab, watch: Watch, kernel: str) -> None:
    lab.run(kernel, "while True: pass")
    watch.look()
    before_s = cpu_s(kernel)
    assert eventually(lambda: cpu_s(kernel) > before_s + 1.5)
    finding = watch.look()
    assert finding.reason.startswith("kernel python3 (train.ipynb) busy, ")
    assert finding.evidence_s == watch.now_s


def test_the_smallest_cell_is_seen_after_its_end(lab: Lab, watch: Watch, kernel: str) -> None:
    for _ in range(3):
        lab.moved(kernel)
        lab.run(kernel, "x = 1")
        assert eventually(lambda: lab.state(kernel) == "idle")
        assert watch.active().reason == "kernel python3 (train.ipynb) ran a cell"
        watch.settled()


def test_an_idle_kernel_with_an_open_tab_that_reconnects(lab: Lab, watch: Watch, kernel: str) -> None:
    since_s = watch.now_s
    for _ in range(5):
        with lab.tab(kernel) as tab:
            tab.send("kernel_info_request", {})
            tab.send("comm_info_request", {})
            tab.send("history_request", {"output": False, "raw": True, "hist_access_type": "tail", "n": 100})
            finding = watch.look()
            assert (finding.activity, finding.bars) == (Activity.QUIET, True)
            assert "idle with an open connection, nobody ran anything for" in finding.reason
    with lab.tab(kernel):
        assert watch.look(3 * HOUR - (watch.now_s - since_s) - 120).bars
        assert not watch.look(180).bars


def test_a_kernel_that_nobody_looks_at(watch: Watch, kernel: str) -> None:
    finding = watch.look()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert finding.reason.endswith(": 1 kernel, idle")


def test_a_cell_that_sleeps(lab: Lab, watch: Watch, kernel: str) -> None:
    lab.run(kernel, "import time; time.sleep(3600)")
    watch.active()
    finding = watch.settled()
    assert (finding.activity, finding.bars, finding.notice) == (Activity.QUIET, True, None)
    assert finding.reason.startswith("kernel python3 (train.ipynb) busy without CPU for ")
    suspect = watch.look(HOUR)
    assert suspect.bars
    assert suspect.notice is not None
    over = watch.look(2 * HOUR)
    assert (over.activity, over.bars) == (Activity.QUIET, False)
    assert over.notice is not None


def test_a_terminal(lab: Lab, watch: Watch) -> None:
    lab.api("/api/terminals", {}, method="POST")
    watch.look(300)
    finding = watch.look()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert finding.reason == f"Jupyter on port {lab.port}: no kernel, 1 terminal"


def test_a_file_that_is_saved_in_the_text_editor(lab: Lab, watch: Watch) -> None:
    file = {"type": "file", "format": "text", "content": "learning_rate: 1e-4\n" * 60}
    polled(lab)
    watch.settled()
    with socket.create_connection(("127.0.0.1", lab.port)):
        for step in range(3):
            lab.api("/api/contents/train.yaml", file | {"content": f"{file['content']}# {step}\n"}, method="PUT")
            assert watch.active().reason == f"Jupyter on port {lab.port}: somebody saved a file"
            for _ in range(4):
                polled(lab)
                finding = watch.look()
                assert (finding.activity, finding.bars) == (Activity.QUIET, True)
                assert "nobody saved a file for" in finding.reason
        assert not watch.look(3 * HOUR).bars
    assert not watch.look().bars


def test_a_polled_server_and_tabs_that_connect_again_save_nothing(lab: Lab, watch: Watch, kernel: str) -> None:
    for _ in range(6):
        polled(lab)
        with lab.tab(kernel) as tab:
            tab.send("kernel_info_request", {})
            with pytest.raises(urllib.error.HTTPError):
                lab.api("/api/kernels/5f0c9a12-7d3e-4b8a-9a51-0d2c6e1f7b44")
            assert watch.look().activity is Activity.QUIET


def polled(lab: Lab) -> None:
    """What a visible tab asks each ten seconds."""
    for path in ("/api/kernels", "/api/sessions", "/api/terminals", "/api/contents/?content=1"):
        lab.api(path)


def test_our_questions_are_no_activity_of_the_server(lab: Lab, watch: Watch, kernel: str) -> None:
    before = lab.api("/api/status")["last_activity"]
    for _ in range(3):
        watch.look(300)
    assert lab.api("/api/status")["last_activity"] == before


def test_a_wrong_token(lab: Lab) -> None:
    (file,) = (lab.home / ".local/share/jupyter/runtime").glob("jpserver-*.json")
    file.write_text(file.read_text().replace(TOKEN, "wrong"))
    finding = Watch(lab).look(300)
    assert finding.activity is Activity.UNKNOWN
    words = "answers 403: its token is not known; set IDLEWATCH_JUPYTER_TOKEN"
    assert finding.reason == f"Jupyter on port {lab.port} {words}"
    assert Watch(lab, IDLEWATCH_JUPYTER_TOKEN=TOKEN).look().activity is Activity.QUIET


def test_a_server_that_is_stopped_and_goes_on(lab: Lab, watch: Watch, kernel: str) -> None:
    lab.process.send_signal(signal.SIGSTOP)
    watch.now_s += 30
    watch.signal.read(watch.now_s)
    watch.now_s += 13
    finding = watch.until(lambda reading: "no whole answer in 10 s" in str(reading.facts))
    assert finding.activity is Activity.UNKNOWN
    assert finding.reason == f"Jupyter on port {lab.port} gave no whole answer in 10 s"
    lab.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: watch.look().activity is Activity.QUIET)


def test_a_server_that_ended(lab: Lab, watch: Watch, kernel: str) -> None:
    lab.end()
    finding = watch.look()
    assert (finding.activity, finding.reason) == (Activity.ABSENT, "no Jupyter server process")
