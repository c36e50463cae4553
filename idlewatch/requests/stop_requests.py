"""The request of a person to stop this Pod, `requests/stop.json`; which one counts is said in `request_files`."""

from __future__ import annotations

from pathlib import Path

from idlewatch.deciding.moment import StopRequest
from idlewatch.durations import format_duration
from idlewatch.requests.request_files import Asked, RequestFile, number, read, request_path

WANTS = "stop"
WARN_FOR_MOST_S = 24 * 3600.0
"""A request that warns for longer is none."""
_WARN_FOR_LEAST_S = 1.0


def request_file(state_dir: Path) -> Path:
    """Where a person's request to stop lies."""
    return request_path(state_dir, WANTS)


def stop_request(state_dir: Path, boot_key: str) -> StopRequest | None:
    """The request of this start that lies there, whenever it was asked; one that makes no sense is none."""
    try:
        return _understood(read(request_file(state_dir), boot_key))
    except (OSError, ValueError):
        return None


class Requests(RequestFile[StopRequest]):
    """The request to stop that stands, tick by tick."""

    wants = WANTS

    def understood(self, asked: Asked) -> StopRequest:
        """See the base."""
        return _understood(asked)


def _understood(asked: Asked) -> StopRequest:
    """The request; raises ValueError where it makes no sense."""
    warn_for_s = number(asked.said.get("warn_for_s"))
    if not 0 <= warn_for_s <= WARN_FOR_MOST_S:
        raise ValueError(f"it warns for less than nothing or more than {format_duration(WARN_FOR_MOST_S)}")
    return StopRequest(who=asked.who, warn_for_s=max(_WARN_FOR_LEAST_S, warn_for_s), asked_s=asked.asked_s or 0.0)
