"""
`idlewatch doctor` where people really run it: on a plain machine, and in real containers with and without a volume,
certificates, the right key, a daemon, root; and in a Serverless worker's environment.

`pytest -rP -m system tests/test_doctor_containers.py` shows what each was told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod
from idlewatch.doctor.lines import Group, Line, Standing
from idlewatch.show.doctor import report_lines
from tests.containers import Docker, debian_tree, docker_in, needs_containers, with_our_code
from tests.waiting import comes

pytestmark = [pytest.mark.system, needs_containers, pytest.mark.xdist_group("docker"), pytest.mark.timeout(900)]

IMAGE = "doctor-test"
POD_ID, KEY, OTHER_KEY = (
    "abc123def456",
    "rpa_AKEYOFATEST00000000000000000000001",
    "rpa_SOMEBODYELSES000000000000001",
)
OK, WARNING, UNPROVEN, BROKEN = Standing
VOLUME, REST, GRAPHQL = "/workspace", "api:REST v2 with RUNPOD_API_KEY", "api:GraphQL with RUNPOD_API_KEY"
AT_ONCE = 2
"""So many are asked side by side."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the doctor runs, and of its lines those that matter: name -> how it stands, and words of text or remedy."""

    lines: Mapping[str, tuple[Standing, str]]
    broken: tuple[str, ...]
    """All that will not work."""
    variables: Mapping[str, str] = field(default_factory=dict)
    pod: bool = True
    """With the variables of a Pod."""
    https: bool = False
    """The API's address is one for which certificates are needed; nobody answers there."""
    volume: bool = True
    daemon: bool = False
    user: str = "0"
    without_bundle: bool = False


