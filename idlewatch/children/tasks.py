"""
Slow effects in child processes, polled by the tick.

What can take long or hang for ever (the volume, the provider's API) never runs in the daemon: a child gets its
request as one line of JSON on stdin (so no secret stands in a command line) and answers with lines of JSON:
`{"progress": …}` any number of times, then `{"result": …}` or `{"error": {"kind": …, "text": …}}`. Progress that is an
object with an `event` belongs into the timeline and is kept until it is taken. A child that is silent for too long is
ended. Its memory goes with it, and the daemon's own imports stay light.

What waits for a disk that is dead can't be ended, not even hard: it is given up, and left to end when the disk does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TypeAlias

from idlewatch.children.interpreter import ours
from idlewatch.errors import IdlewatchError, ProviderRefused, ProviderUnavailable, TaskError
from idlewatch.model import Json

Progress: TypeAlias = Callable[[Json], None]
"""Passes on what a task says of itself while it runs."""

_LAST_WORDS_S = 10.0
"""How long an ended child may clean up before it is ended hard."""
_GIVEN_UP_S = 5.0
"""How long after that it is given up."""
_HARD_S = 0.2
"""How long the end of a child that is ended hard is waited for where the caller blocks."""
_LEFT_MOST = 3
"""So many given up of one command; another would only come to hang beside them, with its memory."""
_MOST_SAID = 200
_left: list[subprocess.Popen[bytes]] = []
"""Those that were given up: looked at now and then, so that none stays a zombie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """How a task ended: with a result, or with an error."""

    result: Json = None
    error: IdlewatchError | None = None


