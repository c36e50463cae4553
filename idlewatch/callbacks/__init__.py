"""
Holds for training frameworks: the Pod is held while `fit` or `train` runs and gets on.

    idlewatch.callbacks.lightning.HoldPod        for PyTorch Lightning's Trainer(callbacks=[…])
    idlewatch.callbacks.transformers.HoldPod     for Hugging Face's Trainer(callbacks=[…])

A training that makes no step for `progress_within_s` loses its hold, and is then judged by what it does. Before a stop
that comes all the same (a ceiling, `idlewatch stop`) it is asked for a checkpoint, and writes one at its next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch import hold

if TYPE_CHECKING:
    from pathlib import Path

PROGRESS_WITHIN_S = 3600.0
"""A validation pass or a checkpoint may take long; an hour without a step is a hang."""
AGREE_EVERY_STEPS = 20
"""Several processes that train one model write a checkpoint together: in which step, the first tells the others."""


class TrainingHold:
    """One hold at a time, from `begin` to `end`."""

    def __init__(self, reason: str, progress_within_s: float) -> None:
        """`reason` is shown everywhere the hold is."""
        self._reason, self._progress_within_s = reason, progress_within_s
        self._path: Path | None = None

    def begin(self, *, asks: bool) -> None:
        """Hold the Pod, and be asked for a checkpoint; where no daemon runs that is said once, and training goes on."""
        if self._path is None:
            self._path = hold.place_or_warn(self._reason, progress_within_s=self._progress_within_s, asks=asks)

    def step(self) -> None:
        """The training got on."""
        hold.progressed(self._path)

    @property
    def asked(self) -> bool:
        """Whether a checkpoint is wanted now."""
        return hold.asked(self._path)

    def answer(self, text: str, *, ok: bool = True) -> None:
        """The checkpoint is written, or could not be."""
        hold.answered(self._path, text, ok=ok)

    def end(self) -> None:
        """Let the Pod go."""
        path, self._path = self._path, None
        if path is not None:
            hold.release(path)
