"""The Jupyter signal against a hand-made /proc and a loopback server that speaks Jupyter's API."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from idlewatch.errors import SignalError
from idlewatch.kernel import KernelTables, netlink
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.signals.jupyter import JupyterSignal
from idlewatch.signals.jupyter_ask import shown
from idlewatch.signals.jupyter_find import is_server
from idlewatch.signals.jupyter_judge import SAVED_CHARS, SAVED_CHARS_PER_KERNEL, JupyterJudge

TOKEN = "s3cr3t-t0k3n"
KERNEL = "0a07891e-e759-4f08-b425-ab634fffc7e0"
OTHER = "5f1c0b5e-1111-4f08-b425-ab634fffc7e0"
SERVER, KERNEL_PID, INODE = 57, 91, 777
T0 = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
BOOT = 1000.0
"""When the container started; T0 is when the clock says START."""
START = 5000.0
HOUR = 3600.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 -- where the fake server says that it listens
LAB = ("/usr/bin/python3", "/usr/local/bin/jupyter-lab", "--allow-root", "--port=8888")


class FakeJupyter:
    """Jupyter's REST API as far as it is asked, with a log of what was."""

    def __init__(self) -> None:
        self.kernels: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.terminals: list[dict[str, Any]] = []
        self.token, self.base = TOKEN, "/"
        self.replies: dict[str, tuple[int, bytes]] = {}
        """Path -> what to answer instead."""
        self.requests: list[tuple[str, str | None]] = []
        self.hangs = False
        self.freed = threading.Event()
        fake = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        given = request.headers["Authorization"]
        self.requests.append((request.path, given))
        if self.hangs:
            self.freed.wait(60)
        status, body = self._said(request.path.partition("?")[0], given)
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _said(self, path: str, given: str | None) -> tuple[int, bytes]:
        path = path.removeprefix(self.base)
        if path in self.replies:
            return self.replies[path]
        if self.token and given != f"token {self.token}":
            return 403, b'{"message": "Forbidden"}'
        known = {"api/kernels": self.kernels, "api/sessions": self.sessions, "api/terminals": self.terminals}
        return (200, json.dumps(known[path]).encode()) if path in known else (404, b"{}")

    def asked(self, path: str = "api/kernels") -> int:
        return sum(request.partition("?")[0] == f"{self.base}{path}" for request, _ in self.requests)

    def close(self) -> None:
        self.freed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(20)


