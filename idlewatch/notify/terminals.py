"""
Tells the people in the Pod, on every terminal that they may be looking at: SSH sessions, tmux panes, web terminals.

Best effort and never a danger to the daemon: nothing here raises, and no terminal can hold it up. A terminal that was
stopped (Ctrl-S) or that nobody reads takes no more bytes once its buffer is full; a blocking write there would never
come back, so every write is non-blocking and has a deadline.
"""

from __future__ import annotations

import os
import select
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS = 10
_ROUND_MS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Which terminals were told, and which were not and why; names as in `pts/3`."""

    told: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    """Name and reason."""

    def __str__(self) -> str:
        """`2 terminals told; pts/3: takes no more output`."""
        failures = "".join(f"; {name}: {reason}" for name, reason in self.failed)
        return f"{len(self.told)} terminal{'' if len(self.told) == 1 else 's'} told{failures}"


@dataclass(slots=True)
class _Terminal:
    """One open terminal and what it has yet to be told."""

    name: str
    fd: int
    left: bytes
    failure: str = ""


class Terminals:
    """Every pseudo-terminal of this Pod."""

    def __init__(self, *, pts_dir: Path = Path("/dev/pts")) -> None:
        self._pts_dir = pts_dir

    def tell(self, text: str) -> Delivery:
        """
        Write `text` to each terminal, as wall does: a bell, a line of its own, control characters taken out.

        The terminal that is our own standard output is left out: the log is there already. Never raises, and returns
        within half a second for all terminals together.
        """
        notice = notice_bytes(text)
        failed: list[tuple[str, str]] = []
        told: list[_Terminal] = []
        try:
            for path in self._paths(failed):
                self._open(path, notice, told, failed)
            _write_all(told)
        finally:
            for terminal in told:
                _close(terminal.fd)
        failed += [(each.name, each.failure) for each in told if each.failure]
        return Delivery(told=tuple(each.name for each in told if not each.failure), failed=tuple(failed))

    def _paths(self, failed: list[tuple[str, str]]) -> list[Path]:
        try:
            return sorted(
                (path for path in self._pts_dir.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)
            )
        except OSError as error:
            failed.append((str(self._pts_dir), _why(error)))
            return []

    def _open(self, path: Path, notice: bytes, told: list[_Terminal], failed: list[tuple[str, str]]) -> None:
        name = f"{self._pts_dir.name}/{path.name}"
        try:
            # Without O_NOCTTY a daemon that leads its session would get this terminal as its own, and its hang-up.
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            failed.append((name, _why(error)))
            return
        terminal, ours = _is_terminal(fd)
        if terminal and not ours:
            told.append(_Terminal(name, fd, notice))
            return
        _close(fd)
        if not terminal:
            failed.append((name, "no terminal"))


def _is_terminal(fd: int) -> tuple[bool, bool]:
    """Return whether `fd` is a terminal, and whether it is the one that our standard output goes to."""
    try:
        device = os.fstat(fd)
        if not stat.S_ISCHR(device.st_mode) or not os.isatty(fd):
            return False, False
        output = os.fstat(1)
    except OSError:
        return os.isatty(fd), False
    return True, stat.S_ISCHR(output.st_mode) and output.st_rdev == device.st_rdev


def _write_all(terminals: Sequence[_Terminal]) -> None:
    """Write until all is written or the rounds are over; what is left then is a failure."""
    for _ in range(_ROUNDS):
        for terminal in terminals:
            _write(terminal)
        waiting = select.poll()
        open_fds = [each.fd for each in terminals if each.left and not each.failure]
        if not open_fds:
            return
        for fd in open_fds:
            waiting.register(fd, select.POLLOUT)
        waiting.poll(_ROUND_MS)
    for terminal in terminals:
        if terminal.left and not terminal.failure:
            terminal.failure = "takes no more output"


def _write(terminal: _Terminal) -> None:
    if not terminal.left or terminal.failure:
        return
    try:
        terminal.left = terminal.left[os.write(terminal.fd, terminal.left) :]
    except BlockingIOError:
        return
    except OSError as error:
        terminal.failure = _why(error)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def notice_bytes(text: str) -> bytes:
    """Return `text` as a terminal gets it: on its own lines, with a bell, and with nothing else that steers one."""
    lines = [printable(line) for line in text.strip().splitlines()]
    return ("\r\n\a" + "".join(f"{line}\r\n" for line in lines)).encode("utf-8", "replace")
