"""`idlewatch exec`: the command as without us, the daemon beside it, and whose end is whose."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from idlewatch.host.beside import running
from idlewatch.host.exec_command import USAGE, in_worker, main
from tests.waiting import until

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60.0
WELL = "echo well >>daemon; exec sleep 600"
SHOWS = """
import json, os, signal, sys
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
ignored = [line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn")][0]
front = os.tcgetpgrp(0) == os.getpgrp() if os.isatty(0) else None
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "blocked": blocked,
    "ignored": int(ignored, 16) & ~0x1001000,  # SIGPIPE, SIGXFSZ: Python's own
    "leads": os.getpgrp() == os.getpid(), "front": front,
    "read": "" if front else sys.stdin.read(),
    "environ": open("/proc/self/environ").read(), "umask": os.umask(0), "fds": sorted(os.listdir("/proc/self/fd"))}))
"""


def supervised(daemon: str, *command: str, own_kernel: bool = False) -> list[str]:
    asked = [sys.executable, str(ROOT / "tests" / "exec_child.py"), daemon, *(["--", *command] if command else [])]
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *asked] if own_kernel else asked


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


class Running:
    """A supervisor that is ended with its test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None

    process: subprocess.Popen[str] | None

    def start(self, command: Sequence[str], **variables: str) -> subprocess.Popen[str]:
        env, pipe = environment() | variables, subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=self.folder, env=env, stderr=pipe, stdout=pipe, text=True)
        return self.process

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def daemon_pid(self) -> int:
        until(lambda: self.lines("pid"), "the daemon's start")
        return int(self.lines("pid")[-1])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell can't trap what nohup(1) had ignored
    yield found
    signal.signal(signal.SIGHUP, before)
    if found.process:
        with found.process as process:
            process.terminate()


def folder_of(here: Running, daemon: str) -> str:
    """A daemon's own folder is `/`."""
    return f"cd {here.folder}; {daemon}"


@pytest.mark.slow
def test_the_command_is_as_without_us(here: Running) -> None:
    shows = [sys.executable, "-c", SHOWS, "a b", "--flag", ""]
    told = {"cwd": here.folder, "env": environment(), "input": "typed", "capture_output": True, "text": True}
    alone = subprocess.run(shows, check=True, **told)  # type: ignore[call-overload]  # one set of options for both
    ours = subprocess.run(supervised("exec sleep 600", *shows), check=True, **told)  # type: ignore[call-overload]
    expected, found = json.loads(alone.stdout), json.loads(ours.stdout)
    assert found.pop("leads")
    expected.pop("leads")
    assert found == expected
    assert found["read"] == "typed"


@pytest.mark.slow
def test_the_command_has_the_terminal(here: Running) -> None:
    ours, theirs = pty.openpty()
    command = supervised("exec sleep 600", sys.executable, "-c", SHOWS)
    started = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], stdin=theirs, stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert json.loads(started.communicate(timeout=DEADLINE_S)[0])["front"] is True
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_its_status_is_the_command_s(here: Running, script: str, status: int) -> None:
    assert here.start(supervised("exec sleep 600", "sh", "-c", script)).wait(DEADLINE_S) == status


def test_a_command_that_is_not_there_is_said_as_by_a_shell(here: Running) -> None:
    started = here.start(supervised("exec sleep 600", "/not/there"))
    _, said = started.communicate(timeout=DEADLINE_S)
    assert started.returncode == 127
    assert "/not/there: No such file or directory" in said


@pytest.mark.slow
def test_a_dead_daemon_is_started_again_and_the_command_lives_on(here: Running) -> None:
    daemon = folder_of(here, "echo $$ >>pid; exec sleep 600")
    started = here.start(supervised(daemon, "sleep", "600"))
    first = here.daemon_pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: len(here.lines("pid")) == 2, "another daemon")
    assert here.daemon_pid() != first
    assert started.poll() is None
    started.terminate()
    assert "was ended by signal 9; it is started again in 1 s" in started.communicate(timeout=DEADLINE_S)[1]


@pytest.mark.slow
def test_wrong_settings_end_no_command_and_are_not_tried_in_a_loop(here: Running) -> None:
    daemon = folder_of(here, "echo $$ >>pid; exit 2")
    started = here.start(supervised(daemon, "sh", "-c", "sleep 3; exit 5"))
    _, said = started.communicate(timeout=DEADLINE_S)
    assert started.returncode == 5
    assert len(here.lines("pid")) == 1
    assert said.count("NOTHING GUARDS") == 1


@pytest.mark.slow
def test_a_shutdown_request_reaches_both_and_the_daemon_gets_its_seconds(here: Running) -> None:
    daemon = folder_of(
        here, "trap 'sleep 1; echo done >noted; exit 0' TERM; echo $$ >>pid; while :; do sleep 0.1; done"
    )
    started = here.start(supervised(daemon, "sleep", "600"))
    here.daemon_pid()
    started.terminate()
    assert started.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert here.lines("noted") == ["done"]


@pytest.mark.slow
def test_what_is_no_request_to_end_reaches_the_command_alone(here: Running) -> None:
    daemon = folder_of(here, "trap 'echo told >>told' USR1 HUP TERM; echo $$ >>pid; while :; do sleep 0.1; done")
    command = "trap 'echo usr1 >>came' USR1; trap 'echo hup >>came' HUP; echo ready >ready; while :; do sleep 0.1; done"
    started = here.start(supervised(daemon, "sh", "-c", command))
    here.daemon_pid()
    until(lambda: here.lines("ready"), "the command's start")
    for number, name in ((signal.SIGUSR1, "usr1"), (signal.SIGHUP, "hup")):
        started.send_signal(number)
        until(lambda name=name: name in here.lines("came"), name)  # type: ignore[misc]  # bound in the loop
    assert not here.lines("told")
    started.send_signal(signal.SIGTERM)
    until(lambda: here.lines("told"), "the daemon's own request")
    os.kill(here.daemon_pid(), signal.SIGKILL)
    assert started.wait(DEADLINE_S) == 128 + signal.SIGTERM