class FakeProc:
    """A /proc with the processes that are put into it, and the sockets that listen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listening: list[tuple[str, int, int]] = []
        """Address, port, inode."""
        self.put(1, 0, ["/sbin/docker-init"])

    def put(
        self,
        pid: int,
        parent: int,
        argv: list[str] | tuple[str, ...],
        *,
        cpu_s: float = 0.0,
        waited_s: float = 0.0,
        written: int | None = 0,
        environment: dict[str, str] | None = None,
        inodes: tuple[int, ...] | None = (),
        started: int = 100,
    ) -> None:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        ticks = os.sysconf("SC_CLK_TCK")
        times = f"{int(cpu_s * ticks)} 0 {int(waited_s * ticks)} 0"
        (folder / "stat").write_text(f"{pid} (x) S {parent} {pid} {pid} 0 -1 0 0 0 0 0 {times} 20 0 1 0 {started} 0")
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in argv) + b"\0")
        (folder / "environ").write_bytes(
            b"\0".join(f"{name}={value}".encode() for name, value in (environment or {}).items())
        )
        if written is not None:
            (folder / "io").write_text(f"rchar: 0\nwchar: {written}\nread_bytes: 0\nwrite_bytes: 0\n")
        if inodes is not None:
            (folder / "fd").mkdir(exist_ok=True)
            for number, inode in enumerate(inodes):
                link = folder / "fd" / str(number)
                link.unlink(missing_ok=True)
                link.symlink_to(f"socket:[{inode}]")

    def end(self, pid: int) -> None:
        (self.root / str(pid) / "stat").unlink()

    def dump(self, family: int) -> list[netlink.Entry]:
        return [
            netlink.Entry(
                family=family,
                state=10,
                local=(socket.inet_pton(family, address), port),
                remote=(socket.inet_pton(family, "::" if ":" in address else EVERYWHERE), 0),
                receive_queue=0,
                send_queue=0,
                user_id=os.getuid(),
                inode=inode,
                info=None,
            )
            for address, port, inode in self.listening
            if (":" in address) == (family == socket.AF_INET6)
        ]


class Pod:
    """One Pod with a Jupyter server in it; time stands still but for `look`."""

    def __init__(self, folder: Path, jupyter: FakeJupyter, **variables: str) -> None:
        self.folder, self.jupyter = folder, jupyter
        (folder / "proc").mkdir()
        self.proc = FakeProc(folder / "proc")
        self.proc.listening.append((EVERYWHERE, jupyter.port, INODE))
        self.now_s, self.wall = START, T0
        self.signal = JupyterSignal(
            Surroundings(variables=variables, started_s=BOOT, connected_for_s=3 * HOUR),
            kernel=KernelTables(proc=folder / "proc", pts=folder, dump=self.proc.dump, own_pid=lambda: 2),
            wall_s=self.wall_s,
        )

    def wall_s(self) -> float:
        return self.wall.timestamp()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def serve(self, argv: tuple[str, ...] = LAB, **rest: Any) -> None:
        rest.setdefault("environment", {"HOME": str(self.home)})
        rest.setdefault("inodes", (INODE,))
        self.proc.put(SERVER, 1, argv, **rest)

    def leave_file(self, folder: Path | None = None, pid: int = SERVER, kind: str = "jpserver", **change: Json) -> Path:
        said = {"pid": pid, "port": self.jupyter.port, "token": TOKEN, "base_url": "/", "secure": False, "sock": ""}
        at = folder or self.home / ".local/share/jupyter/runtime"
        at.mkdir(parents=True, exist_ok=True)
        path = at / f"{kind}-{pid}.json"
        path.write_text(json.dumps(said | {"password": False, "url": "http://c0ffee:8888/"} | change))
        return path

    def kernel(
        self, state: str = "idle", *, connections: int = 0, moved_s: float = 0.0, cpu_s: float = 0.0, written: int = 0
    ) -> None:
        """The one kernel as server and processes show it; `moved_s`: its last activity, seconds after T0."""
        stamp = (T0 + timedelta(seconds=moved_s)).isoformat().replace("+00:00", "Z")
        said = {"id": KERNEL, "name": "python3", "last_activity": stamp, "execution_state": state}
        self.jupyter.kernels = [said | {"connections": connections}]
        self.jupyter.sessions = [{"path": "train.ipynb", "name": "", "type": "notebook", "kernel": {"id": KERNEL}}]
        argv = ["python3", "-m", "ipykernel_launcher", "-f", f"/root/.local/kernel-{KERNEL}.json"]
        self.proc.put(KERNEL_PID, SERVER, argv, cpu_s=cpu_s, written=written)

    def look(self, after_s: float = 30.0) -> Finding:
        """The finding of the next round of questions."""
        self.now_s += after_s
        self.wall += timedelta(seconds=after_s)
        return self.until(self._fresh)

    def until(self, enough: Callable[[Reading], bool]) -> Finding:
        """Ticks at one instant until a reading is enough."""
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            reading = self.signal.read(self.now_s)
            finding = self.signal.judge(reading)
            if enough(reading):
                return finding
            time.sleep(0.002)
        raise AssertionError(f"never enough; at last {reading}")

    def _fresh(self, reading: Reading) -> bool:
        if reading.absent:
            return reading.at_s == self.now_s
        waiting = ("has not answered yet", "its runtime file is being read")
        servers: Any = reading.facts["servers"]
        return all(one["at_s"] == self.now_s and one["error"] not in waiting for one in servers)

    def facts(self, number: int = 0) -> dict[str, Any]:
        servers: Any = self.signal.read(self.now_s).facts["servers"]
        return dict(servers[0]["kernels"][number])


@pytest.fixture
def jupyter() -> Iterator[FakeJupyter]:
    fake = FakeJupyter()
    yield fake
    fake.close()


@pytest.fixture
def pod(tmp_path: Path, jupyter: FakeJupyter) -> Iterator[Pod]:
    pod = Pod(tmp_path, jupyter)
    yield pod
    pod.signal.close()


@pytest.fixture
def served(pod: Pod) -> Pod:
    """With a server that has one idle kernel."""
    pod.serve()
    pod.leave_file()
    pod.kernel()
    return pod


# ---------------------------------------------------------------- whom it asks


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python3 /usr/local/bin/jupyter-lab --allow-root",
        "/usr/bin/python3.12 /usr/local/bin/jupyter-notebook",
        "/opt/conda/bin/python /opt/conda/bin/jupyter lab --no-browser",
        "/opt/conda/bin/python /opt/conda/bin/jupyterhub-singleuser",
        "jupyter-server",
        "python -m jupyterlab --port 8888",
        "python -X dev -u -m jupyter lab",
        "python -m notebook",
        "python3 -m jupyterlab.labapp",
        "python -m jupyter_server",
        "python -m jupyterhub.singleuser",
    ],
)
def test_a_server_s_command_line(line: str) -> None:
    assert is_server(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "bash -c jupyter lab",
        "python /home/me/notebook.py",
        "python jupyter_server.py",
        "python -c import jupyterlab",
        "python -m ipykernel_launcher -f /root/.local/share/jupyter/runtime/kernel-1.json",
        "/usr/bin/python3 /usr/local/bin/jupyter-lab list",
        "jupyter server stop 8888",
        "python -m jupyter lab build",
        "/usr/bin/python3 /usr/local/bin/jupyter-nbconvert --execute train.ipynb",
        "python -m idlewatch hold -- jupyter lab",
        "tmux new jupyter-lab",
        "vim jupyter-lab",
        "/usr/lib/code-server/lib/node /usr/lib/code-server",
        "python -m torch.distributed.run train.py",
        "python",
        "python -m",
    ],
)
def test_what_is_no_server_s_command_line(line: str) -> None:
    assert not is_server(line.split())


def test_no_process_is_proof_that_there_is_no_jupyter(pod: Pod) -> None:
    finding = pod.look()
    assert (finding.activity, finding.reason) == (Activity.ABSENT, "no Jupyter server process")


def test_a_runtime_file_of_a_dead_process_is_nothing(pod: Pod) -> None:
    pod.leave_file()
    assert pod.look().activity is Activity.ABSENT
    assert not pod.jupyter.requests


def test_a_runtime_file_whose_pid_is_somebody_else_now_is_nothing(pod: Pod) -> None:
    pod.serve(("python", "-m", "torch.distributed.run"))
    pod.leave_file()
    assert pod.look().activity is Activity.ABSENT
    assert not pod.jupyter.requests


def test_hidden_processes_prove_nothing(pod: Pod) -> None:
    pod.proc.end(1)
    pod.proc.put(300, 1, ["bash"])
    with pytest.raises(SignalError, match="hides other users' processes"):
        pod.signal.read(START)


def test_a_port_that_the_server_does_not_listen_on_is_never_asked(pod: Pod) -> None:
    """Its file is an old one, and the port is torch's store by now."""
    pod.serve(inodes=(778,))
    pod.leave_file()
    pod.proc.listening.append((EVERYWHERE, pod.jupyter.port + 1, 778))
    finding = pod.until(lambda reading: "does not listen" in str(reading.facts))
    assert finding.activity is Activity.UNKNOWN
    assert finding.reason == "Jupyter (process 57) does not listen where its runtime file says"
    assert not pod.jupyter.requests


