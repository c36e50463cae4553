"""The jobs signal on made-up processes: what counts, what does not, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.errors import SignalError
from idlewatch.kernel import Process, Tables
from idlewatch.kernel.prompts import Prompt
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.signals.jobs import JobsSignal
from idlewatch.signals.jobs_gains import cpu_s, gains
from idlewatch.signals.jobs_programs import Role, program
from tests.made_up_machine import LOOK_S, PTS, Machine, looked, tmux, vscode


def watched(
    machine: Machine, for_s: float, each: Callable[[float], object] = lambda _: None, signal: JobsSignal | None = None
) -> list[Finding]:
    return looked(machine, signal or JobsSignal(kernel=machine), for_s, each)


def busy(machine: Machine, pid: int, cores: float = 0.97) -> Callable[[float], None]:
    return lambda seconds: machine.uses(pid, cores * seconds)


# ---------------------------------------------------------------- whose it is


def test_a_job_in_tmux_is_named_with_what_it_uses() -> None:
    machine = Machine()
    machine.start(812, tmux(machine), "python3 -u train.py --epochs 3", session=710, terminal=PTS, since_s=300.0)
    found = watched(machine, 600, busy(machine, 812))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason == "tmux: train.py (pid 812) 97 % of a core for 10 min"
    assert found[-1].evidence_s == machine.now_s
    assert (found[-1].seen_from_s, found[-1].seen_to_s) == (machine.now_s - 15, machine.now_s)


def where(machine: Machine, pid: int) -> str:
    return watched(machine, 300, busy(machine, pid))[-1].reason.partition(" (pid")[0]


def test_where_a_job_runs_is_told() -> None:
    machine = Machine()
    machine.start(50, 1, "/usr/sbin/sshd -D", since_s=100.0)
    machine.start(51, 50, ["sshd: root@pts/0"], comm="sshd", since_s=100.0)
    machine.start(52, 51, "-bash", terminal=PTS, since_s=100.0)
    assert where(machine, machine.start(53, 52, "python a.py", session=52, terminal=PTS)) == "ssh: a.py"

    left = Machine()
    left.start(53, 1, "nohup-is-gone-by-exec", session=52)
    assert where(left, 53) == "closed terminal: nohup-is-gone-by-exec"
    left.start(52, 1, "-bash")
    assert where(left, 53) == "background: nohup-is-gone-by-exec"
    left.processes[52] = replace(left.processes[52], state="Z")
    assert where(left, 53) == "closed terminal: nohup-is-gone-by-exec"

    alone = Machine()
    assert (
        where(alone, alone.start(60, 1, "python -m torch.distributed.run x.py")) == "background: torch.distributed.run"
    )

    cron = Machine()
    cron.start(70, 1, "/usr/sbin/cron -f", since_s=100.0)
    assert where(cron, cron.start(71, 70, "sh /etc/job.sh")) == "cron: job.sh"

    assert where(Machine(), 1) == "container: start.sh"


def test_a_notebooks_kernel_is_a_job_of_its_own_and_its_server_is_none() -> None:
    machine = Machine()
    machine.start(80, 1, "/usr/bin/python3 /usr/local/bin/jupyter-lab --ip=0.0.0.0", since_s=100.0)
    machine.start(81, 80, "/usr/bin/python3 -m ipykernel_launcher -f /x.json", since_s=100.0)
    assert where(machine, 81) == "kernel: ipykernel_launcher"
    assert watched(machine, 600, busy(machine, 80))[-1].activity is Activity.QUIET


def test_what_an_agent_runs_is_told_with_the_agent() -> None:
    machine = Machine()
    machine.start(90, tmux(machine), ["claude"], session=710, terminal=PTS, since_s=100.0)
    machine.start(91, 90, "pytest -q", since_s=100.0)
    assert where(machine, 91) == "claude: pytest"
    assert where(machine, 90) == "agent: claude"


def test_the_process_that_uses_most_is_named_and_the_whole_tree_is_summed() -> None:
    machine = Machine()
    machine.start(800, tmux(machine), "python tokenize.py", session=710, terminal=PTS, since_s=300.0)
    workers = [machine.start(900 + i, 800, "python tokenize.py", session=710, since_s=300.0) for i in range(80)]

    def work(seconds: float) -> None:
        for pid in workers:
            machine.uses(pid, 0.05 * seconds)
        machine.uses(900, 0.01 * seconds)

    assert watched(machine, 600, work)[-1].reason == "tmux: tokenize.py (pid 900) 401 % of a core for 10 min"


# ---------------------------------------------------------------- who waits for a person


class Asking:
    """Which processes wait for what is typed, and the access times of their terminals."""

    def __init__(self, **asked: Prompt) -> None:
        self.asked = {int(pid.removeprefix("p")): each for pid, each in asked.items()}

    def __call__(self, _: Path, process: Process) -> Prompt | None:
        return self.asked.get(process.pid)


LINE, KEYS = Prompt(by_key=False, input_ns=1), Prompt(by_key=True, input_ns=1)


def asking(command: str, asked: Prompt, *, terminal: int = PTS) -> tuple[Machine, Asking]:
    """What runs in front in tmux, and asks."""
    machine = Machine()
    shell = tmux(machine)
    machine.start(812, shell, command, session=710, terminal=terminal, since_s=300.0)
    machine.processes[812] = replace(machine.processes[812], in_foreground=True)
    return machine, Asking(p812=asked)


def waits(machine: Machine, asks: Asking, for_s: float = 600.0, works: int | None = None) -> Finding:
    """The newest finding; `works` uses CPU meanwhile."""
    each = (lambda _: None) if works is None else busy(machine, works)
    return watched(machine, for_s, each, JobsSignal(kernel=machine, asks=asks))[-1]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("python train.py", KEYS),  # breakpoint()
        ("python -m pdb train.py", KEYS),
        ("python3 -c input()", LINE),
        ("/usr/bin/python3 /usr/local/bin/pytest --pdb", KEYS),
        ("gdb -p 17", KEYS),
        ("/opt/conda/bin/python /opt/conda/bin/conda install x", LINE),
        ("apt install x", LINE),
        ("bash ./setup.sh", LINE),
        ("bash -c read", LINE),
        ("./train", LINE),
    ],
)
def test_a_job_that_waits_for_a_person_bars_and_is_told(command: str, asked: Prompt) -> None:
    machine, asks = asking(command, asked)
    found = waits(machine, asks)
    assert (found.activity, found.bars, found.pauses) == (Activity.QUIET, True, False)
    assert found.reason.startswith("tmux: ")
    assert found.reason.endswith(" (pid 812) waits for input, for 10m < 3h")


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("-bash", KEYS),
        ("bash --init-file /x/shellIntegration-bash.sh", KEYS),
        ("sh", LINE),
        ("sh -i", LINE),
        ("zsh", KEYS),
        ("python3", KEYS),
        ("python3 -i -q", KEYS),
        ("/usr/bin/python3 /usr/local/bin/ipython", KEYS),
        ("/usr/bin/node /usr/local/bin/claude", KEYS),
        ("vim train.py", KEYS),
        ("htop", KEYS),
        ("less log", LINE),
        ("lazygit", KEYS),
        ("ssh other", KEYS),
        ("psql", KEYS),
        ("vllm serve x", LINE),
    ],
)
def test_a_session_that_waits_for_anything_and_anybody_is_nothing(command: str, asked: Prompt) -> None:
    machine, asks = asking(command, asked)
    assert not waits(machine, asks).bars


def test_a_job_that_asks_the_terminal_of_the_containers_own_command_waits_for_nobody() -> None:
    machine, asks = asking("python train.py", LINE)
    machine.processes[1] = replace(machine.processes[1], terminal=PTS)
    assert not waits(machine, asks).bars


def test_what_a_server_started_waits_for_nobody() -> None:
    machine, asks = asking("python engine.py", KEYS)
    machine.start(811, 710, "vllm serve x", session=710, terminal=PTS, since_s=300.0)
    machine.processes[812] = replace(machine.processes[812], parent=811)
    assert not waits(machine, asks).bars


def test_a_job_that_does_not_wait_is_nothing_nor_is_one_behind() -> None:
    machine, asks = asking("python train.py", LINE)
    asks.asked.clear()
    assert not waits(machine, asks).bars
    machine, asks = asking("python train.py", LINE)
    machine.processes[812] = replace(machine.processes[812], in_foreground=False)
    assert not waits(machine, asks).bars


def test_nobody_is_waited_for_longer_than_the_cap_and_what_is_typed_begins_it_anew() -> None:
    machine, asks = asking("python train.py", KEYS)
    signal = JobsSignal(kernel=machine, asks=asks, connected_for_s=3600.0)
    found = watched(machine, 3600 - LOOK_S, signal=signal)
    assert all(each.bars for each in found)
    assert [each.notice is not None for each in found[58:60]] == [False, True]
    assert "which keeps this Pod up for 1h at most" in str(found[59].notice)
    assert {(each.bars, each.notice) for each in watched(machine, 3600, signal=signal)[1:]} == {(False, None)}
    asks.asked[812] = replace(KEYS, input_ns=2)
    found = watched(machine, 900, signal=signal)
    assert all(each.bars for each in found)


def test_what_asks_again_and_again_or_is_started_so_is_one_wait_and_after_ten_minutes_another() -> None:
    machine, asks = asking("bash ask.sh", LINE)
    signal, looks = JobsSignal(kernel=machine, asks=asks, connected_for_s=3600.0), iter(range(10**6))

    def comes_and_goes(_: float) -> None:
        at = next(looks)
        pid, asked = (812, LINE) if at % 4 == 0 else (813, LINE)
        machine.processes[pid] = replace(machine.processes[812], pid=pid, started_ticks=10**6 + at)
        machine.commands[pid] = machine.commands[812]
        asks.asked = {} if at % 4 == 2 else {pid: asked}

    assert not any(each.bars for each in watched(machine, 7200, comes_and_goes, signal)[-200:])
    asks.asked = {}
    watched(machine, 615, signal=signal)
    asks.asked = {812: LINE}
    assert watched(machine, 30, signal=signal)[-1].bars


def test_one_that_waits_beside_one_that_works_is_not_told() -> None:
    machine, asks = asking("python train.py", KEYS)
    machine.start(900, 710, "python other.py", session=710, terminal=PTS, since_s=300.0)
    found = waits(machine, asks, 1800, works=900)
    assert (found.activity, found.notice) == (Activity.ACTIVE, None)


def test_what_asks_while_it_writes_the_checkpoint_that_we_asked_for_is_left_out() -> None:
    machine, asks = asking("python train.py", KEYS)
    asked_for = frozenset({machine.processes[812].key})
    signal = JobsSignal(kernel=machine, asks=asks, asked=lambda _from_s, _to_s: asked_for)
    assert not watched(machine, 60, signal=signal)[-1].bars


def test_a_reading_of_an_older_version_tells_of_no_prompts() -> None:
    signal = JobsSignal(kernel=Machine())
    facts: dict[str, Json] = {"trees": [], "tools": [], "unseen": None}
    assert not signal.judge(Reading(signal="jobs", at_s=100.0, covers_s=15.0, facts=facts)).bars


# ---------------------------------------------------------------- what is nothing


def test_a_tree_that_merely_exists_is_nothing() -> None:
    machine = Machine()
    machine.start(812, tmux(machine), "python train.py", terminal=PTS, since_s=300.0)
    found = watched(machine, 1200)
    assert {each.activity for each in found} == {Activity.QUIET}
    assert found[-1].reason == "no job uses CPU"


def uncounted(machine: Machine, pid: int) -> bool:
    found = watched(machine, 900, busy(machine, pid))
    return {each.activity for each in found} == {Activity.QUIET} and not any(each.bars for each in found)


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/python3 /usr/local/bin/vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2",
        "python3 -m vllm.entrypoints.openai.api_server --model x",
        "python3 -m sglang.launch_server --model-path x",
        "/usr/local/bin/ollama serve",
        "/opt/tritonserver/bin/tritonserver --model-repository=/m",
        "/usr/bin/python3 /usr/local/bin/tensorboard --logdir runs",
    ],
)
def test_an_idle_server_that_spins_is_no_job_nor_is_anything_below_it(command: str) -> None:
    machine = Machine()
    server = machine.start(300, tmux(machine), command, session=710, terminal=PTS, since_s=300.0)
    engine = machine.start(301, server, ["VLLM::EngineCore"], comm="VLLM::EngineCor", session=710, since_s=300.0)
    assert uncounted(machine, server)
    assert uncounted(machine, engine)


def test_the_same_engine_below_a_script_is_a_job() -> None:
    machine = Machine()
    script = machine.start(300, tmux(machine), "python batch.py", session=710, terminal=PTS, since_s=300.0)
    engine = machine.start(301, script, ["VLLM::EngineCore"], comm="VLLM::EngineCor", session=710, since_s=300.0)
    assert not uncounted(machine, engine)


@pytest.mark.parametrize("command", ["watch -n1 nvidia-smi", "htop", "nvidia-smi -l 1", "python3 /usr/bin/nvitop"])
def test_a_viewer_in_an_open_terminal_is_nothing(command: str) -> None:
    machine = Machine()
    viewer = machine.start(300, tmux(machine), command, session=710, terminal=PTS, since_s=300.0)
    assert uncounted(machine, viewer)
    assert uncounted(machine, machine.start(301, viewer, "sh -c nvidia-smi", session=710, terminal=PTS))


def test_what_is_ours_is_nothing_but_a_command_that_we_hold_for_is() -> None:
    machine = Machine()
    daemon = machine.start(400, 1, "/venv/bin/python /venv/bin/idlewatch run", since_s=100.0)
    task = machine.start(401, daemon, "/venv/bin/python -m idlewatch _task save", since_s=100.0)
    machine.own |= {daemon, task}
    assert uncounted(machine, daemon)
    assert uncounted(machine, task)
    machine.own.add(machine.start(404, task, "tar cf -", since_s=100.0))
    assert uncounted(machine, 404)
    by_hand = machine.start(402, tmux(machine), "python -m idlewatch hold -- python a.py", session=710, terminal=PTS)
    assert uncounted(machine, by_hand)
    assert where(machine, machine.start(403, by_hand, "python a.py", session=710, terminal=PTS)) == "tmux: a.py"


def test_threads_of_the_kernel_are_nothing() -> None:
    machine = Machine()
    machine.start(2, 0, (), comm="kthreadd", session=0, since_s=0.0)
    assert uncounted(machine, machine.start(30, 2, (), comm="kworker/0:1", session=0, since_s=0.0))


@pytest.mark.parametrize(
    "command",
    [
        "python -m pylsp",
        "/root/.vscode-server/bin/abc/node /root/.vscode-server/extensions/ms-python.vscode-pylance/dist/server.js",
        "node /x/node_modules/pyright/dist/pyright-langserver.js --stdio",
        "/root/.vscode-server/bin/abc/node /root/.vscode-server/bin/abc/out/bootstrap-fork --type=fileWatcher",
        "/root/x/copilot-language-server --stdio",
        "rust-analyzer",
    ],
)
def test_a_language_server_below_an_editor_is_nothing_and_in_a_terminal_it_is_a_job(command: str) -> None:
    machine = Machine()
    assert uncounted(machine, machine.start(300, vscode(machine), command, session=600, since_s=300.0))
    assert not uncounted(machine, machine.start(301, tmux(machine), command, session=710, terminal=PTS, since_s=300.0))


def test_a_language_server_that_an_editor_far_away_starts_over_ssh_is_nothing() -> None:
    machine = Machine()
    machine.start(50, 1, "/usr/sbin/sshd -D", since_s=100.0)
    machine.start(51, 50, ["sshd: root@notty"], comm="sshd", since_s=100.0)
    assert uncounted(machine, machine.start(300, 51, "pylsp", since_s=300.0))
    assert not uncounted(machine, machine.start(301, 51, "python a.py", since_s=300.0))


def test_a_language_server_below_an_agent_or_in_the_editors_terminal_is_a_job() -> None:
    machine = Machine()
    agent = machine.start(290, vscode(machine), ["claude"], since_s=200.0)
    assert not uncounted(machine, machine.start(300, agent, "pylsp", since_s=300.0))
    shell = machine.start(291, 600, "/bin/bash", terminal=PTS + 1, since_s=200.0)
    assert not uncounted(machine, machine.start(301, shell, "pyright --outputjson", session=291, terminal=PTS + 1))


def test_a_script_that_an_editor_starts_is_a_job() -> None:
    machine = Machine()
    assert where(machine, machine.start(300, vscode(machine), "python -m pytest tests")) == "bootstrap-fork: pytest"


@pytest.mark.parametrize("cores", [1.0, 8.0])
def test_cron_with_20_s_each_10_min_never_counts(cores: float) -> None:
    machine = Machine()
    cron = machine.start(70, 1, "/usr/sbin/cron -f", since_s=100.0)

    def tick(seconds: float) -> None:
        second = machine.now_s % 600
        if second < 15:
            machine.start(71, cron, "sh backup.sh")
        if second < 20:
            machine.uses(71, cores * min(seconds, 20 - second))
        elif 71 in machine.processes:
            machine.ends(71)

    found = watched(machine, 7200, tick)
    # The first minutes of a watch have no idle looks behind them: what they say is forgotten after ten.
    assert {each.activity for each in found[41:]} == {Activity.QUIET}


def test_a_hum_is_nothing_and_steady_work_is_something() -> None:
    hum, work = Machine(), Machine()
    hum.start(300, 1, "sidecar", since_s=300.0)
    work.start(300, 1, "sidecar", since_s=300.0)
    assert {each.activity for each in watched(hum, 3600, busy(hum, 300, 0.08))[20:]} == {Activity.QUIET}
    assert {each.activity for each in watched(work, 3600, busy(work, 300, 0.2))[20:]} == {Activity.ACTIVE}


def test_an_agent_with_5_s_a_minute_keeps_the_pod() -> None:
    machine = Machine()
    machine.start(90, tmux(machine), ["claude"], session=710, terminal=PTS, since_s=300.0)

    def work(seconds: float) -> None:
        if machine.now_s % 60 < 15:
            machine.uses(90, 5.0)

    found = watched(machine, 3600, work)
    assert {each.activity for each in found[40:]} == {Activity.ACTIVE}
    assert found[-1].evidence_s is not None
    assert machine.now_s - found[-1].evidence_s <= 60


# ---------------------------------------------------------------- processes that end


def test_a_job_that_ends_does_not_count_again_in_the_one_that_waited_for_it() -> None:
    machine = Machine()
    shell = tmux(machine)
    machine.start(812, shell, "python train.py", session=710, terminal=PTS, since_s=300.0)
    machine.uses(812, 90_000.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    machine.ends(812)
    assert {each.activity for each in watched(machine, 600, signal=signal)} == {Activity.QUIET}


def test_nor_in_pid_1_where_nobody_waited() -> None:
    machine = Machine()
    machine.start(800, tmux(machine), "launcher", session=710, terminal=PTS, since_s=300.0)
    machine.start(812, 800, "python train.py", session=710, since_s=300.0)
    machine.uses(812, 90_000.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    machine.ends(800)
    machine.ends(812)
    assert {each.activity for each in watched(machine, 600, signal=signal)} == {Activity.QUIET}


def test_commands_that_are_too_short_to_be_seen_count_through_their_parent() -> None:
    machine = Machine()
    shell = tmux(machine)

    def loop(seconds: float) -> None:
        child = machine.start(900, shell, "convert a.png b.png", session=710)
        machine.uses(child, 0.9 * seconds)
        machine.ends(child)

    assert watched(machine, 600, loop)[-1].reason == "tmux: bash (pid 710) 90 % of a core for 10 min"


@pytest.mark.parametrize(
    ("parent", "activity"), [("bash loop.sh", Activity.ACTIVE), ("supervisord -n", Activity.QUIET)]
)
def test_steps_that_follow_each_other_are_one_job_below_a_script_and_each_its_own_below_an_init(
    parent: str, activity: Activity
) -> None:
    """Below an init the host's sum decides: a service that fails again and again looks the same."""
    machine = Machine()
    machine.start(700, 1, parent, since_s=200.0)
    pids = iter(range(1000, 2000))
    steps = [machine.start(next(pids), 700, "python step.py", session=700)]

    def step(_: float) -> None:
        machine.uses(steps[-1], 1.8)
        if machine.now_s % 60 == 40:
            machine.ends(steps[-1])
            steps.append(machine.start(next(pids), 700, "python step.py", session=700))

    assert watched(machine, 1200, step)[-1].activity is activity


