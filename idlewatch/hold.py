"""
Keeps idlewatch from stopping this Pod while a program works: `with hold("training"): ...`

This one file is for programs in the Pod. It needs Python 3.9 or newer and nothing else, and it imports nothing of
idlewatch, so that it can be copied beside any script. All it does is write one file into the daemon's state folder
and take it away again; the daemon does the rest. A hold always ends: when it is released, when its process ends, when
its time is over, at the daemon's IDLEWATCH_HOLD_MAX, and, where `progress_within_s` was asked for, when nobody has
called `progressed` for so long: a hung job then does not keep the Pod.

A program can also ask to be told before the Pod is saved and stopped, so that it can write a checkpoint: by a hold with
`asks=True`, or by `ask_me`, which holds nothing. Then `asked` says when, and `answered` says that it is done.

It reads IDLEWATCH_STATE_DIR from the environment by itself, unlike the rest of idlewatch, where only the settings do:
a copy of this file has no settings to ask, and must find the same folder as the daemon.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import unicodedata
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_FOR_S = 24 * 3600.0
"""How long a hold lasts that names no time, in seconds."""

PROGRESS_EVERY_S = 10.0
"""`progressed` may be called as often as one likes; it writes no more often than this."""

_REASON_MAX = 200
_WHO_MAX = 80
_warned: set[int] = set()
"""The process that has said once that no hold could be placed."""
_progressed_s: dict[str, float] = {}
"""File of a hold -> when its progress was last written."""


class NoDaemonError(FileNotFoundError):
    """There is no state folder: no idlewatch daemon runs here, so nobody would see the hold."""


@contextmanager
def hold(
    reason: str,
    for_s: float | None = None,
    state_dir: str | os.PathLike[str] | None = None,
    *,
    progress_within_s: float | None = None,
    asks: bool = False,
) -> Iterator[Path | None]:
    """
    Hold the Pod while the block runs and this process lives, for `for_s` seconds (None: 24 h) at the most.

    Gives the hold's file, or None where no hold could be placed: work must not fail because the daemon is missing, so
    that is said on standard error, once a process. With `progress_within_s` the block must call `progressed` with that
    file at least so often. With `asks` it is asked for a checkpoint before a stop, see `asked`. Raises ValueError where
    a span is no positive number.
    """
    path = place_or_warn(reason, for_s=for_s, state_dir=state_dir, progress_within_s=progress_within_s, asks=asks)
    placed_by = os.getpid()
    try:
        yield path
    finally:
        # A forked child that leaves the block must not take its parent's hold away.
        if path is not None and os.getpid() == placed_by:
            with suppress(OSError):
                release(path)


def place(
    reason: str,
    *,
    for_s: float | None = None,
    pid: int | None = None,
    who: str | None = None,
    state_dir: str | os.PathLike[str] | None = None,
    progress_within_s: float | None = None,
    asks: bool = False,
) -> Path:
    """
    Place a hold for `for_s` seconds (None: 24 h) and return its file, which `release` takes.

    With `pid` the hold also ends with that process, with `progress_within_s` also where `progressed` is not called for
    so long. With `asks` that process, or this one, is asked for a checkpoint before a stop, also once the hold is over.
    Raises NoDaemonError where there is no state folder,
    ProcessLookupError where there is no such process, another OSError where the file can't be written, and ValueError
    where `for_s` is no positive number.
    """
    span_s = _checked_span(DEFAULT_FOR_S if for_s is None else for_s)
    folder = _holds_folder(state_dir)
    placed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    record = {
        "version": 1,
        "id": name,
        "who": _clean(who if who is not None else _program(), _WHO_MAX),
        "reason": _clean(reason, _REASON_MAX),
        "until_s": placed_s + span_s,
        "placed_s": placed_s,
        "pid": pid,
        "pid_started": None if pid is None else _started(pid),
    }
    if progress_within_s is not None:
        record["progress_within_s"] = _checked_span(progress_within_s)
        record["progress_s"] = placed_s
    if asks:
        _write_ask(folder.parent, name, str(record["who"]), str(record["reason"]), os.getpid() if pid is None else pid)
    return _write(folder, name, json.dumps(record))


def ask_me(
    reason: str,
    *,
    pid: int | None = None,
    who: str | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """
    Ask to be told, until this process (or `pid`) ends, when a checkpoint is wanted. It does not hold the Pod.

    Returns the file that `asked`, `answered` and `release` take. Raises as `place` does.
    """
    name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    said_by = _clean(who if who is not None else _program(), _WHO_MAX)
    state = _state_folder(state_dir)
    return _write_ask(state, name, said_by, _clean(reason, _REASON_MAX), os.getpid() if pid is None else pid)


def asked(path: str | os.PathLike[str] | None) -> bool:
    """
    Return whether a checkpoint is wanted now of whoever has placed the hold, or the request, at `path`.

    Cheap, never raises, and may be asked in every step of a training; None is fine, as for `progressed`.
    """
    return path is not None and os.access(_about(path, "checkpoint"), os.F_OK)


def answered(path: str | os.PathLike[str] | None, text: str = "", *, ok: bool = True) -> None:
    """
    Say that the checkpoint is written (`text`: where, in words), or with `ok=False` that it could not be. Never raises.

    Nothing waits for a second answer, and one that nobody has asked for does no harm.
    """
    if path is None:
        return
    with suppress(OSError):
        request, answer = _about(path, "checkpoint"), _about(path, "answer")
        if os.access(request, os.F_OK):
            _write(answer.parent, answer.stem, json.dumps({"version": 1, "ok": ok, "text": _clean(text, _REASON_MAX)}))
            request.unlink()


def progressed(path: str | os.PathLike[str] | None) -> None:
    """
    Say that the work under a hold gets on. Cheap, never raises, and may be called in every step of a training.

    None, as `hold` gives it where no hold could be placed, is fine.
    """
    if path is None:
        return
    now_s, key = time.clock_gettime(time.CLOCK_BOOTTIME), os.fspath(path)
    if now_s - _progressed_s.get(key, -PROGRESS_EVERY_S) < PROGRESS_EVERY_S:
        return
    _progressed_s[key] = now_s
    file = Path(path)
    with suppress(OSError, ValueError):  # released, or the daemon's folder is gone: the work must not fail for it
        record = json.loads(file.read_text(encoding="utf-8"))
        _write(file.parent, file.stem, json.dumps({**record, "progress_s": now_s}))


def release(path: str | os.PathLike[str]) -> None:
    """End a hold and its being asked. One that has ended already is fine; raises OSError where its file stays."""
    Path(path).unlink(missing_ok=True)
    _about(path, "ask").unlink(missing_ok=True)


def place_or_warn(
    reason: str,
    *,
    for_s: float | None = None,
    state_dir: str | os.PathLike[str] | None = None,
    progress_within_s: float | None = None,
    asks: bool = False,
) -> Path | None:
    """Place a hold of this process as `hold` does; None, said once on standard error, where that can't be done."""
    try:
        return place(
            reason,
            for_s=for_s,
            pid=os.getpid(),
            state_dir=state_dir,
            progress_within_s=progress_within_s,
            asks=asks,
        )
    except (OSError, AttributeError) as error:  # AttributeError: a system without CLOCK_BOOTTIME is no Pod
        _warn(error)
        return None


