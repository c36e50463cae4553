"""The three ways in on a real engine, `docker run --init`, as RunPod runs them, over services that are up for real."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from idlewatch.settings import Settings
from tests.debian import DEADLINE_S, ROOT, said, until, wheels
from tests.runpod_image import JUPYTER_PASSWORD, SERVICES, runpod_image

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("docker"), pytest.mark.timeout(1800)]
OFFLINE = "--no-index --find-links /src/wheels"
NOTICE_S = Settings.model_fields["shutdown_within"].default.total_seconds()
LISTED = ["python3", "-m", "pip", "list", "--format", "freeze"]
UVX = ["uvx", "--no-index", "--find-links", "/wheels", "--from", "idlewatch", "idlewatch"]
SUPERVISED = """\
#!/bin/bash
set +e
supervisord -c /etc/supervisor/supervisord.conf
exit 0
"""


@dataclass(frozen=True)
class Engine:
    """An engine of the tests' own, with its own folder, no bridge and no rule in the machine's tables."""

    socket: str
    folder: Path

    def __call__(self, *words: str) -> str:
        return said(["docker", *words], DOCKER_HOST=self.socket, DOCKER_BUILDKIT="0")

    def key(self) -> Path:
        """A private key; its public one is given to each Pod."""
        path = self.folder / "key"
        if not path.exists():
            said(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)])
        return path


@dataclass
class Pod:
    """One container, with what RunPod gives to it, and a volume that outlives it."""

    engine: Engine
    volume: Path
    name: str = "pod"
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, image: str, *command: str) -> None:
        given = {
            "RUNPOD_POD_ID": "p1",
            "IDLEWATCH_MODE": "observe",
            "JUPYTER_PASSWORD": JUPYTER_PASSWORD,
            "PUBLIC_KEY": self.engine.key().with_suffix(".pub").read_text().strip(),
            **self.variables,
        }
        options = [word for name, value in given.items() for word in ("--env", f"{name}={value}")]
        mounts = [f"{self.volume}:/workspace", f"{self.engine.folder}/context/wheels:/wheels:ro"]
        mounts.append(f"{self.engine.key()}:/key:ro")
        options += [word for mount in mounts for word in ("--volume", mount)]
        self.engine("run", "--detach", "--init", "--network", "none", "--name", self.name, *options, image, *command)

    def gone(self) -> None:
        """The container's disk is wiped; the volume stays."""
        self.engine("rm", "--force", self.name)

    def run(self, *words: str) -> str:
        return self.engine("exec", self.name, *words)

    def asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "--host", self.engine.socket, "exec", self.name, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def logs(self) -> str:
        command = ["docker", "--host", self.engine.socket, "logs", self.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stderr + done.stdout

    def events(self) -> list[dict[str, str]]:
        """The daemon's own lines of the container's log."""
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]

    def processes(self) -> list[str]:
        return self.run("ps", "-eo", "pid=,ppid=,args=").splitlines()

    def daemon(self) -> int | None:
        found = [line.split()[0] for line in self.processes() if line.endswith("-m idlewatch run")]
        return int(found[0]) if found else None

    def status(self) -> dict[str, object]:
        found = self.asked("cat", "/run/idlewatch/status.json")
        return dict(json.loads(found.stdout)) if found.returncode == 0 else {}

    def ticking(self, but: int | None = None) -> None:
        """Wait until a daemon, another one than `but`, looks at this Pod."""
        until(lambda: self.daemon() not in (None, but), "a daemon")
        before = self.status().get("at_s")
        until(lambda: self.status().get("at_s") != before, "the daemon's looks")
        assert self.status()["phase"] == "watching"

    def served(self) -> None:
        """Wait until the image's own services are up, for real."""
        until(lambda: "the services are up" in self.logs(), "the end of the start script")
        until(lambda: self.asked("python3", "-c", SERVICES).returncode == 0, "sshd, nginx and Jupyter")

    def survives_its_daemon(self) -> None:
        first = self.daemon()
        self.run("kill", "-9", str(first))
        self.ticking(but=first)
        self.served()

    def ended(self) -> int:
        """Ask it to end as the platform does; its exit status."""
        self.engine("stop", "--time", "30", self.name)
        return int(self.engine("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def notice_s(self) -> float:
        """How long the daemon took from the notice to its end, by its own log."""
        at = {event.get("kind", event["event"]): datetime.fromisoformat(event["timestamp"]) for event in self.events()}
        return (at["ended"] - at["shutdown"]).total_seconds()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("docker")
    address = f"unix://{folder}/sock"
    options = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"]
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(["dockerd", *options, *places, "--host", address], stdout=log, stderr=log)
    asks = ["docker", "--host", address, "version"]
    until(lambda: subprocess.run(asks, capture_output=True, check=False).returncode == 0, "the engine")
    found = Engine(address, folder)
    try:
        _images(found)
        yield found
    finally:
        for name in found("ps", "--all", "--quiet").split():
            found("rm", "--force", name)
        running.terminate()
        running.wait(DEADLINE_S)


def _images(engine: Engine) -> None:
    packed = engine.folder / "base.tar"
    said(["tar", "-C", str(runpod_image(engine.folder)), "-cf", str(packed), "."])
    engine("import", "--change", "ENV PIP_BREAK_SYSTEM_PACKAGES=1", str(packed), "base:test")
    context = engine.folder / "context"
    context.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(ROOT / "idlewatch", context / "idlewatch")
    shutil.move(wheels(engine.folder), context / "wheels")
    given = {"BASE": "base:test", "SOURCE": "idlewatch", "PIP_OPTIONS": OFFLINE}
    arguments = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
    engine("build", "--network", "none", "--tag", "guarded:test", *arguments, str(context))


@pytest.fixture
def pod(engine: Engine, tmp_path: Path) -> Iterator[Pod]:
    (tmp_path / "volume").mkdir()
    made = Pod(engine, tmp_path / "volume")
    yield made
    engine("rm", "--force", made.name)


def start_line(told: str) -> list[str]:
    """The words of the start command that `install` tells a person to set."""
    line = next(line for line in told.splitlines() if line.startswith("bash -c '"))
    return ["bash", "-c", line.removeprefix("bash -c '").removesuffix("'")]


def test_the_template_image_starts_its_services_and_is_guarded(pod: Pod) -> None:
    pod.start("guarded:test")
    pod.ticking()
    pod.served()
    until(lambda: "quiet" in json.dumps(pod.status()["signals"]["jupyter"]), "Jupyter, seen")  # type: ignore[index]
    pod.survives_its_daemon()
    assert pod.ended() == 143
    assert "this container is being ended: `idlewatch exec` passes that on" in pod.logs()
    assert pod.notice_s() <= NOTICE_S
    assert list((pod.volume / ".idlewatch" / "p1").rglob("*.jsonl.gz"))


def test_a_person_over_ssh_without_variables_is_told_and_heard_all_the_same(pod: Pod) -> None:
    pod.start("guarded:test")
    pod.ticking()
    pod.served()
    pod.run("install", "-m", "600", "/key", "/root/key")
    options = ["-i", "/root/key", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    bare = "env -i PATH=$PATH idlewatch"
    told = pod.run("ssh", *options, "root@127.0.0.1", f"{bare} status && {bare} hold 1h --reason tests")
    assert "NOT RUNNING" not in told
    until(lambda: pod.status()["holds"], "the hold")
    assert 'export RUNPOD_POD_ID="p1"' in pod.run("cat", "/etc/rp_environment")


def test_the_user_s_python_stays_as_it_was_but_for_the_hold(engine: Engine) -> None:
    listed = ["run", "--rm", "--network", "none"]
    assert engine(*listed, "guarded:test", *LISTED) == engine(*listed, "base:test", *LISTED)
    assert engine(*listed, "guarded:test", "python3", "-c", "from idlewatch.hold import hold; print('ok')") == "ok\n"


def test_the_image_is_not_much_larger_than_its_base(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [int(engine("image", "inspect", "--format", "{{.Size}}", name)) for name in ("base:test", "guarded:test")]
    added_mib = (sizes[1] - sizes[0]) / 2**20
    with capsys.disabled():
        print(f"\nthe template image adds {added_mib:.1f} MiB to its base")  # noqa: T201  (docs/install.md)
    assert 5 < added_mib < 30


def test_a_worker_is_left_alone(pod: Pod) -> None:
    pod.variables = {"RUNPOD_ENDPOINT_ID": "e1"}
    pod.start("guarded:test")
    pod.served()
    assert not [line for line in pod.processes()[1:] if "idlewatch" in line]
    assert pod.logs().count("idlewatch stays away") == 1


def test_from_an_empty_pod_to_a_guarded_one(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    """The stranger's path: what a person types and pastes, timed; then the disk is wiped and it is all there again."""
    pod.start("base:test", "/start.sh")
    pod.served()
    before, began_s = pod.run(*LISTED), time.monotonic()
    told = pod.run(*UVX, "install")
    took = [("uvx --from … idlewatch install", time.monotonic() - began_s)]
    pod.ticking()
    took.append(("… until its second look", time.monotonic() - began_s))
    assert pod.run(*LISTED) == before
    pod.survives_its_daemon()
    pod.engine("restart", "--time", "30", pod.name)
    pod.ticking()
    pod.served()
    assert len([line for line in pod.processes() if "beside" in line]) == 1
    pod.gone()
    began_s = time.monotonic()
    pod.start("base:test", *start_line(told))
    pod.ticking()
    took.append(("a start with a wiped disk, until its second look", time.monotonic() - began_s))
    pod.served()
    assert pod.run("idlewatch", "--version").startswith("idlewatch ")
    assert "There is nothing left to do." in pod.run("idlewatch", "upgrade", "--dry-run")
    assert pod.run(*LISTED) == before
    pod.survives_its_daemon()
    assert pod.ended() == 143
    assert pod.notice_s() <= NOTICE_S
    with capsys.disabled():
        print("\nfrom an empty Pod to a guarded one: 1 command, 1 line to paste")  # noqa: T201  (docs/install.md)
        for what, seconds in took:
            print(f"  {seconds:5.1f} s  {what}")  # noqa: T201  (likewise)


def test_what_is_installed_in_a_stock_image_stays_away_from_workers(pod: Pod) -> None:
    pod.start("base:test", "/start.sh")
    pod.served()
    line = start_line(pod.run(*UVX, "install"))
    pod.engine("commit", pod.name, "installed:test")
    pod.gone()
    pod.variables = {"RUNPOD_ENDPOINT_ID": "e1"}
    for image, command in (("base:test", line), ("installed:test", ["/start.sh"])):
        pod.start(image, *command)
        pod.served()
        assert not [line for line in pod.processes() if "-m idlewatch" in line or "beside" in line]
        assert pod.logs().count("idlewatch stays away") == 1
        pod.gone()


def test_supervisord_keeps_it_where_the_image_uses_that(pod: Pod) -> None:
    hook = pod.volume / "post_start.sh"
    hook.write_text(SUPERVISED)
    pod.start("base:test", "bash", "-c", "cp /workspace/post_start.sh /; exec /start.sh")
    pod.served()
    told = pod.run(*UVX, "install")
    assert "installed here: supervisord" in told
    assert hook.read_text() == pod.run("cat", "/post_start.sh")
    until(lambda: "RUNNING" in pod.asked("supervisorctl", "status", "idlewatch").stdout, "RUNNING")
    until(lambda: pod.status().get("phase") == "watching", "its looks")
    first = pod.daemon()
    pod.run("kill", "-9", str(first))
    until(lambda: pod.daemon() not in (None, first), "another daemon")
    until(lambda: "RUNNING" in pod.asked("supervisorctl", "status", "idlewatch").stdout, "RUNNING")
    pod.run("supervisorctl", "stop", "idlewatch")
    assert "ended idlewatch" in pod.run("cat", "/var/log/idlewatch.log")
    again = pod.run(*UVX, "install")
    assert "as it was: write /etc/supervisor/conf.d/idlewatch.conf" in again
    until(pod.daemon, "the daemon of the second install")
    pod.run(*UVX, "uninstall")
    assert pod.daemon() is None
    assert "idlewatch" not in pod.asked("supervisorctl", "status").stdout
    assert not pod.run("sh", "-c", "ls -d /etc/supervisor/conf.d/idlewatch* /opt/idlewatch 2>/dev/null || true")
    pod.served()


def test_what_a_stop_wiped_is_back_before_the_services_start_and_once_a_container(pod: Pod) -> None:
    pod.variables = {"IDLEWATCH_MODE": "stop", "IDLEWATCH_RESTORE": "auto", "IDLEWATCH_IDLE_AFTER": "0"}
    first = ["idlewatch", "exec", "--", "sh", "-c", "ls /root; exec sleep 600"]
    pod.start("guarded:test", *first)
    pod.ticking()
    assert "there was nothing on the volume to bring back" in pod.logs()
    noted = ["sh", "-c", "test ! -e /run/idlewatch/image.names || echo noted"]
    until(lambda: pod.run(*noted) == "noted\n", "the names of the image")
    pod.run("sh", "-c", "echo mine >/root/work; rm /usr/bin/base64")
    assert pod.run("idlewatch", "save").startswith("Saved as ")
    pod.gone()
    pod.start("guarded:test", *first)
    pod.ticking()
    said = pod.logs()
    assert "idlewatch exec: brought back 1 file" in said
    assert "\nwork\n" in f"\n{said}", "the command began before its files were back"
    assert pod.run("cat", "/root/work") == "mine\n"
    assert pod.run("sh", "-c", "test -e /usr/bin/base64 || echo gone") == "gone\n"
    assert "brought back 1 file" in pod.run("idlewatch", "status")
    until(lambda: "brought back 1 file" in pod.run("idlewatch", "history"), "the restore in the history")
    pod.run("rm", "/root/work")
    pod.engine("restart", "--time", "30", pod.name)
    until(lambda: "given its files already" in pod.logs(), "the second start")
    pod.ticking()
    assert "work" not in pod.run("ls", "/root").split()


def test_a_new_pod_on_the_volume_is_told_of_the_other_s_copy_and_given_it_when_asked(pod: Pod) -> None:
    pod.variables = {"IDLEWATCH_MODE": "stop", "IDLEWATCH_IDLE_AFTER": "0"}
    pod.start("guarded:test", "idlewatch", "exec", "--", "sleep", "600")
    pod.ticking()
    pod.run("sh", "-c", "echo mine >/root/work")
    pod.run("idlewatch", "save")
    pod.gone()
    pod.variables |= {"RUNPOD_POD_ID": "p2", "IDLEWATCH_RESTORE": "auto"}
    pod.start("guarded:test", "idlewatch", "exec", "--", "sleep", "600")
    pod.ticking()
    assert "saved copies of another Pod lie on the volume: of p1, " in pod.logs()
    until(lambda: "`idlewatch restore --pod p1`" in str(pod.status()["previous_stop"]), "the offer")
    until(lambda: "restore --pod p1" in pod.run("cat", "/run/idlewatch/login.txt"), "the offer at login")
    assert "work" not in pod.run("ls", "/root").split()
    assert "Brought back 1 file" in pod.run("idlewatch", "restore", "--pod", "p1")
    assert pod.run("cat", "/root/work") == "mine\n"
    until(lambda: "of Pod p1" in str(pod.status()["previous_stop"]), "that it is back")
