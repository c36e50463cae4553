"""The template image and the stock image on a real engine, `docker run --init`, as RunPod runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.debian import DEADLINE_S, ROOT, debian, said, until, wheels

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("docker"), pytest.mark.timeout(1800)]
OFFLINE = "--no-index --find-links /src/wheels"
POD = ["--init", "--network", "none", "--env", "RUNPOD_POD_ID=p1", "--env", "IDLEWATCH_MODE=observe"]
INSTALL = """
import argparse
from idlewatch.verbs import installing
installing.install(argparse.Namespace(dry_run=False, volume=None))
"""


@dataclass(frozen=True)
class Engine:
    """An engine of the tests' own, with its own folder, no bridge and no rule in the machine's tables."""

    socket: str
    folder: Path

    def __call__(self, *words: str) -> str:
        return said(["docker", *words], DOCKER_HOST=self.socket, DOCKER_BUILDKIT="0")

    def logs(self, name: str) -> str:
        command = ["docker", "--host", self.socket, "logs", name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr + self("logs", name)

    def lines(self, name: str) -> list[str]:
        return self("exec", name, "ps", "-eo", "pid=,ppid=,args=").splitlines()

    def daemon(self, name: str) -> int | None:
        found = [line.split()[0] for line in self.lines(name) if line.endswith("-m idlewatch run")]
        return int(found[0]) if found else None

    def ticking(self, name: str) -> bool:
        found = subprocess.run(
            ["docker", "--host", self.socket, "exec", name, "cat", "/run/idlewatch/status.json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return found.returncode == 0 and json.loads(found.stdout)["phase"] == "watching"

    def ended(self, name: str) -> int:
        """Ask it to end as the platform does; its exit status."""
        self("stop", "--time", "20", name)
        return int(self("inspect", "--format", "{{.State.ExitCode}}", name))


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
    _images(found)
    yield found
    for name in found("ps", "--all", "--quiet").split():
        found("rm", "--force", name)
    running.terminate()
    running.wait(DEADLINE_S)


def _images(engine: Engine) -> None:
    packed = engine.folder / "base.tar"
    said(["tar", "-C", str(debian(engine.folder)), "-cf", str(packed), "."])
    engine("import", str(packed), "base:test")
    context = engine.folder / "context"
    context.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(ROOT / "idlewatch", context / "idlewatch")
    shutil.move(wheels(engine.folder), context / "wheels")
    given = {"BASE": "base:test", "SOURCE": "idlewatch", "PIP_OPTIONS": OFFLINE}
    arguments = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
    engine("build", "--network", "none", "--tag", "guarded:test", *arguments, str(context))


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    yield "pod"
    engine("rm", "--force", "pod")


@pytest.fixture
def volume(engine: Engine) -> Iterator[Path]:
    folder = engine.folder / "volume"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_the_template_image_starts_its_services_and_is_guarded(engine: Engine, name: str, volume: Path) -> None:
    engine("run", "--detach", "--name", name, *POD, "--volume", f"{volume}:/workspace", "guarded:test")
    until(lambda: engine.ticking(name), "the daemon's looks")
    assert "the services are up" in engine.logs(name)
    first = engine.daemon(name)
    engine("exec", name, "kill", "-9", str(first))
    until(lambda: engine.daemon(name) not in (None, first), "another daemon")
    until(lambda: engine.logs(name).count('"event": "started"') == 2, "its start")
    began_s = time.monotonic()
    assert engine.ended(name) == 143
    assert time.monotonic() - began_s < 20, "it had to be ended hard"
    assert "this container is being ended: `idlewatch exec` passes that on" in engine.logs(name)
    assert list((volume / ".idlewatch" / "p1").rglob("*.jsonl.gz"))


def test_the_user_s_python_stays_as_it_was_but_for_the_hold(engine: Engine) -> None:
    listed = ["run", "--rm", "--network", "none"]
    words = ["python3", "-m", "pip", "list", "--format", "freeze"]
    assert engine(*listed, "guarded:test", *words) == engine(*listed, "base:test", *words)
    assert engine(*listed, "guarded:test", "python3", "-c", "from idlewatch.hold import hold; print('ok')") == "ok\n"


def test_a_worker_is_left_alone(engine: Engine, name: str) -> None:
    engine("run", "--detach", "--name", name, *POD, "--env", "RUNPOD_ENDPOINT_ID=e1", "guarded:test")
    until(lambda: "the services are up" in engine.logs(name), "the services")
    assert not [line for line in engine.lines(name)[1:] if "idlewatch" in line]
    assert engine.logs(name).count("idlewatch stays away") == 1


def test_a_stock_image_is_guarded_and_comes_back_on_a_wiped_disk(engine: Engine, name: str, volume: Path) -> None:
    mounts = ["--volume", f"{volume}:/workspace", "--volume", f"{engine.folder}/context/wheels:/wheels:ro"]
    engine("run", "--detach", "--name", name, *POD, *mounts, "base:test", "/start.sh")
    engine("exec", name, "pip", "install", "--quiet", "--break-system-packages", "--no-index", "--find-links",
           "/wheels", "idlewatch")  # fmt: skip
    told = engine("exec", name, "python3", "-c", INSTALL)
    until(lambda: engine.ticking(name), "the daemon's looks")
    line = next(line for line in told.splitlines() if line.startswith("bash -c '"))
    engine("exec", name, "bash", "/post_start.sh")
    assert len([line for line in engine.lines(name) if "host.beside" in line]) == 1
    engine("rm", "--force", name)
    command = ["bash", "-c", line.removeprefix("bash -c '").removesuffix("'")]
    engine("run", "--detach", "--name", name, *POD, *mounts, "base:test", *command)
    until(lambda: engine.ticking(name), "the daemon's looks after the wipe")
    until(lambda: "the services are up" in engine.logs(name), "the services")
    assert engine("exec", name, "idlewatch", "--version").startswith("idlewatch ")
    assert engine.ended(name) == 143


def test_what_a_stop_wiped_is_back_before_the_services_start_and_once_a_container(
    engine: Engine, name: str, volume: Path
) -> None:
    given = {"RUNPOD_POD_ID": "p1", "IDLEWATCH_RESTORE": "auto", "IDLEWATCH_IDLE_AFTER": "0"}
    options = [word for key, value in given.items() for word in ("--env", f"{key}={value}")]
    options += ["--init", "--network", "none", "--volume", f"{volume}:/workspace"]
    first = ["idlewatch", "exec", "--", "sh", "-c", "ls /root; exec sleep 600"]
    engine("run", "--detach", "--name", name, *options, "guarded:test", *first)
    until(lambda: engine.ticking(name), "the daemon's looks")
    assert "there was nothing on the volume to bring back" in engine.logs(name)
    noted = ["exec", name, "sh", "-c", "test ! -e /run/idlewatch/image.names || echo noted"]
    until(lambda: engine(*noted) == "noted\n", "the names of the image")
    engine("exec", name, "sh", "-c", "echo mine >/root/work; rm /usr/bin/base64")
    assert engine("exec", name, "idlewatch", "save").startswith("Saved as ")
    engine("rm", "--force", name)
    engine("run", "--detach", "--name", name, *options, "guarded:test", *first)
    until(lambda: engine.ticking(name), "the daemon's looks after the wipe")
    said = engine.logs(name)
    assert "idlewatch exec: brought back 1 file" in said
    assert "\nwork\n" in f"\n{said}", "the command began before its files were back"
    assert engine("exec", name, "cat", "/root/work") == "mine\n"
    assert engine("exec", name, "sh", "-c", "test -e /usr/bin/base64 || echo gone") == "gone\n"
    assert "brought back 1 file" in engine("exec", name, "idlewatch", "status")
    engine("exec", name, "rm", "/root/work")
    engine("restart", "--time", "20", name)
    until(lambda: "given its files already" in engine.logs(name), "the second start")
    until(lambda: engine.ticking(name), "the daemon's looks")
    assert "work" not in engine("exec", name, "ls", "/root").split()
