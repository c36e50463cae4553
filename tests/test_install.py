"""`install`, `uninstall` and `upgrade`: each kind of machine as a folder, and what is said to people."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from idlewatch.errors import IdlewatchError, Refused, SettingsError
from idlewatch.host import advice, archive, marked, tree
from idlewatch.host.envfile import PLACE as SETTINGS
from idlewatch.host.install import HOOK, PROGRAM, START, UNIT, WEB_UNIT, Plan
from idlewatch.host.machine import Kind, Machine, container_command, kind_of
from idlewatch.host.steps import Step, carried_out
from idlewatch.verbs import installing

POD = {"RUNPOD_POD_ID": "p1"}
DEADLINE_S = 60.0


class Fake:
    """A folder that stands for a machine, and a note of the commands that were run on it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.proc = folder / "root", folder / "proc"
        self.volume = folder / "volume"
        self.commands: list[str] = []
        self.failing = ""
        for made in (self.root, self.proc, self.volume, self.root / "etc"):
            made.mkdir()
        self.machine = Machine(root=self.root, proc=self.proc, run=self._run)

    def _run(self, command: Sequence[str]) -> None:
        self.commands.append(" ".join(command))
        if self.failing and self.failing in self.commands[-1]:
            raise IdlewatchError("it said no")

    def at(self, path: str) -> Path:
        return self.machine.at(path)

    def put(self, path: str, text: str = "") -> Path:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)
        return self.at(path)

    def process(self, pid: int, *words: str, session: int = 1) -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        (self.proc / str(pid) / "stat").write_text(f"{pid} (some (name)) S 1 {pid} {session} 0 -1")
        (self.proc / str(pid) / "cmdline").write_text("\0".join(words) + "\0")

    def plan(self, kind: Kind, volume: Path | None = None) -> Plan:
        return Plan(machine=self.machine, kind=kind, volume=volume, lay=self._lay)

    def _lay(self, place: Path) -> None:
        shutil.copytree(laid(self.root.parent), place, dirs_exist_ok=True)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def done(steps: Sequence[Step], *, dry: bool = False) -> list[str]:
    said: list[str] = []
    carried_out(steps, said.append, dry=dry)
    return said


def but_the_daemon(steps: Sequence[Step]) -> list[Step]:
    """A stock image's steps without those that start programs of the folder that stands for a disk."""
    return [step for step in steps if "daemon" not in step.says]


def test_each_machine_is_known(fake: Fake) -> None:
    fake.process(1, "/sbin/docker-init", "--", "/start.sh")
    assert kind_of(fake.machine, {}) is Kind.UNKNOWN
    assert kind_of(fake.machine, POD) is Kind.POD
    fake.put("/etc/supervisor/conf.d/other.conf")
    assert kind_of(fake.machine, POD) is Kind.POD
    fake.process(30, "/usr/bin/python3", "/usr/bin/supervisord", "-c", "x")
    assert kind_of(fake.machine, POD) is Kind.SUPERVISORD
    fake.put("/run/systemd/system/x")
    assert kind_of(fake.machine, POD) is Kind.SYSTEMD
    assert kind_of(fake.machine, POD | {"RUNPOD_ENDPOINT_ID": "e"}) is Kind.WORKER


@pytest.mark.parametrize(("kind", "says"), [(Kind.WORKER, "scaled by RunPod"), (Kind.UNKNOWN, "idlewatch demo")])
def test_where_there_is_nothing_to_guard_it_refuses_and_says_what_is_possible(
    fake: Fake, kind: Kind, says: str
) -> None:
    with pytest.raises(Refused, match=says):
        fake.plan(kind).install()


def test_with_systemd_unit_and_settings_are_written_and_it_is_started(fake: Fake) -> None:
    done(fake.plan(Kind.SYSTEMD).install())
    assert "Type=notify" in fake.at(UNIT).read_text()
    assert fake.at(SETTINGS).stat().st_mode & 0o7777 == 0o600
    assert "#IDLEWATCH_IDLE_AFTER=30m" in fake.at(SETTINGS).read_text()
    assert [command.split()[1] for command in fake.commands] == ["daemon-reload", "enable", "restart", "try-restart"]
    assert "ProtectSystem=strict" in fake.at(WEB_UNIT).read_text()
    assert not any("enable" in command and "web" in command for command in fake.commands)
    assert fake.at(tree.LINK).is_symlink()


