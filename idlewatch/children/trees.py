"""
Process trees of our own: what a child process of ours started ends with what it was started for.

A program may put others into the background, or into sessions of their own; as a subreaper we become their parent when
theirs ends, so that they can be found. Only for child processes that do one thing: all children count.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import psutil

Child: TypeAlias = tuple[int, float]
"""A child for good: PID and creation time."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_EVERY_S = 0.5


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process from now on (prctl(2))."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Let the kernel end this process hard when its parent ends (prctl(2)); for a child between fork and exec."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def children() -> frozenset[Child]:
    """Return the children of this process, adopted ones among them."""
    import psutil

    return frozenset((one.pid, one.create_time()) for one in psutil.Process().children())


def end_children(*, spare: frozenset[Child] = frozenset(), gently_s: float = 0.0, within_s: float = 3.0) -> None:
    """
    End the trees below this process but those of `spare`: asked to for `gently_s`, then hard for `within_s`.

    A shutdown request of our own waits until this is done. What can't be ended (a dead file system) is left.
    """
    with _undisturbed():
        if gently_s:
            _wait(_asked_to_end(_tree(spare)), gently_s)
        ends_s = time.monotonic() + within_s
        while (left := _tree(spare)) and time.monotonic() < ends_s:
            _wait(_ended_hard(left), _LOOK_EVERY_S)


def _tree(spare: frozenset[Child]) -> list[psutil.Process]:
    import psutil

    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        if (child.pid, child.create_time()) not in spare:
            found.append(child)
            try:
                found += child.children(recursive=True)
            except psutil.NoSuchProcess:
                continue
    return found


def _asked_to_end(processes: list[psutil.Process]) -> list[psutil.Process]:
    return _sent(processes, signal.SIGTERM)


def _ended_hard(processes: list[psutil.Process]) -> list[psutil.Process]:
    return _sent(processes, signal.SIGKILL)


def _sent(processes: list[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    import psutil

    for one in processes:
        try:
            one.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return processes


def _wait(processes: list[psutil.Process], within_s: float) -> None:
    import psutil

    psutil.wait_procs(processes, timeout=within_s)


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value)