def test_a_terminal_that_closes_takes_nothing_from_its_job() -> None:
    machine = Machine()
    shell = machine.start(52, 1, "-bash", terminal=PTS, since_s=100.0)
    machine.start(53, shell, "python a.py", session=52, terminal=PTS, since_s=300.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 300, busy(machine, 53, 0.5), signal)
    machine.ends(shell)
    found = watched(machine, 300, busy(machine, 53, 0.5), signal)
    assert found[-1].reason == "closed terminal: a.py (pid 53) 50 % of a core for 10 min"


def test_a_worker_that_starts_after_its_terminal_closed_goes_on_in_the_same_tree() -> None:
    machine = Machine()
    shell = machine.start(52, 1, "-bash", terminal=PTS, since_s=100.0)
    machine.start(53, shell, "python a.py", session=52, terminal=PTS, since_s=300.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 300, busy(machine, 53, 0.5), signal)
    machine.ends(shell)
    machine.start(54, 53, "python worker.py", session=52)
    found = watched(machine, 300, busy(machine, 54, 0.5), signal)
    assert found[-1].reason == "closed terminal: worker.py (pid 54) 50 % of a core for 10 min"


def test_a_process_that_was_hidden_until_now_has_gained_nothing() -> None:
    machine = Machine()
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    machine.start(53, 1, "python a.py", since_s=300.0)
    machine.uses(53, 90_000.0)
    assert {each.bars for each in watched(machine, 60, signal=signal)} == {False}


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_no_cpu_counts_twice_whoever_ends_whenever(data: st.DataObject) -> None:
    machine = Machine()
    used, gained, next_pid = 0.0, 0.0, 100
    for _ in range(data.draw(st.integers(1, 6))):
        before = machine.table()
        for _ in range(data.draw(st.integers(1, 8))):
            pid = data.draw(st.sampled_from(sorted(machine.processes)))
            did = data.draw(st.sampled_from(["start", "use", "end"]))
            if did == "start":
                machine.start(next_pid, pid, "x")
                next_pid += 1
            elif did == "use":
                machine.uses(pid, 10.0)
                used += 10.0
            elif pid != 1:
                machine.ends(pid, waited=data.draw(st.booleans()))
        machine.now_s += LOOK_S
        gained += sum(gains(before, machine.table(), cpu_s).values())
    assert gained == pytest.approx(used)


