"""
The daemon's end of the GPU reader: one child process at a time, a pipe, and what its silence means.

`take` never waits. A child that says nothing for three periods is hung, and everything that follows happens over
later calls: its standard input is closed (it leaves after the NVML call that it is in), then SIGTERM, then SIGKILL,
a grace apart. While an old child can't be ended (it sits in the driver, uninterruptible) no new one is started: a
second one would hang in the same place. A child that ended is replaced after 1, 2, 4 … 60 s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from idlewatch.children.interpreter import ours
from idlewatch.errors import SignalError
from idlewatch.gpu import REOPEN
from idlewatch.gpu.line import Poll, parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_PERIODS = 3
BACKOFF_AT_MOST_S = 60.0
READ_AT_MOST_BYTES = 1 << 20
LINE_AT_MOST_BYTES = 1 << 18
STDERR_KEPT_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What the reader said since the last call, and how it is."""

    polls: tuple[Poll, ...] = ()
    """New polls in the order they were made; none of them is an error."""
    age_s: float | None = None
    """Seconds since the newest poll was made; None before the first."""
    error: str | None = None
    """Why there may be nothing to learn now, in words; None: healthy."""
    pid: int | None = field(default=None, compare=False)
    """The reader's process, which has GPUs open itself; None where there is none."""


@dataclass(slots=True)
class _Running:
    """One child process and what is known of it."""

    process: subprocess.Popen[bytes]
    started_s: float
    heard_s: float | None = None
    rest: bytes = b""
    stderr: bytes = b""
    asked: list[str] = field(default_factory=list)
    """What was done to end it: `end of input`, `SIGTERM`, `SIGKILL`."""


