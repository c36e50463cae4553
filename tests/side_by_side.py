"""Stories of several real Pods that live side by side, so that a test waits for the slowest of them only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

Steps = Iterator[None]
"""What happens in one Pod; between two steps others go on."""
_OVER = object()


def until(so: Callable[[], bool]) -> Steps:
    """Wait until it is so."""
    while not so():
        yield


@dataclass
class Story:
    """One Pod's; what is wrong with it fails its own test."""

    steps: Steps
    where: Callable[[], str] = field(default=lambda: "")
    """How far it came, in words."""
    over: bool = False
    error: BaseException | None = None

    def told(self) -> Steps:
        """Live it."""
        try:
            yield from self.steps
            self.over = True
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  (it fails the story's own test)
            self.error = error

    def right(self) -> None:
        """Fail where it was not as it should."""
        if self.error:
            raise self.error
        assert self.over, f"it did not come to its end: {self.where()}"


def all_live(lives: Sequence[Steps]) -> Callable[[], bool]:
    """What brings every life on by as much as it can go, and says whether all have come to their end."""
    going = list(lives)

    def step() -> bool:
        going[:] = [life for life in going if next(life, _OVER) is not _OVER]
        return not going

    return step