PLACES: Mapping[str, Place] = {
    "a container that is no Pod": Place(
        pod=False,
        volume=False,
        broken=("kind",),
        lines={
            "kind": (BROKEN, "on your own machine try `idlewatch demo`; inside a Pod run this as root"),
            "volume": (OK, "nothing has to be saved"),
            "signal:gpu": (OK, "nothing to see here: no /dev/nvidia*"),
        },
    ),
    "a Pod without a volume": Place(
        volume=False,
        broken=("volume", "daemon"),
        lines={
            "kind": (OK, POD_ID),
            "volume": (BROKEN, "an edit wipes this Pod's disk at once, so copy your work away first"),
            REST: (OK, "reading this Pod is proven, stopping it is not"),
        },
    ),
    "a Pod with a volume": Place(
        broken=("daemon",),
        lines={
            "volume": (OK, "/workspace is a mount of its own"),
            "writable": (OK, "can be written"),
            "room": (OK, "a stop would wipe"),
            "state": (OK, "RUNNING by RunPod's API, $1.59 an hour"),
            "stop": (UNPROVEN, "`idlewatch stop` proves it once"),
            "certificates": (OK, "certifi's bundle"),
            "cgroup": (OK, "counts CPU, memory"),
            "processes": (OK, "a PID namespace of its own"),
            "terminals": (WARNING, "set one in IDLEWATCH_NOTIFY"),
            "daemon": (BROKEN, "`idlewatch install` starts it"),
        },
    ),
    "a Pod whose daemon runs": Place(
        daemon=True,
        broken=(),
        lines={
            "daemon": (OK, "the daemon runs as process"),
            "environment": (OK, "the daemon was told the same"),
            "starter": (WARNING, "was started by hand"),
            "signal:host": (OK, "host sees"),
        },
    ),
    "the same, asked by another user": Place(
        daemon=True,
        user="1000",
        broken=(),
        lines={
            "daemon": (OK, "the daemon runs as process"),
            "user": (UNPROVEN, "run this as root"),
            "environment": (UNPROVEN, "this user can't read /run/idlewatch/settings.json"),
            "writable": (UNPROVEN, "can't be written by this user"),
            "room": (UNPROVEN, "run this as root, who sees what the daemon sees"),
        },
    ),
    "an image that names a CA bundle and has none": Place(
        variables={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"},
        broken=("daemon",),
        lines={
            "certificates": (WARNING, "certificate authorities are used in its place"),
            REST: (OK, "RUNNING"),
            "clock": (OK, "agrees"),
        },
    ),
    "no CA bundle at all": Place(
        https=True,
        without_bundle=True,
        broken=("certificates", REST, GRAPHQL, "daemon"),
        lines={
            "certificates": (BROKEN, "`pip install --force-reinstall certifi`"),
            REST: (BROKEN, "see the lines above on the way there"),
        },
    ),
    "a key that is refused": Place(
        variables={"RUNPOD_API_KEY": OTHER_KEY},
        broken=(REST, GRAPHQL, "daemon"),
        lines={
            REST: (BROKEN, "401"),
            GRAPHQL: (BROKEN, "another key in IDLEWATCH_RUNPOD_API_KEY"),
            "stop": (UNPROVEN, "no key may even read it"),
            "certificates": (OK, "certifi's bundle"),
        },
    ),
    "a Serverless worker": Place(
        variables={"RUNPOD_ENDPOINT_ID": "ep1"},
        broken=("kind",),
        lines={
            "kind": (BROKEN, "set the endpoint's idle timeout instead"),
            "volume": (OK, "nothing has to be saved"),
        },
    ),
}


@dataclass(frozen=True)
class Told:
    """What the doctor said, and with which exit status."""

    code: int
    lines: list[Line]
    text: str

    def line(self, name: str) -> Line:
        (found,) = (line for line in self.lines if line.name == name)
        return found

    def broken(self) -> tuple[str, ...]:
        return tuple(line.name for line in self.lines if line.standing is BROKEN)


def told(done: subprocess.CompletedProcess[str]) -> Told:
    assert done.stdout.startswith("{"), done.stderr + done.stdout
    lines = [
        Line(
            group=Group(one["group"]),
            name=one["name"],
            standing=Standing(one["standing"]),
            text=one["text"],
            remedy=one["remedy"],
        )
        for one in json.loads(done.stdout)["lines"]
    ]
    return Told(done.returncode, lines, done.stdout + done.stderr)


class Asker:
    """Starts a place's container, asks the doctor in it, and removes it."""

    def __init__(self, docker: Docker, api: LoopbackApi, folder: Path) -> None:
        self._docker, self._api, self._folder = docker, api, folder
        self._empty = folder / "empty.pem"
        self._empty.write_text("")

    def ask(self, number: int, place: Place) -> Told:
        name = f"doctor{number}"
        (volume := self._folder / name).mkdir()
        options = ["--init", "--network", "host", *with_our_code(Path(sysconfig.get_path("purelib")))]
        options += [word for one in self._variables(place).items() for word in ("--env", "=".join(one))]
        options += ["--volume", f"{volume}:{VOLUME}"] if place.volume else []
        options += ["--volume", f"{self._empty}:/opt/site/certifi/cacert.pem:ro"] if place.without_bundle else []
        self._docker("run", "--detach", "--name", name, *options, IMAGE, "sleep", "infinity")
        if place.daemon:
            self._docker("exec", "--detach", name, *IDLEWATCH, "run")
            assert comes(lambda: self._host_is_seen(name), every_s=1.0)
        done = self._said(name, place.user, "doctor", "--json")
        self._docker("rm", "--force", name)
        return told(done)

    def _host_is_seen(self, name: str) -> bool:
        done = self._said(name, "0", "status", "--json")
        signals = json.loads(done.stdout).get("signals", {}) if done.stdout.startswith("{") else {}
        return signals.get("host", {}).get("activity") in {"active", "quiet"}

    def _said(self, name: str, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "-H", self._docker.address, "exec", "--user", user, name, *IDLEWATCH, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def _variables(self, place: Place) -> dict[str, str]:
        if not place.pod:
            return {}
        address = self._api.address.replace("http:", "https:") if place.https else self._api.address
        urls = {"IDLEWATCH_RUNPOD_API_URL": f"{address}/v2", "IDLEWATCH_RUNPOD_GRAPHQL_URL": f"{address}/graphql"}
        return {"RUNPOD_POD_ID": POD_ID, "RUNPOD_API_KEY": KEY, "RUNPOD_GPU_COUNT": "0", **urls, **place.variables}


IDLEWATCH = ("python3", "-m", "idlewatch")


@pytest.fixture(scope="module")
def all_told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Told]]:
    folder = tmp_path_factory.mktemp("doctor")
    tree = debian_tree(folder, packages="python3,procps")
    pod = LoopbackPod(pod_id=POD_ID)
    with docker_in(folder) as docker, LoopbackApi(pods=[pod], keys=[KEY]) as api:
        docker.load(tree, IMAGE)
        asker = Asker(docker, api, folder)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(PLACES, pool.map(asker.ask, range(len(PLACES)), PLACES.values()), strict=True))
        assert {request.call for request in api.requests} <= {"rest_read", "graphql_read", "other"}
        yield found


@pytest.mark.parametrize("name", PLACES)
def test_a_place(all_told: Mapping[str, Told], name: str) -> None:
    place, said = PLACES[name], all_told[name]
    shown(name, said)
    assert said.broken() == place.broken
    assert said.code == (1 if place.broken else 0)
    assert KEY not in said.text
    assert OTHER_KEY not in said.text
    for line_name, (standing, words) in place.lines.items():
        line = said.line(line_name)
        assert line.standing is standing, line
        assert words in f"{line.text} -> {line.remedy}", line


def test_this_very_machine_without_a_variable_of_runpods(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "idlewatch", "doctor", "--json"]
    environment = bare | {"IDLEWATCH_STATE_DIR": str(tmp_path / "state")}
    said = told(subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120))
    shown("this machine", said)
    assert (said.code, said.broken()[0]) == (1, "kind")
    assert said.line("volume").standing is OK
    assert "daemon" not in said.broken()


def shown(name: str, said: Told) -> None:
    print("\n".join(["", f"######## {name}", *report_lines(said.lines, 100)]))  # noqa: T201
