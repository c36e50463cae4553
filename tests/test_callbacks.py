"""The frameworks' callbacks, called as the frameworks call them; the packages themselves are stood in for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch.settings import environment_with

BASES = {
    "lightning/pytorch/callbacks.py": "class Callback: ...",
    "pytorch_lightning/callbacks.py": "class Callback: ...",
    "transformers/__init__.py": "class TrainerCallback: ...",
}
LIGHTNING = """
from idlewatch.callbacks.lightning import HoldPod
pod = HoldPod("night run")
pod.setup(None, None, "fit"); show(); pod.on_train_batch_end(1, batch=2); pod.on_validation_batch_end()
pod.teardown(None, None, "fit"); show()
pod.setup(None, None, "test"); show(); pod.on_exception(None, None, KeyboardInterrupt()); show()
"""
TRANSFORMERS = """
from idlewatch.callbacks.transformers import HoldPod
pod = HoldPod("night run", progress_within_s=600)
pod.on_train_begin(None, None, None, model=1); show(); pod.on_step_end(None, None, None)
pod.on_train_end(None, None, None); show()
"""
SHOW = """
import glob, json, os
def show():
    print(json.dumps([json.load(open(f)) for f in glob.glob(os.environ["IDLEWATCH_STATE_DIR"] + "/holds/*.json")]))
"""


def run(folder: Path, packages: list[str], code: str, state_dir: Path) -> subprocess.CompletedProcess[str]:
    for package in packages:
        file = folder / package
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BASES[package])
    environment = environment_with({"IDLEWATCH_STATE_DIR": str(state_dir), "PYTHONPATH": str(folder)})
    command = [sys.executable, "-c", SHOW + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["lightning/pytorch/callbacks.py", "pytorch_lightning/callbacks.py"])
def test_lightning_holds_the_pod_from_setup_to_teardown_or_failure(tmp_path: Path, package: str) -> None:
    (tmp_path / "state").mkdir()
    done = run(tmp_path / "lib", [package], LIGHTNING, tmp_path / "state")
    during, after, again, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert [(one["reason"], one["progress_within_s"]) for one in during] == [("night run", 3600.0)]
    assert len(again) == 1
    assert after == failed == []


def test_a_trainer_of_hugging_face_holds_the_pod_while_it_trains(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    done = run(tmp_path / "lib", ["transformers/__init__.py"], TRANSFORMERS, tmp_path / "state")
    during, after = (json.loads(line) for line in done.stdout.splitlines())
    assert [one["progress_within_s"] for one in during] == [600]
    assert after == []


def test_without_a_daemon_the_training_goes_on_and_is_told_once(tmp_path: Path) -> None:
    done = run(tmp_path / "lib", ["transformers/__init__.py"], TRANSFORMERS, tmp_path / "nowhere")
    assert done.returncode == 0
    assert done.stderr.count("no hold was placed") == 1