# ---------------------------------------------------------------- tools and agents that wait on a network


def pip(machine: Machine, *, shows_io: bool = True) -> int:
    command = "/usr/bin/python3 /usr/bin/pip install torch"
    return machine.start(500, tmux(machine), command, session=710, since_s=300.0, shows_io=shows_io)


def test_a_tool_that_waits_on_a_slow_network_counts_while_it_makes_progress() -> None:
    machine = Machine()
    pip(machine)
    found = watched(machine, 900, lambda seconds: machine.uses(500, reads=round(2000 * seconds)))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason == "tmux: pip (pid 500) read 1.2 MB in 10 min"
    assert found[-1].evidence_s == machine.now_s


def test_a_tool_that_only_draws_its_progress_bar_does_not() -> None:
    machine = Machine()
    pip(machine)
    found = watched(machine, 3600, lambda seconds: machine.uses(500, writes=round(1200 * seconds)))
    assert {each.activity for each in found} == {Activity.QUIET}


def test_unpacking_onto_a_slow_volume_counts() -> None:
    machine = Machine()
    machine.start(500, 1, "tar xf env.tar", since_s=300.0)
    found = watched(machine, 600, lambda seconds: machine.uses(500, writes=round(10_000 * seconds)))
    assert found[-1].reason == "background: tar (pid 500) wrote 6.0 MB in 10 min"


