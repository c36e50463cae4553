"""Which idlewatch this is: the version, and the commit where that is known."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from idlewatch import __version__

COMMIT_FILE = "commit"
"""In the package's folder, where it was copied from a place that knew."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 12


def described() -> str:
    """`idlewatch 0.1.0 (8ad774c1d2e3)`."""
    found = commit()
    return f"idlewatch {__version__}{f' ({found[:_SHOWN]})' if found else ''}"


def commit(package: Path = Path(__file__).parent) -> str | None:
    """The commit that this was made of; None where nobody has told. Changes that are not committed don't show."""
    for tell in (_kept, _checked_out, _installed):
        found = tell(package)
        if found and _COMMIT.fullmatch(found):
            return found
    return None


def _kept(package: Path) -> str | None:
    return _line(package / COMMIT_FILE)


def _checked_out(package: Path) -> str | None:
    """Of a checkout, see gitrepository-layout(5): HEAD names a branch, whose commit lies in a file or a packed list."""
    git = package.parent / ".git"
    head = _line(git / "HEAD")
    if head is None or not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    packed = (line.split(" ") for line in _text(git / "packed-refs").splitlines())
    return _line(git / name) or next((words[0] for words in packed if words[1:] == [name]), None)


def _installed(package: Path) -> str | None:
    """As pip notes it of a package that came from a repository (PEP 610)."""
    try:
        found = distribution("idlewatch")
        if Path(str(found.locate_file("idlewatch"))).resolve() != package.resolve():
            return None
        return str(json.loads(found.read_text("direct_url.json") or "{}")["vcs_info"]["commit_id"])
    except (PackageNotFoundError, ValueError, KeyError, TypeError, OSError):
        return None


def _line(path: Path) -> str | None:
    return _text(path).strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
