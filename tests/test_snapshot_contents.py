"""What a loss consists of: packages, repositories, models, notebooks, dotfiles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from idlewatch.snapshot import measure_loss
from idlewatch.snapshot.image import take_image
from idlewatch.snapshot.repositories import Repository, look_at
from tests.snapshot_trees import birth, write

STATUS = """Package: old
Status: install ok installed
Version: 1.0
Installed-Size: 10

Package: jq
Status: install ok installed
Version: 1.6-2.1
Installed-Size: 110
Description: a filter
 that goes on: here

Package: half
Status: deinstall ok config-files
Version: 3
"""


def test_packages_are_named_with_their_versions_newest_first(tmp_path: Path) -> None:
    site = tmp_path / "usr/local/lib/python3.11/site-packages"
    write(site / "old-1.0.dist-info/METADATA", "")
    since_ns = birth(tmp_path)
    image = take_image(tmp_path, since_ns=since_ns, now_ns=since_ns, mounts=())
    write(site / "numpy-2.1.0.dist-info/METADATA", "")
    write(site / "numpy-2.1.0.dist-info/RECORD", 'numpy/a.py,sha256=x,1000\n"odd,name",,\nnumpy/b.py,,24\n')
    birth(tmp_path)
    write(site / "torch_geometric-2.5.3+cu121.dist-info/METADATA", "")
    write(tmp_path / "opt/conda/conda-meta/scipy-1.11.3-py311h64a7726_0.json", "{}")
    shutil.rmtree(site / "old-1.0.dist-info")
    contents = measure_loss(tmp_path, since_ns=since_ns, image=image).contents
    assert [(part.name, part.detail) for part in contents.pip] == [
        ("torch_geometric", "2.5.3+cu121"),
        ("numpy", "2.1.0"),
    ]
    assert contents.pip[1].disk_bytes == 1024
    assert contents.pip[0].where == str(site)
    assert [(part.name, part.detail) for part in contents.conda] == [("scipy", "1.11.3")]
    assert [(part.name, part.detail, part.where) for part in contents.removed] == [("old", "1.0", "pip")]


def test_debian_packages_are_those_whose_list_of_files_is_new(tmp_path: Path) -> None:
    info = tmp_path / "var/lib/dpkg/info"
    write(info / "old.list", "")
    write(info / "gone:amd64.list", "")
    since_ns = birth(tmp_path)
    image = take_image(tmp_path, since_ns=since_ns, now_ns=since_ns, mounts=())
    for name in ("jq.list", "half.list", "jq.md5sums"):
        write(info / name, "")
    (info / "gone:amd64.list").unlink()
    write(tmp_path / "var/lib/dpkg/status", STATUS)
    contents = measure_loss(tmp_path, since_ns=since_ns, image=image).contents
    assert [(part.name, part.detail, part.disk_bytes) for part in contents.apt] == [("jq", "1.6-2.1", 110 * 1024)]
    assert [(part.name, part.where) for part in contents.removed] == [("gone", "apt")]


def test_models_notebooks_and_dotfiles(tmp_path: Path) -> None:
    hub = tmp_path / "root/.cache/huggingface/hub"
    write(hub / "models--meta-llama--Llama-3/blobs/abc", b"x" * 5000)
    (hub / "models--meta-llama--Llama-3/snapshots").mkdir()
    (hub / "models--meta-llama--Llama-3/snapshots/config.json").symlink_to("../blobs/abc")
    write(hub / "datasets--squad/blobs/d", b"y" * 100)
    write(tmp_path / "root/work/one.ipynb", "{}")
    write(tmp_path / "root/work/.ipynb_checkpoints/one-checkpoint.ipynb", "{}")
    write(tmp_path / "home/me/.config/tool/settings", "s" * 10)
    write(tmp_path / "home/me/.bash_history", "h" * 20)
    loss = measure_loss(tmp_path)
    models = {part.name: part.disk_bytes for part in loss.contents.models}
    assert models == {"meta-llama/Llama-3": 5000, "datasets/squad": 100}
    assert [part.name for part in loss.contents.notebooks] == [f"{tmp_path}/root/work/one.ipynb"]
    dotfiles = {os.path.relpath(part.name, tmp_path): part.disk_bytes for part in loss.contents.dotfiles}
    assert dotfiles == {"home/me/.config": 10, "home/me/.bash_history": 20}
    assert json.loads(json.dumps(loss.as_json()))["contents"]["models"][0]["where"] == str(hub)


# ---------------------------------------------------------------- repositories

git_needed = pytest.mark.skipif(not shutil.which("git"), reason="needs git to make repositories")


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository that is as its remote is."""
    origin, folder = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init")
    write(origin / "code.py", "pass")
    write(origin / "deep" / "more.py", "pass")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "first")
    git(tmp_path, "clone", str(origin), str(folder))
    return folder