def test_what_a_tool_reads_while_it_starts_is_itself() -> None:
    machine = Machine()

    def poll(_: float) -> None:
        if 500 in machine.processes:
            machine.ends(500)
        machine.start(500, 1, "git fetch", since_s=machine.now_s)
        machine.uses(500, reads=20 << 20)

    assert {each.activity for each in watched(machine, 1800, poll)} == {Activity.QUIET}


def test_nor_where_it_starts_so_slowly_that_two_looks_see_it() -> None:
    machine = Machine()
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    machine.start(500, 1, "conda list", since_s=machine.now_s + 8)
    watched(machine, 15, signal=signal)
    found = watched(machine, 15, lambda _: machine.uses(500, reads=50 << 20), signal)
    assert {each.activity for each in found} == {Activity.QUIET}
    found = watched(machine, 15, lambda _: machine.uses(500, reads=50 << 20), signal)
    assert {each.activity for each in found} == {Activity.ACTIVE}


def test_an_editors_own_git_does_not_count_and_a_persons_does() -> None:
    machine = Machine()
    machine.start(500, vscode(machine), "git fetch", since_s=300.0)
    machine.start(501, tmux(machine), "git clone x", session=710, terminal=PTS, since_s=300.0)
    quiet = watched(machine, 600, lambda seconds: machine.uses(500, reads=round(50_000 * seconds)))
    assert {each.activity for each in quiet} == {Activity.QUIET}
    active = watched(machine, 600, lambda seconds: machine.uses(501, reads=round(50_000 * seconds)))
    assert active[-1].activity is Activity.ACTIVE