def test_a_shell_that_the_server_is_just_starting_is_no_second_server(served: Pod) -> None:
    served.proc.put(58, SERVER, LAB, inodes=(INODE,))
    served.look()
    servers: Any = served.signal.read(served.now_s).facts["servers"]
    assert [one["name"] for one in servers] == [f"Jupyter on port {served.jupyter.port}"]


RUNTIME = {
    "JUPYTER_RUNTIME_DIR": "{0}",
    "JUPYTER_DATA_DIR": "{0}/runtime",
    "XDG_DATA_HOME": "{0}/jupyter/runtime",
    "HOME": "{0}/.local/share/jupyter/runtime",
}


@pytest.mark.parametrize("variable", sorted(RUNTIME))
def test_its_runtime_file_is_found_where_it_itself_puts_it(pod: Pod, variable: str) -> None:
    folder = pod.folder / "there"
    pod.serve(environment={"HOME": "/nowhere", variable: str(folder)})
    pod.leave_file(Path(RUNTIME[variable].format(folder)))
    assert pod.look().activity is Activity.QUIET


def test_an_older_notebook_server_is_found_too(pod: Pod) -> None:
    pod.serve(("/usr/bin/python3", "/usr/bin/jupyter-notebook"))
    pod.leave_file(kind="nbserver")
    assert pod.look().activity is Activity.QUIET


def test_a_base_path_is_asked_under(pod: Pod) -> None:
    pod.jupyter.base = "/user/me/"
    pod.serve()
    pod.leave_file(base_url="/user/me/")
    assert pod.look().activity is Activity.QUIET
    assert pod.jupyter.asked() == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", "no json", '{"pid": 58}'])
def test_a_runtime_file_that_says_nothing_leaves_the_command_line(pod: Pod, content: str) -> None:
    pod.jupyter.token = ""
    pod.serve()
    pod.leave_file().write_text(content)
    assert pod.look().activity is Activity.QUIET


def test_a_pipe_in_place_of_a_runtime_file_holds_nobody(pod: Pod) -> None:
    pod.jupyter.token = ""
    pod.serve()
    path = pod.leave_file()
    path.unlink()
    os.mkfifo(path)
    assert pod.look().activity is Activity.QUIET


@pytest.mark.parametrize("how", ["--IdentityProvider.token={0}", "--ServerApp.token={0}", "--NotebookApp.token={0}"])
def test_without_a_runtime_file_the_command_line_tells_the_token(pod: Pod, how: str) -> None:
    pod.serve((*LAB, f"--port={pod.jupyter.port}", how.format(TOKEN)), environment={})
    assert pod.look().activity is Activity.QUIET


def test_without_a_runtime_file_one_of_several_ports_must_be_told(pod: Pod) -> None:
    pod.jupyter.token = ""
    pod.serve(LAB[:-1], environment={}, inodes=(INODE, 778))
    pod.proc.listening.append(("127.0.0.1", 9999, 778))
    finding = pod.until(lambda reading: "more than one port" in str(reading.facts))
    assert finding.activity is Activity.UNKNOWN
    assert not pod.jupyter.requests
    pod.serve((*LAB[:-1], "--port", str(pod.jupyter.port)), environment={}, inodes=(INODE, 778))
    assert pod.look().activity is Activity.QUIET


def test_a_server_that_does_not_listen_yet_is_unknown(pod: Pod) -> None:
    pod.serve(inodes=(), environment={})
    finding = pod.until(lambda reading: "listens on no port yet" in str(reading.facts))
    assert finding.activity is Activity.UNKNOWN


def test_where_descriptors_are_denied_the_port_must_be_its_user_s(pod: Pod) -> None:
    pod.serve(inodes=None)
    pod.leave_file()
    assert pod.look().activity is Activity.QUIET


def test_a_socket_of_its_own_is_asked_only_where_it_has_it(pod: Pod) -> None:
    path = str(pod.folder / "jupyter.sock")
    (pod.folder / "proc/net").mkdir()
    unix = pod.folder / "proc/net/unix"
    unix.write_text(f"Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 10000 1 1 555 {path}\n")
    pod.serve(inodes=(554,))
    pod.leave_file(sock=path)
    finding = pod.until(lambda reading: "does not listen" in str(reading.facts))
    assert finding.activity is Activity.UNKNOWN
    pod.serve(inodes=(555,))
    finding = pod.look()
    assert finding.reason == f"Jupyter on {path} can't be talked to: No such file or directory"


@pytest.mark.parametrize("variable", ["JUPYTER_PASSWORD", "JUPYTER_TOKEN", "IDLEWATCH_JUPYTER_TOKEN"])
def test_the_pod_s_variables_tell_the_token(tmp_path: Path, jupyter: FakeJupyter, variable: str) -> None:
    pod = Pod(tmp_path, jupyter, **{variable: TOKEN})
    pod.serve()
    pod.leave_file(token="")
    assert pod.look().activity is Activity.QUIET
    assert jupyter.asked() == 2
    pod.look()
    assert jupyter.asked() == 3  # the one that was taken comes first from then on
    pod.signal.close()


