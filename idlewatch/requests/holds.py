"""
Reads the holds that people and programs have placed. Whatever lies in that folder, nothing raises, and no hold lasts.

One file a hold, as `hold.py` writes it. A file that makes no sense is reported and left where it is, and is not a
hold: else one stray file would keep a Pod up for ever.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.files import small_file
from idlewatch.model import Hold

if TYPE_CHECKING:
    from collections.abc import Iterable

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_PID_MAX = 1 << 22
"""The kernel's own upper limit: proc_sys_kernel(5), pid_max."""
_CLOCK_SLACK_S = 60.0
"""A hold that was placed while a slow tick ran lies a little ahead of that tick's instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedHold:
    """A hold that is over; `remove` takes its file away."""

    id: str
    who: str
    reason: str
    why: str
    """`expired`, `its process 123 has ended`, `its program has made no progress`, or `released`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableHold:
    """Something in the folder that is not a hold."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsRead:
    """What lies in the folder, in the order of the files' names."""

    active: tuple[Hold, ...] = ()
    ended: tuple[EndedHold, ...] = ()
    unreadable: tuple[UnreadableHold, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One file, understood."""

    hold: Hold
    pid_started: int | None
    progress_due_s: float | None = None
    """When it ends unless its program gets on."""


def read_holds(
    state_dir: Path, now_s: float, *, hold_max_s: float, proc: Path = Path("/proc"), known: Iterable[Hold] = ()
) -> HoldsRead:
    """
    Return the holds of this instant (CLOCK_BOOTTIME seconds). Never raises.

    No hold lasts longer than `hold_max_s` after it was placed. Those `known` from the last look whose files are gone
    are among the ended, as released. A missing folder holds nothing; one that can't be read is itself unreadable.
    """
    active: list[Hold] = []
    ended: list[EndedHold] = []
    unreadable: list[UnreadableHold] = []
    names = _names(state_dir / "holds", unreadable)
    for name in names:
        try:
            record = _record(state_dir / "holds" / name, now_s, hold_max_s)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            unreadable.append(UnreadableHold(name=_clean(name, 100), reason=_reason(error)))
            continue
        why = _end(record, now_s, proc)
        if why is None:
            active.append(record.hold)
        else:
            ended.append(_ended(record.hold, why))
    present = {hold.id for hold in active} | {hold.id for hold in ended} | {Path(name).stem for name in names}
    ended += [_ended(hold, "released") for hold in known if hold.id not in present]
    return HoldsRead(active=tuple(active), ended=tuple(ended), unreadable=tuple(unreadable))


def remove(state_dir: Path, ids: Iterable[str]) -> dict[str, OSError]:
    """
    Remove the files of these holds. Never raises.

    Returns those that can't be removed, with the error: they stay, and are found again.
    """
    stayed = {}
    for id_ in ids:
        if _ID.fullmatch(id_):
            try:
                (state_dir / "holds" / f"{id_}.json").unlink(missing_ok=True)
            except OSError as error:
                stayed[id_] = error
    return stayed


def _names(folder: Path, unreadable: list[UnreadableHold]) -> list[str]:
    """Return the files' names but for drafts, which begin with a dot."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        unreadable.append(UnreadableHold(name=folder.name, reason=_reason(error)))
        return []


def _record(path: Path, now_s: float, hold_max_s: float) -> _Record:
    """Return what a file says. Raises OSError, ValueError or RecursionError where it says nothing of sense."""
    if path.suffix != ".json" or not _ID.fullmatch(path.stem):
        raise ValueError("not a hold's name")
    data = json.loads(small_file(path))
    if not isinstance(data, dict) or data.get("version") != 1:
        raise ValueError("not a hold of version 1")
    if data.get("id") != path.stem:
        raise ValueError("its id is not its name")
    placed_s, pid = _instant(data, "placed_s"), _whole(data, "pid", 1, _PID_MAX)
    if placed_s > now_s + _CLOCK_SLACK_S:
        raise ValueError("placed in the future, so in another boot")
    hold = Hold(
        id=path.stem,
        who=_clean(data.get("who"), 80),
        reason=_clean(data.get("reason"), 200),
        until_s=min(_instant(data, "until_s"), placed_s + hold_max_s),
        pid=pid,
    )
    due_s = _progress_due_s(data, now_s)
    return _Record(hold=hold, pid_started=_whole(data, "pid_started", 0, 1 << 63), progress_due_s=due_s)


def _progress_due_s(data: dict[str, object], now_s: float) -> float | None:
    if data.get("progress_within_s") is None:
        return None
    progress_s = _instant(data, "progress_s")
    if progress_s > now_s + _CLOCK_SLACK_S:
        raise ValueError("it has made progress in the future")
    return progress_s + _instant(data, "progress_within_s")


def _instant(data: dict[str, object], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is not a number")  # noqa: TRY004  (a fault of the file, like the others)
    try:
        instant = float(value)
    except OverflowError:
        instant = math.inf
    if not math.isfinite(instant):
        raise ValueError(f"{key} is not a finite number")
    return instant


def _whole(data: dict[str, object], key: str, least: int, most: int) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} is not a whole number from {least} to {most}")
    return value


def _end(record: _Record, now_s: float, proc: Path) -> str | None:
    """Return why a hold is over; None where it is not."""
    if now_s >= record.hold.until_s:
        return "expired"
    if record.progress_due_s is not None and now_s >= record.progress_due_s:
        return "its program has made no progress"
    if record.hold.pid is not None and _gone(proc, record.hold.pid, record.pid_started):
        return f"its process {record.hold.pid} has ended"
    return None


def _gone(proc: Path, pid: int, started: int | None) -> bool:
    """Return whether a process has ended, also where its PID came back. What can't be read may be alive."""
    try:
        content = (proc / str(pid) / "stat").read_bytes()
        # proc_pid_stat(5): the state is field 3 and the start field 22; the name before them may hold anything.
        fields = content[content.rindex(b")") + 1 :].split()
        return fields[0] in {b"Z", b"X", b"x"} or (started is not None and int(fields[19]) != started)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, ValueError, IndexError):
        return False


def _ended(hold: Hold, why: str) -> EndedHold:
    return EndedHold(id=hold.id, who=hold.who, reason=hold.reason, why=why)


def _clean(value: object, longest: int) -> str:
    """
    Return text of others on one line, without what could steer a terminal or can't be written down.

    What is longer than `longest` characters ends in an ellipsis there.
    """
    text = value if isinstance(value, str) else ""
    clean = "".join(char for char in text[:1000] if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "not JSON"
    return _clean(str(error), 200)