def test_what_a_person_set_is_never_overwritten(fake: Fake) -> None:
    fake.put(SETTINGS, "IDLEWATCH_IDLE_AFTER=1h\n")
    said = done(fake.plan(Kind.SYSTEMD).install())
    assert fake.at(SETTINGS).read_text() == "IDLEWATCH_IDLE_AFTER=1h\n"
    assert any(line.startswith("  as it was: write") and SETTINGS in line for line in said)


def test_a_dry_run_changes_nothing(fake: Fake) -> None:
    fake.put(START, "bash /post_start.sh")
    before = sorted(fake.root.rglob("*"))
    for kind in (Kind.SYSTEMD, Kind.SUPERVISORD, Kind.POD):
        said = done(fake.plan(kind, fake.volume).install(), dry=True)
        assert all(line.startswith(("  would ", "  as it was: ")) for line in said)
    assert sorted(fake.root.rglob("*")) == before
    assert not fake.commands
    assert not list(fake.volume.iterdir())


@pytest.mark.slow
def test_with_supervisord_it_is_one_of_its_programs(fake: Fake) -> None:
    done(fake.plan(Kind.SUPERVISORD, fake.volume).install())
    assert "exitcodes=2,3" in fake.at(PROGRAM).read_text()
    assert fake.commands == ["supervisorctl update", "supervisorctl restart idlewatch"]
    assert (fake.volume / archive.ON_VOLUME).exists()


@pytest.mark.slow
def test_a_stock_image_s_hook_is_added_to_and_the_rest_of_it_stays(fake: Fake) -> None:
    fake.put(START, "if [ -f /post_start.sh ]; then bash /post_start.sh; fi")
    hook = fake.put(HOOK, "#!/usr/bin/env bash\nset -e\necho mine\nexit 0\n")
    hook.chmod(0o700)
    for _ in range(2):
        done(but_the_daemon(fake.plan(Kind.POD, fake.volume).install()))
    assert hook.read_text().count(marked.BEGIN) == 1
    assert hook.read_text().endswith("set -e\necho mine\nexit 0\n")
    assert hook.stat().st_mode & 0o7777 == 0o700
    done(but_the_daemon(fake.plan(Kind.POD, fake.volume).uninstall()))
    assert hook.read_text() == "#!/usr/bin/env bash\nset -e\necho mine\nexit 0\n"


@pytest.mark.slow
def test_an_image_without_a_hook_gets_none(fake: Fake) -> None:
    done(but_the_daemon(fake.plan(Kind.POD, fake.volume).install()))
    assert not fake.at(HOOK).exists()


@pytest.mark.slow
def test_everything_of_ours_goes_and_what_is_the_owner_s_stays(fake: Fake) -> None:
    fake.put(START, "bash /post_start.sh")
    (fake.volume / ".idlewatch" / "p1").mkdir(parents=True)
    done(but_the_daemon(fake.plan(Kind.POD, fake.volume).install()))
    assert fake.at(HOOK).exists()
    done(fake.plan(Kind.POD, fake.volume).uninstall())
    assert not any(fake.at(path).exists() for path in (HOOK, tree.LINK, tree.PLACE))
    assert [path.name for path in (fake.volume / ".idlewatch").iterdir()] == ["p1"]
    done(fake.plan(Kind.POD, fake.volume).uninstall())


def test_systemd_s_unit_is_disabled_before_it_goes(fake: Fake) -> None:
    done(fake.plan(Kind.SYSTEMD).install())
    fake.commands.clear()
    done(fake.plan(Kind.SYSTEMD).uninstall())
    both = "systemctl disable --now idlewatch.service idlewatch-web.service"
    assert fake.commands == [both, "systemctl daemon-reload"]
    assert not fake.at(UNIT).exists()
    assert not fake.at(WEB_UNIT).exists()
    assert fake.at(SETTINGS).exists()


def test_a_step_that_fails_is_named_and_ends_it(fake: Fake) -> None:
    fake.failing = "enable"
    with pytest.raises(IdlewatchError, match=r"systemctl enable idlewatch\.service: it said no"):
        done(fake.plan(Kind.SYSTEMD).install())
    assert not any("restart" in command for command in fake.commands)


def test_a_command_of_that_name_that_is_not_ours_stays(fake: Fake) -> None:
    fake.put(tree.LINK, "pip's own")
    done(fake.plan(Kind.SYSTEMD).install())
    done(fake.plan(Kind.SYSTEMD).uninstall())
    assert fake.at(tree.LINK).read_text() == "pip's own"