def test_commands_that_an_agent_starts_are_progress() -> None:
    machine = Machine()
    agent = machine.start(90, tmux(machine), ["claude"], session=710, terminal=PTS, since_s=300.0)

    def work(_: float) -> None:
        if machine.now_s % 150 < 15:
            machine.start(2000 + round(machine.now_s), agent, "bash -c ls")

    found = watched(machine, 900, work)
    assert found[-1].reason == "agent: claude (pid 90) started 4 commands in 10 min"
    assert {each.activity for each in watched(machine, 900)} == {Activity.QUIET}


# ---------------------------------------------------------------- reading, where no disk shows it


def reads_of(machine: Machine, pid: int, bytes_per_s: float) -> list[Finding]:
    def work(seconds: float) -> None:
        machine.uses(pid, 0.012 * seconds, reads=round(bytes_per_s * seconds))

    return watched(machine, 900, work)


def test_what_reads_from_a_network_volume_is_a_job_although_it_hardly_uses_cpu() -> None:
    machine = Machine()
    machine.start(300, tmux(machine), "md5sum -b /workspace/images.tar", session=710, since_s=300.0)
    found = reads_of(machine, 300, 20e6)
    assert found[-1].reason == "tmux: md5sum (pid 300) read 20.0 MB a second for 10 min"
    assert found[-1].evidence_s == machine.now_s


