"""A Docker daemon and a Debian tree of the tests' own, for what only a real container can show. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parent.parent
NEEDED = ("dockerd", "docker", "debootstrap")
MIRROR = "http://deb.debian.org/debian"
_READY_S = 60.0
PACKAGES = "python3-minimal,libpython3-stdlib,python3-distutils,libcap2-bin,attr"

needs_containers = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(name) is None for name in NEEDED),
    reason=f"needs root and {', '.join(NEEDED)} (apt-get install docker.io debootstrap)",
)


class Docker:
    """One daemon, spoken to over its own socket; it never touches the machine's network rules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        call = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "overlay2"]
        call += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec", "-H", self.address]
        call += ["--pidfile", f"{self.folder}/docker.pid"]
        with (self.folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(call, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _READY_S
        while subprocess.run(self._call("version"), check=False, capture_output=True).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"dockerd does not run here: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Remove the containers and end the daemon, which was started here."""
        if self._daemon is None or self._daemon.poll() is not None:
            return
        for name in self("ps", "-aq").split():
            self("rm", "-f", name)
        self._daemon.terminate()
        self._daemon.wait(timeout=60)
        for left in (self.folder / "exec/netns").glob("*"):  # of containers on the machine's own network
            subprocess.run(["umount", str(left)], check=False, capture_output=True)

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        """Run one command and return what it printed. Raises AssertionError with its error output."""
        done = subprocess.run(self._call(*arguments), check=False, capture_output=True, text=True, input=text)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}{done.stdout[-1000:]}"
        return done.stdout

    def _call(self, *arguments: str) -> list[str]:
        return ["docker", "-H", self.address, *arguments]

    def load(self, tree: Path, name: str) -> None:
        """Make an image of a tree."""
        with subprocess.Popen(["tar", "-C", str(tree), "-c", "--xattrs", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(self._call("import", "-", name), check=True, stdin=tar.stdout, capture_output=True)

    def upper_dir(self, container: str) -> Path:
        """Return the folder that holds what a container has changed, whiteouts among it."""
        return Path(self("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", container).strip())


@contextmanager
def docker_in(folder: Path) -> Iterator[Docker]:
    """Run a daemon that keeps everything in `folder`."""
    docker = Docker(folder)
    try:
        docker.start()
        yield docker
    finally:
        docker.stop()


def debian_tree(folder: Path, packages: str = PACKAGES) -> Path:
    """Return a small Debian with Python in `folder`; skips where no mirror answers."""
    tree = folder / "tree"
    call = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(tree), MIRROR]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"no Debian tree can be made here: {done.stdout[-300:]}")
    return tree


def downloaded(tree: Path, folder: Path, *, apt: Sequence[str], pip: Sequence[str]) -> None:
    """
    Put packages for a container of `tree` that has no network into `folder`, with all that they need.

    `apt` for what the tree holds by now, `pip` for this Python's version. Skips where no mirror or index answers.
    """
    folder.mkdir()
    get = ["chroot", str(tree), "apt-get", "--quiet", "--yes", "--no-install-recommends"]
    for command in (
        [*get, "clean"],  # what debootstrap has left there is installed by now
        [*get, "update"],
        [*get, "--download-only", "-o", "APT::Keep-Downloaded-Packages=1", "install", *apt],
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder), *pip],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            pytest.skip(f"no packages can be had here: {done.stdout[-300:]}{done.stderr[-300:]}")
    for path in (tree / "var/cache/apt/archives").glob("*.deb"):
        path.rename(folder / path.name)
    for path in (tree / "var/lib/apt/lists").glob("*_*"):
        path.unlink()


def with_our_code(site_packages: Path) -> Sequence[str]:
    """Return the options of `docker run` that show this repository and its packages inside, for reading only."""
    return (
        *("-v", f"{REPOSITORY}:/opt/idlewatch:ro", "-v", f"{site_packages}:/opt/site:ro"),
        *("-e", "PYTHONPATH=/opt/idlewatch:/opt/site", "-e", "PYTHONDONTWRITEBYTECODE=1"),
    )
