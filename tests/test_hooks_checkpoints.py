"""Programs that want to be asked for a checkpoint, asked through files; and jobs that are asked to end, real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch import hold
from idlewatch.deciding.asked_work import ASKED_TAIL_S
from idlewatch.model import Activity, Json, PodIdentity
from idlewatch.signals.jobs import JobsSignal
from idlewatch.stopping.checkpoints import Program, ask, asked_of, asked_processes, is_alive, now_s, programs
from idlewatch.watching.moments import Known, Moments
from tests.made_up_machine import Machine
from tests.test_signal_jobs import watched
from tests.waiting import comes

BOOT = "pod@1"


def ignore(_: Json) -> None: ...


def files(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "requests").iterdir())


class Trainer(threading.Thread):
    """A program that writes a checkpoint when it is asked to, from a thread of this process."""

    def __init__(self, path: Path, *, ok: bool = True) -> None:
        super().__init__(daemon=True)
        self._path, self._ok, self.over = path, ok, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.01):
            if hold.asked(self._path):
                hold.answered(self._path, "step 400 is in /ckpt", ok=self._ok)


def test_a_program_that_answers_is_waited_for_and_the_span_is_kept_for_the_daemon(tmp_path: Path) -> None:
    path = hold.place("training", who="train.py", state_dir=tmp_path, asks=True)
    wanted = programs(tmp_path)
    assert [(p.who, p.reason, p.key[0]) for p in wanted] == [("train.py", "training", os.getpid())]
    trainer = Trainer(path)
    before_s = now_s()
    answers = ask(wanted, tmp_path, BOOT, within_s=60, progress=ignore, settle_s=0.1)
    trainer.over.set()
    assert [(answer.ok, answer.how) for answer in answers] == [(True, "step 400 is in /ckpt")]
    asked = asked_of(tmp_path, BOOT)
    assert asked
    assert before_s <= asked.from_s <= asked.until_s <= now_s()
    assert asked.until_s - asked.from_s < 50
    assert asked.keys == {wanted[0].key}
    assert files(tmp_path) == [f"ask-{wanted[0].id}.json", "asked.json"]


def test_a_program_that_could_not_and_one_that_says_nothing_are_failed_and_the_request_is_taken_back(
    tmp_path: Path,
) -> None:
    failing = hold.ask_me("a", who="a", state_dir=tmp_path)
    silent = hold.ask_me("b", who="b", state_dir=tmp_path)
    trainer = Trainer(failing, ok=False)
    by_who = {p.who: p for p in programs(tmp_path)}
    answers = ask([by_who["a"], by_who["b"]], tmp_path, BOOT, within_s=1.0, progress=ignore, settle_s=0)
    trainer.over.set()
    assert [(answer.ok, answer.how) for answer in answers] == [
        (False, "step 400 is in /ckpt"),
        (False, "no answer within 1s"),
    ]
    assert not hold.asked(silent)
    assert [answer.as_event()["kind"] for answer in answers] == ["checkpoint failed"] * 2


def test_a_program_that_ends_or_no_longer_wants_it_is_not_waited_for(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "600"])
    hold.ask_me("ends", who="ends", pid=child.pid, state_dir=tmp_path)
    path = hold.place("over", who="over", state_dir=tmp_path, asks=True)
    wanted = sorted(programs(tmp_path), key=lambda program: program.who)
    assert [program.who for program in wanted] == ["ends", "over"]

    def meanwhile(_: Json) -> None:
        child.kill()
        child.wait()
        hold.release(path)

    answers = ask(wanted, tmp_path, BOOT, within_s=60, progress=meanwhile, settle_s=0)
    assert [(a.ok, a.how) for a in answers] == [(False, "it has ended"), (True, "it is over, and needs none")]
    assert programs(tmp_path) == []
    assert files(tmp_path) == ["asked.json"]


def test_an_asking_that_is_called_off_takes_its_requests_back_and_ends_the_span(tmp_path: Path) -> None:
    path = hold.ask_me("a", state_dir=tmp_path)

    def called_off(_: Json) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ask(programs(tmp_path), tmp_path, BOOT, within_s=600, progress=called_off, settle_s=0)
    assert not hold.asked(path)
    asked = asked_of(tmp_path, BOOT)
    assert asked
    assert asked.until_s <= now_s()


def test_nobody_to_ask_leaves_no_trace(tmp_path: Path) -> None:
    assert ask([], tmp_path, BOOT, within_s=60, progress=ignore, settle_s=0) == []
    assert asked_of(tmp_path, BOOT) is None


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        '{"boot_key": "pod@1"}',
        '{"boot_key": "pod@1", "from_s": "x", "until_s": 2, "processes": []}',
        '{"boot_key": "pod@2", "from_s": 1, "until_s": 2, "processes": []}',
        '{"boot_key": "pod@1", "from_s": 1, "until_s": 2, "processes": [7]}',
    ],
)
def test_a_span_that_makes_no_sense_or_is_another_starts_is_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests/asked.json").write_text(said)
    assert asked_of(tmp_path, BOOT) is None
    assert asked_processes(tmp_path, BOOT, 0, 10) == frozenset()


def test_a_span_is_never_believed_to_be_longer_than_half_an_hour(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    said = {"boot_key": BOOT, "from_s": 1000, "until_s": 1e9, "processes": [[7, 8]]}
    (tmp_path / "requests/asked.json").write_text(json.dumps(said))
    asked = asked_of(tmp_path, BOOT)
    assert asked
    assert asked.until_s == 1000 + 1800
    end_s = 2800 + ASKED_TAIL_S
    assert [bool(asked_processes(tmp_path, BOOT, *span)) for span in ((0, 999), (900, 1000), (end_s, 1e9))] == [
        False,
        True,
        True,
    ]
    assert not asked_processes(tmp_path, BOOT, end_s + 1, 1e9)


def test_a_request_of_nobody_is_no_program_and_an_answer_to_nobody_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    for name, text in (("ask-1.json", "{"), ("ask-2.json", '{"id": "3"}'), ("ask-4.json", "[]")):
        (tmp_path / "requests" / name).write_text(text)
    assert programs(tmp_path) == []
    path = hold.ask_me("a", state_dir=tmp_path)
    hold.answered(path, "unasked")
    hold.answered(None)
    assert not hold.asked(None)
    assert not [name for name in files(tmp_path) if name.startswith("answer")]


def test_the_daemon_knows_of_the_asking_in_each_tick(tmp_path: Path) -> None:
    pod = PodIdentity(pod_id="abc", source="environment", started_s=0.0, boot_key=BOOT)
    moments = Moments(state_dir=tmp_path, pod=pod, hold_max_s=60.0, known=lambda _: Known())
    assert moments(1.0).asked is None
    (tmp_path / "requests").mkdir()
    said = {"boot_key": BOOT, "from_s": 1000, "until_s": 1100, "processes": [[7, 8]]}
    (tmp_path / "requests/asked.json").write_text(json.dumps(said))
    assert moments(2.0).asked == (1000.0, 1100.0)


@pytest.mark.parametrize("asked", [False, True])
def test_the_work_of_an_asked_program_and_of_what_it_starts_is_no_job_and_a_new_programs_is(*, asked: bool) -> None:
    machine = Machine()
    trainer = machine.start(812, 1, "python3 train.py", since_s=300.0)
    machine.start(813, trainer, "python3 writer.py", since_s=300.0)
    key = machine.processes[trainer].key

    def works(seconds: float) -> None:
        machine.uses(812, seconds)
        machine.uses(813, seconds)

    signal = JobsSignal(kernel=machine, asked=lambda _from_s, _to_s: frozenset({key} if asked else ()))
    assert watched(machine, 300, works, signal)[-1].activity is (Activity.QUIET if asked else Activity.ACTIVE)
    machine.start(900, 1, "python3 other.py")

    def both_work(seconds: float) -> None:
        works(seconds)
        machine.uses(900, seconds)

    found = watched(machine, 300, both_work, signal)[-1]
    assert found.activity is Activity.ACTIVE
    assert "other.py" in found.reason


# ---------------------------------------------------------------- jobs that are asked to end

ENDER = """
import json, sys
from idlewatch.stopping.ending import end_jobs
patterns, registered, within_s = json.loads(sys.argv[1])
ends = end_jobs(patterns, [tuple(key) for key in registered], within_s=within_s, progress=lambda _: None)
print(json.dumps([[end.name, end.pid, end.ok, end.how] for end in ends]))
"""


def end_jobs(patterns: list[str], registered: list[tuple[int, int]], within_s: float = 60.0) -> list[list[Json]]:
    """As the save task does, whose parent is the daemon: whatever that has started counts as idlewatch's own."""
    daemon = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]]).returncode)"
    wanted = json.dumps([patterns, registered, within_s])
    done = subprocess.run(
        [sys.executable, "-c", daemon, ENDER, wanted], capture_output=True, text=True, check=True, timeout=110
    )
    ends: list[list[Json]] = json.loads(done.stdout)
    return ends


