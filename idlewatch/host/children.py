"""
Starting and ending child processes for a supervisor with one thread and all of its signals blocked.

By fork and exec and not by `subprocess`: a command has to be given back the terminal, the signal mask and the
dispositions that it would have had without us, and memory counts here: no dataclasses, pathlib or typing either.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

_THEIRS = ("SIGFPE", "SIGILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGKILL", "SIGSTOP")
"""About this process itself, or not to be had."""
_OF_TERMINALS = (signal.SIGTTIN, signal.SIGTTOU)
_OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by the interpreter at its start."""
NOT_FOUND, NOT_RUN = 127, 126
"""What a shell answers for a command that is not there, or that can't be run."""


class Signals:
    """Takes everything that can be passed on, and gives it back to children."""

    def __init__(self) -> None:
        """Block them, so that they can be waited for: none is lost between two looks."""
        theirs = {getattr(signal, name) for name in _THEIRS}
        self.waited_for = frozenset(signal.valid_signals() - theirs - set(_OF_TERMINALS))
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.waited_for)
        self._on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, no child could be waited for
        for number in _OF_TERMINALS:
            signal.signal(number, signal.SIG_IGN)

    def given_back(self) -> None:
        """In a child: as it would have been without us."""
        for number in (*_OF_TERMINALS, *_OF_PYTHON):
            signal.signal(number, signal.SIG_DFL)
        if self._on_child is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def variables(path: str = "/proc/self/environ") -> dict[bytes, bytes] | None:
    """
    The environment as it was handed to this process; None where it can't be read.

    Not as the interpreter has it: in the C locale that adds LC_CTYPE (PEP 538), and a command would be run with another
    environment than without us. Not by `settings`, which reads it for the daemon: that takes 20 MB.
    """
    try:
        with open(path, "rb") as opened:  # noqa: PTH123  (pathlib costs a megabyte)
            block = opened.read()
    except OSError:
        return None
    return dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)


def start(argv: Sequence[str], prepare: Callable[[], None], more: Mapping[bytes, bytes] | None = None) -> int:
    """Run a command in a child after `prepare`, `more` in its environment; its PID. Raises OSError without a child."""
    pid = os.fork()
    if pid:
        return pid
    status = NOT_RUN
    try:
        prepare()
        status = replaced_by(argv, more)
    finally:
        os._exit(status)  # never our parent's code twice


def replaced_by(argv: Sequence[str], more: Mapping[bytes, bytes] | None = None) -> int:
    """Become this command; return, with the status that a shell would give, only where that can't be done."""
    environment = variables()
    try:
        if environment is None:
            os.execvp(argv[0], list(argv))  # noqa: S606  (as the container's engine would have: no shell)
        os.execvpe(argv[0], list(argv), environment | dict(more or {}))  # noqa: S606  (likewise)
    except OSError as error:
        say(f"idlewatch exec: {argv[0]}: {error.strerror}")
        return NOT_FOUND if error.errno == errno.ENOENT else NOT_RUN


def say(text: str) -> None:
    """One line to stderr; where nobody takes it, nothing else must come of that."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))


def in_front(signals: Signals) -> None:
    """In a child: a process group of its own, in the foreground of the terminal if there is one, as tini does it."""
    os.setpgid(0, 0)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.ENXIO, errno.EBADF, errno.EPERM):
            raise
    signals.given_back()


def in_back(signals: Signals) -> None:
    """In a child: away from the terminal and from the folder; what it says goes where we say things."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    signals.given_back()


def reaped() -> Iterable[tuple[int, int]]:
    """PID and wait status of every child that has ended by now: as PID 1 also of those that others left behind."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def ask(pid: int, number: int) -> None:
    """Send a signal to a child of ours that is not reaped yet."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
