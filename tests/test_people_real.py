"""
People, as the real kernel shows them: terminals, sshd and ssh, tmux, a container's exec.

The machine's other terminals and SSH sessions are left out of each look, so that nobody else's typing decides a test.
Instants that lie ahead are made up, so that three hours take no time.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from idlewatch.kernel import KernelTables, ProcessTable, SocketTable, Tables, Terminal, sockets
from idlewatch.model import Activity, Finding, Json, Surroundings
from idlewatch.signals.people import PeopleSignal
from tests.test_kernel_terminals import Shell, aged
from tests.waiting import until

HOUR = 3600.0
PATIENCE_S = 60.0
SSHD = shutil.which("sshd", path="/usr/local/sbin:/usr/sbin:/sbin")


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Part:
    """The real kernel, seen without other people's terminals and SSH servers."""

    terminal_names: set[str] = field(default_factory=set)
    server: int = -1
    real: KernelTables = field(default_factory=lambda: KernelTables(own_pid=lambda: -1, period_s=0.0))

    def at(self, now_s: float) -> Tables:
        tables = self.real.at(now_s)
        table = tables.processes
        seen = {
            each.pid: each
            for each in table
            if not each.comm.startswith("sshd") or each.pid == self.server or table.is_below(each.pid, self.server)
        }
        return replace(tables, processes=ProcessTable(table.at_s, seen, table.own, table.proc, table._children))

    def terminals(self, now_s: float) -> tuple[Terminal, ...]:
        return tuple(each for each in self.real.terminals(now_s) if each.name in self.terminal_names)

    def sockets_now(self, now_s: float) -> SocketTable:
        return self.real.sockets_now(now_s)


