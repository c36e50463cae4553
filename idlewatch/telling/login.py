"""
What people must know of this Pod, shown when they log in: nothing guards it, it is being stopped, why it was stopped.

The daemon keeps the words in its state folder; a small script in the Pod's `/etc/profile.d` shows them to interactive
login shells (sh, bash; RunPod's SSH and its web terminal start those). Where that folder is missing, nothing is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from idlewatch.deciding.remedies import to_keep_up
from idlewatch.deciding.tick import Tick
from idlewatch.files import write_atomically
from idlewatch.model import Phase
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.printable import printable

LOGIN_FILE = "login.txt"
_PREVIOUS_STOP_TOLD_S = 24 * 3600.0
"""How long after a start its login says why the Pod was stopped before."""
_TEXT = """\
# Written by idlewatch: shows at login what people must know of this Pod. It may be removed.
case $- in *i*) if [ -r {file} ]; then cat {file}; fi ;; esac
"""


def show_at_login(root: Path | None, state_dir: Path) -> None:
    """Put the script where login shells read it; `root` None: this is no Pod. Raises OSError."""
    if root is None or not (root / LOGIN_SCRIPT).parent.is_dir():
        return
    text = _TEXT.format(file=shlex.quote(str(state_dir / LOGIN_FILE)))
    if not (root / LOGIN_SCRIPT).exists() or (root / LOGIN_SCRIPT).read_text() != text:
        write_atomically(root / LOGIN_SCRIPT, text)


def say(state_dir: Path, lines: Sequence[str]) -> None:
    """Replace the words; without lines there are none. Raises OSError."""
    if not lines:
        (state_dir / LOGIN_FILE).unlink(missing_ok=True)
        return
    first, *more = [printable(line) for line in lines]
    write_atomically(state_dir / LOGIN_FILE, "\n".join([f"idlewatch: {first}", *(f"  {line}" for line in more)]) + "\n")


def words(report: Tick, previous_stop: str | None) -> list[str]:
    """What somebody who logs in now must know; nothing where all is well."""
    told, state = [], report.state
    if state.phase is not Phase.WATCHING and report.moment.observing:
        told.append(f"this Pod would be stopped now ({state.why}); nothing happens: idlewatch only observes")
    elif state.phase is not Phase.WATCHING:
        told.append(f"this Pod is being stopped ({state.why}); {to_keep_up(state.cause, state.why)}")
    told += [f"{name}: {text}" for name, text in report.state.troubles.items()]
    if previous_stop and report.moment.uptime_s < _PREVIOUS_STOP_TOLD_S:
        told.append(previous_stop)
    return told