@git_needed
def test_a_repository_that_is_on_its_remote_has_nothing_of_its_own(clone: Path) -> None:
    found = look_at(str(clone))
    assert (found.changed, found.staged, found.unpushed, found.stashed) == (0, False, (), False)
    assert found.remote == str(clone.parent / "origin")
    assert not found.nowhere_else


@pytest.mark.slow
@git_needed
def test_an_edit_and_a_removal_are_changes(clone: Path) -> None:
    write(clone / "code.py", "edited")
    (clone / "deep/more.py").unlink()
    assert look_at(str(clone)).changed == 2


@pytest.mark.slow
@git_needed
def test_what_is_staged_is_not_committed(clone: Path) -> None:
    write(clone / "deep/new.py", "new")
    git(clone, "add", ".")
    found = look_at(str(clone))
    assert (found.changed, found.staged) == (0, True)
    git(clone, "commit", "-m", "second")
    assert look_at(str(clone)).staged is False


@pytest.mark.slow
@git_needed
def test_commits_that_no_remote_has(clone: Path) -> None:
    write(clone / "code.py", "edited")
    git(clone, "commit", "-a", "-m", "mine")
    assert look_at(str(clone)).unpushed == ("main (differs from its remote copy)",)
    git(clone, "checkout", "-b", "idea")
    assert look_at(str(clone)).unpushed == ("idea (on no remote)", "main (differs from its remote copy)")
    git(clone, "pack-refs", "--all")
    git(clone, "push", "origin", "idea:idea")
    assert look_at(str(clone)).unpushed == ()


@pytest.mark.slow
@git_needed
def test_a_stash_and_a_repository_without_a_remote(clone: Path, tmp_path: Path) -> None:
    write(clone / "code.py", "edited")
    git(clone, "stash")
    assert look_at(str(clone)).stashed
    alone = tmp_path / "alone"
    alone.mkdir()
    git(alone, "init")
    write(alone / "a", "a")
    git(alone, "add", "a")
    git(alone, "commit", "-m", "only here")
    found = look_at(str(alone))
    assert (found.remote, found.unpushed) == ("", ("main (on no remote)",))


def test_damage_is_not_known_rather_than_clean(tmp_path: Path) -> None:
    write(tmp_path / ".git/HEAD", "ref: refs/heads/main\n")
    for index in (b"", b"DIRC\0\0\0\x04\0\0\0\x01", b"DIRC\0\0\0\x02\0\0\0\x05cut"):
        write(tmp_path / ".git/index", index)
        found = look_at(str(tmp_path))
        assert (found.changed, found.staged) == (None, None)


def test_a_password_in_a_remotes_address_is_not_told(tmp_path: Path) -> None:
    write(tmp_path / ".git/config", '[remote "origin"]\n\turl = https://me:secret@example.org/a@b/c.git\n')
    assert look_at(str(tmp_path)).remote == "https://example.org/a@b/c.git"


@git_needed
def test_the_loss_names_the_repositories_in_it(clone: Path) -> None:
    write(clone / "code.py", "edited")
    found = {one.path: one for one in measure_loss(clone.parent).contents.repositories}
    assert found.keys() == {str(clone), str(clone.parent / "origin")}
    assert isinstance(found[str(clone)], Repository)
    assert found[str(clone)].changed == 1