def test_what_reads_without_any_cpu_that_counts_is_named() -> None:
    machine = Machine()
    machine.start(300, 1, "sha256sum x", since_s=300.0)
    found = watched(machine, 900, lambda seconds: machine.uses(300, reads=round(2e6 * seconds)))
    assert found[-1].reason.startswith("background: sha256sum (pid 300) read 2.0 MB a second")


def test_what_monitors_read_of_proc_is_nothing() -> None:
    machine = Machine()
    machine.start(300, 1, "python monitor.py", since_s=300.0)
    assert {each.activity for each in reads_of(machine, 300, 0.9e6)} == {Activity.QUIET}


def test_what_servers_viewers_and_editors_read_is_nothing() -> None:
    machine = Machine()
    machine.start(300, 1, "/usr/bin/python3 /usr/local/bin/vllm serve x", since_s=300.0)
    machine.start(301, 300, ["VLLM::EngineCore"], since_s=300.0)
    machine.start(302, 1, "htop", since_s=300.0)
    machine.start(303, vscode(machine), "rg --files", session=600, since_s=300.0)
    for pid in (300, 301, 302, 303, 600):
        assert {each.activity for each in reads_of(machine, pid, 20e6)} == {Activity.QUIET}


def test_a_loop_of_programs_that_read_themselves_is_nothing() -> None:
    """`aws` reads 30 MB of Python at each start, and its shell's total holds that as soon as it has waited."""
    machine = Machine()
    machine.start(300, 1, "bash poll.sh", since_s=300.0)

    def poll(_: float) -> None:
        pid = 3000 + round(machine.now_s)
        if machine.now_s % 30 < 15:
            machine.start(pid, 300, "aws s3 ls", session=300)
            machine.uses(pid, 0.3, reads=30 << 20)
        else:
            machine.ends(pid - 15)
            machine.uses(300, reads=30 << 20)

    assert {each.activity for each in watched(machine, 1800, poll)} == {Activity.QUIET}


def test_what_a_young_program_reads_is_itself() -> None:
    machine = Machine()
    machine.start(300, 1, "bash poll.sh", since_s=300.0)

    def poll(seconds: float) -> None:
        pid = 3000 + round(machine.now_s) // 30
        if pid not in machine.processes:
            machine.processes.pop(pid - 1, None)
            machine.start(pid, 300, "aws s3 ls", session=300, since_s=machine.now_s + 8)
        else:
            machine.uses(pid, 0.3, reads=round(5e6 * seconds))

    assert {each.activity for each in watched(machine, 1800, poll)} == {Activity.QUIET}


def test_a_reading_of_an_older_version_tells_nothing_of_reads() -> None:
    signal = JobsSignal(kernel=Machine())
    tree: dict[str, Json] = {"id": "7-1", "where": "tmux", "name": "a.py", "pid": 7, "cpu_s": 14.0, "agent": False}
    facts: dict[str, Json] = {"trees": [tree], "tools": [], "unseen": None}
    for at_s in range(15, 615, 15):
        found = signal.judge(Reading(signal="jobs", at_s=at_s, covers_s=15.0, facts=facts))
    assert found.reason == "tmux: a.py (pid 7) 93 % of a core for 10 min"


# ---------------------------------------------------------------- busy now, rights, words


