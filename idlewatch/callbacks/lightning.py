"""`HoldPod` for PyTorch Lightning (the `lightning` package, or the older `pytorch_lightning`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idlewatch.callbacks import AGREE_EVERY_STEPS, PROGRESS_WITHIN_S, TrainingHold

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    from pytorch_lightning.callbacks import Callback

CHECKPOINT = "idlewatch.ckpt"
"""Beside the trainer's own checkpoints; the next one replaces it. `fit(ckpt_path=…)` goes on from it."""


class HoldPod(Callback):  # type: ignore[misc]  # the package is the user's, not ours
    """Holds the Pod during fit, validate, test and predict, and in fit writes a checkpoint when asked for one."""

    def __init__(self, reason: str = "training (Lightning)", progress_within_s: float = PROGRESS_WITHIN_S) -> None:
        """`reason` is shown everywhere the hold is."""
        super().__init__()
        self._hold = TrainingHold(reason, progress_within_s)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A stage begins."""
        self._hold.begin(asks=stage == "fit" and trainer.is_global_zero)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A stage is over."""
        self._hold.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """A stage failed."""
        self._hold.end()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step."""
        self._hold.step()
        if self._is_asked(trainer, batch_idx):
            self._save(trainer)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a validation."""
        self._hold.step()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a test."""
        self._hold.step()

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a prediction."""
        self._hold.step()

    def _is_asked(self, trainer: Any, batch_idx: int) -> bool:
        if trainer.world_size == 1:
            return self._hold.asked
        if batch_idx % AGREE_EVERY_STEPS:
            return False
        return bool(trainer.strategy.broadcast(self._hold.asked))

    def _save(self, trainer: Any) -> None:
        folder = getattr(trainer.checkpoint_callback, "dirpath", None) or trainer.default_root_dir
        path = Path(folder) / CHECKPOINT
        try:
            trainer.save_checkpoint(path)
        except Exception as error:  # noqa: BLE001  (the training must not fail for our asking)
            self._hold.answer(f"{type(error).__name__}: {error}", ok=False)
        else:
            self._hold.answer(f"step {trainer.global_step} is in {path}")
