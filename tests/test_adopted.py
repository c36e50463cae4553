"""PID 1 is above what it started, and above no orphan that fell to it: jobs, and the CPU of servers."""

from __future__ import annotations

import pytest

from idlewatch.model import Activity
from idlewatch.signals.adopted import real_ancestors, real_descendants
from idlewatch.signals.jobs import JobsSignal
from idlewatch.signals.servers_look import ServerFinder
from tests.made_up_machine import PTS, Machine, looked

VLLM = "/usr/bin/python3 /usr/local/bin/vllm serve Qwen/Qwen3-8B"
FIRST = [VLLM, "tail -f /dev/null", "/usr/bin/python3 /usr/local/bin/jupyter-lab --ip=0.0.0.0", "htop", "claude"]


def container(first: str) -> Machine:
    """Its PID 1 has a child of its own (30), with one in a session of its own (31), and an orphan (50)."""
    machine = Machine()
    machine.start(1, 0, first, since_s=100.0)
    machine.start(30, 1, ["VLLM::EngineCore"], comm="VLLM::EngineCor", session=1, since_s=110.0)
    machine.start(31, 30, ["VLLM::Worker_TP0"], comm="VLLM::Worker_TP", since_s=110.0)
    machine.start(50, 1, "python3 tokenize.py", session=42, since_s=300.0)
    machine.start(51, 50, "python3 tokenize.py", session=42, since_s=300.0)
    return machine


def above(machine: Machine, pid: int) -> list[int]:
    return [each.pid for each in real_ancestors(machine.processes[pid], machine.table())]


def below(machine: Machine, pid: int) -> frozenset[int]:
    return real_descendants(machine.processes[pid], machine.table())


def test_pid_1_is_above_what_shares_its_session_and_all_below_that() -> None:
    machine = container(VLLM)
    assert [above(machine, pid) for pid in (30, 31, 50, 51, 1)] == [[1], [30, 1], [], [50], []]
    assert [below(machine, pid) for pid in (1, 30, 50)] == [{30, 31}, {31}, {51}]


def test_any_other_process_is_above_its_children_whatever_their_session() -> None:
    machine = Machine()
    machine.start(7, 1, "/sbin/docker-init -- sleep infinity", session=1)
    machine.start(8, 7, VLLM)
    assert above(machine, 8) == [7, 1]
    assert below(machine, 7) == {8}


@pytest.mark.parametrize("first", FIRST)
def test_cpu_of_an_orphan_is_a_job_whatever_pid_1_is(first: str) -> None:
    machine = container(first)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(51, 0.9 * seconds))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason.startswith("closed terminal: tokenize.py (pid 51) 90 % of a core")


@pytest.mark.parametrize("first", FIRST)
def test_progress_of_an_orphaned_tool_is_seen_whatever_pid_1_is(first: str) -> None:
    machine = container(first)
    machine.start(60, 1, "tar xf -", session=42, since_s=300.0)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(60, reads=100_000 * 15))
    assert found[-1].reason.startswith("closed terminal: tar (pid 60) read ")


@pytest.mark.parametrize("pid", [1, 30, 31])
def test_what_an_idle_server_at_pid_1_spins_with_its_own_workers_is_no_job(pid: int) -> None:
    machine = container(VLLM)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(pid, seconds))
    assert {each.activity for each in found} == {Activity.QUIET}


def test_a_terminal_that_jupyter_at_pid_1_opened_is_told_as_one() -> None:
    machine = container(FIRST[2])
    machine.start(70, 1, "/bin/bash -l", terminal=PTS)
    machine.start(71, 70, "python train.py", session=70, terminal=PTS)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(71, seconds))
    assert found[-1].reason.startswith("terminal: train.py (pid 71)")


def test_the_processes_of_a_server_at_pid_1_are_its_own_and_another_server_is_another() -> None:
    machine = container(VLLM)
    machine.start(80, 1, f"{VLLM} --port 8001", session=42)
    machine.start(81, 80, ["VLLM::EngineCore"], comm="VLLM::EngineCor", session=42)
    servers, _ = ServerFinder(()).look(machine.at(machine.now_s))
    assert [[each.pid for each in server.processes] for server in servers] == [[1, 30, 31], [80, 81]]


@pytest.mark.parametrize("first", FIRST)
def test_a_job_that_the_start_script_left_behind_in_its_session_is_a_job(first: str) -> None:
    machine = Machine()
    machine.start(1, 0, first, since_s=100.0)
    machine.start(20, 1, "bash /workspace/job.sh", session=1, since_s=101.0)
    machine.start(21, 20, "python3 -u train.py", session=1, since_s=101.0)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(21, 0.9 * seconds))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason.startswith("background: train.py (pid 21) 90 % of a core")


@pytest.mark.parametrize(
    ("first", "activity"), [("tail -f /dev/null", Activity.ACTIVE), ("watch -n 1 ./show", Activity.QUIET)]
)
def test_what_tail_can_not_have_started_is_a_job_and_what_watch_runs_is_none(first: str, activity: Activity) -> None:
    machine = Machine()
    machine.start(1, 0, first, since_s=100.0)
    machine.start(20, 1, "./show", session=1, since_s=101.0)
    found = looked(machine, JobsSignal(kernel=machine), 600, lambda seconds: machine.uses(20, seconds))
    assert found[-1].activity is activity


@pytest.mark.parametrize(
    "worker",
    [
        VLLM,
        "python3 -m vllm.worker",
        "python3 -c from multiprocessing.spawn import spawn_main",
        "python3 /usr/lib/python3/site-packages/torch/_inductor/compile_worker/__main__.py",
        "bash -c nvcc",
        "./stub model.py",
    ],
)
def test_a_servers_own_workers_in_its_session_stay_its_own(worker: str) -> None:
    machine = container(VLLM)
    machine.start(20, 1, worker, session=1, since_s=101.0)
    assert above(machine, 20) == [1]
    assert 20 in below(machine, 1)


def test_a_server_that_is_somebodys_script_has_itself_as_a_worker_and_no_other_script() -> None:
    machine = container("python3 /workspace/ComfyUI/main.py --listen")
    machine.start(20, 1, "python3 /workspace/ComfyUI/main.py --listen", session=1, since_s=101.0)
    machine.start(21, 1, "python3 /workspace/train.py", session=1, since_s=101.0)
    assert below(machine, 1) == {20, 30, 31}


def test_a_job_of_before_is_no_part_of_the_server_that_took_its_place() -> None:
    """Else its CPU would be left out of the host's as what an idle server spins."""
    machine = container(VLLM)
    machine.start(20, 1, "bash /workspace/job.sh", session=1, since_s=101.0)
    machine.start(21, 20, "python3 -u train.py", session=1, since_s=101.0)
    servers, _ = ServerFinder(()).look(machine.at(machine.now_s))
    assert [[each.pid for each in server.processes] for server in servers] == [[1, 30, 31]]
