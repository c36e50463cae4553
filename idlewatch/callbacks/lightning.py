"""`HoldPod` for PyTorch Lightning (the `lightning` package, or the older `pytorch_lightning`)."""

from __future__ import annotations

from typing import Any

from idlewatch.callbacks import PROGRESS_WITHIN_S, TrainingHold

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    from pytorch_lightning.callbacks import Callback


class HoldPod(Callback):  # type: ignore[misc]  # the package is the user's, not ours
    """Holds the Pod during fit, validate, test and predict."""

    def __init__(self, reason: str = "training (Lightning)", progress_within_s: float = PROGRESS_WITHIN_S) -> None:
        """`reason` is shown everywhere the hold is."""
        super().__init__()
        self._hold = TrainingHold(reason, progress_within_s)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A stage begins."""
        self._hold.begin()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A stage is over."""
        self._hold.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """A stage failed."""
        self._hold.end()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step."""
        self._hold.step()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a validation."""
        self._hold.step()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a test."""
        self._hold.step()

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of a prediction."""
        self._hold.step()
