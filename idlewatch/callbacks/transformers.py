"""`HoldPod` for Hugging Face's Trainer (the `transformers` package)."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from idlewatch.callbacks import PROGRESS_WITHIN_S, TrainingHold


class HoldPod(TrainerCallback):  # type: ignore[misc]  # the package is the user's, not ours
    """Holds the Pod during train; a training that raises keeps its hold until its process ends or stands still."""

    def __init__(self, reason: str = "training (Transformers)", progress_within_s: float = PROGRESS_WITHIN_S) -> None:
        """`reason` is shown everywhere the hold is."""
        super().__init__()
        self._hold = TrainingHold(reason, progress_within_s)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training begins."""
        self._hold.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step."""
        self._hold.step()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step of an evaluation."""
        self._hold.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training is over."""
        self._hold.end()
