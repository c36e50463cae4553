"""`HoldPod` for Hugging Face's Trainer (the `transformers` package)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import TrainerCallback

from idlewatch.callbacks import AGREE_EVERY_STEPS, PROGRESS_WITHIN_S, TrainingHold


class HoldPod(TrainerCallback):  # type: ignore[misc]  # the package is the user's, not ours
    """
    Holds the Pod during train, and has the trainer write its own kind of checkpoint when asked for one.

    A training that raises keeps its hold until its process ends or stands still.
    """

    def __init__(self, reason: str = "training (Transformers)", progress_within_s: float = PROGRESS_WITHIN_S) -> None:
        """`reason` is shown everywhere the hold is."""
        super().__init__()
        self._hold = TrainingHold(reason, progress_within_s)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training begins."""
        self._hold.begin(asks=state.is_world_process_zero)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step."""
        self._hold.step()
        if self._is_asked(args, state):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer has written a checkpoint, asked for or not: either way it is the newest."""
        self._hold.answer(f"step {state.global_step} is in {args.output_dir}")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step of an evaluation."""
        self._hold.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training is over."""
        self._hold.end()

    def _is_asked(self, args: Any, state: Any) -> bool:
        if args.world_size == 1:
            return self._hold.asked
        if state.global_step % AGREE_EVERY_STEPS:
            return False
        return _told_by_the_first(args, asked=self._hold.asked)


def _told_by_the_first(args: Any, *, asked: bool) -> bool:
    """What the first process knows, in all of them: one that alone began to save would wait for the others for ever."""
    torch = import_module("torch")
    told = torch.tensor([int(asked)], device=args.device)
    torch.distributed.broadcast(told, src=0)
    return bool(told.item())
