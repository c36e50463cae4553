"""The text beside an archive: what ran and what was open is named, without secrets and without steering a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from idlewatch.pod.assembled import assembled
from idlewatch.pod.saving import with_key
from idlewatch.redact import MASK, Redactor
from idlewatch.settings import load
from idlewatch.settings.sources import Source
from idlewatch.snapshot.commands import command_line
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.notes import write_up
from idlewatch.snapshot.repositories import Repository
from idlewatch.snapshot.running import Program, command_lines, notebooks, programs, tmux
from tests.snapshot_trees import request, saved, write

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--api-key", SECRET],
        ["train", f"--api-key={SECRET}"],
        ["train", "--token", SECRET, "--epochs", "3"],
        ["env", f"HF_TOKEN={SECRET}", "train"],
        ["sh", "-c", f"WANDB_API_KEY={SECRET} exec python train.py"],
        ["sh", "-c", f"mysql --password '{SECRET}' -e x"],
        ["curl", "-H", f"Authorization: Bearer {SECRET}", "https://x.example"],
        ["curl", "-H", f"authorization: {SECRET}"],
        ["curl", "-H", f"X-Api-Key: {SECRET}"],
        ["curl", f"https://x.example/y?a=1&access_token={SECRET}&b=2"],
        ["git", "clone", f"https://user:{SECRET}@x.example/y.git"],
        ["python", "-c", f"run({{'api_key': '{SECRET}'}})"],
        ["jupyter", "lab", f"--ServerApp.token={SECRET}"],
    ],
)
def test_what_looks_like_a_secret_is_masked(argv: list[str]) -> None:
    line = command_line(argv, str)
    assert SECRET not in line
    assert MASK in line
    assert line.startswith(argv[0])


@pytest.mark.parametrize(
    "key", ["hf_abcdefghijklmnop", "sk-proj-abcdefghij12", "rpa_ABCDEFGHIJ12", "ghp_abcdefghijkl12"]
)
def test_keys_of_known_services_are_masked_wherever_they_stand(key: str) -> None:
    assert key not in command_line(["run", key, f"x:{key}"], str)


def test_what_is_known_to_be_secret_is_masked_and_the_rest_stays() -> None:
    clean = Redactor(["hunter2-known"]).clean
    argv = [
        "python",
        "train.py",
        "hunter2-known",
        "--lr",
        "0.1",
        "--max-token",
        "5",
        "--ssh-key",
        "/root/.ssh/id",
        "a b",
    ]
    line = command_line(argv, clean)
    assert line == f"python train.py '{MASK}' --lr 0.1 --max-token 5 --ssh-key /root/.ssh/id 'a b'"
    for long in ("x" * 100_000, "-" * 100_000, "a=" * 50_000, "--token " * 10_000, "://" * 30_000):
        assert len(command_line([long] * 3, str)) < 3000


def test_a_save_knows_what_is_secret_here(tmp_path: Path) -> None:
    here = assembled(load([Source(name="environment", variables={"WANDB_API_KEY": "hunter2-known"})]))
    asked = with_key(here, request(tmp_path, tmp_path))
    assert asked.clean("x hunter2-known y") == f"x {MASK} y"
    assert "clean" not in asked.as_json()


@contextmanager
def runs(*argv: str, **variables: str) -> Iterator[int]:
    """A process that waits until its stdin is closed."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *argv]
    with subprocess.Popen(command, env={**os.environ, **variables}, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_what_runs_is_told_with_its_folder_and_without_its_secrets() -> None:
    with runs("--password", SECRET, "visible") as pid:
        text = "\n".join(command_lines(programs(), str))
    (row,) = [line for line in text.splitlines() if line.startswith(f"{pid}\t")]
    assert row.split("\t")[1] == str(os.getpid())
    assert row.split("\t")[3] == str(Path.cwd())
    assert row.endswith((f"--password '{MASK}' visible", f"--password {MASK} visible"))
    assert SECRET not in text
    assert f"{os.getpid()}\t" not in text.replace(f"\t{os.getpid()}\t", "")


def test_notebooks_are_told_by_their_kernels_and_not_by_what_runs_in_them() -> None:
    with (
        runs("-f", "/x/kernel-1234.json", JPY_SESSION_NAME="/workspace/analysis.ipynb"),
        runs("child of a cell", JPY_SESSION_NAME="/workspace/other.ipynb"),
        runs("-f", "/x/kernel-5678.json"),
    ):
        found = [one for one in programs() if one.parent == os.getpid()]
    (part,) = notebooks(found, "/nowhere")
    assert "/workspace/analysis.ipynb\t" in part
    assert "other.ipynb" not in part


def test_what_was_open_in_the_browser_is_told_by_the_workspaces(tmp_path: Path) -> None:
    place = tmp_path / "root/.jupyter/lab/workspaces"
    document = {"data": {"factory": "Notebook", "path": "work/a\nb.ipynb"}}
    data = {"notebook:work/a.ipynb": document, "file-browser:cwd": {"path": "work"}, "x": {"data": {"path": "no"}}}
    write(place / "default-1.jupyterlab-workspace", json.dumps({"data": data, "metadata": {"id": "default"}}))
    for number, odd in enumerate(["", "[]", '{"data": 5}', '{"data": {"a": 5, "b": {"data": []}}}', "[" * 100_000]):
        write(place / f"odd-{number}.jupyterlab-workspace", odd)
    (part,) = notebooks([], str(tmp_path))
    assert part.splitlines()[1:] == ["work/a\\nb.ipynb"]


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
def test_the_layout_of_tmux_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "tmux-0"
    folder.mkdir(mode=0o700)
    socket = folder / "default"
    write(folder / "no socket")
    variables = {**os.environ, "SHELL": "/bin/sh"}
    call = ["tmux", "-f", "/dev/null", "-S", str(socket)]
    subprocess.run([*call, "new-session", "-d", "-s", "tränen", "-c", str(tmp_path), "cat"], check=True, env=variables)
    try:
        subprocess.run([*call, "split-window", "-t", "tränen", "-c", "/usr", "cat"], check=True, env=variables)
        (part,) = tmux(tmp_path)
        folder.chmod(0o777)
        assert not list(tmux(tmp_path)), "where anybody may put a socket, tmux would do what its maker says"
        folder.chmod(0o700)
    finally:
        subprocess.run([*call, "kill-server"], check=True)
    rows = [line.split("\t") for line in part.splitlines()[1:]]
    assert [(row[0], row[4], row[6]) for row in rows] == [("tränen", "0", str(tmp_path)), ("tränen", "1", "/usr")]
    assert {row[7] for row in rows} <= {"sh", "cat"}
    assert len({row[5] for row in rows}) == 2


def test_the_text_has_what_is_needed_without_idlewatch(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (meta := root / "opt/conda/conda-meta").mkdir(parents=True)
    write(meta / "numpy-2.1.0-py311_0.json")
    write(meta / "ca-certificates-2026.1.1-h1_0.json")
    write(root / "srv/-rf", "x")
    snapshot = saved(root, tmp_path / "volume")
    text = snapshot.archive_path.with_name(f"{snapshot.id}.txt").read_text()
    assert "# conda packages in " in text
    assert "ca-certificates=2026.1.1=h1_0\nnumpy=2.1.0=py311_0" in text
    assert f"zstd -dc {snapshot.archive} | tar -x" in text
    assert "# What ran" not in text, "another machine's disk"


def test_repositories_with_work_that_is_nowhere_else_are_named(tmp_path: Path) -> None:
    write(tmp_path / "root/x")
    snapshot = saved(tmp_path / "root", tmp_path / "volume")
    usual = {"staged": False, "stashed": False, "remote": "https://x.example/y", "changed_ns": 0}
    repositories = [
        Repository(path="/root/clean", changed=0, unpushed=(), **usual),  # type: ignore[arg-type]  # a test's own
        Repository(path="/root/mine", changed=3, unpushed=("main (on no remote)",), **usual),  # type: ignore[arg-type]  # the same
    ]
    text = write_up(snapshot, root="/nowhere", sites=[], repositories=repositories, live=False, clean=str)
    said = "/root/mine: 3 files changed since git last looked; branch main (on no remote) (remote: https://x.example/y)"
    assert said in text.splitlines()
    assert "/root/clean" not in text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a/ü b", "a/ü b"),
        ("a\nb\x1b[31m\t", "a\\nb\\x1b[31m\\t"),
        (os.fsdecode(b"latin-\xe9"), "latin-\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_path_is_shown_so_that_it_steers_no_terminal(path: str, text: str) -> None:
    assert shown(path) == text
    program = Program(1, 0, "root", path, ("cat", path), "")
    assert len("\n".join(command_lines([program], str)).splitlines()) == 2