class Job:
    """A program of the owner's, by a name of its own."""

    def __init__(self, folder: Path, name: str, code: str, *, launcher: str | None = None) -> None:
        self.ready, self.saved = folder / f"{name}.ready", folder / f"{name}.saved"
        script = folder / name
        script.write_text(f"import os, signal, subprocess, sys, time\nfrom pathlib import Path\n{code}\n")
        command = [sys.executable, str(script)]
        if launcher:
            launching = folder / f"launcher_of_{name}"
            launching.write_text(launcher)
            command = [sys.executable, str(launching), *command]
        self.process = subprocess.Popen(command, start_new_session=True)
        assert comes(lambda: self.ready.exists() and self.ready.read_text() != "", 30)
        self.pid = int(self.ready.read_text())

    @property
    def key(self) -> tuple[int, int]:
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return self.pid, int(stat.rpartition(")")[2].split()[19])


def saves(folder: Path, name: str) -> str:
    """A training that saves on SIGTERM."""
    return (
        f"def save(*_): Path({str(folder / (name + '.saved'))!r}).write_text('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"Path({str(folder / (name + '.ready'))!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)"
    )


PASSES_ON = """
import signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], start_new_session=True)
got = []
signal.signal(signal.SIGTERM, lambda *_: (got.append(1), child.terminate()))
child.wait()
"""
DOES_NOT = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
child = subprocess.Popen(sys.argv[1:], start_new_session=True)
child.wait()
"""


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    begun: list[Job] = []
    yield begun
    for job in begun:
        for pid in (job.process.pid, job.pid):
            if pid == job.process.pid or is_alive_by_pid(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        job.process.wait()


def is_alive_by_pid(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def own_name(tmp_path: Path, name: str) -> str:
    """Unlike any other program's on this machine: the jobs of others must not be ended by a test."""
    return f"{name}_{os.getpid()}_{abs(hash(str(tmp_path)))}.py"


@pytest.mark.slow
def test_a_job_that_the_owner_named_is_asked_to_end_and_saves(tmp_path: Path, jobs: list[Job]) -> None:
    name = own_name(tmp_path, "train")
    jobs.append(Job(tmp_path, name, saves(tmp_path, name)))
    assert end_jobs([name[:-6] + "*"], []) == [[name, jobs[0].pid, True, "asked to end, and did"]]
    assert jobs[0].saved.read_text() == "saved"


@pytest.mark.slow
def test_a_job_that_registered_is_asked_to_end_and_others_are_not(tmp_path: Path, jobs: list[Job]) -> None:
    for which in ("one", "two"):
        name = own_name(tmp_path, which)
        jobs.append(Job(tmp_path, name, saves(tmp_path, name)))
    ends = end_jobs([], [jobs[0].key, (jobs[1].pid, 1)])
    assert [(end[1], end[2]) for end in ends] == [(jobs[0].pid, True)]
    assert jobs[0].saved.exists()
    assert jobs[1].process.poll() is None


@pytest.mark.slow
def test_a_launcher_gets_it_and_passes_it_on(tmp_path: Path, jobs: list[Job]) -> None:
    name = own_name(tmp_path, "rank")
    jobs.append(Job(tmp_path, name, saves(tmp_path, name), launcher=PASSES_ON))
    end = end_jobs([name], [])[0]
    assert end[2] is True
    assert f"through launcher_of_{name} (pid {jobs[0].process.pid})" in str(end[3])
    assert jobs[0].saved.read_text() == "saved"


@pytest.mark.slow
def test_a_job_whose_launcher_ends_without_passing_it_on_gets_its_own(tmp_path: Path, jobs: list[Job]) -> None:
    name = own_name(tmp_path, "rank")
    jobs.append(Job(tmp_path, name, saves(tmp_path, name), launcher=DOES_NOT))
    assert end_jobs([name], [])[0][2] is True
    assert jobs[0].saved.read_text() == "saved"


@pytest.mark.slow
def test_a_job_that_does_not_end_is_left_and_named(tmp_path: Path, jobs: list[Job]) -> None:
    name = own_name(tmp_path, "stubborn")
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"Path({str(tmp_path / (name + '.ready'))!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    jobs.append(Job(tmp_path, name, code))
    end = end_jobs([name], [], within_s=1.0)[0]
    assert end[2] is False
    assert "still there" in str(end[3])
    assert jobs[0].process.poll() is None


@pytest.mark.slow
def test_shells_and_those_that_house_people_are_left_alone_even_where_they_are_named(
    tmp_path: Path, jobs: list[Job]
) -> None:
    house = tmp_path / "bin/jupyter-lab"
    house.parent.mkdir()
    house.write_text(
        f"import os, time\nfrom pathlib import Path\n"
        f"Path({str(tmp_path / 'ready')!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    shell = subprocess.Popen(["sh", "-c", f"exec 3<&0; {sys.executable} {house}; true"], start_new_session=True)
    try:
        assert comes(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text() != "", 30)
        pid = int((tmp_path / "ready").read_text())
        started = [
            int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[19]) for one in (shell.pid, pid)
        ]
        ends = end_jobs([], [(shell.pid, started[0]), (pid, started[1])], within_s=5.0)
        assert {(end[1], end[2]) for end in ends} == {(shell.pid, False), (pid, False)}
        assert all("left alone" in str(end[3]) for end in ends)
        assert shell.poll() is None
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


@pytest.mark.slow
def test_whoever_ends_jobs_its_parent_and_all_that_has_started_are_never_ended() -> None:
    """Named by `*`, from a process whose parent has started everything else that a test may touch."""
    code = (
        "import os\nfrom idlewatch.stopping import ending\nfrom idlewatch.kernel.processes import look\n"
        "from pathlib import Path\ntable, _ = look(Path('/proc'), 0.0, os.getpid())\n"
        "jobs = [job for job in ending._jobs(table, ['*'], frozenset()) if job.never is None]\n"
        "ours = {os.getpid(), os.getppid(), 1}\n"
        "assert not ours & {job.process.pid for job in jobs}, ours\n"
        "assert not ours & {job.leader.pid for job in jobs}, ours\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_program_says_who_it_is() -> None:
    assert Program(id="1", who="train.py", reason="night", key=(7, 1)).text == "train.py (pid 7, night)"
    assert is_alive((os.getpid(), 1)) is False
