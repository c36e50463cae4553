"""The unit on a real systemd: a small Debian, booted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian import DEADLINE_S, ROOT, debian, said, until, wheels

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
INSTALL = """
import argparse
from idlewatch.verbs import installing
installing.{verb}(argparse.Namespace(dry_run=False, volume=None))
"""


class Booted:
    """A machine whose PID 1 is systemd; commands are run inside by its namespaces."""

    def __init__(self, tree: Path, log: Path) -> None:
        self.tree, self._log = tree, log

    def boot(self) -> None:
        options = ["--register=no", "--keep-unit", "--console=pipe", "--setenv=RUNPOD_POD_ID=p1"]
        mode = "--setenv=IDLEWATCH_MODE=observe"
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.tree}", *options, mode],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self._leader() is not None, "the machine's PID 1")
        until(lambda: self.run("systemctl", "is-system-running")[1] in ("running", "degraded"), "the boot")

    def _leader(self) -> str | None:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, *words: str) -> tuple[int, str]:
        leader = self._leader()
        assert leader is not None, "the machine is gone"
        command = ["nsenter", "--target", leader, "--all", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        return done.returncode, (done.stdout + done.stderr).strip()

    def shown(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, "idlewatch.service")[1]

    def off(self) -> None:
        if self._nspawn.poll() is None:
            self._nspawn.send_signal(15)  # what systemd-nspawn passes on as an orderly end
            self._nspawn.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("machine")
    tree = debian(folder)
    shutil.copytree(wheels(folder), tree / "wheels")
    pip = ["pip", "install", "--quiet", "--break-system-packages", "--no-index", "--find-links", "/wheels", "idlewatch"]
    said(["chroot", str(tree), *pip])
    booted = Booted(tree, folder / "log")
    booted.boot()
    yield booted
    booted.off()


def active(machine: Booted) -> bool:
    return machine.shown("ActiveState") == "active"


def installed(machine: Booted, verb: str = "install") -> None:
    code, told = machine.run("python3", "-c", INSTALL.format(verb=verb))
    assert code == 0, told


def test_it_is_installed_watches_and_knows_the_container_s_variables(machine: Booted) -> None:
    installed(machine)
    installed(machine)
    until(lambda: active(machine), "the service")
    status = json.loads(machine.run("cat", "/run/idlewatch/status.json")[1])
    assert status["pod"]["pod_id"] == "p1" if isinstance(status.get("pod"), dict) else "p1" in json.dumps(status)
    assert machine.shown("StatusText").startswith("watching: ")
    assert machine.run("stat", "-c", "%a %U", "/etc/idlewatch/idlewatch.env") == (0, "600 root")


@pytest.mark.parametrize("name", ["idlewatch.service", "idlewatch-web.service"])
def test_systemd_finds_nothing_wrong_with_it(machine: Booted, name: str) -> None:
    assert machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{name}") == (0, "")


def test_its_exposure_is_what_the_documentation_says(machine: Booted) -> None:
    said = " ".join((ROOT / "docs/install.md").read_text().split())
    words = r"`systemd-analyze security` \(252\) calls its exposure ([\d.]+) and that of the page's ([\d.]+):"
    found = re.search(words, said)
    assert found
    for name, score in zip(("idlewatch", "idlewatch-web"), found.groups(), strict=True):
        told = machine.run("systemd-analyze", "security", "--no-pager", f"{name}.service")[1]
        assert f"Overall exposure level for {name}.service: {score} " in told


def test_the_page_is_off_and_what_it_lacks_is_said_and_not_tried_in_a_loop(machine: Booted) -> None:
    assert machine.run("systemctl", "is-enabled", "idlewatch-web.service")[1] == "disabled"
    machine.run("systemctl", "start", "idlewatch-web.service")
    until(lambda: machine.run("systemctl", "is-failed", "idlewatch-web.service")[1] == "failed", "the refusal")
    told = machine.run("journalctl", "--unit", "idlewatch-web.service", "--output", "cat")[1]
    assert "the page needs two packages more" in told
    assert told.count("the page needs") == 1


def pid(machine: Booted) -> str:
    until(lambda: active(machine) and machine.shown("MainPID") != "0", "the service")
    return machine.shown("MainPID")


def test_a_daemon_that_is_ended_hard_or_freezes_is_started_again(machine: Booted) -> None:
    first = pid(machine)
    machine.run("kill", "-KILL", first)
    until(lambda: pid(machine) != first, "another daemon")
    second = pid(machine)
    machine.run("kill", "-STOP", second)
    until(lambda: pid(machine) != second, "another daemon for the frozen one")
    assert machine.shown("NRestarts") != "0"


def test_wrong_settings_are_not_tried_in_a_loop(machine: Booted) -> None:
    settings = machine.tree / "etc/idlewatch/idlewatch.env"
    before = settings.read_text()
    settings.write_text(f"{before}\nIDLEWATCH_IDEL_AFTER=1h\n")
    machine.run("systemctl", "restart", "idlewatch.service")
    until(lambda: machine.shown("ActiveState") == "failed", "the refusal")
    assert machine.shown("ExecMainStatus") == "2"
    settings.write_text(before)
    machine.run("systemctl", "restart", "idlewatch.service")
    until(lambda: active(machine), "the service")


def test_a_reload_refuses_wrong_settings_and_takes_right_ones(machine: Booted) -> None:
    first = pid(machine)
    settings = machine.tree / "etc/idlewatch/idlewatch.env"
    before = settings.read_text()
    settings.write_text(f"{before}\nIDLEWATCH_IDEL_AFTER=1h\n")
    assert machine.run("systemctl", "reload", "idlewatch.service")[0] != 0
    assert pid(machine) == first
    machine.run("kill", "-HUP", first)
    until(lambda: "settings refused" in machine.run("idlewatch", "history")[1], "the daemon's own refusal")
    assert pid(machine) == first
    settings.write_text(f"{before}\nIDLEWATCH_IDLE_AFTER=77m\n")
    assert machine.run("systemctl", "reload", "idlewatch.service")[0] == 0
    until(lambda: pid(machine) != first, "another daemon")
    kept = "/run/idlewatch/settings.json"
    until(lambda: "1h17m" in machine.run("cat", kept)[1], "the other setting")
    settings.write_text(before)


def test_it_ends_cleanly_and_is_there_after_a_reboot(machine: Booted) -> None:
    pid(machine)
    assert machine.run("systemctl", "stop", "idlewatch.service")[0] == 0
    assert machine.shown("Result") == "success"
    assert machine.run("test", "-f", "/run/idlewatch/status.json")[0] == 0
    machine.off()
    machine.boot()
    until(lambda: active(machine), "the service after a reboot")


def test_it_goes_without_a_trace_but_the_owner_s_settings(machine: Booted) -> None:
    installed(machine, "uninstall")
    assert machine.run("systemctl", "cat", "idlewatch.service")[0] != 0
    assert machine.run("test", "-e", "/opt/idlewatch")[0] != 0
    assert machine.run("test", "-f", "/etc/idlewatch/idlewatch.env")[0] == 0
