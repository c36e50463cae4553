"""Hooks: which are found and trusted, what they are told, and real ones run to their end or to their deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idlewatch.hooks import HookFolder, Hooks, Occasion, Stage, hooks_of, refusals
from idlewatch.hooks.found import Hook
from idlewatch.hooks.trust import untrusted
from idlewatch.hooks.words import hook_environment, without_secrets
from idlewatch.model import Json
from tests.waiting import comes

SAVE = Stage.BEFORE_SAVE
OCCASION = Occasion(reason="quiet for 30m", cause="idle", volume=Path("/workspace"))


def folder_of(tmp_path: Path, volume: Path | None = None, *, volume_allowed: bool = False) -> HookFolder:
    path = tmp_path / "hooks"
    path.mkdir(exist_ok=True)
    return HookFolder(path=path, volume=volume, volume_allowed=volume_allowed, own_uid=os.geteuid())


def put(tmp_path: Path, name: str, script: str = "true", stage: Stage = SAVE) -> Path:
    path = tmp_path / "hooks" / stage.value / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# ---------------------------------------------------------------- which


def test_hooks_run_in_the_order_of_their_names_and_say_whether_they_are_required(tmp_path: Path) -> None:
    for name in ("20-b.required", "10-a", "30-c.required.sh", ".hidden", "old~", "README.md"):
        put(tmp_path, name)
    found = hooks_of(SAVE, folder_of(tmp_path))
    assert [(hook.path.name, hook.required) for hook in found] == [
        ("10-a", False),
        ("20-b.required", True),
        ("30-c.required.sh", True),
    ]
    assert all(hook.refused is None for hook in found)


def test_no_folder_is_no_hook_and_no_trouble(tmp_path: Path) -> None:
    folder = HookFolder(path=tmp_path / "none", volume=None, volume_allowed=False, own_uid=0)
    assert hooks_of(SAVE, folder) == []
    assert refusals(folder) == []


def test_what_lies_there_and_would_not_run_is_named(tmp_path: Path) -> None:
    put(tmp_path, "plain").chmod(0o644)
    put(tmp_path, "gone").unlink()
    (tmp_path / "hooks/before-save/gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "hooks/before-save/folder").mkdir()
    (tmp_path / "hooks/before-stop").write_text("#!/bin/sh\n")
    (tmp_path / "hooks/before_sav").mkdir()
    said = "\n".join(refusals(folder_of(tmp_path)))
    assert "plain is not executable" in said
    assert "gone can't be looked at" in said
    assert "folder is not a file" in said
    assert "before-stop can't be read: Not a directory" in said
    assert "before_sav never runs: there is no such stage; there is before-save" in said


@pytest.mark.parametrize("of", ["file", "stage", "hooks", "above"])
def test_a_hook_that_others_could_have_written_is_refused_wherever_they_may_write(tmp_path: Path, of: str) -> None:
    hook = put(tmp_path, "10-a")
    folder = folder_of(tmp_path)
    writable = {"file": hook, "stage": hook.parent, "hooks": folder.path, "above": tmp_path}[of]
    assert hooks_of(SAVE, folder)[0].refused is None
    for extra in (0o020, 0o002):
        writable.chmod(0o755 | extra)
        refused = str(hooks_of(SAVE, folder)[0].refused)
        assert f"{writable} can be written by others" in refused
    writable.chmod(0o755)


def test_a_hook_of_another_users_is_refused(tmp_path: Path) -> None:
    hook = put(tmp_path, "10-a")
    if os.geteuid() == 0:
        os.chown(hook, 1234, 1234)
        assert untrusted(hook, 0) == f"{hook} belongs to user 1234"
        assert untrusted(hook, 1234) is None
    else:
        assert str(untrusted(hook, os.geteuid() + 1)).startswith(str(tmp_path.parents[-2]))


def test_a_sticky_folder_is_fine_above_and_not_where_the_hook_lies(tmp_path: Path) -> None:
    hook = put(tmp_path, "10-a")
    tmp_path.chmod(0o1777)
    assert untrusted(hook, os.geteuid()) is None
    hook.parent.chmod(0o1777)
    assert untrusted(hook, os.geteuid()) == f"{hook.parent} can be written by others"


def test_where_a_link_leads_counts_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = elsewhere / "program"
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    link = put(tmp_path, "10-a")
    link.unlink()
    link.symlink_to("../../elsewhere/program")
    assert untrusted(link, os.geteuid()) is None
    elsewhere.chmod(0o777)
    assert f"{elsewhere} can be written by others" in str(untrusted(link, os.geteuid()))
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(OSError, match="symbolic links"):
        untrusted(link, os.geteuid())


@pytest.mark.parametrize("linked", [False, True])
def test_a_hook_on_the_volume_needs_its_owners_word(tmp_path: Path, *, linked: bool) -> None:
    volume = tmp_path / "hooks"
    if linked:
        volume = tmp_path / "volume"
        volume.mkdir()
        (tmp_path / "hooks").symlink_to(volume)
    put(tmp_path, "10-a")
    refused = hooks_of(SAVE, HookFolder(path=tmp_path / "hooks", volume=volume, volume_allowed=False, own_uid=0))
    assert "where other Pods may write" in str(refused[0].refused)
    allowed = hooks_of(SAVE, HookFolder(path=tmp_path / "hooks", volume=volume, volume_allowed=True, own_uid=0))
    assert allowed[0].refused is None or os.geteuid() != 0


# ---------------------------------------------------------------- what they are told


def test_a_hook_is_told_why_and_gets_no_secret_of_ours() -> None:
    base = {
        "PATH": "/bin",
        "RUNPOD_API_KEY": "rpa_of_the_owner",
        "IDLEWATCH_RUNPOD_API_KEY": "rpa_ours",
        "IDLEWATCH_NOTIFY": "slack://token",
        "IDLEWATCH_JUPYTER_TOKEN": "abc",
        "IDLEWATCH_ODD": "a secret by its type",
        "IDLEWATCH_STATE_DIR": "/run/idlewatch",
        "IDLEWATCH_DRILL": "1",
    }
    occasion = Occasion(reason="held\x1b[31m by\nnobody", cause="idle", volume=None)
    told = hook_environment(base, occasion, SAVE, snapshot=None, within_s=120, secrets=["IDLEWATCH_ODD"])
    assert told == {
        "PATH": "/bin",
        "RUNPOD_API_KEY": "rpa_of_the_owner",
        "IDLEWATCH_STATE_DIR": "/run/idlewatch",
        "IDLEWATCH_STAGE": "before-save",
        "IDLEWATCH_REASON": "held[31m by nobody",
        "IDLEWATCH_CAUSE": "idle",
        "IDLEWATCH_SNAPSHOT": "",
        "IDLEWATCH_VOLUME": "",
        "IDLEWATCH_DEADLINE_S": "120",
    }


def test_a_drill_is_told_as_one() -> None:
    drill = Occasion(reason="", cause="request", volume=Path("/workspace"), drill=True)
    told = hook_environment({}, drill, SAVE, snapshot="s1", within_s=1)
    assert (told["IDLEWATCH_DRILL"], told["IDLEWATCH_SNAPSHOT"], told["IDLEWATCH_VOLUME"]) == ("1", "s1", "/workspace")


def test_what_a_hook_prints_is_kept_without_secrets_and_without_what_steers_a_terminal() -> None:
    environment = {"RUNPOD_API_KEY": "rpa_0123", "MY_PASSWORD": "rpa_0123456", "SHORT_KEY": "a"}
    assert without_secrets("a rpa_0123456\nrpa_0123\x1b[2J", environment) == "a (MY_PASSWORD)\n(RUNPOD_API_KEY)[2J"


# ---------------------------------------------------------------- real ones


RUNNER = """
import json, os, sys
from pathlib import Path
from idlewatch.hooks import HookFolder, Hooks, Occasion, Stage
from idlewatch.children.tasks import serve

