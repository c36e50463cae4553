"""How far a save or a restore has come, and the look at whether it is still wanted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.model import Json

_ENTRY_WEIGHT: Final = 8 * 1024
"""Bytes whose copying takes about as long as the work around one entry."""
_LEAST_S: Final = 0.001
_EVERY: Final = 8 * 1024 * 1024


class SaveCancelled(SnapshotError):
    """It was ended because `cancelled` said so; nothing of it is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where it stands; `done_bytes` may pass `total_bytes` where files grow or a pass is added."""

    stage: str
    """`scan`, `write`, `verify`, `commit`, `restore` or `compare`."""
    done_bytes: int
    total_bytes: int
    """0 where it isn't known."""
    entries: int
    bytes_s: float = 0.0
    """Bytes a second since the stage began."""
    left_s: float | None = None
    """How long this stage will take at that rate; None: not known yet, or its end isn't."""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return asdict(self)


class Steps:
    """Counts work and calls out about every 8 MiB of it, so that neither call costs much."""

    def __init__(self, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._stage, self._total_bytes = "scan", 0
        self._done_bytes = self._entries = self._weight = 0
        self._began_s = time.monotonic()

    def stage(self, name: str, total_bytes: int) -> None:
        """Begin a stage. Raises SaveCancelled."""
        self._stage, self._total_bytes = name, total_bytes
        self._done_bytes = self._entries = 0
        self._began_s = time.monotonic()
        self._call_out()

    def add(self, done_bytes: int) -> None:
        """Count bytes, or with 0 an entry. Raises SaveCancelled."""
        if done_bytes:
            self._done_bytes += done_bytes
            self._weight += done_bytes
        else:
            self._entries += 1
            self._weight += _ENTRY_WEIGHT
        if self._weight >= _EVERY:
            self._call_out()

    def pause(self) -> None:
        """Count a folder that was walked. Raises SaveCancelled."""
        self._weight += _ENTRY_WEIGHT
        if self._weight >= _EVERY:
            self._call_out()

    def _call_out(self) -> None:
        self._weight = 0
        if self._cancelled():
            raise SaveCancelled(f"cancelled during {self._stage}")
        bytes_s = self._done_bytes / max(_LEAST_S, time.monotonic() - self._began_s)
        known = self._total_bytes and self._done_bytes
        self._progress(
            Progress(
                bytes_s=bytes_s,
                left_s=max(0, self._total_bytes - self._done_bytes) / bytes_s if known else None,
                stage=self._stage,
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                entries=self._entries,
            )
        )