def test_ipv6_is_asked_where_nothing_else_listens(pod: Pod, jupyter: FakeJupyter) -> None:
    pod.proc.listening[:] = [("::1", 1, INODE)]
    pod.serve()
    pod.leave_file(port=1)
    assert pod.look().reason == "Jupyter on port 1 refuses connections"


# ---------------------------------------------------------------- how it asks


def test_a_server_is_asked_every_30_s_at_the_most(served: Pod) -> None:
    served.look()
    for _ in range(5):
        served.now_s += 5
        served.signal.read(served.now_s)
    assert served.jupyter.asked() == 1
    served.look(5)
    assert served.jupyter.asked() == 2


def test_our_questions_are_no_activity_of_the_server(served: Pod) -> None:
    served.look()
    assert served.jupyter.requests
    assert all(path.endswith("?no_track_activity=1") for path, _ in served.jupyter.requests)


def test_names_are_asked_for_when_there_is_a_new_kernel_and_seldom_else(served: Pod) -> None:
    for _ in range(4):
        served.look()
    assert (served.jupyter.asked(), served.jupyter.asked("api/sessions")) == (4, 1)
    served.look(300)
    assert served.jupyter.asked("api/sessions") == 2


def test_a_server_whose_names_fail_is_known_all_the_same(served: Pod) -> None:
    served.jupyter.replies = {"api/sessions": (500, b""), "api/terminals": (404, b"<html>")}
    assert served.look().reason.endswith("1 kernel, idle")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_unknown_and_says_what_helps(served: Pod, status: int) -> None:
    served.jupyter.replies["api/kernels"] = (status, b"{}")
    finding = served.look()
    assert finding.activity is Activity.UNKNOWN
    words = f"answers {status}: its token is not known; set IDLEWATCH_JUPYTER_TOKEN"
    assert finding.reason == f"Jupyter on port {served.jupyter.port} {words}"


def test_a_wrong_token_is_not_tried_every_30_s(served: Pod) -> None:
    """Each try is a warning in the server's log."""
    served.leave_file(token="old")
    served.look()
    for _ in range(9):
        served.now_s += 30
        served.signal.read(served.now_s)
        time.sleep(0.01)  # time for a question that must not come
    assert served.jupyter.asked() == 1
    served.look(30)
    assert served.jupyter.asked() == 2


def test_a_token_that_changed_is_read_again(served: Pod) -> None:
    served.leave_file(token="old")
    assert served.look().activity is Activity.UNKNOWN
    served.leave_file()
    served.now_s += 30
    finding = served.until(lambda reading: reading.facts["servers"][0]["error"] is None)  # type: ignore[index, call-overload]  # a list
    assert finding.activity is Activity.QUIET


def test_a_server_that_takes_only_a_password_says_so(served: Pod) -> None:
    served.leave_file(token="", password=True)
    assert "it takes only a password; start it with a token" in served.look().reason


def test_a_server_without_kernels_api_is_absent(served: Pod) -> None:
    served.jupyter.replies["api/kernels"] = (404, b"")
    finding = served.look()
    assert finding.activity is Activity.ABSENT
    assert finding.reason == f"Jupyter on port {served.jupyter.port} has no kernels (/api/kernels answers 404)"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"{}", "answers 500"),
        (503, b"{}", "answers 503"),
        (302, b"", "answers 302"),
        (200, b"<html>", "answers what is no list of kernels"),
        (200, b"{}", "answers what is no list of kernels"),
        (200, b"[1]", "answers what is no list of kernels"),
        (200, b'[{"id": "a"}]', "answers what is no list of kernels"),
        (
            200,
            json.dumps([{"id": "a", "execution_state": "idle"}] * 201).encode(),
            "answers what is no list of kernels",
        ),
    ],
)
def test_a_living_server_that_tells_nothing_is_unknown(served: Pod, status: int, body: bytes, words: str) -> None:
    """Never an old stamp that ages."""
    served.look()
    served.jupyter.replies["api/kernels"] = (status, body)
    finding = served.look()
    assert finding.activity is Activity.UNKNOWN
    assert finding.reason == f"Jupyter on port {served.jupyter.port} {words}"
    assert (finding.seen_from_s, finding.seen_to_s) == (0.0, 0.0)


def test_a_hung_server_is_unknown_and_keeps_no_tick_waiting(served: Pod) -> None:
    served.look()
    served.jupyter.hangs = True
    served.now_s += 30
    served.signal.read(served.now_s)
    served.now_s += 13
    finding = served.until(lambda reading: "no whole answer in 10 s" in str(reading.facts))
    assert not served.jupyter.freed.is_set()
    assert finding.activity is Activity.UNKNOWN
    assert threads_end()
    served.jupyter.hangs = False
    served.jupyter.freed.set()
    assert served.look().activity is Activity.QUIET


def test_a_server_that_ended_is_absent_though_its_file_stays(served: Pod) -> None:
    assert served.look().activity is Activity.QUIET
    served.proc.end(SERVER)
    served.proc.end(KERNEL_PID)
    finding = served.look(15)
    assert (finding.activity, finding.reason) == (Activity.ABSENT, "no Jupyter server process")


