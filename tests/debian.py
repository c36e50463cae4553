"""A small Debian as a folder, with the tool's wheel and all that it needs, for containers and machines of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.waiting import comes

ROOT = Path(__file__).parent.parent
DEADLINE_S = 180.0
PACKAGES = "python3,python3-pip,procps,systemd,systemd-sysv,dbus"
MIRROR = "http://deb.debian.org/debian"


def said(command: Sequence[str], **environment: str) -> str:
    """What a command says; it fails the test with that where it fails."""
    done = subprocess.run(
        list(command), capture_output=True, text=True, check=False, env=os.environ | environment, timeout=1200
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def until(true: Callable[[], object], what: str) -> None:
    """As `waiting.until`, for machines that boot and install."""
    assert comes(true, DEADLINE_S, every_s=0.2), f"waited in vain: {what}"


def debian(folder: Path, packages: str = PACKAGES) -> Path:
    """Bookworm's smallest with these packages; by default one that can boot."""
    tree = folder / "debian"
    said(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(tree), MIRROR])
    return tree


def wheels(folder: Path) -> Path:
    """The tool and what it needs, for bookworm's Python 3.11."""
    made = folder / "wheels"
    assert sys.version_info[:2] == (3, 11), "bookworm's wheels are made with its own version of Python: 3.11"
    said([sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(made), str(ROOT)])
    return made
