"""
A file in `requests/` by which a person asks something of the daemon, as the daemon reads it.

Only what was asked of this very daemon counts: one that is ended hard leaves its requests behind, and its successor
must not stop a Pod because of what somebody wanted an hour ago. What does not count is taken away, and said.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from idlewatch.files import small_file
from idlewatch.printable import printable

_SLACK_S = 60.0
"""A request that comes while a slow tick runs lies a little ahead of that tick's instant."""
_WHO_MAX = 80

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Asked:
    """What every request says."""

    who: str
    asked_s: float | None
    """When, CLOCK_BOOTTIME seconds; None: it does not say."""
    said: Mapping[str, Any]
    """All of it."""


def request_path(state_dir: Path, wants: str) -> Path:
    """Where a person's request lies; `wants`: what is asked for, in a word."""
    return state_dir / "requests" / f"{wants}.json"


class RequestFile(ABC, Generic[Request]):
    """The request that stands, tick by tick."""

    wants: ClassVar[str]
    """What is asked for, in a word."""

    def __init__(
        self, state_dir: Path, boot_key: str, *, began_s: float, began: datetime, refused: Callable[[str], object]
    ) -> None:
        """
        The daemon of this state folder began at `began_s` (CLOCK_BOOTTIME), `began`.

        `refused` is told what does not count, and why.
        """
        self._path, self._boot_key = request_path(state_dir, self.wants), boot_key
        self._began_s, self._began, self._refused = began_s, began, refused
        self._said = ""

    @abstractmethod
    def understood(self, asked: Asked) -> Request:
        """Make a request of what is said. Raises ValueError where it makes no sense."""

    def standing(self, now_s: float) -> Request | None:
        """The request that counts; one that does not is removed. Never raises."""
        try:
            asked = read(self._path, self._boot_key)
            request = self.understood(asked)
            self._must_be_ours(asked.asked_s, now_s)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self.refuse(error.strerror or "" if isinstance(error, OSError) else str(error))
            return None
        return request

    def refuse(self, why: str) -> None:
        """Take it away and say why, once for each; one that can't be removed is there again with each tick."""
        if why != self._said:
            self._refused(f"a request to {self.wants} does not count: {why}")
        self._said = "" if self.done() else why

    def done(self) -> bool:
        """Take it away; whether it is gone."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _must_be_ours(self, asked_s: float | None, now_s: float) -> None:
        """Raise ValueError where it was not asked of this daemon. Without its instant, the file's own time decides."""
        if asked_s is None:
            old = self._path.stat().st_mtime < self._began.timestamp()
        else:
            old = asked_s < self._began_s
            if asked_s > now_s + _SLACK_S:
                raise ValueError("it was asked for in the future, so in another boot")
        if old:
            raise ValueError("it was asked for before this daemon began; ask again")


def read(path: Path, boot_key: str) -> Asked:
    """What a file asks for. Raises OSError or ValueError where it asks nothing of this start."""
    raw = small_file(path)
    try:
        said = json.loads(raw)
        asked_s = None if said.get("asked_s") is None else number(said["asked_s"])
        who, known_key = printable(str(said["who"]))[:_WHO_MAX], said["boot_key"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it makes no sense") from None
    if known_key != boot_key:
        raise ValueError("it was asked for in another start of this Pod")
    return Asked(who, asked_s, said)


def number(value: object) -> float:
    """A finite number. Raises ValueError where it is none."""
    try:
        made = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        made = math.inf
    if not math.isfinite(made):
        raise ValueError("it makes no sense")
    return made