def test_a_server_that_ended_in_the_middle_of_a_question_leaves_nothing_behind(served: Pod) -> None:
    served.jupyter.hangs = True
    served.until(lambda _: bool(served.jupyter.requests))
    served.proc.end(SERVER)
    assert served.look(15).activity is Activity.ABSENT
    assert threads_end()


def threads_end() -> bool:
    """Whether what was asked and given up leaves no thread: its connection was ended, so it does not hang for long."""
    asking = [thread for thread in threading.enumerate() if thread.name.startswith("asks ")]
    for thread in asking:
        thread.join(30)
    return not any(thread.is_alive() for thread in asking)


def test_two_servers_are_judged_together(served: Pod, tmp_path: Path) -> None:
    other = FakeJupyter()
    served.proc.put(60, 1, ("python", "-m", "notebook"), environment={"HOME": str(served.home)}, inodes=(778,))
    served.proc.listening.append(("127.0.0.1", other.port, 778))
    served.leave_file(pid=60, port=other.port)
    both = served.look()
    assert both.activity is Activity.QUIET
    assert str(other.port) in both.reason
    other.replies["api/kernels"] = (500, b"")
    assert served.look().activity is Activity.UNKNOWN
    served.kernel("busy", cpu_s=30)
    assert served.look().activity is Activity.ACTIVE
    other.replies["api/kernels"] = (404, b"")
    served.kernel("idle", cpu_s=30)
    assert served.look().activity is Activity.QUIET
    other.close()


def test_no_secret_is_in_what_is_kept_and_said(served: Pod) -> None:
    for reply in ((403, TOKEN.encode()), (500, TOKEN.encode()), (200, TOKEN.encode()), (200, b"[]")):
        served.jupyter.replies["api/kernels"] = reply
        finding = served.look(300)
        reading = served.signal.read(served.now_s)
        assert (
            TOKEN not in f"{finding} {reading} {served.signal._servers} {[*map(vars, served.signal._servers.values())]}"
        )


def test_names_from_outside_can_t_write_on_a_terminal(served: Pod) -> None:
    served.kernel("busy")
    served.jupyter.sessions[0]["path"] = "a\x1b[31m\nb\x9b.ipynb"
    served.look()
    served.kernel("busy", cpu_s=30)
    assert "(a[31mb.ipynb)" in served.look().reason
    assert shown("x" * 70) == "…" + "x" * 59


# ---------------------------------------------------------------- what a kernel did


def test_a_busy_kernel_with_cpu_is_active_whatever_its_stamp_says(served: Pod) -> None:
    """F5: a quiet cell of hours, the browser closed."""
    served.kernel("busy", moved_s=-3900)
    served.look()
    served.kernel("busy", moved_s=-3900, cpu_s=29.4)
    finding = served.look()
    assert finding.activity is Activity.ACTIVE
    assert finding.reason == "kernel python3 (train.ipynb) busy, 98 % CPU > 2 %"
    assert finding.evidence_s == served.now_s
    assert (finding.seen_from_s, finding.seen_to_s) == (served.now_s - 30, served.now_s)


def test_a_cell_that_came_and_went_between_two_looks_is_seen(served: Pod) -> None:
    served.look()
    served.kernel(moved_s=40, written=25_272)
    finding = served.look()
    assert (finding.activity, finding.reason) == (Activity.ACTIVE, "kernel python3 (train.ipynb) ran a cell")
    assert served.look().activity is Activity.QUIET


def test_a_kernel_of_another_language_is_seen_by_its_cpu(served: Pod) -> None:
    served.look()
    served.kernel(moved_s=40, cpu_s=3.0)
    assert served.look().reason == "kernel python3 (train.ipynb) ran something, 10 % CPU > 2 %"


def test_a_tab_that_reconnects_is_no_execution(served: Pod) -> None:
    """N5: each time a fresh stamp, 7 ms of CPU and 512 bytes."""
    served.kernel(connections=1)
    served.look()
    for turn in range(1, 14):
        served.kernel(connections=1, moved_s=900.0 * turn, cpu_s=0.07 * turn, written=5120 * turn)
        finding = served.look(900)
        assert finding.activity is Activity.QUIET
        assert finding.bars == (served.now_s - START < 3 * HOUR)
    assert not finding.bars


def test_what_server_and_process_show_one_look_apart_belongs_together(served: Pod) -> None:
    served.look()
    served.kernel(moved_s=40)
    assert served.look().activity is Activity.QUIET
    served.kernel(moved_s=40, written=25_000)
    assert served.look().activity is Activity.ACTIVE
    served.kernel(moved_s=40, written=50_000)
    assert served.look().activity is Activity.QUIET
    served.kernel(moved_s=130, written=50_000)
    assert served.look().activity is Activity.ACTIVE


def test_what_an_idle_kernel_writes_and_uses_is_no_execution(served: Pod) -> None:
    """A thread of an earlier cell that goes on is work for other signals to see, and no person's doing."""
    served.look()
    for turn in range(1, 4):
        served.kernel(cpu_s=30.0 * turn, written=10**6 * turn)
        assert served.look().activity is Activity.QUIET


def test_children_of_a_kernel_count_as_the_kernel(served: Pod) -> None:
    served.kernel("busy")
    served.proc.put(92, KERNEL_PID, ["python", "loader"])
    served.proc.put(93, 92, ["python", "worker"])
    served.look()
    served.proc.put(93, 92, ["python", "worker"], cpu_s=15)
    assert served.look().reason == "kernel python3 (train.ipynb) busy, 50 % CPU > 2 %"
    served.proc.end(93)
    served.proc.put(92, KERNEL_PID, ["python", "loader"], waited_s=15)
    assert served.look().activity is Activity.QUIET
    assert served.facts()["cpu_s"] == 0.0