class Watch:
    """The signal on part of the real kernel; `look` moves its clock ahead of the real one."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.signal = PeopleSignal(Surroundings(), kernel=part)
        self.ahead_s = 0.0

    def look(self, after_s: float = 15.0) -> Finding:
        self.ahead_s += after_s
        return self.signal.judge(self.signal.read(boottime_s() + self.ahead_s))

    def calm(self, after_s: float = 15.0) -> Finding:
        """Look once the peer has acknowledged everything: hours that are made up leave it no time for that."""
        until(lambda: not any(one["queued_bytes"] for one in self.facts("connections")), "all is acknowledged")
        return self.look(after_s)

    def facts(self, kind: str) -> list[dict[str, Json]]:
        found = self.signal.read(boottime_s() + self.ahead_s).facts[kind]
        assert isinstance(found, list)
        return [one for one in found if isinstance(one, dict)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# ---------------------------------------------------------------- terminals


@pytest.mark.slow
def test_typing_output_and_idleness_on_a_real_terminal(stack: ExitStack) -> None:
    shell = Shell()
    stack.callback(shell.close)
    aged(shell.path, 900)
    watch = Watch(Part({shell.name}))
    watch.look()
    assert watch.look().activity is Activity.QUIET
    for _ in range(10):
        shell.notice()
        assert watch.look().activity is Activity.QUIET
    shell.type()
    finding = watch.look()
    assert finding.activity is Activity.ACTIVE
    assert f"on {shell.name}" in finding.reason
    assert "typed" in finding.reason
    assert watch.look(120).activity is Activity.QUIET


@pytest.mark.slow
def test_a_program_that_only_puts_out_is_nobody(stack: ExitStack) -> None:
    shell = Shell("sh", "-c", "while :; do echo ~tick~; sleep 0.05; done")
    stack.callback(shell.close)
    aged(shell.path, 900)
    before_ns = shell.path.stat().st_mtime_ns
    watch = Watch(Part({shell.name}))
    watch.look()
    shell.see(b"~tick~", 5)
    assert shell.path.stat().st_mtime_ns > before_ns
    assert watch.look().activity is Activity.QUIET


# ---------------------------------------------------------------- sshd


@dataclass
class Server:
    """A real sshd on loopback that lets root in with a key."""

    port: int
    pid: int
    key: Path
    stack: ExitStack

    def command(self, *words: str, port: int | None = None, options: tuple[str, ...] = ()) -> list[str]:
        fixed = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        given = [part for option in fixed for part in ("-o", option)]
        to = ["-p", str(port or self.port), "-i", str(self.key), *options, "root@127.0.0.1"]
        return ["ssh", "-F", "none", *given, *to, *words]

    def session(self, *words: str, port: int | None = None, options: tuple[str, ...] = ()) -> Session:
        process = subprocess.Popen(
            self.command(*words, port=port, options=options), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.stack.callback(_end, process)
        return Session(process)


@dataclass
class Session:
    """A real ssh client."""

    process: subprocess.Popen[bytes]
    seen: bytes = b""

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def see(self, text: bytes) -> bytes:
        """Return what has come so far, once `text` is in it."""
        assert self.process.stdout is not None
        while text not in self.seen:
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"ssh has ended; it said {self.seen!r}"
            self.seen += more
        seen, self.seen = self.seen, b""
        return seen

    def terminal(self) -> str:
        """Return the name of its terminal, from a remote command that begins with `tty`."""
        return self.see(b"\n").split()[0].decode().removeprefix("/dev/")


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.kill()
    process.wait()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    assert isinstance(port, int)
    return port


def _keys(folder: Path) -> None:
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    if SSHD is None or not shutil.which("ssh"):
        pytest.fail("there is no sshd or no ssh here: apt-get install openssh-server openssh-client")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    _keys(folder)
    port = _free_port()
    lines = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "key.pub",
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    with ExitStack() as stack, (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
        stack.callback(_end, process)
        until(lambda: process.poll() is not None or _listens(port), "sshd listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield Server(port, process.pid, folder / "key", stack)


def _listens(port: int) -> bool:
    return any(each.local.port == port for each in sockets.look(Path("/proc"), 0.0).listening())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with _server(tmp_path) as server:
        yield server


@pytest.mark.system
@pytest.mark.slow
def test_ssh_with_a_terminal_typing_and_idle(server: Server) -> None:
    session = server.session("tty; exec cat", options=("-tt",))
    name = session.terminal()
    aged(Path("/dev") / name, 900)
    watch = Watch(Part({name}, server.pid))
    first = watch.calm()
    assert first.activity is Activity.ACTIVE
    assert [one["kind"] for one in watch.facts("terminals")] == ["ssh"]
    assert [(one["person"], one["terminal"]) for one in watch.facts("connections")] == [("root from 127.0.0.1", True)]
    finding = watch.calm(90)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert finding.reason.startswith("root from 127.0.0.1 is connected, quiet for ")
    session.send(b"typed\n")
    session.see(b"typed\r\ntyped")
    finding = watch.calm()
    assert finding.activity is Activity.ACTIVE
    assert f"root on {name} (root from 127.0.0.1) typed" in finding.reason
    finding = watch.calm(2.9 * HOUR)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    finding = watch.calm(0.2 * HOUR)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert "is connected, quiet for 3h" in finding.reason


@pytest.mark.system
@pytest.mark.slow
def test_ssh_without_a_terminal_by_its_bytes(server: Server) -> None:
    watch = Watch(Part(set(), server.pid))
    watch.calm()
    session = server.session("cat", options=("-T",))
    session.send(b"~\n")
    session.see(b"~\n")
    assert watch.calm().activity is Activity.ACTIVE  # somebody has come
    (connection,) = watch.facts("connections")
    assert (connection["person"], connection["terminal"]) == ("root from 127.0.0.1", False)
    watch.calm(90)
    for _ in range(20):
        session.send(b"keep alive\n")
        session.see(b"keep alive\n")
        finding = watch.calm()
        assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    for _ in range(2):
        session.send(b"x" * 20_000 + b"\n")
        session.see(b"x\n")
        finding = watch.calm()
    assert finding.activity is Activity.ACTIVE
    assert finding.reason.startswith("ssh root from 127.0.0.1: 1.")
    assert "kB/s from the client" in finding.reason


@pytest.mark.system
@pytest.mark.slow
def test_a_session_that_only_forwards_is_a_session(server: Server) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with closing(listener):
        forward = f"{(port := _free_port())}:127.0.0.1:{listener.getsockname()[1]}"
        server.session(options=("-N", "-L", forward))
        until(lambda: _listens(port), "the forward listens")
        watch = Watch(Part(set(), server.pid))
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            with closing(accepted):
                client.sendall(b"over the forward")
                assert accepted.recv(100)
                (connection,) = watch.facts("connections")
                assert (connection["person"], connection["terminal"]) == ("root from 127.0.0.1", False)
                assert str(connection["id"]).endswith(f"to port {server.port}")


@pytest.mark.system
@pytest.mark.slow
def test_a_scanner_that_never_logs_in_is_nobody(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as scanner:
        assert scanner.recv(100).startswith(b"SSH-2.0")
        scanner.sendall(b"SSH-2.0-scanner\r\n")
        assert scanner.recv(4096)
        watch = Watch(Part(set(), server.pid))
        table = watch.part.at(boottime_s()).processes
        assert table.children(server.pid)
        finding = watch.look()
        assert (finding.activity, finding.reason) == (Activity.QUIET, "nobody is connected")


class Proxy:
    """Passes bytes between a client and a server until it stops taking what the server sends, and says nothing."""

    def __init__(self, to_port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.stopped = threading.Event()
        self._to_port = to_port
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)  # less than ssh's own window
        server.connect(("127.0.0.1", self._to_port))
        self._sockets += [client, server]
        back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
        self._threads.append(back)
        back.start()
        self._pass(client, server)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while not self.stopped.is_set() and (data := source.recv(65536)):
                target.sendall(data)

    def close(self) -> None:
        self.stopped.set()
        for each in (self.listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def _acked(watch: Watch) -> int:
    (connection,) = watch.facts("connections")
    acked = connection["acked_bytes"]
    assert isinstance(acked, int)
    return acked


def _acked_more(watch: Watch, than: int) -> bool:
    return _acked(watch) > than


@pytest.mark.system
@pytest.mark.slow
def test_a_half_open_connection_bars_no_more(server: Server) -> None:
    proxy = Proxy(server.port)
    server.stack.callback(proxy.close)
    client = subprocess.Popen(server.command("yes", port=proxy.port, options=("-T",)), stdout=subprocess.DEVNULL)
    server.stack.callback(_end, client)
    watch = Watch(Part(set(), server.pid))
    until(lambda: bool(watch.facts("connections")), "somebody is logged in")
    watch.look()
    for _ in range(5):
        until(partial(_acked_more, watch, _acked(watch)), "the peer takes what comes")
        assert watch.look(90).bars
    proxy.stopped.set()
    acked: list[int] = []

    def stuck() -> bool:
        time.sleep(0.2)
        acked.append(_acked(watch))
        queued = watch.facts("connections")[0]["queued_bytes"]
        return bool(queued) and len(acked) >= 5 and len(set(acked[-5:])) == 1

    until(stuck, "nothing is taken any more")
    watch.look(1)
    assert watch.look(60).bars
    finding = watch.look(120)
    assert not finding.bars
    assert finding.reason == "root from 127.0.0.1: the peer no longer answers"


# ---------------------------------------------------------------- tmux


class Tmux:
    """A tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("tmux"):
            pytest.fail("there is no tmux here: apt-get install tmux")
        self.command = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]

    def __call__(self, *words: str) -> str:
        environment = {"PATH": os.defpath, "TERM": "xterm", "LANG": "C.UTF-8"}
        result = subprocess.run([*self.command, *words], check=True, capture_output=True, text=True, env=environment)
        return result.stdout.strip()