def test_busy_now_bars_and_pauses_and_never_clears() -> None:
    machine = Machine()
    machine.start(300, 1, "python job.py", since_s=300.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    (burst,) = watched(machine, 15, busy(machine, 300, 14 / 15), signal)
    (after,) = watched(machine, 15, signal=signal)
    assert (burst.activity, burst.bars, burst.pauses, burst.evidence_s) == (Activity.QUIET, True, True, None)
    assert burst.reason == "busy now: background: job.py (pid 300) 93 % of a core"
    assert (after.activity, after.bars, after.pauses) == (Activity.QUIET, False, False)


def test_what_rights_deny_is_said_and_never_unknown() -> None:
    machine = Machine()
    pip(machine, shows_io=False)
    found = watched(machine, 600)[-1]
    assert found.activity is Activity.QUIET
    assert found.reason == (
        "no job uses CPU; what python3 (pid 500) reads and writes is not shown here, "
        "the host signal sees the container's CPU and disk"
    )
    hidden = Machine()
    hidden.start(40, 0, "bash", since_s=100.0)
    del hidden.processes[1]
    found = watched(hidden, 600)[-1]
    assert found.activity is Activity.QUIET
    assert "other users' processes are hidden here" in found.reason


def test_cpu_counts_where_reads_and_writes_are_denied() -> None:
    machine = Machine()
    pip(machine, shows_io=False)
    assert watched(machine, 600, busy(machine, 500))[-1].activity is Activity.ACTIVE


def test_one_job_that_is_all_there_is_for_3_h_is_told_with_the_line_to_paste() -> None:
    machine = Machine()
    machine.start(300, 1, "python miner.py", since_s=300.0)
    found = watched(machine, 4 * 3600, busy(machine, 300))
    told = [each.notice for each in found]
    assert told[: 3 * 240 - 1] == [None] * (3 * 240 - 1)
    notice = told[-1]
    assert notice is not None
    assert "miner.py (pid 300)" in notice
    assert notice.endswith("IDLEWATCH_IGNORE=jobs,host")


@pytest.mark.parametrize("command", ["claude", "node /opt/node_modules/@anthropic-ai/claude-code/cli.js"])
def test_an_agent_that_works_for_hours_is_nothing_that_somebody_forgot(command: str) -> None:
    machine = Machine()
    machine.start(300, 1, command, since_s=300.0)
    machine.start(301, 300, "python analyse.py", since_s=200.0)
    found = watched(machine, 4 * 3600, busy(machine, 301))
    assert found[-1].activity is Activity.ACTIVE
    assert not any(each.notice for each in found)


def test_what_an_agent_left_behind_is_a_job_like_any_other() -> None:
    machine = Machine()
    machine.start(300, 1, "claude", since_s=300.0)
    machine.start(301, 300, "python miner.py", since_s=200.0)
    signal = JobsSignal(kernel=machine)
    watched(machine, 3600, busy(machine, 301), signal=signal)
    machine.ends(300)
    found = watched(machine, 4 * 3600, busy(machine, 301), signal=signal)
    assert "miner.py (pid 301)" in (found[-1].notice or "")


def test_two_jobs_are_not_one_alone() -> None:
    machine = Machine()
    machine.start(300, 1, "python a.py", since_s=300.0)
    machine.start(301, 1, "python b.py", since_s=300.0)

    def both(seconds: float) -> None:
        machine.uses(300, seconds)
        machine.uses(301, seconds)

    assert not any(each.notice for each in watched(machine, 4 * 3600, both))


@pytest.mark.parametrize(("cores", "activity"), [(0.095, Activity.QUIET), (0.105, Activity.ACTIVE)])
def test_one_job_that_takes_more_than_a_tenth_of_a_core_all_the_time_is_work(cores: float, activity: Activity) -> None:
    machine = Machine()
    machine.start(300, 1, "python simulate.py", since_s=300.0)
    found = watched(machine, 1800, busy(machine, 300, cores))
    assert found[-1].activity is activity
    assert activity is Activity.QUIET or found[-1].evidence_s == machine.now_s


def test_a_long_look_counts_for_no_more_than_its_mean() -> None:
    machine = Machine()
    machine.start(300, 1, "python a.py", since_s=300.0)
    pip(machine)
    signal = JobsSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    machine.uses(300, 100.0)
    machine.uses(500, reads=3 << 20)
    machine.now_s += 7200
    found = signal.judge(signal.read(machine.now_s))
    assert (found.activity, found.bars) == (Activity.QUIET, False)


def test_a_reading_survives_a_file_and_its_repetition_changes_nothing() -> None:
    machine = Machine()
    machine.start(300, 1, "python a.py", since_s=300.0)
    pip(machine)
    signal, again = JobsSignal(kernel=machine), JobsSignal(kernel=machine)
    for _ in range(20):
        machine.uses(300, 0.12 * LOOK_S)
        machine.uses(500, reads=40_000)
        machine.now_s += LOOK_S
        reading = signal.read(machine.now_s)
        assert signal.read(machine.now_s + 5) is reading
        found = signal.judge(reading)
        kept = replace(reading, facts=json.loads(json.dumps(reading.facts)))
        assert again.judge(kept) == found
        assert again.judge(kept) == found


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"trees": 3, "tools": [], "unseen": None},
        {"trees": [{"id": "1"}], "tools": [], "unseen": None},
        {"trees": ["x"], "tools": [], "unseen": None},
        {"trees": [], "tools": [{"id": "1", "where": "", "name": "", "pid": 1, "read_bytes": "7"}], "unseen": None},
    ],
)
def test_garbage_is_unknown(facts: dict[str, object]) -> None:
    signal = JobsSignal(kernel=Machine())
    reading = Reading(signal="jobs", at_s=50.0, covers_s=15.0, facts=json.loads(json.dumps(facts)))
    assert signal.judge(reading).activity is Activity.UNKNOWN


def test_an_error_is_unknown_a_proof_of_absence_absent_and_the_first_reading_unknown() -> None:
    machine = Machine()
    signal = JobsSignal(kernel=machine)
    assert signal.judge(signal.read(machine.now_s)).activity is Activity.UNKNOWN
    assert signal.judge(Reading(signal="jobs", at_s=1.0, error="gone")).reason == "gone"
    assert signal.judge(Reading(signal="jobs", at_s=1.0, absent="none")).activity is Activity.ABSENT


def test_tables_that_cannot_be_read_are_an_error() -> None:
    class Broken:
        def at(self, now_s: float) -> Tables:
            raise SignalError("/proc shows no process")

    with pytest.raises(SignalError):
        JobsSignal(kernel=Broken()).read(1.0)


