"""The unit, the environment file, and what the daemon tells systemd."""

from __future__ import annotations

import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlewatch.deciding.moment import Moment
from idlewatch.deciding.policy import decide
from idlewatch.deciding.remembered import started
from idlewatch.deciding.tick import Tick
from idlewatch.host.envfile import rendered
from idlewatch.host.notify_socket import NotifySocket
from idlewatch.settings import Settings, Source, load, secret_variables, variable
from idlewatch.watching.announced import Announced

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "idlewatch.service"
WEB_UNIT = ROOT / "systemd" / "idlewatch-web.service"
ENV = ROOT / "systemd" / "idlewatch.env"
HIDING = [
    "PrivateDevices",
    "DevicePolicy",
    "DeviceAllow",
    "ProtectClock",
    "ProtectProc",
    "ProcSubset",
    "PrivatePIDs",
    "PrivateNetwork",
    "IPAddressDeny",
    "PrivateUsers",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "PrivateMounts",
    "User",
    "DynamicUser",
]


def directives(unit: Path = UNIT) -> dict[str, str]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_environment_file_is_up_to_date() -> None:
    assert ENV.read_text() == rendered(), "python -m idlewatch.host.envfile > systemd/idlewatch.env"


def test_the_environment_file_lists_every_setting_and_is_understood_when_all_of_it_is_taken() -> None:
    set_lines = [line.removeprefix("#") for line in rendered().splitlines() if line.startswith("#IDLEWATCH_")]
    variables = dict(line.split("=", 1) for line in set_lines)
    assert list(variables) == [variable(name) for name in Settings.model_fields]
    assert not any(variables[name] for name in secret_variables())
    del variables[variable("snapshot_key")]  # empty, it is refused: saves would be plain
    assert load([Source(name="file", variables=variables)]).settings == Settings()


def test_no_line_of_the_unit_hides_what_the_daemon_must_see() -> None:
    assert not set(directives()) & set(HIDING)


@pytest.mark.parametrize("name", ["PrivateDevices", "ProtectClock", "ProtectProc", "ProtectSystem", "PrivateTmp"])
def test_what_is_left_out_is_left_out_with_a_reason(name: str) -> None:
    assert re.search(rf"^# .*{name}[^:]*:", UNIT.read_text(), re.MULTILINE)


def test_a_person_s_mistake_is_not_restarted_and_nothing_else_is_given_up() -> None:
    unit = directives()
    assert unit["RestartPreventExitStatus"] == "2 3"
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    assert (unit["Type"], unit["RuntimeDirectoryPreserve"]) == ("notify", "yes")


def test_other_settings_are_looked_at_before_the_daemon_is_asked_to_take_them() -> None:
    reload = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecReload=")]
    assert reload == [
        "ExecReload=/opt/idlewatch/bin/python -I -m idlewatch settings",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ]


def test_the_page_s_unit_reads_the_same_settings_and_shuts_out_what_it_can() -> None:
    unit, daemon = directives(WEB_UNIT), directives()
    assert unit["EnvironmentFile"] == daemon["EnvironmentFile"]
    assert unit["RuntimeDirectory"] == daemon["RuntimeDirectory"]
    assert (unit["ProtectSystem"], unit["CapabilityBoundingSet"], unit["NoNewPrivileges"]) == ("strict", "", "yes")
    assert unit["ReadWritePaths"] == "/run/idlewatch"
    assert "ProtectProc" not in unit, "PID 1 tells which start this is"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize("named", [UNIT, WEB_UNIT], ids=lambda path: str(path.name))
def test_systemd_has_nothing_to_say_against_the_unit(named: Path, tmp_path: Path) -> None:
    unit = tmp_path / named.name
    unit.write_text(named.read_text().replace("/opt/idlewatch/bin/python", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    ours = [line for line in said.stderr.splitlines() if "idlewatch" in line]
    assert (said.returncode, ours) == (0, [])


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(10)
        yield listening, {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "120000000"}


def test_the_daemon_says_that_it_is_ready_alive_and_ending(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, variables = systemd
    told = NotifySocket(variables)
    told.ready(5.0)
    told.alive("idle for 3m:\n the warning is in 27m")
    told.stopping()
    assert listening.recv(1000) == b"READY=1\nWATCHDOG_USEC=120000000"
    assert listening.recv(1000) == b"STATUS=idle for 3m: the warning is in 27m\nWATCHDOG=1"
    assert listening.recv(1000) == b"STOPPING=1"


class Kept:
    """A record that notes what it was given; a failing one keeps nothing."""

    def __init__(self, *, fails: bool = False) -> None:
        self.ticks, self._fails = 0, fails

    def tick(self, report: Tick) -> None:
        if self._fails:
            raise OSError("no space")
        self.ticks += 1


def looked() -> Tick:
    moment = Moment(now_s=5.0, uptime_s=5.0)
    state, decision = decide(started(0.0), (), moment, Settings().limits())
    return Tick(moment=moment, readings=(), findings=(), decision=decision, state=state, outcome=None, alarms=())


def test_each_look_is_kept_and_told(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, variables = systemd
    record = Kept()
    announced = Announced(record, NotifySocket(variables), 5.0)
    announced.tick(looked())
    announced.tick(looked())
    assert record.ticks == 2
    assert listening.recv(1000).startswith(b"READY=1")
    for _ in range(2):
        said = listening.recv(1000)
        assert said.startswith(b"STATUS=watching: ")
        assert said.endswith(b"\nWATCHDOG=1")


def test_a_look_that_could_not_be_kept_is_no_sign_of_life(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, variables = systemd
    with pytest.raises(OSError, match="no space"):
        Announced(Kept(fails=True), NotifySocket(variables), 5.0).tick(looked())
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(1000)


def test_one_that_looks_rarely_is_not_taken_for_frozen(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, variables = systemd
    NotifySocket(variables).ready(600.0)
    assert b"WATCHDOG_USEC=1800000000" in listening.recv(1000)


def test_without_a_watchdog_none_is_set(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    listening, variables = systemd
    NotifySocket({"NOTIFY_SOCKET": variables["NOTIFY_SOCKET"]}).ready(600.0)
    assert listening.recv(1000) == b"READY=1"


@pytest.mark.parametrize("path", ["", "/not/there", "relative", "@idlewatch-nobody-listens"])
def test_where_nobody_listens_nothing_is_said_and_nothing_fails(path: str) -> None:
    told = NotifySocket({"NOTIFY_SOCKET": path})
    told.ready(5.0)
    told.alive("well")


def test_a_full_socket_does_not_hold_the_daemon_up(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    _, variables = systemd
    told = NotifySocket(variables)
    for _ in range(2000):
        told.alive("well" * 100)


def test_an_abstract_socket_is_told_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0idlewatch-test-notify")
        listening.settimeout(10)
        NotifySocket({"NOTIFY_SOCKET": "@idlewatch-test-notify"}).ready(5.0)
        assert listening.recv(1000) == b"READY=1"


def test_the_unit_is_one_file_for_the_package_and_for_people() -> None:
    assert UNIT.resolve() == ROOT / "idlewatch" / "host" / "idlewatch.service"
    assert stat.S_ISLNK(UNIT.lstat().st_mode)