def test_a_child_that_leaves_the_tree_makes_no_negative_cpu(served: Pod) -> None:
    served.kernel("busy")
    served.proc.put(92, KERNEL_PID, ["sh"], cpu_s=500)
    served.look()
    served.kernel("busy", cpu_s=30)
    served.proc.put(92, 1, ["sh"], cpu_s=500)
    assert served.look().activity is Activity.ACTIVE


def test_a_wrapper_and_its_kernel_are_one(served: Pod) -> None:
    served.proc.put(90, SERVER, ["bash", "-c", f"exec python -f kernel-{KERNEL}.json", "x"])
    served.proc.put(89, SERVER, ["conda", "run", f"/x/kernel-{KERNEL}.json"])
    served.proc.put(KERNEL_PID, 89, ["python", "-f", f"/x/kernel-{KERNEL}.json"], cpu_s=4)
    served.jupyter.kernels[0]["execution_state"] = "busy"
    served.look()
    served.proc.put(KERNEL_PID, 89, ["python", "-f", f"/x/kernel-{KERNEL}.json"], cpu_s=19)
    served.look()
    assert served.facts()["cpu_s"] == 15.0


def test_a_restarted_kernel_is_counted_from_its_start(served: Pod) -> None:
    served.kernel("idle", cpu_s=900)
    served.look()
    served.proc.end(KERNEL_PID)
    served.kernel("idle", moved_s=40)
    argv = ["python3", f"kernel-{KERNEL}.json"]
    served.proc.put(KERNEL_PID, SERVER, argv, cpu_s=1.5, started=900)
    assert served.look().reason == "kernel python3 (train.ipynb) ran something, 5 % CPU > 2 %"


def test_a_process_that_hides_its_writing_is_judged_by_its_cpu(served: Pod) -> None:
    served.look()
    (served.folder / f"proc/{KERNEL_PID}/io").unlink()
    served.jupyter.kernels[0]["last_activity"] = "2026-11-24T08:00:40Z"
    assert served.look().activity is Activity.QUIET
    assert served.facts()["written_chars"] is None


def test_a_failed_look_does_not_lose_what_is_compared_with(served: Pod) -> None:
    served.look()
    served.jupyter.replies["api/kernels"] = (500, b"")
    served.look()
    served.jupyter.replies.clear()
    served.kernel(moved_s=45, written=25_000)
    assert served.look().activity is Activity.ACTIVE
    assert served.facts()["span_s"] == 60


@pytest.mark.parametrize(
    ("stamp", "age_s"),
    [
        ("2026-11-24T08:00:20Z", 10.0),
        ("2026-11-24T08:00:20.000000+00:00", 10.0),
        ("2026-11-24T10:00:20+02:00", 10.0),
        ("2026-11-24T08:00:20", 10.0),
        ("2031-01-01T00:00:00Z", 0.0),
        ("2021-01-01T00:00:00Z", START + 30 - BOOT),
        ("yesterday", START + 30 - BOOT),
        (None, START + 30 - BOOT),
    ],
)
def test_stamps_are_utc_and_lie_between_the_container_s_start_and_now(
    served: Pod, stamp: str | None, age_s: float
) -> None:
    """F30: an older stamp is no proof of a longer rest than this container has lived."""
    served.jupyter.kernels[0]["last_activity"] = stamp
    served.look()
    assert served.facts()["age_s"] == pytest.approx(age_s)


def test_a_terminal_alone_is_nothing(served: Pod) -> None:
    served.jupyter.kernels, served.jupyter.terminals = [], [{"name": "1"}, {"name": "2"}]
    finding = served.look()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)
    assert finding.reason.endswith(": no kernel, 2 terminals")


# ---------------------------------------------------------------- the judge, by itself


def fact(**change: Any) -> dict[str, Any]:
    idle = {"id": KERNEL, "kernel": "python3", "path": "a.ipynb", "state": "idle", "connections": 0, "age_s": 0.0}
    return idle | {"moved": False, "local": True, "span_s": 30.0, "cpu_s": 0.0, "written_chars": 0} | change


def server(at_s: float, *kernels: dict[str, Any], **change: Any) -> dict[str, Any]:
    whole = {"name": "Jupyter on port 8888", "at_s": at_s, "error": None, "absent": None, "terminals": 0}
    return whole | {"kernels": list(kernels)} | change


class Judged:
    """One judge and its clock."""

    def __init__(self, cap_s: float = 3 * HOUR) -> None:
        self.judge, self.at_s = JupyterJudge(connected_for_s=cap_s), START

    def next(self, *kernels: dict[str, Any], after_s: float = 30.0, **change: Any) -> Finding:
        self.at_s += after_s
        return self.judge.finding([server(self.at_s, *kernels, **change)], self.at_s, after_s)


def test_a_busy_kernel_without_cpu_bars_to_the_cap_with_a_notice_then_is_quiet() -> None:
    """N6: busy for days with nothing behind it."""
    judged = Judged()
    first = judged.next(fact(state="busy"))
    assert (first.activity, first.bars, first.notice) == (Activity.QUIET, True, None)
    soon = judged.next(fact(state="busy"), after_s=14 * 60)
    assert (soon.bars, soon.notice) == (True, None)
    later = judged.next(fact(state="busy"), after_s=60)
    assert later.bars
    assert later.notice == (
        "kernel python3 (a.ipynb) says that it is busy, but does nothing that can be seen; it keeps this Pod up for "
        "3h at most"
    )
    assert judged.next(fact(state="busy"), after_s=3 * HOUR - 15 * 60 - 30).bars
    last = judged.next(fact(state="busy"), after_s=60)
    assert (last.activity, last.bars) == (Activity.QUIET, False)
    assert last.notice is not None
    assert judged.next(fact()).notice is None