def test_hundreds_of_processes_make_a_short_reading() -> None:
    machine = Machine()
    signal = JobsSignal(kernel=machine)
    for pid in range(1000, 1300):
        machine.start(pid, 1, "python a.py", since_s=300.0)
    signal.read(machine.now_s)
    for pid in range(1000, 1300):
        machine.uses(pid, 0.001 * pid)
    machine.now_s += LOOK_S
    trees = signal.read(machine.now_s).facts["trees"]
    assert isinstance(trees, list)
    assert len(trees) == 32
    machine.uses(1000, 0.02)
    machine.uses(1001, 0.2)
    machine.now_s += LOOK_S
    trees = signal.read(machine.now_s).facts["trees"]
    assert isinstance(trees, list)
    assert [tree["pid"] for tree in trees if isinstance(tree, dict)] == [1001]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("comm", "command", "name", "role"),
    [
        ("python3", "python3 -u train.py", "train.py", Role.WORK),
        ("python3", "python3 -X dev -m torch.distributed.run a.py", "torch.distributed.run", Role.WORK),
        ("python3", "python3 -c pass", "python3", Role.WORK),
        ("python3", "/venv/bin/python /venv/bin/uv pip install x", "uv", Role.TOOL),
        ("python", "python -m pip install x", "pip", Role.TOOL),
        ("node", "node /usr/lib/node_modules/npm/bin/npm-cli.js ci", "npm-cli.js", Role.TOOL),
        ("node", "node /x/node_modules/@anthropic-ai/claude-code/cli.js", "cli.js", Role.AGENT),
        ("codex", "/usr/bin/codex", "codex", Role.AGENT),
        ("claude", "/root/.vscode-server/extensions/anthropic.claude-code-2/bin/claude", "claude", Role.AGENT),
        ("bash", "-bash", "bash", Role.WORK),
        ("bash", "bash /dev/fd/3", "bash", Role.WORK),
        ("nginx", "nginx:\0worker", "nginx", Role.HOUSE),
        ("git", "git fsmonitor--daemon run", "git", Role.NOISE),
        ("vllm", "vllm bench latency", "vllm", Role.WORK),
        ("jupyter", "python /usr/bin/jupyter nbconvert --execute a.ipynb", "jupyter", Role.WORK),
        ("jupyter", "python /usr/bin/jupyter lab", "jupyter", Role.EDITOR),
        ("ruff", "ruff server", "ruff", Role.NOISE),
        ("java", "/x/JetBrains/RemoteDev/jbr/bin/java", "java", Role.EDITOR),
        ("x\x1b[31my", "", "x?[31my", Role.WORK),
        # VS Code's kin, of any name; what somebody keeps in a folder called so is their work.
        *(
            ("node", f"/root/.{kin}/a/node /root/.{kin}/a/out/{script}", script, Role.EDITOR)
            for kin in (
                "vscode-server",
                "cursor-server",
                "trae-server",
                "positron-server",
                "code-oss-remote",
                "kiro-server",
            )
            for script in ("server-main.js", "bootstrap-fork")
        ),
        ("node", "/root/.trae/cli/servers/Stable-1/server/node /root/.x/out/main.js", "main.js", Role.EDITOR),
        ("code-x", "/root/.vscode/cli/servers/Stable-1/server/bin/code-x", "code-x", Role.EDITOR),
        ("node", "/root/.trae-server/a/node /root/.trae-server/extensions/a.b/server.js", "server.js", Role.NOISE),
        ("python", "python /root/.kiro-server/extensions/ms-python.x/run.py", "run.py", Role.NOISE),
        ("node", "/root/.cursor-server/bin/a/node /root/.cursor-server/bin/multiplex.js", "multiplex.js", Role.EDITOR),
        ("python3", "python3 /data/.my-server/train.py", "train.py", Role.WORK),
        ("python3", "python3 /data/cli/servers/train.py", "train.py", Role.WORK),
        ("python3", "python3 /data/server/extensions/train.py", "train.py", Role.WORK),
        # What an editor debugs is somebody's program.
        (
            "python",
            "python /root/.vscode-server/extensions/ms-python.debugpy-1/bundled/libs/debugpy --connect 1 a.py",
            "debugpy",
            Role.WORK,
        ),
        (
            "python",
            "python /root/.cursor-server/extensions/ms-python.debugpy-1/bundled/libs/debugpy/launcher 1 -- a.py",
            "launcher",
            Role.WORK,
        ),
        (
            "python",
            "python /root/.vscode-server/extensions/ms-python.debugpy-1/bundled/libs/debugpy/adapter --for-server 1",
            "adapter",
            Role.NOISE,
        ),
        # Somebody's own script is their work whatever its name, and an installed program's is its own.
        ("python", "python top.py --train", "top.py", Role.WORK),
        ("watch.py", "/usr/bin/python3 ./watch.py", "watch.py", Role.WORK),
        ("watch", "/bin/bash /workspace/watch", "watch", Role.WORK),
        ("python3", "python3 /workspace/bin/notebook.py", "notebook.py", Role.WORK),
        ("python3", "python3 /usr/local/src/vector.py", "vector.py", Role.WORK),
        ("python3", "python3 vllm.py serve", "vllm.py", Role.WORK),
        ("node", "node my-language-server.js", "my-language-server.js", Role.WORK),
        ("glances", "/venv/bin/python /venv/bin/glances", "glances", Role.VIEWER),
        ("python3", "python3 /venv/lib/python3.11/site-packages/notebook.py", "notebook.py", Role.EDITOR),
        ("supervisord", "/usr/bin/python3 /usr/bin/supervisord -n", "supervisord", Role.HOUSE),
        ("python3", "python3 git.py", "git.py", Role.TOOL),
    ],
)
def test_names(comm: str, command: str, name: str, role: Role) -> None:
    words = [word.replace("\0", " ") for word in command.split()]
    found = program(comm, words)
    assert (found.name, found.role) == (name, role)


def test_a_program_that_may_be_stuck_is_not_asked_for_its_command_line() -> None:
    machine = Machine()
    machine.start(500, 1, "pip install x", comm="stuck", since_s=300.0)
    machine.processes[500] = replace(machine.processes[500], state="D")
    assert watched(machine, 300, busy(machine, 500))[-1].reason.startswith("background: stuck (pid 500)")
    machine.processes[500] = replace(machine.processes[500], state="S")
    assert watched(machine, 300, busy(machine, 500))[-1].reason.startswith("background: pip (pid 500)")


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=8))
def test_any_name_is_printable(comm: str, command: list[str]) -> None:
    assert program(comm, command).name.isprintable()
