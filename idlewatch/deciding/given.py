"""What a step of the end sequence is told, beside what is remembered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idlewatch.deciding.ceilings import Forced
from idlewatch.deciding.moment import Moment, idle_after_s
from idlewatch.model import Finding, Limits


@dataclass(frozen=True, slots=True)
class Given:
    """One tick's findings and its moment, with the owner's limits: what each step of the end sequence is told."""

    findings: Sequence[Finding]
    moment: Moment
    limits: Limits
    standing: Sequence[Forced]
    """The ceilings and requests of now."""
    observed: Sequence[str]
    """Names of those for which `observe` would have stopped the Pod already."""

    @property
    def forced(self) -> Forced | None:
        """What beats evidence now: the first that `observe` has not told of yet, else the first."""
        new = [one for one in self.standing if one.name not in self.observed]
        return next(iter([*new, *self.standing]), None)

    @property
    def idle_after_s(self) -> float:
        """The quiet time that is asked for now; 0: idleness stops nothing."""
        return idle_after_s(self.moment, self.limits)

    def stands(self, name: str) -> bool:
        """Whether the ceiling or request of this name is one of now's."""
        return any(one.name == name for one in self.standing)

    def words(self, does: str, would: str) -> str:
        """What is said of what is done, or would be."""
        return would if self.moment.observing else does