def test_a_cell_that_only_sleeps_keeps_the_pod_for_the_cap_since_it_last_did_something() -> None:
    judged = Judged()
    judged.next(fact())
    assert judged.next(fact(state="busy", moved=True, written_chars=25_000)).activity is Activity.ACTIVE
    assert judged.next(fact(state="busy"), after_s=3 * HOUR - 1).bars
    assert judged.next(fact(state="busy", cpu_s=3.0)).activity is Activity.ACTIVE
    assert judged.next(fact(state="busy"), after_s=3 * HOUR - 1).bars
    assert not judged.next(fact(state="busy"), after_s=2).bars


def test_the_first_look_at_a_busy_kernel_knows_no_cpu_and_bars() -> None:
    finding = Judged().next(fact(state="busy", age_s=9 * HOUR, cpu_s=None, written_chars=None, span_s=0.0))
    assert (finding.activity, finding.bars, finding.notice) == (Activity.QUIET, True, None)
    assert finding.reason == "kernel python3 (a.ipynb) busy, its CPU is not known yet"


def test_a_stamp_of_long_ago_is_believed_of_a_kernel_seen_for_the_first_time() -> None:
    judged = Judged()
    judged.next(fact(state="busy", age_s=4 * HOUR))
    assert not judged.next(fact(state="busy", age_s=4 * HOUR)).bars


def test_an_open_connection_bars_to_the_cap_since_somebody_ran_something() -> None:
    judged = Judged()
    tab = fact(connections=1)
    first = judged.next(tab | {"age_s": HOUR})
    assert first.bars
    assert first.reason == ("kernel python3 (a.ipynb) idle with an open connection, nobody ran anything for 1h < 3h")
    assert not judged.next(tab, after_s=2 * HOUR).bars
    judged.next(tab | {"moved": True, "written_chars": 25_000})
    assert judged.next(tab, after_s=3 * HOUR - 1).bars
    assert not judged.next(tab, after_s=2).bars


def test_a_closed_tab_bars_nothing() -> None:
    finding = Judged().next(fact())
    assert (finding.activity, finding.bars, finding.reason) == (
        Activity.QUIET,
        False,
        "Jupyter on port 8888: 1 kernel, idle",
    )


def test_the_end_of_a_long_cell_is_no_person_s_doing() -> None:
    judged = Judged()
    tab = fact(connections=1)
    judged.next(tab)
    judged.next(tab | {"state": "busy", "moved": True, "written_chars": 25_000})
    for _ in range(10):
        judged.next(tab | {"state": "busy", "cpu_s": 1800.0, "span_s": 1800.0}, after_s=1800)
    end = judged.next(tab | {"moved": True, "cpu_s": 20.0})
    assert end.activity is Activity.ACTIVE
    assert not judged.next(tab).bars


def test_a_kernel_that_somebody_starts_is_evidence_once() -> None:
    judged = Judged()
    judged.next(fact())
    new = fact(id=OTHER, cpu_s=None, written_chars=None, span_s=0.0, path=None)
    started = judged.next(fact(), new)
    assert (started.activity, started.reason) == (Activity.ACTIVE, "kernel python3 started")
    assert judged.next(fact(), fact(id=OTHER)).activity is Activity.QUIET


def test_kernels_that_are_there_when_it_begins_are_no_evidence() -> None:
    assert Judged().next(fact(), fact(id=OTHER)).activity is Activity.QUIET


def test_a_kernel_elsewhere_can_only_bar() -> None:
    judged = Judged()
    remote = fact(local=False, cpu_s=None, written_chars=None, span_s=0.0, connections=1, age_s=5 * HOUR)
    assert not judged.next(remote).bars
    moved = judged.next(remote | {"moved": True})
    assert (moved.activity, moved.bars) == (Activity.QUIET, True)
    busy = judged.next(remote | {"state": "busy", "connections": 0})
    assert (busy.activity, busy.bars) == (Activity.QUIET, True)


@pytest.mark.parametrize("state", ["starting", "restarting", "autorestarting", "dead", "unknown", "terminating"])
def test_other_states_are_no_work(state: str) -> None:
    judged = Judged()
    judged.next(fact(state=state))
    finding = judged.next(fact(state=state, cpu_s=1.5))
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


@pytest.mark.parametrize(("cpu_s", "activity"), [(0.6, Activity.QUIET), (0.61, Activity.ACTIVE)])
def test_the_limit_of_cpu(cpu_s: float, activity: Activity) -> None:
    judged = Judged()
    judged.next(fact(state="busy"))
    assert judged.next(fact(state="busy", cpu_s=cpu_s)).activity is activity


@pytest.mark.parametrize(("written", "activity"), [(8191, Activity.QUIET), (8192, Activity.ACTIVE)])
def test_the_limit_of_history(written: int, activity: Activity) -> None:
    judged = Judged()
    judged.next(fact())
    assert judged.next(fact(moved=True, written_chars=written)).activity is activity


def test_with_a_cap_of_0_nothing_bars() -> None:
    judged = Judged(cap_s=0.0)
    judged.next(fact(connections=1))
    assert not judged.next(fact(connections=1)).bars
    assert not judged.next(fact(connections=1, state="busy")).bars


