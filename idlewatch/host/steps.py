"""What an install is made of: steps that say what they do, can be looked at first, and need doing only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from idlewatch.errors import IdlewatchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of the machine."""

    says: str
    """`write /etc/systemd/system/idlewatch.service`."""
    act: Callable[[], object]
    """Raises OSError or IdlewatchError where it fails."""
    needed: bool = True


def carried_out(steps: Sequence[Step], say: Callable[[str], None], *, dry: bool) -> None:
    """Do what is needed, in order, and say it. Raises IdlewatchError at the first that fails, named."""
    for step in steps:
        if not step.needed:
            say(f"  as it was: {step.says}")
        elif dry:
            say(f"  would {step.says}")
        else:
            _done(step)
            say(f"  done: {step.says}")


def _done(step: Step) -> None:
    try:
        step.act()
    except (OSError, IdlewatchError) as error:
        raise IdlewatchError(f"could not {step.says}: {error}") from error


def write(path: Path, text: str, *, mode: int = 0o644, says: str = "") -> Step:
    """A file with this text and mode, replaced as a whole."""
    needed = _text(path) != text or path.stat().st_mode & 0o7777 != mode
    return Step(says=says or f"write {path}", act=lambda: _written(path, text, mode), needed=needed)


def write_new(path: Path, text: str, *, mode: int) -> Step:
    """A file that is a person's once it is there: never overwritten."""
    return Step(says=f"write {path}", act=lambda: _written(path, text, mode), needed=not path.exists())


def remove(path: Path) -> Step:
    """A file of ours that is to be there no more."""
    return Step(says=f"remove {path}", act=path.unlink, needed=path.is_symlink() or path.exists())


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return None


def _written(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.idlewatch-new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        os.fchmod(opened.fileno(), mode)
        os.fsync(opened.fileno())
    new.replace(path)
