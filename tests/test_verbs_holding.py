"""`hold`, `holds`, `release`, `stop`: what they do to the state folder, and what they say that it comes to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch import hold as placing
from idlewatch.cli import main
from idlewatch.history.store import STATUS_FILE
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.requests.stop_requests import request_file, stop_request
from idlewatch.settings import environment_with
from idlewatch.state_folder import only_daemon
from idlewatch.verbs.holding import masked, program_of

BOOT = "pod@boot"


class Daemon:
    """A state folder with a daemon that watches, as far as files can tell."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def says(self, **more: Json) -> None:
        usual: dict[str, Json] = {
            "at_s": MachineClock().now_s(),
            "interval_s": 3600.0,
            "mode": "stop",
            "phase": "watching",
            "reason": "asked for by ann",
            "cause": None,
            "boot_key": BOOT,
        }
        (self.state_dir / STATUS_FILE).write_text(json.dumps(usual | more))

    def holds(self) -> list[str]:
        return [json.loads(path.read_text())["reason"] for path in sorted((self.state_dir / "holds").glob("*.json"))]


@pytest.fixture
def state_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def daemon(state_dir: Path) -> Iterator[Daemon]:
    with only_daemon(state_dir):
        there = Daemon(state_dir)
        there.says()
        yield there


Said = pytest.CaptureFixture[str]


# -------------------------------------------------------------------------------------- stop


def test_a_stop_is_a_request_with_its_instant_that_can_be_taken_back_once(daemon: Daemon, capsys: Said) -> None:
    before_s = MachineClock().now_s()
    assert main(["stop", "--after", "10s"]) == 0
    request = json.loads(request_file(daemon.state_dir).read_text())
    assert before_s <= request["asked_s"] <= MachineClock().now_s()
    assert (request["warn_for_s"], request["boot_key"]) == (10.0, BOOT)
    assert stop_request(daemon.state_dir, BOOT) is not None
    assert "people are warned for 10s" in capsys.readouterr().out
    assert main(["stop", "--cancel"]) == 0
    assert "taken back" in capsys.readouterr().out
    assert not request_file(daemon.state_dir).exists()
    assert main(["stop", "--cancel"]) == 3
    assert "there is no request to take back" in capsys.readouterr().err


@pytest.mark.parametrize(("cause", "way_out"), [("idle", "idlewatch hold 2h"), ("ceiling", "idlewatch status")])
def test_who_takes_back_a_stop_that_nobody_asked_for_hears_what_helps(
    daemon: Daemon, capsys: Said, cause: str, way_out: str
) -> None:
    daemon.says(phase="warned", cause=cause)
    assert main(["stop", "--cancel"]) == 3
    said = capsys.readouterr().err
    assert "nobody asked for this stop" in said
    assert way_out in said


def test_a_stop_that_only_observes_is_not_told_as_one_that_acts(daemon: Daemon, capsys: Said) -> None:
    daemon.says(mode="observe")
    assert main(["stop"]) == 3
    said = capsys.readouterr().err
    assert "only observes" in said
    assert "would save and stop" in said
    assert "warned" not in said
    assert request_file(daemon.state_dir).exists()


def test_a_stop_is_refused_at_once_where_the_daemon_was_ended_hard(state_dir: Path, capsys: Said) -> None:
    """Its status is as fresh as can be; its lock went with it."""
    with only_daemon(state_dir):
        Daemon(state_dir).says()
    assert main(["stop"]) == 3
    assert "idlewatch run" in capsys.readouterr().err
    assert not request_file(state_dir).exists()


def test_a_stop_is_refused_where_the_daemon_hangs_and_a_hold_says_so(daemon: Daemon, capsys: Said) -> None:
    daemon.says(at_s=0.0, interval_s=1.0)
    assert main(["stop"]) == 3
    assert "has not looked at this Pod lately" in capsys.readouterr().err
    assert not request_file(daemon.state_dir).exists()
    assert main(["hold", "1m"]) == 0
    assert "has not looked at this Pod lately" in capsys.readouterr().err