def test_below_exec_the_daemon_is_started_anew_by_it(fake: Fake) -> None:
    fake.process(1, "/sbin/docker-init", "--", "bash", "-c", "exec /opt/idlewatch/bin/idlewatch exec -- /start.sh")
    fake.process(7, "/opt/idlewatch/bin/python", "-I", "/opt/idlewatch/bin/idlewatch", "exec", "--", "/start.sh")
    steps = fake.plan(Kind.POD, fake.volume).install()
    assert "`idlewatch exec` does that" in steps[-1].says
    assert "nothing left to do" in " ".join(advice.after_install(fake.plan(Kind.POD, fake.volume)))


def test_an_exec_that_somebody_started_later_brings_nothing_back(fake: Fake) -> None:
    fake.process(1, "/sbin/docker-init", "--", "/start.sh")
    fake.process(40, "/opt/idlewatch/bin/python", "-I", "/opt/idlewatch/bin/idlewatch", "exec", "--", "x", session=40)
    plan = fake.plan(Kind.POD, fake.volume)
    said = " ".join(advice.after_install(plan))
    assert "ONE THING IS LEFT" in said
    assert "nothing left to do" not in said
    assert "`idlewatch exec` does that" in plan.install()[-1].says


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["/sbin/docker-init", "--", "/start.sh"], "/start.sh"),
        (["/sbin/docker-init", "--", "/opt/nvidia/nvidia_entrypoint.sh", "/start.sh"], "/start.sh"),
        (["/sbin/docker-init", "--", "/my/run.sh", "--port", "8188"], "/my/run.sh --port 8188"),
        (["/sbin/docker-init", "--", "bash", "-c", "echo 'a'; exec /start.sh"], "/start.sh"),
        (["/sbin/init"], "/start.sh"),
        ([], "/start.sh"),
    ],
)
def test_the_container_s_own_command_is_found(fake: Fake, words: list[str], command: str) -> None:
    fake.process(1, *words)
    assert container_command(fake.machine) == command


def test_a_pod_with_a_volume_is_told_the_one_line_to_set(fake: Fake) -> None:
    fake.process(1, "/sbin/docker-init", "--", "/start.sh")
    lines = advice.after_install(fake.plan(Kind.POD, Path("/workspace")))
    line = next(line for line in lines if line.startswith("bash -c "))
    assert "/workspace/.idlewatch/idlewatch.tar.gz" in line
    assert line.endswith("exec /start.sh'")
    assert line.count("'") == 2
    assert '"' not in line


def test_a_pod_without_a_volume_is_told_that_nothing_survives(fake: Fake) -> None:
    said = " ".join(advice.after_install(fake.plan(Kind.POD)))
    assert "no volume" in said
    assert "bash -c" not in said


def options(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"dry_run": True, "volume": None, **more})


def test_wrong_settings_are_named_before_anything_is_changed(fake: Fake) -> None:
    fake.put(SETTINGS, "RUNPOD_POD_ID=p1\nIDLEWATCH_IDEL_AFTER=1h\n")
    with pytest.raises(SettingsError, match="did you mean IDLEWATCH_IDLE_AFTER"):
        installing.install(options(dry_run=False), fake.machine)
    assert not fake.at(tree.PLACE).exists()


def test_a_volume_that_a_stop_wipes_is_refused(fake: Fake) -> None:
    fake.put(SETTINGS, "RUNPOD_POD_ID='p1'\n")
    with pytest.raises(Refused, match="a stop wipes"):
        installing.install(options(volume="/etc"), fake.machine)
    with pytest.raises(SettingsError, match="no such folder"):
        installing.install(options(volume="/not/there"), fake.machine)


@pytest.mark.parametrize(
    ("named", "error", "says"),
    [
        ("/etc", Refused, "IDLEWATCH_VOLUME=/etc lies on the disk that a stop wipes"),
        ("/not/there", SettingsError, "IDLEWATCH_VOLUME=/not/there: there is no such folder"),
    ],
)
def test_a_volume_that_the_settings_name_must_be_there_and_survive_a_stop(
    fake: Fake, named: str, error: type[IdlewatchError], says: str
) -> None:
    fake.put(SETTINGS, f"RUNPOD_POD_ID=p1\nIDLEWATCH_VOLUME={named}\n")
    with pytest.raises(error, match=says):
        installing.install(options(), fake.machine)
    fake.put("/run/systemd/system/x")  # nothing is kept there
    assert installing.install(options(), fake.machine)