def test_the_end_of_the_command_tells_the_daemon(here: Running) -> None:
    daemon = folder_of(here, "trap 'echo done >noted; exit 0' TERM; echo $$ >>pid; while :; do sleep 0.1; done")
    command = "while [ ! -s pid ]; do sleep 0.1; done; exit 4"
    assert here.start(supervised(daemon, "sh", "-c", command)).wait(DEADLINE_S) == 4
    assert here.lines("noted") == ["done"]


def test_without_a_command_a_request_ends_the_daemon_and_us(here: Running) -> None:
    daemon = folder_of(here, "trap 'echo done >noted; exit 0' TERM; echo $$ >>pid; while :; do sleep 0.1; done")
    started = here.start(supervised(daemon))
    here.daemon_pid()
    started.terminate()
    assert started.wait(DEADLINE_S) == 0
    assert here.lines("noted") == ["done"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of its own needs root")
def test_as_pid_1_it_reaps_what_others_leave_and_takes_requests(here: Running) -> None:
    leaves = "(sleep 0.1 & exec sleep 0.3) & "
    zombies = "ps -eo stat,pid | grep ^Z | wc -l >zombies"
    command = f"echo $PPID >parent; for i in 1 2 3; do sh -c '{leaves}'; done; sleep 2; {zombies}; exec sleep 600"
    started = here.start(supervised(folder_of(here, WELL), "sh", "-c", command, own_kernel=True))
    until(lambda: here.lines("zombies"), "the count of what was not reaped")
    assert here.lines("zombies") == ["0"]
    assert here.lines("parent") == ["1"]
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    assert started.wait(DEADLINE_S) == 128 + signal.SIGTERM


def test_a_worker_s_command_replaces_us(here: Running) -> None:
    code = "import sys; from idlewatch.host.exec_command import main; sys.exit(main(['--', 'sh', '-c', 'echo $$']))"
    started = here.start([sys.executable, "-c", code], RUNPOD_ENDPOINT_ID="e1")
    out, said = started.communicate(timeout=DEADLINE_S)
    assert out.strip() == str(started.pid)
    assert said.count("idlewatch stays away") == 1


def test_in_worker_names_the_variable() -> None:
    assert in_worker({b"RUNPOD_WEBHOOK_GET_JOB": b"https://x"}) == "RUNPOD_WEBHOOK_GET_JOB"
    assert in_worker({b"RUNPOD_ENDPOINT_ID": b"", b"RUNPOD_POD_ID": b"p"}) is None
    assert in_worker(None) is None


@pytest.mark.parametrize("arguments", [[], ["--"], ["--observe", "/start.sh"]])
def test_without_a_command_it_says_how(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == USAGE
    assert "idlewatch exec -- /start.sh" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(Path("/proc/1/comm").read_text() == "systemd\n", reason="there it is systemd who is asked")
def test_the_real_daemon_understands_that_the_container_ends(here: Running) -> None:
    code = "import sys; from idlewatch.host.exec_command import main; sys.exit(main(sys.argv[3:]))"
    state = here.folder / "state"
    env = {"STATE_DIR": str(state), "SAVE_ROOT": str(here.folder), "MODE": "observe"}
    command = [sys.executable, "-c", code, "idlewatch", "exec", "--", "sleep", "600"]
    started = here.start(command, **{f"IDLEWATCH_{name}": value for name, value in env.items()})
    until((state / "status.json").exists, "the daemon's first look")
    started.terminate()
    _, said = started.communicate(timeout=DEADLINE_S)
    assert "this container is being ended: `idlewatch exec` passes that on" in said
    assert started.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_one_supervisor_a_machine_which_leaves_its_caller(here: Running) -> None:
    lock = here.folder / "lock"
    env = environment() | {"IDLEWATCH_STATE_DIR": str(here.folder / "state"), "IDLEWATCH_NO_SUCH": "1"}
    command = [sys.executable, "-m", "idlewatch.host.beside", str(lock)]
    assert running(str(lock)) is None
    for _ in range(2):
        subprocess.run(command, env=env, check=True, timeout=DEADLINE_S, stderr=subprocess.DEVNULL)
    until(lambda: running(str(lock)) is not None, "the supervisor's lock")
    pid = running(str(lock))
    assert pid is not None
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGTERM)
    until(lambda: running(str(lock)) is None, "the supervisor's end")


@pytest.mark.slow
def test_a_hook_below_exec_starts_no_second_supervisor(here: Running) -> None:
    code = "import sys; from idlewatch.host.exec_command import main; sys.exit(main(sys.argv[3:]))"
    hook = [sys.executable, "-m", "idlewatch.host.beside", "lock"]
    command = [sys.executable, "-c", code, "idlewatch", "exec", "--", "sh", "-c", '"$@"; echo "status $?"', "-", *hook]
    started = here.start(command, IDLEWATCH_NO_SUCH="1")
    assert started.communicate(timeout=DEADLINE_S)[0] == "status 0\n"
    assert not (here.folder / "lock").exists()