@pytest.mark.system
@pytest.mark.slow
def test_tmux_detached_bars_nothing_attached_does(server: Server, tmp_path: Path) -> None:
    tmux = Tmux(tmp_path)
    tmux("new-session", "-d", "-s", "work", "exec cat")
    server.stack.callback(tmux, "kill-server")
    pane = tmux("display", "-p", "-t", "work", "#{pane_tty}").removeprefix("/dev/")
    part = Part({pane}, server.pid)
    watch = Watch(part)
    aged(Path("/dev") / pane, 7200)
    watch.calm()
    finding = watch.calm()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert [one["kind"] for one in watch.facts("terminals")] == ["detached"]

    session = server.session(f"tty; exec env TERM=xterm {' '.join(tmux.command)} attach -t work", options=("-tt",))
    part.terminal_names.add(name := session.terminal())
    until(lambda: tmux("list-clients") != "", "tmux is attached")
    watch.calm()
    finding = watch.calm(90)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    for terminal in (pane, name):
        aged(Path("/dev") / terminal, 900)
    watch.calm(90)
    session.send(b"typed\r")
    until(lambda: "typed\ntyped" in tmux("capture-pane", "-p", "-t", "work"), "cat answers in the pane")
    finding = watch.calm()
    assert finding.activity is Activity.ACTIVE
    assert f"on {name}" in finding.reason
    assert f"root on {pane} typed" in finding.reason

    tmux("detach-client", "-s", "work")
    session.process.wait(PATIENCE_S)
    until(lambda: watch.facts("connections") == [], "the session is gone")
    finding = watch.calm(90)
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


