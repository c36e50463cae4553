"""
The way out for a GPU that can't be read: that nobody has one open.

UNKNOWN keeps a Pod up, and a GPU that is lost may stay unknown for good: the Pod would never stop. An hour after the
alarm that tells people of it, who has a GPU open is looked at; nobody but ourselves is a proof of idleness.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.gpu.holders import Holders, holders

if TYPE_CHECKING:
    from idlewatch.model import Json

LOOK_AFTER_S = 15 * 60.0 + 3600.0
"""The alarm comes after 15 min of blindness."""
COVERS_AT_MOST_S = 15.0
"""Between two looks a process could come and go; a context takes seconds to make, so a short gap hides no work."""


class OpenFiles:
    """Remembers since when GPUs could not be read, and looks who has one open once that is long."""

    def __init__(self, *, proc: Path = Path("/proc"), after_s: float = LOOK_AFTER_S) -> None:
        self._proc, self._after_s = proc, after_s
        self._since_s: float | None = None
        self._proven_s: float | None = None
        self.found: Holders | None = None
        """What the last look found; None where none was due."""
        self.covers_s = 0.0
        """Seconds up to the last look in which nobody had a GPU open."""

    def look(self, now_s: float, *, unseen: bool, reader_pid: int | None) -> dict[str, Json]:
        """The facts of a look at `now_s`; `unseen`: not every GPU could be read."""
        if not unseen:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        unseen_s = 0.0 if self._since_s is None else now_s - self._since_s
        due = unseen and unseen_s >= self._after_s
        self.found = holders(self._proc, self._ours(reader_pid)) if due else None
        self._prove(now_s)
        found = self.found
        names: Json = [*found.names] if found and not found.error else None
        return {"unseen_s": round(unseen_s, 3), "holders": names, "holders_error": found.error if found else None}

    def _prove(self, now_s: float) -> None:
        proven = self.found is not None and self.found.none
        gap_s = now_s - self._proven_s if proven and self._proven_s is not None else 0.0
        self.covers_s = gap_s if gap_s <= COVERS_AT_MOST_S else 0.0
        self._proven_s = now_s if proven else None

    @staticmethod
    def _ours(reader_pid: int | None) -> frozenset[int]:
        return frozenset({os.getpid()} if reader_pid is None else {os.getpid(), reader_pid})
