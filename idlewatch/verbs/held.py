"""
`hold -- CMD`: runs a command and holds the Pod while it runs and gets on.

The command is started unchanged on this terminal; its exit status is ours. The hold ends with it. It also ends, and the
command runs on, when the whole process tree has used less than 1 % of a core for the cap of IDLEWATCH_CONNECTED_FOR: a
server without requests is then judged like anything else, and a hung job does not keep the Pod for ever.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from idlewatch import hold as placing
from idlewatch.durations import format_duration
from idlewatch.errors import Refused
from idlewatch.verbs.faults import meaning

_LOOK_EVERY_S = 10.0
_PROGRESS_SHARE = 0.01
"""Of one core, over the time since the last progress began to be looked for."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_EXPECTED = frozenset({signal.SIGINT, signal.SIGPIPE, *_PASSED_ON})
"""Ends of a command that whoever is at its terminal brought about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How a held command ended."""

    status: int
    """As a shell would have it: 128 + n for a signal n, 127 or 126 where it could not be started."""
    started: bool = True


def run_held(
    command: Sequence[str],
    *,
    reason: str,
    who: str,
    for_s: float,
    state_dir: Path,
    no_progress_s: float,
    placed: Callable[[], None] = lambda: None,
) -> Held:
    """
    Run `command` under a hold of at most `for_s`; `placed` is called once that is there.

    Raises Refused where no hold can be placed; then nothing is started.
    """
    try:
        path = placing.place(reason, for_s=for_s, pid=os.getpid(), who=who, state_dir=state_dir)
    except OSError as error:
        raise Refused(f"can't place a hold, so nothing was started: {no_hold(error, state_dir)}") from error
    try:
        placed()
        return _run(command, lambda: _let_go(path, no_progress_s), no_progress_s)
    finally:
        _release(path)


def no_hold(error: OSError, state_dir: Path) -> str:
    """Why a hold could not be placed, and what helps."""
    if isinstance(error, placing.NoDaemonError):
        return f"no idlewatch daemon runs here (there is no folder {state_dir}); start it with `idlewatch run`"
    if isinstance(error, ProcessLookupError):
        return f"there is no process {error.filename}"
    return meaning(error, state_dir / "holds")


def _run(command: Sequence[str], let_go: Callable[[], None], no_progress_s: float) -> Held:
    with _shutdown_requests() as requests:
        try:
            process = subprocess.Popen(command)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"idlewatch: can't start {command[0]}: {_not_started(command[0], error)}\n")
            return Held(status=_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE, started=False)
        requests.pass_to(process)
        status = _ended(process, _Progress(process.pid, no_progress_s), let_go)
    if status >= 0:
        return Held(status=status)
    if -status not in _EXPECTED:
        sys.stderr.write(f"idlewatch: {command[0]} was ended by {_name(-status)}\n")
    return Held(status=128 - status)


def _ended(process: subprocess.Popen[bytes], progress: _Progress, let_go: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if progress.over():
                let_go()


def _not_started(name: str, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and os.path.lexists(name) and "/" in name:
        return "the interpreter that its first line names is not there, or the link leads nowhere"
    if number == errno.ENOENT:
        return "there is no such command"
    if number == errno.EACCES:
        return (
            "it is a folder" if Path(name).is_dir() else f"it is not executable; chmod +x {name}, or name its program"
        )
    if number == errno.ENOEXEC:
        return f"it is no program and its first line names none; write sh {name}, or whatever reads it"
    return str(error.strerror if isinstance(error, OSError) else error).lower()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _release(path: Path) -> None:
    """Where that fails, the hold ends with this process: the command and its status are worth more than an error."""
    with suppress(OSError):
        placing.release(path)


def _let_go(path: Path, no_progress_s: float) -> None:
    if path.exists():
        _release(path)
        span = format_duration(no_progress_s)
        sys.stderr.write(f"idlewatch: no progress for {span}: the hold has ended, the command runs on\n")


class _Requests:
    """Shutdown requests to us, passed on to the command; one that comes before it has started is kept for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []

    def came(self, number: int, _frame: object) -> None:
        """The handler."""
        if self._process is None:
            self._waiting.append(number)
        else:
            self._process.send_signal(number)

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        """From now on to `process`."""
        self._process = process
        for number in self._waiting:
            process.send_signal(number)


@contextmanager
def _shutdown_requests() -> Iterator[_Requests]:
    """
    In place before the command starts, so that none ends us alone.

    Ctrl-C reaches the command by itself, as part of this terminal's foreground; a handler that does nothing, unlike an
    ignored request, is not inherited by it.
    """
    requests = _Requests()
    before = {number: signal.signal(number, requests.came) for number in _PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """Whether a process tree still gets on, by the CPU that it uses."""

    def __init__(self, pid: int, no_progress_s: float) -> None:
        """0 seconds: never over."""
        import psutil

        self._tree = psutil.Process(pid)
        self._no_progress_s = no_progress_s
        self._since_s, self._cpu_s = time.monotonic(), 0.0

    def over(self) -> bool:
        """Whether the tree has used too little CPU for too long."""
        if not self._no_progress_s:
            return False
        now_s, cpu_s = time.monotonic(), self._used_s()
        if abs(cpu_s - self._cpu_s) > _PROGRESS_SHARE * max(now_s - self._since_s, _LOOK_EVERY_S):
            self._since_s, self._cpu_s = now_s, cpu_s
        return now_s - self._since_s > self._no_progress_s

    def _used_s(self) -> float:
        """CPU seconds of the tree and of its children that have ended."""
        import psutil

        used_s = 0.0
        try:
            for one in [self._tree, *self._tree.children(recursive=True)]:
                times = one.cpu_times()
                used_s += times.user + times.system
            times = self._tree.cpu_times()
            used_s += times.children_user + times.children_system
        except psutil.Error:
            return self._cpu_s + 1.0  # it changes under our eyes: that is progress
        return used_s
