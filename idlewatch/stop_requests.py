"""
The request of a person to stop this Pod, `requests/stop.json`, as the daemon reads it.

Only what was asked of this very daemon counts: one that is ended hard leaves its request behind, and its successor
must not stop a Pod because of what somebody wanted an hour ago. What does not count is taken away, and said.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from idlewatch.durations import format_duration
from idlewatch.moment import StopRequest
from idlewatch.notify import printable

WARN_FOR_MOST_S = 24 * 3600.0
"""A request that warns for longer is none."""
_WARN_FOR_LEAST_S = 1.0
_SLACK_S = 60.0
"""A request that comes while a slow tick runs lies a little ahead of that tick's instant."""
_BYTES_MAX = 64 * 1024
_WHO_MAX = 80


def request_file(state_dir: Path) -> Path:
    """Where a person's request to stop lies."""
    return state_dir / "requests" / "stop.json"


def stop_request(state_dir: Path, boot_key: str) -> StopRequest | None:
    """The request of this start that lies there, whenever it was asked; one that makes no sense is none."""
    try:
        return _understood(request_file(state_dir), boot_key)[0]
    except (OSError, ValueError):
        return None


class Requests:
    """The request that stands, tick by tick."""

    def __init__(
        self,
        state_dir: Path,
        boot_key: str,
        *,
        began_s: float,
        began: datetime,
        refused: Callable[[str], object],
    ) -> None:
        """The daemon began at `began_s` (CLOCK_BOOTTIME), `began`; `refused` is told what does not count, and why."""
        self._path, self._boot_key, self._refused = request_file(state_dir), boot_key, refused
        self._began_s, self._began = began_s, began
        self._said = ""

    def standing(self, now_s: float) -> StopRequest | None:
        """The request that counts; one that does not is removed. Never raises."""
        try:
            request, asked_s = _understood(self._path, self._boot_key)
            self._must_be_ours(asked_s, now_s)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self._refuse(error.strerror or "" if isinstance(error, OSError) else str(error))
            return None
        return request

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

    def _refuse(self, why: str) -> None:
        """Once for each; one that can't be removed is there again with each tick."""
        if why != self._said:
            self._refused(f"a request to stop does not count: {why}")
        try:
            self._path.unlink(missing_ok=True)
            self._said = ""
        except OSError:
            self._said = why


def _understood(path: Path, boot_key: str) -> tuple[StopRequest, float | None]:
    """The request in a file, and when it was asked for. Raises OSError or ValueError where there is none."""
    content = _content(path)
    try:
        said = json.loads(content)
        warn_for_s, asked_s = _number(said["warn_for_s"]), said.get("asked_s")
        asked_s = None if asked_s is None else _number(asked_s)
        who, known_key = printable(str(said["who"]))[:_WHO_MAX], said["boot_key"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError("it makes no sense") from None
    if known_key != boot_key:
        raise ValueError("it was asked for in another start of this Pod")
    if not 0 <= warn_for_s <= WARN_FOR_MOST_S:
        raise ValueError(f"it warns for less than nothing or more than {format_duration(WARN_FOR_MOST_S)}")
    request = StopRequest(who=who, warn_for_s=max(_WARN_FOR_LEAST_S, warn_for_s), asked_s=asked_s or 0.0)
    return request, asked_s


def _content(path: Path) -> bytes:
    """A small regular file; a pipe would never answer. Raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        return os.read(descriptor, _BYTES_MAX)
    finally:
        os.close(descriptor)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)
