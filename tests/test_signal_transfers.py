"""The transfers signal on made-up processes, connections and open files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.errors import SignalError
from idlewatch.kernel import Endpoint, Socket, SocketState, Tables
from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.jobs_programs import program
from idlewatch.signals.transfers import TransfersSignal
from idlewatch.signals.transfers_files import open_files
from idlewatch.signals.transfers_names import is_log, is_partial, is_tool, is_transcript, is_tunnel
from tests.made_up_machine import LOOK_S, PTS, Machine, looked, tmux, vscode

FAR, HERE = Endpoint("203.0.113.9", 443), Endpoint("10.0.0.5", 50_000)
APPEND = os.O_WRONLY | os.O_APPEND
CHATTER, SLOW = 12_500, 60_000
"""0.1 Mbit/s, and the slowest that is a transfer: bytes a second."""


def connect(machine: Machine, inode: int, *pids: int, remote: Endpoint = FAR, local: Endpoint | None = None) -> int:
    machine.sockets[inode] = Socket(
        state=SocketState.ESTABLISHED,
        local=local or Endpoint("10.0.0.5", 50_000 + inode),
        remote=remote,
        inode=inode,
        user_id=0,
        receive_queue=0,
        send_queue=0,
        retransmits=0,
        bytes_acked=0,
        bytes_received=0,
        unacked=0,
        data_received_ago_s=0.0,
        ack_received_ago_s=0.0,
    )
    machine.owners[inode] = pids
    return inode


def listen(machine: Machine, inode: int, port: int) -> None:
    connect(machine, inode, local=Endpoint("::", port), remote=Endpoint("::", 0))
    machine.sockets[inode] = replace(machine.sockets[inode], state=SocketState.LISTEN)


def receives(machine: Machine, inode: int, count: float) -> None:
    old = machine.sockets[inode]
    machine.sockets[inode] = replace(old, bytes_received=(old.bytes_received or 0) + round(count))


def sends(machine: Machine, inode: int, count: float) -> None:
    old = machine.sockets[inode]
    machine.sockets[inode] = replace(old, bytes_acked=(old.bytes_acked or 0) + round(count))


def opens(machine: Machine, pid: int, fd: int, path: str, position: int = 0, flags: int = os.O_WRONLY) -> None:
    for folder in ("fd", "fdinfo"):
        (machine.proc / str(pid) / folder).mkdir(parents=True, exist_ok=True)
    link = machine.proc / str(pid) / "fd" / str(fd)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    info = f"pos:\t{position}\nflags:\t0{flags | os.O_CLOEXEC:o}\nmnt_id:\t30\nino:\t77\n"
    (machine.proc / str(pid) / "fdinfo" / str(fd)).write_text(info)


def grows(machine: Machine, pid: int, fd: int, by: int) -> None:
    """A process writes to one of its files."""
    info = machine.proc / str(pid) / "fdinfo" / str(fd)
    first, rest = info.read_text().split("\n", 1)
    info.write_text(f"pos:\t{int(first.split()[1]) + by}\n{rest}")
    machine.uses(pid, writes=by)


def watched(
    machine: Machine,
    for_s: float,
    each: Callable[[float], object] = lambda _: None,
    signal: TransfersSignal | None = None,
) -> list[Finding]:
    return looked(machine, signal or TransfersSignal(kernel=machine), for_s, each)


def verdicts(found: list[Finding]) -> set[Activity]:
    return {each.activity for each in found}


def script(machine: Machine, pid: int = 812, command: str = "python fetch.py") -> int:
    return machine.start(pid, 1, command, since_s=300.0)


# ---------------------------------------------------------------- connections


def test_a_script_that_downloads_at_60_kb_a_second_keeps_the_pod() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    found = watched(machine, 1200, lambda seconds: receives(machine, 7, SLOW * seconds))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason == "fetch.py (pid 812) moved 36.0 MB in 10 min"
    assert found[-1].evidence_s == machine.now_s
    assert (found[-1].seen_from_s, found[-1].seen_to_s) == (machine.now_s - 15, machine.now_s)


def test_an_upload_counts_like_a_download() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    assert watched(machine, 600, lambda seconds: sends(machine, 7, SLOW * seconds))[-1].activity is Activity.ACTIVE


def test_chatter_of_0_1_mbit_a_second_does_not() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    found = watched(machine, 3600, lambda seconds: receives(machine, 7, CHATTER * seconds))
    assert verdicts(found) == {Activity.QUIET}
    assert not any(each.bars for each in found)
    assert found[-1].reason == "no transfer above its floor; most: fetch.py (pid 812) moved 7.5 MB in 10 min"


def test_gaps_do_not_end_a_transfer_and_its_evidence_is_its_newest_burst() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))

    def burst(seconds: float) -> None:
        if machine.now_s % 240 < 15:
            receives(machine, 7, 16 * SLOW * seconds)

    found = watched(machine, 3600, burst)
    assert verdicts(found[40:]) == {Activity.ACTIVE}
    assert found[-1].evidence_s is not None
    assert machine.now_s - found[-1].evidence_s <= 240


def test_many_slow_workers_of_one_script_are_one_transfer() -> None:
    machine = Machine()
    script(machine)
    for i in range(8):
        connect(machine, 20 + i, machine.start(900 + i, 812, "python fetch.py", session=812, since_s=300.0))

    def work(seconds: float) -> None:
        for i in range(8):
            receives(machine, 20 + i, SLOW / 8 * seconds)

    assert watched(machine, 600, work)[-1].reason == "fetch.py (pid 900) moved 36.0 MB in 10 min"


def test_a_connection_that_is_there_at_the_first_look_is_no_gain_and_a_new_one_is() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    receives(machine, 7, 5e9)
    signal = TransfersSignal(kernel=machine)
    assert verdicts(watched(machine, 60, signal=signal)) == {Activity.QUIET}
    connect(machine, 8, 812)
    receives(machine, 8, 50e6)
    assert watched(machine, 15, signal=signal)[-1].activity is Activity.ACTIVE


@pytest.mark.parametrize("remote", [Endpoint("127.0.0.1", 9), Endpoint("::1", 9), Endpoint("10.0.0.5", 9)])
def test_what_stays_on_this_machine_is_no_transfer(remote: Endpoint) -> None:
    machine = Machine()
    connect(machine, 7, script(machine), remote=remote)
    assert verdicts(watched(machine, 600, lambda seconds: receives(machine, 7, 1e6 * seconds))) == {Activity.QUIET}


def test_what_comes_to_a_port_that_is_listened_to_belongs_to_its_server() -> None:
    machine = Machine()
    listen(machine, 6, 8188)
    connect(machine, 7, script(machine), local=Endpoint("10.0.0.5", 8188))
    signal = TransfersSignal(kernel=machine)
    found = watched(machine, 600, lambda seconds: sends(machine, 7, 1e6 * seconds), signal)
    assert verdicts(found) == {Activity.QUIET}
    del machine.sockets[6]
    assert verdicts(watched(machine, 60, signal=signal)) == {Activity.QUIET}


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/cloudflared tunnel run",
        "tailscaled",
        "ssh -fNT -R 8080:localhost:80 me@far",
        "ssh -L9000:localhost:9000 me@far",
        "autossh -M 0 far",
        "python -m idlewatch restore",
        "nvidia-smi -l",
        "dcgm-exporter",
        "code tunnel",
    ],
)
def test_tunnels_figures_and_ours_are_nobodys_transfer(command: str) -> None:
    machine = Machine()
    connect(machine, 7, script(machine, command=command))
    assert verdicts(watched(machine, 600, lambda seconds: receives(machine, 7, 1e6 * seconds))) == {Activity.QUIET}


def test_the_daemons_own_connections_and_saves_are_none(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    machine.own.add(script(machine, command="/venv/bin/python /venv/bin/idlewatch run"))
    machine.own.add(machine.start(813, 812, "python saver", since_s=300.0))
    machine.start(814, 1, "python -m idlewatch save", since_s=300.0)
    machine.own.add(machine.start(815, 812, "rsync -a / /workspace/save", since_s=300.0))
    connect(machine, 7, 813)
    for pid in (813, 814):
        opens(machine, pid, 4, "/workspace/.idlewatch/x.tar.zst.part")

    def save(seconds: float) -> None:
        receives(machine, 7, 1e6 * seconds)
        machine.uses(815, reads=10_000_000, writes=10_000_000)
        for pid in (813, 814):
            grows(machine, pid, 4, round(1e7 * seconds))

    assert verdicts(watched(machine, 600, save)) == {Activity.QUIET}


def test_an_editors_and_an_extensions_updates_are_none() -> None:
    machine = Machine()
    connect(machine, 7, vscode(machine))
    assert verdicts(watched(machine, 600, lambda seconds: receives(machine, 7, 1e6 * seconds))) == {Activity.QUIET}


def git_fetches(machine: Machine, shell: int) -> list[Finding]:
    """Each three minutes 0.7 MB of references, over half an hour."""
    machine.start(820, shell, "git fetch", since_s=300.0)
    connect(machine, 7, machine.start(821, 820, "/usr/lib/git-core/git-remote-https origin", since_s=300.0))

    def fetch(_: float) -> None:
        if machine.now_s % 180 < 15:
            receives(machine, 7, 720_000)
            machine.uses(821, reads=720_000, writes=720_000)

    return watched(machine, 1800, fetch)


def test_what_an_editor_fetches_by_itself_is_no_transfer_and_what_a_person_fetches_is() -> None:
    editors, persons = Machine(), Machine()
    assert verdicts(git_fetches(editors, vscode(editors))) == {Activity.QUIET}
    assert git_fetches(persons, tmux(persons))[-1].activity is Activity.ACTIVE


def test_a_clone_that_an_editor_was_asked_for_counts_like_any_programs() -> None:
    machine = Machine()
    connect(machine, 7, machine.start(821, vscode(machine), "git-remote-https origin", since_s=300.0))
    found = watched(machine, 600, lambda seconds: receives(machine, 7, SLOW * seconds))
    assert found[-1].reason == "git-remote-https (pid 821) moved 36.0 MB in 10 min"


def test_an_agent_that_talks_to_its_model_counts_at_1_mib_and_idle_it_does_not() -> None:
    machine = Machine()
    connect(machine, 7, machine.start(90, tmux(machine), ["claude"], session=710, terminal=PTS, since_s=300.0))
    working = watched(machine, 900, lambda seconds: sends(machine, 7, 2500 * seconds))
    assert working[-1].reason == "claude (pid 90) moved 1.5 MB in 10 min"
    idle = watched(machine, 900, lambda seconds: sends(machine, 7, 300 * seconds))
    assert verdicts(idle) == {Activity.QUIET}


def test_an_ssh_client_that_git_or_rsync_started_is_theirs() -> None:
    machine = Machine()
    script(machine, command="rsync -a out far:")
    machine.start(813, 812, "ssh far rsync --server", session=812, since_s=300.0)
    connect(machine, 7, 813)
    found = watched(machine, 600, lambda seconds: sends(machine, 7, 4000 * seconds))
    assert found[-1].reason == "rsync (pid 812) moved 2.4 MB in 10 min"


def test_a_connection_whose_owner_is_not_shown_is_somebodys() -> None:
    machine = Machine()
    connect(machine, 7)
    found = watched(machine, 600, lambda seconds: receives(machine, 7, SLOW * seconds))
    assert found[-1].reason == "a process that is not shown here moved 36.0 MB in 10 min"


def test_owners_are_looked_for_only_where_bytes_moved() -> None:
    machine = Machine()
    script(machine)
    for i in range(500):
        connect(machine, 1000 + i, 812)

    def chatter(seconds: float) -> None:
        for i in range(500):
            receives(machine, 1000 + i, 5 * seconds)

    watched(machine, 600, chatter)
    assert machine.scans.asked == 0


def test_connections_without_figures_are_said_and_never_unknown() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    signal = TransfersSignal(kernel=machine)
    watched(machine, 60, signal=signal)
    machine.sockets_denied = "netlink refused: Operation not permitted"
    machine.sockets[7] = replace(machine.sockets[7], bytes_acked=None, bytes_received=None)
    found = watched(machine, 60, signal=signal)
    assert verdicts(found) == {Activity.QUIET}
    assert found[-1].reason == (
        "nothing is being moved; bytes of connections are not counted: netlink refused: Operation not permitted; "
        "the host signal sees the container's network"
    )
    machine.sockets_denied = None
    machine.sockets[7] = replace(machine.sockets[7], bytes_acked=5_000_000_000, bytes_received=0)
    assert verdicts(watched(machine, 60, signal=signal)) == {Activity.QUIET}


def test_sockets_that_cannot_be_read_leave_tools_and_files() -> None:
    class NoSockets(Machine):
        def at(self, now_s: float) -> Tables:
            return replace(super().at(now_s), socket_table=SignalError("TCP sockets cannot be read: denied"))

    machine = NoSockets()
    assert "cannot be read: denied" in watched(machine, 60)[-1].reason
    script(machine, command="wget -q https://x")
    found = watched(machine, 600, lambda seconds: machine.uses(812, writes=round(SLOW * seconds)))
    assert found[-1].activity is Activity.ACTIVE


# ---------------------------------------------------------------- tools


@pytest.mark.parametrize(
    "command",
    [
        "wget -q https://x/y",
        "curl -O https://x/y",
        "/usr/bin/python3 /usr/local/bin/hf download Qwen/Qwen3-8B",
        "python3 /usr/local/bin/aws s3 cp a s3://b",
        "rclone copy a b:",
        "/usr/lib/openssh/sftp-server",
        "scp -t /workspace",
        "rsync --server -vlogDtpre.iLsfxCIvu . /workspace",
        "python -m kaggle datasets download x",
    ],
)
def test_a_transfer_tool_counts_by_what_it_writes(command: str) -> None:
    machine = Machine()
    machine.start(50, 1, "/usr/sbin/sshd -D", since_s=100.0)
    machine.start(812, machine.start(51, 50, ["sshd: root@notty"], comm="sshd", since_s=100.0), command, since_s=300.0)
    found = watched(machine, 600, lambda seconds: machine.uses(812, writes=round(SLOW * seconds)))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason.endswith("(pid 812) wrote 36.0 MB in 10 min")


def test_an_upload_counts_by_what_its_tool_reads_and_a_slow_sync_with_gaps_holds() -> None:
    machine = Machine()
    script(machine, command="rclone copy out far:")

    def sync(seconds: float) -> None:
        if machine.now_s % 300 < 15:
            machine.uses(812, reads=700_000)

    found = watched(machine, 3600, sync)
    assert verdicts(found[40:]) == {Activity.ACTIVE}
    assert found[-1].reason == "rclone (pid 812) read 1.4 MB in 10 min"


def test_a_tool_that_is_stuck_and_draws_its_progress_bar_is_idle() -> None:
    machine = Machine()
    script(machine, command="rclone copy -P out far:")
    found = watched(machine, 3600, lambda seconds: machine.uses(812, writes=round(1600 * seconds)))
    assert verdicts(found) == {Activity.QUIET}


def test_what_a_tool_reads_while_it_starts_moves_nothing() -> None:
    machine = Machine()

    def poll(_: float) -> None:
        if 812 in machine.processes:
            machine.ends(812)
        machine.start(812, 1, "python3 /usr/local/bin/aws sqs receive-message")
        machine.uses(812, reads=30 << 20, writes=300)

    assert verdicts(watched(machine, 1800, poll)) == {Activity.QUIET}


def test_a_loop_of_short_downloads_is_one_transfer() -> None:
    machine = Machine()
    shell = tmux(machine)
    pids = iter(range(2000, 9000))

    def next_file(_: float) -> None:
        for pid in [pid for pid in machine.processes if pid >= 2000]:
            machine.ends(pid)
        pid = next(pids)
        machine.start(pid, shell, "wget -q https://x/y", session=710, terminal=PTS)
        machine.uses(pid, writes=300_000)

    found = watched(machine, 600, next_file)
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason.endswith("wrote 12.0 MB in 10 min")


def polls(
    machine: Machine, run: Callable[[int, int], object], *, again: bool = True, each_s: int = 60
) -> set[Activity]:
    """Each minute a tool that receives 360 KB; `run` does what it does beside it, given its PID and its socket."""
    shell, pids, inodes = tmux(machine), iter(range(2000, 9000)), iter(range(2000, 9000))

    def poll(_: float) -> None:
        if machine.now_s % 60 >= LOOK_S:
            return
        pid = 2000
        if again or pid not in machine.processes:
            pid = next(pids)
            machine.start(pid, shell, "python3 /usr/local/bin/aws s3 sync s3://b /workspace/b", session=710)
        inode = connect(machine, next(inodes), pid)
        receives(machine, inode, 360_000)
        sends(machine, inode, 4_000)
        machine.uses(pid, reads=30 << 20 if again else 0, writes=300)
        run(pid, inode)

    return verdicts(watched(machine, 3600, poll)[80:])


def test_a_tool_that_is_started_again_and_again_and_keeps_nothing_moves_nothing() -> None:
    assert polls(Machine(), lambda _pid, _inode: None) == {Activity.QUIET}


@pytest.mark.parametrize("what", ["it writes", "it sends", "it is one", "it receives much", "it is not shown"])
def test_a_tool_that_is_started_again_and_again_and_moves_something_counts(what: str) -> None:
    machine = Machine()

    def run(pid: int, inode: int) -> None:
        if what == "it writes":
            machine.uses(pid, writes=360_000)
        elif what == "it sends":
            sends(machine, inode, 360_000)
        elif what == "it receives much":
            receives(machine, inode, 60 * 27_000)
        elif what == "it is not shown":
            machine.processes[pid] = replace(machine.processes[pid], io=None)

    assert polls(machine, run, again=what != "it is one") == {Activity.ACTIVE}


def test_an_agent_that_is_started_again_and_again_counts() -> None:
    machine = Machine()
    pids = iter(range(2000, 9000))

    def ask(_: float) -> None:
        pid = next(pids)
        connect(machine, pid, machine.start(pid, 1, "claude -p x", session=700))
        receives(machine, pid, 100_000)

    assert watched(machine, 900, ask)[-1].activity is Activity.ACTIVE


@pytest.mark.parametrize("command", ["rclone mount far: /mnt/far", "rsync --daemon --no-detach", "rclone rcd"])
def test_a_transfer_tool_that_waits_for_others_is_no_transfer(command: str) -> None:
    machine = Machine()
    script(machine, command=command)
    found = watched(machine, 600, lambda seconds: machine.uses(812, reads=9000 * 15, writes=9000 * 15))
    assert verdicts(found) == {Activity.QUIET}


def test_a_tool_whose_figures_are_denied_counts_by_its_connections() -> None:
    machine = Machine()
    connect(machine, 7, machine.start(812, 1, "wget -q https://x", since_s=300.0, shows_io=False))
    found = watched(machine, 600, lambda seconds: receives(machine, 7, 2000 * seconds))
    assert found[-1].reason == "wget (pid 812) moved 1.2 MB in 10 min"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    "path",
    [
        "/root/.cache/huggingface/hub/blobs/abc.incomplete",
        "/workspace/model.safetensors.part",
        "/workspace/out/checkpoint-500/model.safetensors.tmp",
        "/workspace/results.csv",
        "/workspace/gone.bin (deleted)",
    ],
)
def test_a_file_that_grows_by_1_mib_in_10_min_keeps_the_pod(tmp_path: Path, path: str) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, path)
    found = watched(machine, 900, lambda seconds: grows(machine, 812, 5, round(2000 * seconds)))
    assert found[-1].activity is Activity.ACTIVE
    assert found[-1].reason == f"fetch.py (pid 812): {path.rpartition('/')[2]} grew by 1.2 MB in 10 min"


def test_a_file_that_grows_slower_does_not(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/results.csv")
    found = watched(machine, 900, lambda seconds: grows(machine, 812, 5, round(1200 * seconds)))
    assert verdicts(found) == {Activity.QUIET}


@pytest.mark.parametrize(
    "path",
    [
        "/workspace/train.log",
        "/workspace/train.log.1",
        "/workspace/nohup.out",
        "/workspace/logs/metrics.json",
        "/var/log/syslog",
        "/workspace/runs/events.out.tfevents.17.x",
        "/workspace/wandb/run-x/run-x.wandb",
        "/dev/shm/torch_1",
        "/workspace/app.sqlite-wal",
        "pipe:[77]",
        "socket:[78]",
    ],
)
def test_logs_and_what_is_no_file_never_do(tmp_path: Path, path: str) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, path)
    found = watched(machine, 900, lambda seconds: grows(machine, 812, 5, round(1e6 * seconds)))
    assert verdicts(found) == {Activity.QUIET}


def test_what_standard_error_goes_to_is_a_log_whatever_its_name(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    script(machine)
    for fd in (1, 2):
        opens(machine, 812, fd, "/workspace/output.txt", flags=APPEND)
    assert open_files(tmp_path, 812) == {}
    found = watched(machine, 900, lambda seconds: grows(machine, 812, 1, round(1e6 * seconds)))
    assert verdicts(found) == {Activity.QUIET}


def test_a_position_that_moves_without_writing_is_no_growth(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/data.bin", flags=os.O_RDWR)

    def seek(seconds: float) -> None:
        grows(machine, 812, 5, 5_000_000)
        machine.uses(812, writes=-5_000_000 + round(1500 * seconds))

    assert verdicts(watched(machine, 900, seek)) == {Activity.QUIET}


def test_the_first_append_moves_the_position_to_the_end_and_is_no_growth(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/data.jsonl", flags=APPEND)
    machine.uses(812, writes=20_000)
    signal = TransfersSignal(kernel=machine)
    watched(machine, 15, lambda _: machine.uses(812, writes=20_000), signal)
    found = watched(machine, 15, lambda _: grows(machine, 812, 5, 3_000_000_000), signal)
    assert verdicts(found) == {Activity.QUIET}
    assert watched(machine, 15, lambda _: grows(machine, 812, 5, 3_000_000), signal)[-1].activity is Activity.ACTIVE


def test_a_file_that_is_only_read_does_not_grow(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/data.bin", flags=os.O_RDONLY)
    assert verdicts(watched(machine, 600, lambda _: grows(machine, 812, 5, 1 << 20))) == {Activity.QUIET}


def test_a_writer_that_moves_no_position_counts_by_what_it_writes_if_its_file_is_half_way_there(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/root/.cache/huggingface/blobs/abc.incomplete")
    found = watched(machine, 600, lambda seconds: machine.uses(812, writes=round(SLOW * seconds)))
    assert found[-1].reason == "fetch.py (pid 812): abc.incomplete wrote 35.1 MB in 10 min"
    other = Machine(proc=tmp_path / "other")
    opens(other, script(other), 5, "/workspace/base.db")
    assert verdicts(watched(other, 600, lambda seconds: other.uses(812, writes=round(SLOW * seconds)))) == {
        Activity.QUIET
    }


def test_one_growth_is_told_once(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/a.part")
    signal = TransfersSignal(kernel=machine)
    watched(machine, 30, lambda _: grows(machine, 812, 5, 5 << 20), signal)
    grows(machine, 812, 5, 5 << 20)
    machine.now_s += LOOK_S
    moving = signal.read(machine.now_s).facts["moving"]
    assert isinstance(moving, list)
    assert [(one["kind"], one["bytes"]) for one in moving if isinstance(one, dict)] == [("file", 5 << 20)]


def test_an_agents_transcript_needs_less(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    machine.start(90, tmux(machine), ["codex"], session=710, terminal=PTS, since_s=300.0)
    opens(machine, 90, 5, "/root/.codex/sessions/2026/rollout-1.jsonl", flags=APPEND, position=10)
    found = watched(machine, 900, lambda seconds: grows(machine, 90, 5, round(40 * seconds)))
    assert found[-1].reason == "codex (pid 90): rollout-1.jsonl grew by 24 KB in 10 min"
    found = watched(machine, 900, lambda seconds: grows(machine, 90, 5, round(15 * seconds)))
    assert verdicts(found) == {Activity.QUIET}


def test_a_servers_own_files_count_only_half_way_there(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine, command="/usr/local/bin/ollama serve"), 5, "/root/.ollama/cache.bin")
    assert verdicts(watched(machine, 600, lambda _: grows(machine, 812, 5, 1 << 20))) == {Activity.QUIET}
    opens(machine, 812, 6, "/root/.ollama/models/blobs/sha256-1234-partial")
    assert watched(machine, 600, lambda _: grows(machine, 812, 6, 1 << 20))[-1].activity is Activity.ACTIVE


def test_files_of_processes_that_write_nothing_are_not_looked_at(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    opens(machine, script(machine), 5, "/workspace/a.part")
    machine.proc = tmp_path / "nothing there that could be listed"
    found = watched(machine, 600, lambda _: machine.uses(812, writes=100))
    assert verdicts(found) == {Activity.QUIET}


# ---------------------------------------------------------------- the signal


def test_one_hum_that_is_all_there_is_for_3_h_is_told() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    found = watched(machine, 4 * 3600, lambda seconds: receives(machine, 7, SLOW * seconds))
    assert found[3 * 240 - 1].notice is None
    assert found[-1].notice is not None
    assert "fetch.py (pid 812)" in found[-1].notice
    assert found[-1].notice.endswith("IDLEWATCH_IGNORE=transfers,host")


@pytest.mark.parametrize(("bytes_per_s", "is_told"), [(SLOW, False), (10_000, True)])
def test_a_tools_transfer_is_told_where_so_little_counts_for_a_tool_only(bytes_per_s: int, *, is_told: bool) -> None:
    machine = Machine()
    connect(machine, 7, script(machine, command="wget -q https://x"))

    def download(seconds: float) -> None:
        receives(machine, 7, bytes_per_s * seconds)
        machine.uses(812, writes=round(bytes_per_s * seconds))

    found = watched(machine, 4 * 3600, download)
    assert found[-1].activity is Activity.ACTIVE
    assert (found[-1].notice is not None) is is_told


def test_much_at_once_bars_until_it_is_enough_to_count() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    signal = TransfersSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    (burst,) = watched(machine, 15, lambda seconds: receives(machine, 7, 400e3 * seconds), signal)
    assert (burst.activity, burst.bars, burst.pauses) == (Activity.QUIET, True, True)
    assert burst.reason == "busy now: fetch.py (pid 812) 6.0 MB in 15 s"
    (after,) = watched(machine, 15, signal=signal)
    assert (after.bars, after.pauses) == (False, False)


def test_a_long_look_counts_for_no_more_than_its_share() -> None:
    machine = Machine()
    connect(machine, 7, script(machine))
    signal = TransfersSignal(kernel=machine)
    watched(machine, 600, signal=signal)
    receives(machine, 7, CHATTER * 7200)
    machine.now_s += 7200
    assert signal.judge(signal.read(machine.now_s)).activity is Activity.QUIET
    found = watched(machine, 15, lambda seconds: receives(machine, 7, 30_000 * seconds), signal)
    assert verdicts(found) == {Activity.QUIET}


def test_a_reading_survives_a_file_and_its_repetition_changes_nothing(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path)
    connect(machine, 7, script(machine))
    opens(machine, 812, 5, "/workspace/a.part")
    signal, again = TransfersSignal(kernel=machine), TransfersSignal(kernel=machine)
    for _ in range(20):
        receives(machine, 7, 400_000)
        grows(machine, 812, 5, 60_000)
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
        {"moving": 3, "unseen": None},
        {"moving": ["x"], "unseen": None},
        {"moving": [{"id": "1", "kind": "file"}], "unseen": None},
        {"moving": [{"id": "1", "kind": "x", "name": "", "pid": 1, "file": None, "bytes": 1}], "unseen": None},
        {"moving": [{"id": "1", "kind": "file", "name": "", "pid": 1, "file": None, "bytes": "1"}], "unseen": None},
    ],
)
def test_garbage_is_unknown(facts: dict[str, object]) -> None:
    signal = TransfersSignal(kernel=Machine())
    reading = Reading(signal="transfers", at_s=50.0, covers_s=15.0, facts=json.loads(json.dumps(facts)))
    assert signal.judge(reading).activity is Activity.UNKNOWN


def test_an_error_is_unknown_a_proof_of_absence_absent_and_the_first_reading_unknown() -> None:
    machine = Machine()
    signal = TransfersSignal(kernel=machine)
    assert signal.judge(signal.read(machine.now_s)).activity is Activity.UNKNOWN
    assert signal.judge(Reading(signal="transfers", at_s=1.0, error="gone")).reason == "gone"
    assert signal.judge(Reading(signal="transfers", at_s=1.0, absent="none")).activity is Activity.ABSENT


@pytest.mark.slow
@settings(deadline=None)
@given(rates=st.lists(st.integers(0, 20_000), min_size=1, max_size=80))
def test_no_pattern_below_the_floor_ever_counts_and_none_above_is_missed(rates: list[int]) -> None:
    """Rates of each look in bytes a second, all below the floor; then 100 KB/s on top."""
    machine, loud = Machine(), Machine()
    for each in (machine, loud):
        connect(each, 7, script(each))
    quiet, heard = TransfersSignal(kernel=machine), TransfersSignal(kernel=loud)
    watched(machine, 15, signal=quiet)
    watched(loud, 600, signal=heard)
    for rate in rates:
        found = watched(machine, LOOK_S, lambda seconds, rate=rate: receives(machine, 7, rate * seconds), quiet)  # type: ignore[misc]  # a default binds the value
        assert verdicts(found) == {Activity.QUIET}
    for rate in (rates * 40)[:40]:
        found = watched(loud, LOOK_S, lambda seconds, rate=rate: receives(loud, 7, (rate + 1e5) * seconds), heard)  # type: ignore[misc]  # as above
    assert verdicts(found) == {Activity.ACTIVE}


@pytest.mark.parametrize(
    ("path", "partial"),
    [
        ("/a/x.incomplete", True),
        ("/a/x.part", True),
        ("/a/x.gguf.aria2", True),
        ("/a/Unconfirmed 7.crdownload", True),
        ("/a/x.nwb.dandidownload/file", True),
        ("/a/sha256-77-partial", True),
        ("/a/sha256-77-partial-3", True),
        ("/a/._____temp/x.bin", True),
        ("/a/x.part (deleted)", True),
        ("/a/partial.py", False),
        ("/a/department", False),
        ("/a/x.parts.csv", False),
    ],
)
def test_names_that_are_half_way_there(path: str, partial: bool) -> None:  # noqa: FBT001 -- a column
    assert is_partial(path) is partial


def test_names_of_tools_tunnels_logs_and_transcripts() -> None:
    assert is_tool(program("sshd", ["sshd: root@internal-sftp"]))
    assert not is_tool(program("python", ["python", "curly.py"]))
    assert is_tunnel(program("ssh", ["ssh", "-N", "far"]))
    assert not is_tunnel(program("ssh", ["ssh", "-i", "key", "far", "ls"]))
    assert is_log("anon_inode:[eventpoll]")
    assert not is_log("/workspace/catalog.csv")
    assert is_transcript("/root/.claude/projects/-workspace/1.jsonl")
    assert not is_transcript("/workspace/claude/1.jsonl")


def test_open_files_of_a_process_that_is_gone_or_denied_are_none(tmp_path: Path) -> None:
    assert open_files(tmp_path, 5) == {}


def test_the_real_proc_shows_how_far_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.part"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(1234))
        found = {one.path: one for one in open_files(Path("/proc"), os.getpid()).values()}
    assert found[str(path)].position == 1234
    assert not found[str(path)].appends
