"""
`hold -- CMD`: runs a command and holds the Pod while it runs and gets on.

The command is started unchanged on this terminal; its exit status is ours. The hold ends with it. It also ends, and the
command runs on, when the whole process tree has used less than 1 % of a core for the cap of IDLEWATCH_CONNECTED_FOR: a
server without requests is then judged like anything else, and a hung job does not keep the Pod for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from idlewatch import hold as placing
from idlewatch.durations import format_duration
from idlewatch.errors import Refused

_LOOK_EVERY_S = 10.0
_PROGRESS_SHARE = 0.01
"""Of one core, over the time since the last progress began to be looked for."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def run_held(
    command: Sequence[str], *, reason: str, who: str, for_s: float, state_dir: Path, no_progress_s: float
) -> int:
    """
    Run `command` under a hold of at most `for_s`; returns its exit status as a shell would (128 + n for a signal n).

    Raises Refused where no hold can be placed; then nothing is started.
    """
    try:
        path = placing.place(reason, for_s=for_s, pid=os.getpid(), who=who, state_dir=state_dir)
    except OSError as error:
        raise Refused(f"can't place a hold, so nothing was started: {error}") from error
    try:
        return _status(command, lambda: _let_go(path, no_progress_s), no_progress_s)
    finally:
        placing.release(path)


def _status(command: Sequence[str], let_go: Callable[[], None], no_progress_s: float) -> int:
    with _shutdown_requests() as requests:
        try:
            process = subprocess.Popen(command)
        except OSError as error:
            sys.stderr.write(f"idlewatch: can't start {command[0]}: {error.strerror}\n")
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        requests.pass_to(process)
        progress = _Progress(process.pid, no_progress_s)
        while True:
            try:
                status = process.wait(_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if progress.over():
                    let_go()
                continue
            return status if status >= 0 else 128 - status


def _let_go(path: Path, no_progress_s: float) -> None:
    if path.exists():
        placing.release(path)
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
