"""What the doctor says: one line a thing, with how it stands and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from idlewatch.model import Json


class Standing(StrEnum):
    """How one thing stands."""

    OK = "ok"
    WARNING = "warning"
    UNPROVEN = "unproven"
    """Nothing speaks against it, and nobody has seen it work."""
    BROKEN = "will not work"


class Group(StrEnum):
    """What a line is about, in the order of the report."""

    POD = "this Pod"
    KEY = "the key and the API"
    SIGHT = "what sees use"
    SAVED = "what is saved"
    TOLD = "who is told"
    STARTED = "who starts it"
    DRILL = "the drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at."""

    group: Group
    name: str
    """A stable key within its group: `stop`, `signal:gpu`."""
    standing: Standing
    text: str
    remedy: str | None = None
    """What would help; only where it is not ok."""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return {
            "group": self.group.value,
            "name": self.name,
            "standing": self.standing.value,
            "text": self.text,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Lines:
    """Makes the lines of one group."""

    group: Group

    def ok(self, name: str, text: str) -> Line:
        """All is well."""
        return Line(group=self.group, name=name, standing=Standing.OK, text=text)

    def warning(self, name: str, text: str, remedy: str) -> Line:
        """It works, less well than it might."""
        return Line(group=self.group, name=name, standing=Standing.WARNING, text=text, remedy=remedy)

    def unproven(self, name: str, text: str, remedy: str) -> Line:
        """Nobody has seen it work."""
        return Line(group=self.group, name=name, standing=Standing.UNPROVEN, text=text, remedy=remedy)

    def broken(self, name: str, text: str, remedy: str) -> Line:
        """It will not work."""
        return Line(group=self.group, name=name, standing=Standing.BROKEN, text=text, remedy=remedy)


def works(lines: Sequence[Line]) -> bool:
    """Whether nothing was found that will not work."""
    return all(line.standing is not Standing.BROKEN for line in lines)
