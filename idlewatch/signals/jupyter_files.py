"""
What a Jupyter server's runtime file says: its port and its token; read in a thread, as a home may lie on a volume.

The file of a process is looked for by its PID where that process itself would have put it, never by listing folders,
so the files of processes that are gone are not even opened.

Sources: jupyter_server's `server_info` (jpserver-PID.json; nbserver-PID.json before it), and jupyter_core's
`jupyter_runtime_dir` for where it lies.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idlewatch.kernel import Key

_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a server's runtime file and its own environment say."""

    file: Mapping[str, Any] | None = field(default=None, repr=False)
    """None where none was found."""
    token: str = field(default="", repr=False)
    """JUPYTER_TOKEN of its own environment."""


@dataclass(frozen=True, slots=True)
class Of:
    """Whose file is wanted."""

    key: Key
    proc: Path
    user_id: int | None


class RuntimeFiles:
    """Keeps what was found; a file that was not found, or is in doubt, is looked for again at the next call."""

    def __init__(self) -> None:
        self._said: dict[Key, Said] = {}
        self._doubted: set[Key] = set()
        self._reading: _Reading | None = None

    @property
    def busy(self) -> bool:
        """Whether files are being read."""
        return self._reading is not None

    def of(self, wanted: Sequence[Of]) -> Mapping[Key, Said]:
        """Return what is known by now, and begin to read what is not."""
        if self._reading is not None and self._reading.ended:
            self._said |= self._reading.found
            self._reading = None
        elif self._reading is None:
            missing = [each for each in wanted if each.key in self._doubted or not self._has(each.key)]
            self._reading = _Reading(missing) if missing else None
            self._doubted.clear()
        keys = {each.key for each in wanted}
        self._said = {key: said for key, said in self._said.items() if key in keys}
        return self._said

    def doubt(self, key: Key) -> None:
        """What the file of this process said may no longer be true; it stands until it was read again."""
        self._doubted.add(key)

    def _has(self, key: Key) -> bool:
        return key in self._said and self._said[key].file is not None


class _Reading:
    """One thread that reads the files of some processes."""

    def __init__(self, wanted: Sequence[Of]) -> None:
        self.found: dict[Key, Said] = {}
        self._wanted = wanted
        self._thread = threading.Thread(target=self._run, name="reads runtime files", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        for each in self._wanted:
            self.found[each.key] = _read_of(each)


def _read_of(of: Of) -> Said:
    environment = _environment(of.proc, of.key[0])
    for folder in _runtime_folders(environment, of.user_id):
        for kind in ("jpserver", "nbserver"):
            file = _json(folder / f"{kind}-{of.key[0]}.json")
            if file is not None and file.get("pid") == of.key[0]:
                return Said(file=file, token=environment.get("JUPYTER_TOKEN", ""))
    return Said(token=environment.get("JUPYTER_TOKEN", ""))


def _environment(proc: Path, pid: int) -> dict[str, str]:
    """The variables that a process was started with; none where that is denied."""
    try:
        pairs = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    named = (os.fsdecode(pair).partition("=") for pair in pairs if b"=" in pair)
    return {name: value for name, _, value in named}


def _runtime_folders(environment: Mapping[str, str], user_id: int | None) -> list[Path]:
    home = environment.get("HOME") or _home(user_id)
    data = environment.get("XDG_DATA_HOME") or f"{home}/.local/share"
    told = [environment.get("JUPYTER_RUNTIME_DIR"), environment.get("JUPYTER_DATA_DIR")]
    folders = [told[0], f"{told[1]}/runtime" if told[1] else None, f"{data}/jupyter/runtime"]
    return [Path(folder) for folder in folders if folder and Path(folder).is_absolute()]


def _home(user_id: int | None) -> str:
    try:
        return "" if user_id is None else pwd.getpwuid(user_id).pw_dir
    except KeyError:
        return ""


def _json(path: Path) -> dict[str, Any] | None:
    """What a regular file of the right size holds; None where it is none, or holds something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold the thread
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        try:
            value = json.loads(file.read(_FILE_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None