def work(request, progress):
    folder = HookFolder(path=Path(request["path"]), volume=None, volume_allowed=False, own_uid=os.geteuid())
    occasion = Occasion(reason="quiet", cause="idle", volume=None)
    hooks = Hooks(folder, occasion, environment=dict(os.environ), secrets=(), within_s=request["within_s"],
                  progress=progress)
    ends = hooks.run(Stage(request["stage"]))
    return [[end.hook.name, end.ok, end.how, end.output] for end in ends]

sys.exit(serve(work))
"""


class Run:
    """A task's process that runs the hooks of one stage."""

    def __init__(self, tmp_path: Path, *, stage: Stage = SAVE, within_s: float = 60.0) -> None:
        code = textwrap.dedent(RUNNER)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        request = {"path": str(tmp_path / "hooks"), "stage": stage.value, "within_s": within_s}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.close()

    def said(self) -> list[dict[str, Json]]:
        """All that it said until its end."""
        assert self.process.stdout
        with self.process.stdout as out:
            lines = [json.loads(line) for line in out]
        self.process.wait(60)
        return lines

    def ends(self) -> list[list[Json]]:
        result = self.said()[-1]["result"]
        assert isinstance(result, list)
        return [end for end in result if isinstance(end, list)]


def has_ended(pid_file: Path) -> Callable[[], bool]:
    def ended() -> bool:
        stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return ended


@pytest.mark.slow
def test_hooks_run_one_after_the_other_and_a_failure_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    put(tmp_path, "10-a", "echo first; exit 3")
    put(tmp_path, "20-b", 'echo "second $IDLEWATCH_STAGE $PWD"; echo loud >&2')
    put(tmp_path, "30-c", "exec no-such-program")
    path = put(tmp_path, "40-d")
    path.write_text("no interpreter named")
    assert Run(tmp_path).ends() == [
        ["before-save/10-a", False, "exit status 3", "first"],
        ["before-save/20-b", True, "exit status 0", "second before-save /\nloud"],
        ["before-save/30-c", False, "exit status 127", Whatever()],
        ["before-save/40-d", False, "can't be started: Exec format error", ""],
    ]