class Task:
    """One slow effect under way."""

    def __init__(
        self,
        command: Sequence[str],
        request: Json,
        *,
        now_s: float,
        silent_limit_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, in this process's environment or the given one. Raises TaskError where it can't be started."""
        self.progress: Json = None
        self._events: list[Json] = []
        self._silent_limit_s = silent_limit_s
        self._heard_s = now_s
        self._ending_s: float | None = None
        self._hard_s: float | None = None
        self._ended_because = ""
        self._buffer = b""
        self._end: TaskEnd | None = None
        _refuse_one_more(command)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise TaskError(f"can't start {command[0]}: {error.strerror}") from error
        _hand_over(self._process, json.dumps(request).encode() + b"\n")
        os.set_blocking(_pipe(self._process.stdout).fileno(), False)
        os.set_blocking(_pipe(self._process.stderr).fileno(), False)

    def poll(self, now_s: float) -> TaskEnd | None:
        """Return how it ended; None while it runs. Never blocks."""
        if _is_closed(self._process):
            return self._end
        self._listen(now_s)
        if self._process.poll() is not None:
            self._listen(now_s)
            if self._end is None:
                self._end = TaskEnd(error=TaskError(self._ended_because or self._last_words()))
                self._send(signal.SIGKILL)  # what it had started, where it was ended too hard to do that itself
            self._close()
            return self._end
        if now_s - self._heard_s > self._silent_limit_s:
            self.cancel(now_s, f"silent for {self._silent_limit_s:.0f} s")
        if self._ending_s is not None and now_s - self._ending_s > _LAST_WORDS_S:
            self._send(signal.SIGKILL)
        if self._ending_s is not None and now_s - self._ending_s > _LAST_WORDS_S + _GIVEN_UP_S:
            self._give_up()
        return self._end if _is_closed(self._process) else None

    def _give_up(self) -> None:
        because = f"{self._ended_because}, and can't be ended: it waits for a disk that does not answer"
        self._end = self._end or TaskEnd(error=TaskError(because))
        self._close()

    def cancel(self, now_s: float, because: str) -> None:
        """Ask it to end, once; `poll` ends it hard where it does not."""
        if self._ending_s is None:
            self._ending_s, self._ended_because = now_s, because
            self._send(signal.SIGTERM)

    def end(self, within_s: float = _LAST_WORDS_S / 2) -> None:
        """End it now, hard after `within_s` seconds; for the daemon's own end. Blocks for little longer than that."""
        if self._process.poll() is None and within_s:
            self._send(signal.SIGTERM)
        if not _gone(self._process, within_s):
            _gone(self._process, max(0.0, self.end_hard() + _HARD_S - time.monotonic()))
        if not _is_closed(self._process):
            self._listen(self._heard_s)
            self._end = self._end or TaskEnd(error=TaskError(self._ended_because or "ended with the daemon"))
            self._close()

    def end_hard(self) -> float:
        """Have it ended hard, without waiting; return when that was first done (`time.monotonic()`)."""
        if self._hard_s is None and self._process.poll() is None:
            self._send(signal.SIGKILL)
            self._hard_s = time.monotonic()
        return self._hard_s or time.monotonic()

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _listen(self, now_s: float) -> None:
        received = _available(_pipe(self._process.stdout))
        if received:
            self._heard_s = now_s
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if "progress" in said:
            self._progressed(said["progress"])
        elif "result" in said:
            self._end = TaskEnd(result=said["result"])
        elif "error" in said:
            self._end = TaskEnd(error=error_from_json(said["error"]))

    def _progressed(self, progress: Json) -> None:
        if isinstance(progress, dict) and "event" in progress:
            self._events.append(progress["event"])
        else:
            self.progress = progress

    def take_events(self) -> list[Json]:
        """What has happened in it since the last call, for the timeline."""
        taken, self._events = self._events, []
        return taken

    def _close(self) -> None:
        for pipe in (self._process.stdout, self._process.stderr):
            _pipe(pipe).close()
        if self._process.poll() is None:
            _left.append(self._process)

    def _last_words(self) -> str:
        words = _available(_pipe(self._process.stderr)).decode(errors="replace").strip().splitlines()
        said = f": {_shown(words[-1])}" if words else ""
        return f"ended without an answer, exit status {self._process.returncode}{said}"


def task_starter(
    environment: Mapping[str, str] | None = None,
) -> Callable[[str, Json, float, float], Task]:
    """
    What starts a task by its name, with its request, the instant, and how long it may be silent.

    Nothing is imported from the current folder: it may lie on the volume, where others write, and which may hang.
    """

    def start_task(name: str, request: Json, now_s: float, silent_limit_s: float) -> Task:
        command = ours("idlewatch", "_task", name)
        return Task(command, request, now_s=now_s, silent_limit_s=silent_limit_s, environment=environment)

    return start_task


def end_all(tasks: Sequence[Task]) -> None:
    """End them now, all at once. Blocks for a moment at most, however many wait for a disk that does not answer."""
    for task in tasks:
        task.end_hard()
    for task in tasks:
        task.end(0.0)


def _shown(text: str) -> str:
    """What a child said, for a log and a terminal: its parts may hold anything."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= _MOST_SAID else f"{plain[:_MOST_SAID]} …"


def _refuse_one_more(command: Sequence[str]) -> None:
    _left[:] = [process for process in _left if process.poll() is None]
    if sum(process.args == command for process in _left) >= _LEFT_MOST:
        raise TaskError(f"not tried again: {_LEFT_MOST} tries before wait for a disk that does not answer")


def _gone(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _is_closed(process: subprocess.Popen[bytes]) -> bool:
    return _pipe(process.stdout).closed


def _hand_over(process: subprocess.Popen[bytes], request: bytes) -> None:
    stdin = _pipe(process.stdin)
    with contextlib.suppress(BrokenPipeError):
        stdin.write(request)
        stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        stdin.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TaskError("a task without pipes")
    return pipe


def _available(pipe: IO[bytes]) -> bytes:
    received = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(pipe.fileno(), 65536):
            received += more
    return received


# ---------------------------------------------------------------- the child's side


def serve(work: Callable[[Json, Progress], Json]) -> int:
    """Run `work(request, progress)` as a task's child process: request from stdin, answer to stdout. Returns 0 or 1."""
    signal.signal(signal.SIGTERM, _end_by_exception)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # a daemon that still loads has it blocked
    _end_with_parent()
    try:
        request: Json = json.loads(sys.stdin.readline())
        _say({"result": work(request, lambda progress: _say({"progress": progress}))})
    except IdlewatchError as error:
        _say({"error": error_to_json(error)})
        return 1
    except OSError as error:
        what = (error.strerror or type(error).__name__).lower()
        told = TaskError(f"{error.filename}: {what}" if error.filename else what)
        _say({"error": error_to_json(told)})
        return 1
    return 0


def seldom(progress: Progress, every_s: float = 1.0) -> Progress:
    """Progress that may be called at every turn of a loop, and is passed on every `every_s` seconds."""
    passed_s = float("-inf")

    def passed_on(what: Json) -> None:
        nonlocal passed_s
        if time.monotonic() - passed_s >= every_s:
            passed_s = time.monotonic()
            progress(what)

    return passed_on


def _end_with_parent() -> None:
    """A save or a stop call must not outlive the daemon that would hear of it (PR_SET_PDEATHSIG, prctl(2))."""
    import ctypes

    pr_set_pdeathsig, parent = 1, os.getppid()
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM))
    if os.getppid() != parent:
        raise SystemExit(1)


def _end_by_exception(_number: int, _frame: object) -> None:
    raise TaskError("ended on request")


def _say(what: Json) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def error_to_json(error: IdlewatchError) -> Json:
    """An error as it travels from the child."""
    retry = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
    return {"kind": type(error).__name__, "text": str(error), "retry_after_s": retry}


def error_from_json(said: Json) -> IdlewatchError:
    """The error that `error_to_json` made; of an unknown kind it is a TaskError."""
    if not isinstance(said, dict):
        return TaskError(str(said))
    text, retry = str(said.get("text")), said.get("retry_after_s")
    if said.get("kind") == "ProviderUnavailable":
        return ProviderUnavailable(text, float(retry) if isinstance(retry, int | float) else None)
    return ProviderRefused(text) if said.get("kind") == "ProviderRefused" else TaskError(text)