def test_a_warning_that_is_longer_than_a_day_is_refused(daemon: Daemon, capsys: Said) -> None:
    assert main(["stop", "--after", "25h"]) == 2
    assert "1d at the most" in capsys.readouterr().err
    assert not request_file(daemon.state_dir).exists()


def test_taking_back_a_request_that_runpod_has_heard_of_may_come_too_late(daemon: Daemon, capsys: Said) -> None:
    assert main(["stop"]) == 0
    daemon.says(phase="stopping", cause="request")
    assert main(["stop", "--cancel"]) == 0
    assert "too late" in capsys.readouterr().out


# -------------------------------------------------------------------------------------- hold


def test_a_request_that_was_just_taken_back_is_not_told_as_one_that_stands(daemon: Daemon, capsys: Said) -> None:
    """The daemon's status is up to a look old."""
    assert main(["stop"]) == 0
    daemon.says(phase="warned", cause="request")
    assert main(["stop", "--cancel"]) == 0
    capsys.readouterr()
    assert main(["hold", "5m"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"phase": "warned", "cause": "request"}, ["asked for by ann", "stop --cancel"]),
        ({"phase": "saving", "cause": "ceiling"}, ["IDLEWATCH_MAX_UPTIME", "restart the daemon"]),
        ({"phase": "stopping", "cause": "idle"}, ["too late"]),
    ],
)
def test_a_hold_that_does_not_help_says_what_does_and_is_placed(
    daemon: Daemon, capsys: Said, status: dict[str, Json], says: list[str]
) -> None:
    daemon.says(**status)
    if status["cause"] == "request":
        request_file(daemon.state_dir).parent.mkdir(exist_ok=True)
        request_file(daemon.state_dir).touch()
    assert main(["hold", "1m", "--reason", "demo"]) == 0
    said = capsys.readouterr()
    assert "Held for 1m" in said.out
    assert [words for words in says if words not in said.err] == []
    assert said.err.count("\n") == 1
    assert daemon.holds() == ["demo"]


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "warned", "cause": "idle"},
        {"phase": "warned", "cause": "request", "mode": "observe"},
    ],
)
def test_a_hold_that_keeps_the_pod_up_says_no_more(daemon: Daemon, capsys: Said, status: dict[str, Json]) -> None:
    daemon.says(**status)
    assert main(["hold", "1m"]) == 0
    assert capsys.readouterr().err == ""


def test_a_hold_that_nobody_sees_now_says_so_and_is_kept(state_dir: Path, capsys: Said) -> None:
    assert main(["hold", "1m"]) == 0
    said = capsys.readouterr()
    assert "no daemon watches here now" in said.err
    assert "idlewatch run" in said.err
    assert len(list((state_dir / "holds").glob("*.json"))) == 1


def test_what_a_hold_can_not_be_bound_to_is_refused(state_dir: Path, capsys: Said) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["hold", "--pid", "1", "--", "true"])
    assert "--pid" in capsys.readouterr().err
    assert main(["hold", "--pid", str(2**22 + 1)]) == 3
    assert "there is no process 4194305" in capsys.readouterr().err
    assert list((state_dir / "holds").glob("*.json")) == []


def test_without_a_state_folder_there_is_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "none"))
    assert main(["hold", "1m"]) == 3
    said = capsys.readouterr().err
    assert f"there is no folder {tmp_path}/none" in said
    assert "Errno" not in said


# ------------------------------------------------------------------------- holds and release


def test_a_hold_without_a_reason_is_listed_as_one(daemon: Daemon, capsys: Said) -> None:
    placing.place("", for_s=600, who="ann", state_dir=daemon.state_dir)
    assert main(["holds"]) == 0
    assert capsys.readouterr().out.endswith("left  no reason given\n")


def test_releasing_nothing_is_told_as_that(daemon: Daemon, capsys: Said) -> None:
    assert main(["release"]) == 0
    assert "no hold to release" in capsys.readouterr().out
    placing.place("x", for_s=600, state_dir=daemon.state_dir)
    assert main(["release"]) == 0
    assert re.fullmatch(r"Released \S+, of \S+: x\n", capsys.readouterr().out)
    assert daemon.holds() == []