class GpuReader:
    """
    Owns the child process; starts it at the first `take`.

    `argv` is the child's command (`gpm` has no part in it then); `gpm` asks MIG instances how busy they are;
    `grace_s` lies between two steps of ending it, longer than the 45 s that a call to a GPU with a dead firmware
    takes; `start_s` is granted for opening NVML, which wakes every GPU; `rest_s` is the longest wait before a reader
    that ended is replaced.
    """

    def __init__(
        self,
        *,
        argv: Sequence[str] | None = None,
        poll_s: float = 5.0,
        gpm: bool = False,
        grace_s: float = 60.0,
        start_s: float = 30.0,
        rest_s: float = BACKOFF_AT_MOST_S,
    ) -> None:
        # -P: a pynvml.py in the folder that the daemon was started from must not be taken for the real one.
        own = ours("idlewatch.gpu.child", str(poll_s), *(["--gpm"] if gpm else []))
        self._argv = list(argv or own)
        self._silent_s = SILENT_PERIODS * poll_s
        self._grace_s = grace_s
        self._start_s, self._rest_s = start_s, rest_s
        self._child: _Running | None = None
        self._starts_s = 0.0
        self._delay_s = 1.0
        self._why: str | None = None
        self._newest_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.process.pid if self._child else None

    def take(self, now_s: float) -> Taken:
        """Everything since the last call. Never waits; raises nothing for what the child does."""
        return replace(self._taken(now_s), pid=self.pid)

    def _taken(self, now_s: float) -> Taken:
        if self._child is None and now_s >= self._starts_s:
            self._start(now_s)
        if self._child is None:
            return Taken(age_s=self._age_s(now_s), error=self._resting(now_s))
        ended = self._child.process.poll()  # before the pipe is drained: nothing comes after the last line
        polls = self._drain(self._child, now_s)
        if ended is not None:
            self._bury(self._child, ended, now_s)
            return Taken(polls=polls, age_s=self._age_s(now_s), error=self._resting(now_s))
        return Taken(polls=polls, age_s=self._age_s(now_s), error=self._silence(self._child, now_s) or self._why)

    def close(self) -> None:
        """End the child: close its input, then SIGTERM. Waits at most 3 s; one that is stuck in the driver is left."""
        child, self._child = self._child, None
        if child is None:
            return
        _close(child.process.stdin)
        try:
            child.process.wait(2.0)
        except subprocess.TimeoutExpired:
            child.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)
        _close(child.process.stdout)
        _close(child.process.stderr)

    def _age_s(self, now_s: float) -> float | None:
        return None if self._newest_s is None else max(now_s - self._newest_s, 0.0)

    def _start(self, now_s: float) -> None:
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                bufsize=0,
                start_new_session=True,  # Ctrl-C at the daemon's terminal is for the daemon
            )
        except OSError as error:
            self._rest(f"GPU reader can't be started: {error.strerror}", now_s)
            return
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(_open(pipe).fileno(), False)
        self._child = _Running(process=process, started_s=now_s)
        self._why = self._why or "GPU reader is starting: no line yet"

    def _drain(self, child: _Running, now_s: float) -> tuple[Poll, ...]:
        child.stderr = (child.stderr + _available(_open(child.process.stderr)))[-STDERR_KEPT_BYTES:]
        *lines, child.rest = (child.rest + _available(_open(child.process.stdout))).split(b"\n")
        if len(child.rest) > LINE_AT_MOST_BYTES:
            lines, child.rest = [*lines, child.rest], b""
        heard = [poll for line in lines if (poll := self._heard(line)) is not None]
        if lines:
            child.heard_s = now_s
        if heard:
            self._newest_s = heard[-1].at_s
        return tuple(heard)

    def _heard(self, line: bytes) -> Poll | None:
        """The poll in a line; what it says instead of one becomes the state until a good line comes."""
        try:
            poll = parsed(line)
        except SignalError as error:
            self._why = str(error)
            return None
        self._why = poll.error
        if poll.error is not None:
            return None
        if not poll.settles_in_s:
            self._delay_s = 1.0
        return poll

    def _silence(self, child: _Running, now_s: float) -> str | None:
        """What a silent child is told and called; None while it talks."""
        since_s, grant_s = (
            (child.started_s, max(self._start_s, self._silent_s))
            if child.heard_s is None
            else (child.heard_s, self._silent_s)
        )
        silent_s = now_s - since_s
        if silent_s <= grant_s:
            return None
        self._ask_to_end(child, int((silent_s - grant_s) / self._grace_s) if self._grace_s else 3)
        told = f", told to end ({child.asked[-1]})" if child.asked else ""
        return f"GPU reader hung: no line for {silent_s:.0f} s{told}"

    def _ask_to_end(self, child: _Running, graces: int) -> None:
        """One step further at each grace that passed: end of input, SIGTERM, SIGKILL."""
        if graces >= 1 and not child.asked:
            _close(child.process.stdin)
            child.asked.append("end of input")
        elif graces >= 2 and len(child.asked) == 1:
            child.process.terminate()
            child.asked.append("SIGTERM")
        elif graces >= 3 and len(child.asked) == 2:
            child.process.kill()
            child.asked.append("SIGKILL")

    def _bury(self, child: _Running, code: int, now_s: float) -> None:
        for pipe in (child.process.stdin, child.process.stdout, child.process.stderr):
            _close(pipe)
        self._child = None
        anew = self._why or "a GPU could not be read; the GPU reader opens NVML anew"
        self._rest(anew if code == REOPEN else _epitaph(code, child), now_s)

    def _rest(self, why: str, now_s: float) -> None:
        self._why = why
        self._starts_s = now_s + self._delay_s
        self._delay_s = min(self._delay_s * 2, self._rest_s)

    def _resting(self, now_s: float) -> str:
        return f"{self._why}; starts again in {max(self._starts_s - now_s, 0.0):.0f} s"


def _epitaph(code: int, child: _Running) -> str:
    """How a child ended: the name of the signal, or the exit code and the last line that it complained in."""
    if child.asked:
        return f"GPU reader hung and was ended ({child.asked[-1]})"
    if code < 0:
        return f"GPU reader crashed: {_signal_name(-code)}"
    words = child.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]
    return f"GPU reader ended: exit code {code}" + (f" ({words})" if words else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _available(pipe: IO[bytes]) -> bytes:
    """What stands in a non-blocking pipe now, at most 1 MiB."""
    chunks = b""
    while len(chunks) < READ_AT_MOST_BYTES:
        chunk = pipe.read(65536)
        if not chunk:  # None: nothing now; b"": the other end closed
            break
        chunks += chunk
    return chunks


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise SignalError("GPU reader has no pipe")
    return pipe


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()