# ---------------------------------------------------------------- a container's exec

INSIDE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from idlewatch.kernel import KernelTables
from idlewatch.model import Surroundings
from idlewatch.signals.people import PeopleSignal
class Part:
    real = KernelTables()
    def at(self, now_s): return self.real.at(now_s)
    def terminals(self, now_s): return tuple(t for t in self.real.terminals(now_s) if t.name == sys.argv[2])
    def sockets_now(self, now_s): return self.real.sockets_now(now_s)
signal = PeopleSignal(Surroundings(), kernel=Part())
for line in sys.stdin:
    reading = signal.read(time.clock_gettime(time.CLOCK_BOOTTIME) + float(line))
    finding = signal.judge(reading)
    print(json.dumps([finding.activity, finding.bars, [t["kind"] for t in reading.facts["terminals"]]]), flush=True)
"""


@pytest.mark.system
@pytest.mark.slow
def test_a_shell_put_into_a_container_from_outside_is_a_person(stack: ExitStack) -> None:
    """As docker exec, RunPod's web terminal and its proxied SSH do it: its parent lies outside, and reads as 0."""
    wait = "echo ready; exec sleep 1000"
    container = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", wait],
        stdout=subprocess.PIPE,
    )
    stack.callback(_end, container)
    assert container.stdout is not None
    assert container.stdout.readline() == b"ready\n"
    inside = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()[0]
    enter = ("nsenter", "--target", inside, "--mount", "--pid")
    shell = Shell("cat", via=enter)
    stack.callback(shell.close)
    command = [*enter, sys.executable, "-c", INSIDE, str(Path(__file__).parent.parent), shell.name]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(_end, reader)

    def look(ahead_s: float) -> list[Json]:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(f"{ahead_s}\n".encode())
        reader.stdin.flush()
        answer = json.loads(reader.stdout.readline())
        assert isinstance(answer, list)
        return answer

    aged(shell.path, 600)
    activity, bars, kinds = look(0)
    assert (activity, bars, kinds) == ("active", True, ["outside"])
    activity, bars, _ = look(2 * HOUR)
    assert (activity, bars) == ("quiet", True)
    shell.type()
    assert look(2 * HOUR + 20)[0] == "active"
    assert look(5.1 * HOUR)[:2] == ["quiet", False]