def test_a_misspelt_variable_of_the_shell_keeps_nobody_from_a_hold(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("IDLEWATCH_IDEL_AFTER", "30m")
    for verb in (["hold", "1m"], ["holds"], ["status"], ["stop"], ["stop", "--cancel"], ["release"]):
        assert main(verb) == 0, verb
        said = capsys.readouterr().err
        assert said.count("did you mean IDLEWATCH_IDLE_AFTER?") == 1, verb
        assert "warning" in said
    for verb in (["settings"], ["save"], ["run", "--observe"]):
        assert main(verb) == 2, verb
        assert "IDLEWATCH_IDLE_AFTER" in capsys.readouterr().err


# --------------------------------------------------------------------------------- other users


@pytest.fixture
def others() -> Iterator[Path]:
    """A state folder that may be seen by everybody and written by its owner; nobody's where nobody is asked as."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        for path in Path(folder).iterdir():
            path.chmod(0o755)


def as_another(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as somebody who may not write into the daemon's folders; all modules are loaded before."""
    program = (
        "import os, sys; from idlewatch.cli import main\n"
        "from idlewatch.verbs import holding, stopping, saving\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "raise SystemExit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment_with({"IDLEWATCH_STATE_DIR": str(state_dir)}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", [["hold", "1m"], ["hold", "--", "touch", "made"], ["stop"], ["stop", "--cancel"], ["release"]], ids=" ".join
)
def test_another_user_than_the_daemons_is_refused_with_the_way_out(others: Path, verb: list[str]) -> None:
    daemon = Daemon(others)
    with only_daemon(others):
        daemon.says()
        hold = placing.place("mine", for_s=600, state_dir=others)
        request_file(others).parent.mkdir()
        request_file(others).write_text("{}")
        for folder in ("holds", "requests"):
            (others / folder).chmod(0o755 if os.geteuid() == 0 else 0o555)
        done = as_another(others, *verb)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{others}/" in done.stderr
    assert "is closed to" in done.stderr
    assert "Errno" not in done.stderr
    assert hold.exists()
    assert request_file(others).read_text() == "{}"


def test_a_key_on_a_command_line_or_in_a_reason_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_0123456789abcdef")
    assert program_of(["/usr/bin/python", "train.py", "--password", "hunter2"]) == "python train.py"
    assert program_of(["sh", "-c", "sleep 6", "--api-key", "x"]) == "sh"
    assert program_of(["env", "HF_TOKEN=x", "python"]) == "env"
    assert "0123456789" not in masked("with rpa_0123456789abcdef")


# ------------------------------------------------------------------- settings that do not fit


@pytest.mark.parametrize(("name", "value"), [("IDLEWATCH_IDLE_AFTER", "10"), ("IDLEWATCH_SAVE_TO", "s3://bucket/p")])
def test_a_setting_that_does_not_fit_keeps_nobody_from_asking_or_holding(
    name: str, value: str, daemon: Daemon, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.delenv("IDLEWATCH_SNAPSHOT_KEY", raising=False)
    for verb in ("stop", "stop --cancel", "hold 1h", "holds", "release", "status", "why", "history"):
        assert main(verb.split()) == 0, verb
        said = capsys.readouterr().err
        assert said.count("left out here, and refused by a daemon") == 1, verb
        assert name in said, verb
    assert not daemon.holds()
    assert main(["settings"]) == 2
    assert main(["save"]) == 2


def test_of_what_is_no_hold_it_is_said_which_file_to_remove(daemon: Daemon, capsys: Said) -> None:
    (daemon.state_dir / "holds").mkdir(exist_ok=True)
    (daemon.state_dir / "holds/x.json").write_text("garbage")
    assert main(["holds"]) == 0
    assert f"not a hold: x.json: not JSON; remove {daemon.state_dir}/holds/x.json" in capsys.readouterr().out
