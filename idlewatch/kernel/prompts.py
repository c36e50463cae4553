"""
Whether a program waits for what somebody types into its terminal, and whether as a line or key by key.

A program that reads lines (`input()`, `read -p`, `Proceed ([y]/n)?`) sleeps in the kernel's read of a terminal, which
/proc/PID/wchan names: `n_tty_read`, on newer kernels `wait_woken`, which a read of a TCP connection has, too; where
/proc/PID/syscall may be read, it tells of which descriptor. A line editor (readline, prompt_toolkit, so pdb and ipdb)
waits in select or epoll like any server, but takes the terminal out of its line mode for as long as it asks.

Looking opens the terminal that the program has as its standard input, without waiting for anything. That moves no
access time (only a read does), sets nothing, and makes it nobody's controlling terminal.
"""

from __future__ import annotations

import os
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idlewatch.kernel.terminals import terminal_number

if TYPE_CHECKING:
    from pathlib import Path

    from idlewatch.kernel.processes import Process

_READS = frozenset({"n_tty_read", "wait_woken"})
_CONTROLLING = 5 << 8
"""Device number of /dev/tty, whatever terminal that is."""
_LOCAL_MODES = 3
"""Where `termios.tcgetattr` has them."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A terminal whose foreground program waits, as it seems, for somebody."""

    by_key: bool
    """It is out of line mode: a line editor, or a program that fills the screen. Else a line is read from it."""
    input_ns: int
    """Its access time, wall time; it moves when something is typed, in the steps that `terminals` tells."""


def prompt(proc: Path, process: Process) -> Prompt | None:
    """
    Return what a process in its terminal's foreground asks it for.

    None where it does not wait for it, or where that can't be seen.
    """
    if process.state != "S":
        return None
    folder = proc / str(process.pid)
    try:
        status = (folder / "fd/0").stat()
        if terminal_number(status.st_rdev) != process.terminal:
            return None
        by_key = _is_out_of_line_mode(folder / "fd/0")
        asks = by_key or _reads_a_line(folder, process.terminal)
    except (OSError, termios.error):
        return None
    return Prompt(by_key, status.st_atime_ns) if asks else None


def _is_out_of_line_mode(path: Path) -> bool:
    terminal = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return not termios.tcgetattr(terminal)[_LOCAL_MODES] & termios.ICANON
    finally:
        os.close(terminal)


def _reads_a_line(folder: Path, terminal: int) -> bool:
    if (folder / "wchan").read_text() not in _READS:
        return False
    with suppress(OSError, ValueError, IndexError):
        descriptor = int((folder / "syscall").read_text().split()[1], 16)
        return terminal_number((folder / f"fd/{descriptor}").stat().st_rdev) in {terminal, _CONTROLLING}
    return True
