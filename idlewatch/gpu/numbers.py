"""
The numbers of the GPUs in reasons: `gpu0` is where the driver first listed a GPU, kept by its UUID.

The driver's own indices shift when a GPU is lost (koordinator-sh/koordinator#2706), and then `gpu0` in an alarm would
be another card than `gpu0` in the line before it.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idlewatch.gpu.line import GpuPoll

UNNAMED = "index "
"""How the UUID of a GPU begins that could not be asked for its own."""


class Numbers:
    """Remembers which GPU had which number."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}

    def of(self, gpus: Sequence[GpuPoll]) -> list[int]:
        """A number for each, no two the same."""
        taken = {self._known[gpu.uuid][0] for gpu in gpus if gpu.uuid in self._known}
        numbers = []
        for gpu in gpus:
            if gpu.uuid in self._known:
                numbers.append(self._known[gpu.uuid][0])
                continue
            number = gpu.index if gpu.index not in taken else next(free for free in count() if free not in taken)
            taken.add(number)
            numbers.append(number)
            if not gpu.uuid.startswith(UNNAMED):
                self._known[gpu.uuid] = (number, gpu.name)
        return numbers

    def gone(self, gpus: Sequence[GpuPoll]) -> list[str]:
        """`gpu1 NVIDIA H100` of each that was there once and is not among these."""
        here = {gpu.uuid for gpu in gpus}
        return [f"gpu{number} {name}" for uuid, (number, name) in self._known.items() if uuid not in here]
