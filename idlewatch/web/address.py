"""Where the page is reached, and whether one is served now: a lock that goes with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.web.keys import FOLDER, folder_of

_FILE = "served"
_TRIES, _TRIED_EVERY_S = 5, 0.05


def address(pod_id: str | None, host: str, port: int) -> str:
    """Return the page's address without a path; through RunPod's proxy in a Pod, whose port must be exposed as HTTP.

    Source of the form: RunPod's documentation, "Expose ports": `https://POD_ID-PORT.proxy.runpod.net`.
    """
    if pod_id:
        return f"https://{pod_id}-{port}.proxy.runpod.net"
    named = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  (a comparison, nothing is bound)
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


@contextmanager
def serving(state_dir: Path, url: str) -> Iterator[None]:
    """Say that the page is served at `url` while the block runs. Raises Refused where another is served already."""
    descriptor = os.open(folder_of(state_dir) / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, url.encode())
        yield
    except BlockingIOError:
        raise Refused(f"the page is served already for {state_dir}; `idlewatch web --link` prints its link") from None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError where another page has it; somebody who only looks has it for an instant."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_TRIED_EVERY_S)
    raise BlockingIOError


def served_at(state_dir: Path) -> str | None:
    """Return the address of the page that is served now; None where none is. Never blocks, never raises."""
    try:
        descriptor = os.open(state_dir / FOLDER / _FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(descriptor, 500).decode(errors="replace") or None
    else:
        return None
    finally:
        os.close(descriptor)