def _warn(error: Exception) -> None:
    if os.getpid() not in _warned and sys.stderr is not None:
        _warned.add(os.getpid())
        with suppress(OSError, ValueError):
            why = _words(error)
            sys.stderr.write(f"idlewatch: no hold was placed, the Pod may be stopped when it looks idle: {why}\n")


def _words(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    as_whom = "; run this as root, or as the daemon's user" if isinstance(error, PermissionError) else ""
    return f"{error.filename or 'the hold'}: {error.strerror}{as_whom}"


def _checked_span(for_s: float) -> float:
    if not math.isfinite(for_s) or for_s <= 0:
        raise ValueError(f"a hold needs a positive number of seconds, not {for_s!r}")
    return float(for_s)


def _holds_folder(state_dir: str | os.PathLike[str] | None) -> Path:
    folder = _state_folder(state_dir) / "holds"
    folder.mkdir(exist_ok=True)
    return folder


def _state_folder(state_dir: str | os.PathLike[str] | None) -> Path:
    state = Path(state_dir or os.environ.get("IDLEWATCH_STATE_DIR") or "/run/idlewatch")
    if not state.is_dir():
        raise NoDaemonError(2, "no idlewatch daemon runs here (there is no such folder)", str(state))
    return state


def _write_ask(state: Path, name: str, who: str, reason: str, pid: int) -> Path:
    folder = state / "requests"
    folder.mkdir(exist_ok=True)
    record = {"version": 1, "id": name, "who": who, "reason": reason, "pid": pid, "pid_started": _started(pid)}
    return _write(folder, f"ask-{name}", json.dumps(record))


def _about(path: str | os.PathLike[str], what: str) -> Path:
    """Return the file of `requests/` that is about the hold or request at `path`."""
    file = Path(path)
    return file.parent.parent / "requests" / f"{what}-{file.stem.removeprefix('ask-')}.json"


def _write(folder: Path, name: str, text: str) -> Path:
    """Write the file under a name that the daemon passes over, then rename it: it is seen whole or not at all."""
    draft, path = folder / f".{name}.tmp", folder / f"{name}.json"
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        return draft.rename(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


def _started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: field 22 of proc_pid_stat(5). PIDs come back."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process", str(pid)) from None
    # The name in parentheses may hold anything, so the fields are counted from the last one of these.
    return int(stat[stat.rindex(b")") + 1 :].split()[19])


def _program() -> str:
    name = Path(sys.argv[0] if sys.argv else "").name
    return name if name and not name.startswith("-") else "python"


def _clean(text: str, longest: int) -> str:
    """Return `text` on one line, without what could steer a terminal, cut with an ellipsis at `longest` characters."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    clean = "".join(char for char in spaced if unicodedata.category(char) not in {"Cc", "Cf", "Cs"})
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"
