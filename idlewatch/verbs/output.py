"""
Standard output and standard error while a verb runs: whatever becomes of them, it is no crash.

What nobody reads any more, a full disk and a closed descriptor are told apart from every other error of a verb. What
can't be said on standard error is lost in silence: there is nowhere else to say it, and a daemon whose log has gone
must go on watching.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from idlewatch.verbs.faults import meaning

FAILED = 1
BROKEN_PIPE = 128 + signal.SIGPIPE
"""What a shell shows for a program that wrote into a pipe which nobody read."""
_STANDARD = (0, 1, 2)


class OutputError(Exception):
    """Standard output takes no more."""

    def __init__(self, cause: OSError) -> None:
        """Whatever the operating system said."""
        super().__init__(cause.strerror)
        self.cause = cause


@contextmanager
def guarded() -> Iterator[None]:
    """Both streams, also where they were closed: failures of standard output become OutputError in the block."""
    before = sys.stdout, sys.stderr
    _keep_standard_descriptors()
    sys.stdout, sys.stderr = _stream(1, sys.stdout, _told_apart), _stream(2, sys.stderr, _unheard)
    try:
        yield
    finally:
        with suppress(OutputError):
            sys.stdout.flush()
        _flushed_or_let_go(sys.stderr)
        sys.stdout, sys.stderr = before


def given_up(error: OutputError) -> int:
    """Let standard output go, say why unless it was a reader who has left; returns the exit status."""
    _let_go(sys.stdout)
    if isinstance(error.cause, BrokenPipeError):
        return BROKEN_PIPE
    closed = error.cause.errno == errno.EBADF
    why = "it is closed; run this with an output" if closed else meaning(error.cause)
    sys.stderr.write(f"idlewatch: the answer can't be written to standard output: {why}\n")
    return FAILED


def _keep_standard_descriptors() -> None:
    """
    Fill those that are closed, so that no file of ours is ever opened in the place of one.

    For reading only, also the outputs: a write fails there as it does on a closed one, for us and for our children.
    """
    while (opened := os.open(os.devnull, os.O_RDONLY)) in _STANDARD:
        os.set_inheritable(opened, True)
    os.close(opened)


def _stream(descriptor: int, there: TextIO | None, failed: Callable[[OSError], None]) -> TextIO:
    """The stream, or in the place of a closed one a stand-in; characters that it can't show are replaced."""
    stream = there if there is not None else os.fdopen(descriptor, "w", closefd=False)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace" if descriptor == 1 else "backslashreplace")
    return cast("TextIO", _Guarded(stream, failed))


class _Guarded:
    """A text stream whose failures are told to `failed`; all else is as it was."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        self.unguarded, self._failed = stream, failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)

    def write(self, text: str) -> int:
        try:
            return self.unguarded.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self.unguarded.flush()
        except OSError as error:
            self._failed(error)


def _told_apart(error: OSError) -> None:
    raise OutputError(error) from error


def _unheard(_error: OSError) -> None:
    """Nobody hears it."""


def _flushed_or_let_go(stream: TextIO) -> None:
    try:
        getattr(stream, "unguarded", stream).flush()
    except OSError:
        _let_go(stream)


def _let_go(stream: TextIO) -> None:
    """Nowhere from now on: what is left in its buffer would be tried again, loudly, when the interpreter ends."""
    with suppress(OSError):  # io.UnsupportedOperation is one, too: a stream without a descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
            stream.flush()
        finally:
            os.close(nowhere)