class Whatever:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # it equals everything


@pytest.mark.slow
def test_a_hook_that_hangs_is_ended_with_its_whole_tree_and_the_next_one_runs(tmp_path: Path) -> None:
    sleeper = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    put(tmp_path, "10-hangs", f"trap '' TERM; echo before; setsid sh -c '{sleeper}' & sleep 600")
    put(tmp_path, "20-b", "echo after")
    ends = Run(tmp_path, within_s=2).ends()
    assert ends[0] == ["before-save/10-hangs", False, "not done within 2s, so it was ended", "before"]
    assert ends[1][1] is True
    assert has_ended(tmp_path / "pid")()


@pytest.mark.slow
def test_what_a_hook_leaves_in_the_background_ends_with_it_but_for_what_it_starts_after_a_start(tmp_path: Path) -> None:
    for stage, lives in ((SAVE, False), (Stage.AFTER_START, True)):
        pid = tmp_path / stage.value
        put(
            tmp_path,
            "10-a",
            f"sh -c 'echo $$ > {pid}; exec sleep 600' >/dev/null 2>&1 & while [ ! -s {pid} ]; do :; done",
            stage,
        )
        assert Run(tmp_path, stage=stage).ends()[0][1] is True
        assert has_ended(pid)() is not lives
    os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_a_hook_that_hangs_after_a_start_leaves_alone_what_one_before_it_has_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    service = f"sh -c 'echo $$ > {pid}; exec sleep 600' >/dev/null 2>&1 & while [ ! -s {pid} ]; do :; done"
    put(tmp_path, "10-service", service, Stage.AFTER_START)
    put(tmp_path, "20-hangs", "sleep 600", Stage.AFTER_START)
    ends = Run(tmp_path, stage=Stage.AFTER_START, within_s=2).ends()
    assert [end[1] for end in ends] == [True, False]
    assert not has_ended(pid)()
    os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_does_not_outlive_the_end_sequence_that_is_called_off(tmp_path: Path, number: signal.Signals) -> None:
    own = f"echo $$ > {tmp_path}/own; "
    apart = f"setsid sh -c 'echo $$ > {tmp_path}/apart; exec sleep 600' & " if number == signal.SIGTERM else ""
    put(tmp_path, "10-a", f"{apart}{own}echo begun; sleep 600")
    pids = [tmp_path / "own", *([tmp_path / "apart"] if apart else [])]
    run = Run(tmp_path)
    assert comes(lambda: all(pid.exists() and pid.read_text() for pid in pids), 30)
    os.kill(run.process.pid, number)
    said = run.said()
    assert all(comes(has_ended(pid), 20) for pid in pids)
    if number == signal.SIGTERM:
        events = [line["progress"] for line in said if "progress" in line]
        assert {
            "event": {"kind": "hook failed", "text": "before-save/10-a: called off (begun)", "facts": Whatever()}
        } in events
        assert "error" in said[-1]


@pytest.mark.slow
def test_of_a_hooks_output_the_end_is_kept_and_a_flood_does_not_stop_it(tmp_path: Path) -> None:
    put(tmp_path, "10-a", "yes begin | head -c 3000000; echo; echo the end")
    output = str(Run(tmp_path).ends()[0][3])
    assert output.endswith("the end")
    assert 3000 < len(output) <= 4000


@pytest.mark.slow
def test_a_hook_that_closes_its_output_is_still_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "10-a", f"exec >&- 2>&-; sleep 1; touch {tmp_path}/done")
    assert Run(tmp_path).ends()[0][1] is True
    assert (tmp_path / "done").exists()


@pytest.mark.slow
def test_a_refused_hook_is_not_run_and_says_why(tmp_path: Path) -> None:
    put(tmp_path, "10-a", f"touch {tmp_path}/ran").chmod(0o777)
    name, ok, how, _ = Run(tmp_path).ends()[0]
    assert (name, ok) == ("before-save/10-a", False)
    assert "can be written by others" in str(how)
    assert not (tmp_path / "ran").exists()


def test_hooks_that_have_run_or_have_no_time_left_are_not_begun(tmp_path: Path) -> None:
    put(tmp_path, "10-a", f"touch {tmp_path}/ran")
    told: list[Json] = []
    hooks = Hooks(folder_of(tmp_path), OCCASION, environment={}, secrets=(), within_s=60, progress=told.append)
    assert hooks.run(SAVE, done=["10-a"]) == []
    late = hooks.run(SAVE, ends_s=time.monotonic())
    assert [end.how for end in late] == ["there was no time left for it"]
    assert len(told) == 1
    assert not (tmp_path / "ran").exists()


def test_the_text_of_a_hook_names_its_stage() -> None:
    assert Hook(stage=SAVE, path=Path("/x/10-a")).name == "before-save/10-a"
