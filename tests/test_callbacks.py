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
from types import SimpleNamespace as Is
from idlewatch.callbacks.lightning import HoldPod
saved = []
def save(path):
    saved.append(str(path))
    if fails: raise RuntimeError("no space")
fails = False
trainer = Is(world_size=1, is_global_zero=True, global_step=400, default_root_dir="/ckpt", save_checkpoint=save,
             checkpoint_callback=None, strategy=Is(broadcast=lambda asked: asked))
pod = HoldPod("night run")
pod.setup(trainer, None, "fit"); show()
pod.on_train_batch_end(trainer, None, None, None, 1); show(saved)
ask(); pod.on_train_batch_end(trainer, None, None, None, 2); show(saved); show(answers())
fails = True
ask(); pod.on_train_batch_end(trainer, None, None, None, 3); show(answers())
trainer.world_size = 2
ask(); pod.on_train_batch_end(trainer, None, None, None, 5); show(len(saved))
pod.on_train_batch_end(trainer, None, None, None, 20); show(len(saved))
pod.teardown(trainer, None, "fit"); show()
pod.setup(trainer, None, "test"); show(); pod.on_exception(None, None, KeyboardInterrupt()); show()
"""
TRANSFORMERS = """
from types import SimpleNamespace as Is
from idlewatch.callbacks.transformers import HoldPod
pod = HoldPod("night run", progress_within_s=600)
args, state = Is(world_size=1, output_dir="/out"), Is(is_world_process_zero=True, global_step=7)
control = Is(should_save=False)
pod.on_train_begin(args, state, control, model=1); show()
pod.on_step_end(args, state, control); show(control.should_save)
ask(); pod.on_step_end(args, state, control); show(control.should_save)
pod.on_save(args, state, control); show(answers())
pod.on_train_end(args, state, control); show()
"""
SHOW = """
import glob, json, os
state_dir = os.environ["IDLEWATCH_STATE_DIR"]
def read(pattern):
    return [json.load(open(file)) for file in glob.glob(f"{state_dir}/{pattern}")]
def show(what=None):
    print(json.dumps(read("holds/*.json") if what is None else what))
def answers():
    return [(one["ok"], one["text"]) for one in read("requests/answer-*.json")]
def ask():
    for file in glob.glob(f"{state_dir}/requests/ask-*.json"):
        open(file.replace("ask-", "checkpoint-"), "w").write("{}")
"""


def run(folder: Path, packages: list[str], code: str, state_dir: Path) -> subprocess.CompletedProcess[str]:
    for package in packages:
        file = folder / package
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BASES[package])
    environment = environment_with({"IDLEWATCH_STATE_DIR": str(state_dir), "PYTHONPATH": str(folder)})
    command = [sys.executable, "-c", SHOW + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["lightning/pytorch/callbacks.py", "pytorch_lightning/callbacks.py"])
def test_lightning_holds_the_pod_from_setup_to_teardown_or_failure(tmp_path: Path, package: str) -> None:
    (tmp_path / "state").mkdir()
    done = run(tmp_path / "lib", [package], LIGHTNING, tmp_path / "state")
    assert done.stderr == ""
    told = [json.loads(line) for line in done.stdout.splitlines()]
    during, unasked, saved, answers, failed_answer, too_early, agreed, after, again, failed = told
    assert [(one["reason"], one["progress_within_s"]) for one in during] == [("night run", 3600.0)]
    assert unasked == []
    assert saved == ["/ckpt/idlewatch.ckpt"]
    assert answers == [[True, "step 400 is in /ckpt/idlewatch.ckpt"]]
    assert failed_answer == [[False, "RuntimeError: no space"]]
    assert (too_early, agreed) == (2, 3)
    assert len(again) == 1
    assert after == failed == []


def test_a_trainer_of_hugging_face_holds_the_pod_while_it_trains(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    done = run(tmp_path / "lib", ["transformers/__init__.py"], TRANSFORMERS, tmp_path / "state")
    assert done.stderr == ""
    during, unasked, asked, answers, after = (json.loads(line) for line in done.stdout.splitlines())
    assert [one["progress_within_s"] for one in during] == [600]
    assert (unasked, asked) == (False, True)
    assert answers == [[True, "step 7 is in /out"]]
    assert after == []


@pytest.mark.slow
def test_without_a_daemon_the_training_goes_on_and_is_told_once(tmp_path: Path) -> None:
    done = run(tmp_path / "lib", ["transformers/__init__.py"], TRANSFORMERS, tmp_path / "nowhere")
    assert done.returncode == 0
    assert done.stderr.count("no hold was placed") == 1
