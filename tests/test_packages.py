"""The wheel and the source distribution: built, installed with pip, pipx and uv, and laid by `install` from each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from idlewatch import __version__, version

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent
THE_MACHINE_S_CERTIFICATES = {"UV_SYSTEM_CERTS": "true"}
"""For uv, which trusts a list of its own unless told, and for pipx, which may install by uv."""
LAY = """
import sys
from pathlib import Path
from idlewatch.host import tree
tree.lay_here(Path(sys.argv[1]))
"""


def said(*command: str | Path, **variables: str) -> str:
    """What a command says, in an environment with nothing of this one's but the registry's settings."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "HOME"))}
    told = {"PATH": "/usr/local/bin:/usr/bin:/bin", **THE_MACHINE_S_CERTIFICATES, **kept, **variables}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=told, check=False, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what builds and installs; its folder of programs."""
    folder = tmp_path_factory.mktemp("tools")
    said(sys.executable, "-m", "venv", folder)
    said(folder / "bin/pip", "install", "--quiet", "build", "pipx", "uv")
    return folder / "bin"


@dataclass(frozen=True)
class Built:
    """What was built, and of which commit: None where this is no checkout."""

    wheel: Path
    sdist: Path
    commit: str | None

    @property
    def shown(self) -> str:
        """What `--version` is to say."""
        return f"idlewatch {__version__}{f' ({self.commit[:12]})' if self.commit else ''}\n"


@pytest.fixture(scope="module")
def built(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder, tree = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("tree") / "tree"
    left_out = shutil.ignore_patterns(".venv*", ".git", "__pycache__", ".*_cache", ".hypothesis", "dist", "build")
    shutil.copytree(ROOT, tree, ignore=left_out)
    commit = version.commit(ROOT / "idlewatch")  # noted now: somebody may commit while this runs
    if commit:
        (tree / ".git").mkdir()
        (tree / ".git/HEAD").write_text(f"{commit}\n")
    said(tools / "python", "-m", "build", "--outdir", folder, tree)
    return Built(next(folder.glob("*.whl")), next(folder.glob("*.tar.gz")), commit)


def test_both_know_their_commit_and_have_the_licences(built: Built) -> None:
    commit = built.commit
    with zipfile.ZipFile(built.wheel) as wheel, tarfile.open(built.sdist) as sdist:
        names = wheel.namelist()
        assert any(name.endswith("licenses/LICENSE") for name in names)
        assert {"idlewatch/host/idlewatch.service", "idlewatch/py.typed"} <= set(names)
        assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]
        inside = {name.partition("/")[2] for name in sdist.getnames()}
        assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "tests/test_packages.py"} <= inside
        if commit:
            assert wheel.read("idlewatch/commit").decode() == f"{commit}\n"
            packed = sdist.extractfile(f"idlewatch-{__version__}/idlewatch/commit")
            assert packed is not None
            assert packed.read().decode() == f"{commit}\n"


def installed(how: str, tools: Path, built: Built, folder: Path) -> Path:
    """Install it; the folder of the environment that it went into."""
    if how.startswith("pip "):
        said(sys.executable, "-m", "venv", folder / "env")
        said(folder / "env/bin/pip", "install", "--quiet", built.wheel if how == "pip wheel" else built.sdist)
        return folder / "env"
    if how == "pipx":
        places = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
        said(tools / "pipx", "install", "--python", sys.executable, built.wheel, **places)
        assert said(folder / "bin/idlewatch", "--version") == built.shown
        return folder / "pipx/venvs/idlewatch"
    places = {"UV_TOOL_DIR": str(folder / "uv"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    places["UV_CACHE_DIR"] = str(folder / "cache")
    said(tools / "uv", "tool", "install", "--quiet", "--python", sys.executable, built.wheel, **places)
    assert said(folder / "bin/idlewatch", "--version") == built.shown
    return folder / "uv/idlewatch"


@pytest.mark.parametrize("how", ["pip wheel", "pip sdist", "pipx", "uv"])
def test_it_runs_from_where_it_was_installed_and_from_what_install_lays(
    how: str, tools: Path, built: Built, tmp_path: Path
) -> None:
    environment = installed(how, tools, built, tmp_path)
    assert said(environment / "bin/idlewatch", "--version") == built.shown
    said(environment / "bin/python", "-I", "-c", LAY, tmp_path / "laid")
    assert said(tmp_path / "laid/bin/python", "-I", "-m", "idlewatch", "--version") == built.shown
    settings = said(tmp_path / "laid/bin/python", "-I", "-m", "idlewatch", "settings")
    assert "IDLEWATCH_IDLE_AFTER" in settings