def test_wrong_settings_keep_nobody_from_taking_it_out(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.put(
        SETTINGS, "RUNPOD_POD_ID=p1\nIDLEWATCH_IDEL_AFTER=1h\nIDLEWATCH_WARN_FOR=soon\nIDLEWATCH_VOLUME=/not/there\n"
    )
    assert installing.uninstall(options(), fake.machine)
    assert "remove /not/there/.idlewatch/idlewatch.tar.gz" in capsys.readouterr().out


def test_the_installed_one_says_that_it_is_no_newer_one(fake: Fake) -> None:
    fake.at(tree.PLACE).parent.mkdir(parents=True)
    assert "run the `install` of that one" not in " ".join(advice.after_install(fake.plan(Kind.POD)))
    fake.at(tree.PLACE).symlink_to(sys.prefix)
    plan = fake.plan(Kind.POD)
    assert "as it was: lay the tool" in done(plan.install(), dry=True)[0]
    assert "run the `install` of that one" in " ".join(advice.after_install(plan))


@pytest.mark.slow
def test_below_exec_the_daemon_is_ended_before_its_files_go(fake: Fake) -> None:
    fake.put(f"{tree.PLACE}/x")
    daemon = subprocess.Popen(
        ["bash", "-c", "trap 'ls $0; exit' TERM; echo ready; while :; do sleep 0.1; done", fake.at(tree.PLACE)],
        stdout=subprocess.PIPE,
        text=True,
    )
    reaping = threading.Thread(target=daemon.wait)
    reaping.start()
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "ready\n"
    try:
        fake.process(1, "/sbin/docker-init", "--", "bash", "-c", "exec /opt/idlewatch/bin/idlewatch exec -- /start.sh")
        fake.process(7, "/opt/idlewatch/bin/python", "-I", "/opt/idlewatch/bin/idlewatch", "exec", "--", "/start.sh")
        fake.process(daemon.pid, "/opt/idlewatch/bin/python", "-I", "-m", "idlewatch", "run")
        plan = fake.plan(Kind.POD)
        said = done(plan.uninstall()[:-1])
        assert said[0] == "  done: end the daemon that runs"
        assert daemon.stdout.read() == "x\n"
        assert "finds no daemon to start" in " ".join(advice.after_uninstall(plan))
    finally:
        daemon.kill()
        daemon.stdout.close()
        reaping.join()


def test_the_verbs_say_where_they_are_and_what_they_would_do(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.put(SETTINGS, "# a comment\nRUNPOD_POD_ID=p1\n")
    assert installing.install(options(), fake.machine)
    assert "idlewatch would be installed here: a RunPod image" in capsys.readouterr().out
    assert installing.uninstall(options(), fake.machine)
    assert "they are yours" in capsys.readouterr().out
    assert not fake.at(tree.PLACE).exists()


@pytest.mark.parametrize("hook", ["", "#!/bin/bash\nset -eu\nfalse\n", "echo no shebang", "#!/bin/sh"])
def test_our_lines_go_in_and_out_of_any_file(hook: str) -> None:
    once = marked.with_block(hook, "one\n")
    assert marked.with_block(once, "two\n") == once.replace("one\n", "two\n")
    assert marked.without(once) in (hook, marked.SHEBANG, f"{hook}\n")
    assert once.startswith("#!") or hook.startswith("echo")


def laid(folder: Path) -> Path:
    """A stand-in for the tool: it says that it runs, and what it was asked."""
    place = folder / "laid"
    if place.exists():
        return place
    (place / "bin").mkdir(parents=True)
    script = place / "bin" / "idlewatch"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "guarded: $*"\nshift 2\nexec "$@"\n')
    script.chmod(0o755)
    (place / tree.WHOLE).write_text("1\n")
    return place


def started(line: str) -> list[str]:
    """A start command's output, as an engine would run it: split as a shell splits."""
    with tempfile.TemporaryFile("w+") as output:  # not a pipe: what hangs in a volume keeps it open
        subprocess.run(["sh", "-c", line], stdout=output, stderr=subprocess.DEVNULL, check=True, timeout=DEADLINE_S)
        output.seek(0)
        return output.read().splitlines()


@pytest.mark.slow
def test_the_start_command_brings_the_tool_back_and_starts_the_pod_with_it(tmp_path: Path) -> None:
    packed, disk = tmp_path / "volume" / archive.ON_VOLUME, tmp_path / "disk"
    disk.mkdir()
    archive.pack(laid(tmp_path), packed, name="opt/idlewatch")
    line = archive.start_line(packed, "echo started", place=f"{disk}/opt/idlewatch", into=str(disk))
    assert started(line) == ["guarded: exec -- echo started", "started"]
    assert (disk / "usr/local/bin/idlewatch").readlink() == Path("/opt/idlewatch/bin/idlewatch")
    packed.unlink()
    assert started(line) == ["guarded: exec -- echo started", "started"]


def test_the_start_command_starts_the_pod_whatever_is_wrong_with_the_volume(tmp_path: Path) -> None:
    packed, disk = tmp_path / "tool.tar.gz", tmp_path / "disk"
    disk.mkdir()
    line = archive.start_line(packed, "echo started", place=f"{disk}/opt/idlewatch", into=str(disk), within_s=0.5)
    assert started(line) == ["started"]
    packed.write_bytes(b"no archive")
    assert started(line) == ["started"]
    archive.pack(laid(tmp_path), packed, name="opt/idlewatch")
    packed.write_bytes(packed.read_bytes()[:-100])
    assert started(line) == ["started"]
    packed.unlink()
    os.mkfifo(packed)  # nobody ever writes: a volume that hangs
    assert started(line) == ["started"]
    with packed.open("wb"):
        pass  # lets the reader that still waits end


def test_what_marks_the_tool_whole_comes_last_in_the_archive(tmp_path: Path) -> None:
    packed = tmp_path / "tool.tar.gz"
    archive.pack(laid(tmp_path), packed)
    with tarfile.open(packed) as opened:
        names = opened.getnames()
        owners = {(member.uid, member.uname) for member in opened.getmembers()}
    assert names[-1] == "opt/idlewatch/.whole"
    assert names.count(names[-1]) == 1
    assert owners == {(0, "root")}


@pytest.mark.slow
def test_an_archive_that_can_t_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    packed = tmp_path / "tool.tar.gz"
    packed.write_bytes(b"older")
    with pytest.raises(IdlewatchError, match=r"tool\.tar\.gz: .*No such file"):
        archive.keep(tmp_path / "not there", packed)
    assert packed.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["tool.tar.gz"]


def test_a_volume_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(IdlewatchError, match="did not take it within 0 s"):
        archive.keep(laid(tmp_path), tmp_path / "tool.tar.gz", within_s=0.0)


@pytest.mark.slow
def test_the_tool_runs_by_itself_from_where_it_was_unpacked(tmp_path: Path) -> None:
    disk, packed_to = tmp_path / "disk", tmp_path / "tool.tar.gz"
    tree.lay_here(tmp_path / "idlewatch")
    archive.keep(tmp_path / "idlewatch", packed_to)
    with tarfile.open(packed_to) as packed:
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}  # new in 3.11.4
        packed.extractall(disk, **trusted)  # type: ignore[arg-type]  # noqa: S202  (we packed it)
    python = disk / tree.PLACE.lstrip("/") / "bin" / "python"
    command = [str(python), "-I", "-c", "import idlewatch, httpx, sys; print(idlewatch.__file__, sys.prefix)"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S, cwd="/").stdout
    assert told.count(str(disk)) == 2
    version = [str(python), "-I", "-m", "idlewatch", "--version"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.startswith("idlewatch ")


@pytest.mark.slow
def test_a_folder_that_was_laid_half_is_done_anew(tmp_path: Path) -> None:
    place = tmp_path / "idlewatch"
    (tmp_path / "idlewatch.new").mkdir()
    (tmp_path / "idlewatch.new" / "half").write_text("x")
    place.mkdir()
    (place / "older").write_text("x")
    interpreter, _ = tree.interpreter_here()
    tree.lay(place, interpreter, carried=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idlewatch"]
    assert not (place / "older").exists()
    assert (place / tree.WHOLE).exists()
    assert (place / "bin" / "idlewatch").read_text().startswith("#!/opt/idlewatch/bin/python -I\n")


def test_what_idlewatch_s_extras_need_comes_along_where_it_is_there_and_other_packages_extras_do_not() -> None:
    found = tree.distributions()
    assert {"idlewatch", "pydantic", "starlette", "uvicorn", "h11"} <= set(found)
    assert not {"uvloop", "watchfiles", "email-validator"} & set(found)