def test_the_same_look_again_teaches_nothing() -> None:
    judge = JupyterJudge(connected_for_s=3 * HOUR)
    judge.finding([server(0.0, fact())], 0.0, 0.0)
    ran = server(30.0, fact(moved=True, written_chars=25_000))
    first = judge.finding([ran], 30.0, 30.0)
    other = judge.finding([ran, server(35.0, name="Jupyter on port 9")], 35.0, 5.0)
    assert first.evidence_s == other.evidence_s == 30.0


def test_an_unknown_server_beside_a_bar_is_unknown_and_bars() -> None:
    judge = JupyterJudge(connected_for_s=3 * HOUR)
    broken = server(0.0, name="Jupyter on port 9", error="answers 500")
    finding = judge.finding([server(0.0, fact(connections=1)), broken], 0.0, 0.0)
    assert (finding.activity, finding.bars) == (Activity.UNKNOWN, True)
    assert finding.reason == "Jupyter on port 9 answers 500"


@pytest.mark.parametrize("facts", [{}, {"servers": 3}, {"servers": [{}]}, {"servers": [{"name": "x"}]}])
def test_facts_that_make_no_sense_are_unknown(facts: dict[str, Json]) -> None:
    signal = JupyterSignal(Surroundings(), kernel=KernelTables())
    finding = signal.judge(Reading(signal="jupyter", at_s=1.0, facts=facts))
    assert finding.activity is Activity.UNKNOWN
    assert finding.reason.startswith("facts that make no sense")


def test_a_reading_that_was_kept_is_judged_as_before(served: Pod) -> None:
    """What `replay` and a restarted daemon do."""
    readings = []
    for turn in range(4):
        served.kernel(connections=1, moved_s=30.0 * turn, written=25_000 * turn)
        served.look()
        readings.append(served.signal.read(served.now_s))
    again = JupyterSignal(Surroundings(connected_for_s=3 * HOUR), kernel=KernelTables())
    kept = [
        Reading(signal="jupyter", at_s=r.at_s, covers_s=r.covers_s, facts=json.loads(json.dumps(dict(r.facts))))
        for r in readings
    ]
    assert [again.judge(reading).activity for reading in kept] == [Activity.QUIET, *[Activity.ACTIVE] * 3]


# ---------------------------------------------------------------- who writes in the text editor


def test_what_the_server_itself_writes_is_a_file_that_somebody_saved(served: Pod) -> None:
    served.look()
    assert served.look().activity is Activity.QUIET
    served.serve(written=6_000)
    finding = served.look()
    assert (finding.activity, finding.evidence_s) == (Activity.ACTIVE, served.now_s)
    assert finding.reason == f"Jupyter on port {served.jupyter.port}: somebody saved a file"
    finding = served.look()
    assert (finding.activity, finding.bars) == (Activity.QUIET, False)


def test_what_a_child_of_the_server_had_written_comes_to_it_when_that_ends_and_is_no_file(served: Pod) -> None:
    served.proc.put(61, SERVER, ["/bin/bash"])
    served.look()
    served.proc.end(61)
    served.serve(written=90_000)
    assert served.look().activity is Activity.QUIET
    served.serve(written=96_000)
    assert served.look().activity is Activity.ACTIVE


def test_a_server_that_hides_its_writing_saves_nothing(served: Pod) -> None:
    (served.proc.root / f"{SERVER}/io").unlink()
    served.look()
    assert served.look().activity is Activity.QUIET


@pytest.mark.parametrize(
    ("kernels", "chars", "activity"),
    [
        (0, SAVED_CHARS - 1, Activity.QUIET),
        (0, SAVED_CHARS, Activity.ACTIVE),
        (2, SAVED_CHARS + 2 * SAVED_CHARS_PER_KERNEL - 1, Activity.QUIET),
        (2, SAVED_CHARS + 2 * SAVED_CHARS_PER_KERNEL, Activity.ACTIVE),
    ],
)
def test_the_limit_of_a_saved_file(kernels: int, chars: int, activity: Activity) -> None:
    judged, there = Judged(), [fact(id=str(number)) for number in range(kernels)]
    judged.next(*there, saved_chars=None)
    judged.next(*there, saved_chars=0)
    assert judged.next(*there, saved_chars=chars).activity is activity


def test_who_saves_every_two_minutes_is_there_and_an_open_page_then_bars_to_the_cap() -> None:
    judged = Judged()
    judged.next(saved_chars=0)
    for number in range(60):
        finding = judged.next(saved_chars=0 if number % 4 else 1700, clients=1)
        assert (finding.activity is Activity.ACTIVE) is (number % 4 == 0)
    finding = judged.next(saved_chars=0, clients=1)
    assert (finding.activity, finding.bars) == (Activity.QUIET, True)
    assert finding.reason == "Jupyter on port 8888 has an open connection, nobody saved a file for 2m < 3h"
    assert not judged.next(saved_chars=0, clients=0).bars
    assert judged.next(saved_chars=0, clients=1, after_s=2.9 * HOUR).bars
    assert not judged.next(saved_chars=0, clients=1, after_s=0.1 * HOUR).bars


def test_what_an_extension_writes_at_each_poll_is_the_server_s_hum() -> None:
    judged = Judged()
    found = [judged.next(saved_chars=9000 + number % 500) for number in range(100)]
    assert [finding.activity for finding in found[10:]] == [Activity.QUIET] * 90
    assert judged.next(saved_chars=9000 + 40_000).activity is Activity.ACTIVE
