"""What a save leaves out on purpose, rule by rule; each can be taken back, and an owner can add their own."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot.kinds import FILE, FOLDER, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable

NEVER_RESTORED: Final = frozenset(
    {
        ".dockerenv",
        "etc/hostname",
        "etc/hosts",
        "etc/ld.so.cache",
        "etc/mtab",
        "etc/resolv.conf",
        "etc/rp_environment",
    }
)
"""Made anew by the runtime at each start, for this Pod and this host's driver: an old copy does harm."""

_SOCKETS: Final = "sockets"
_PID_FILES: Final = "pid files"
_NO_FILES: Final = frozenset({"proc", "sys", "dev", "run", "var/run", "var/lock"})
"""What the kernel and each start make anew; they stay left out whatever an owner asks for."""
_TREES: Final = _NO_FILES | {"tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives"}
_CACHES: Final = (
    *(".cache/pip", ".cache/uv", ".conda/pkgs", "conda/pkgs", "miniconda3/pkgs", "anaconda3/pkgs"),
    *("miniforge3/pkgs", "mambaforge/pkgs", "micromamba/pkgs"),
)
_PID_FILE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Excludes:
    """What is left out on purpose; paths are relative to the root, which stands for the container's `/`."""

    trees: frozenset[str] = _TREES | NEVER_RESTORED
    caches: tuple[str, ...] = _CACHES
    """Ends of paths of folders with downloaded packages, wherever they lie."""
    patterns: tuple[str, ...] = ()
    """An owner's: a path with all below it, or with `*`, `?` and `[...]`, where `*` also stands for `/`."""
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Join the patterns into one: there may be a million names to look at."""
        if self.patterns:
            parts = (fnmatch.translate(pattern) for pattern in self.patterns)
            object.__setattr__(self, "_pattern", re.compile("|".join(f"({part})" for part in parts)))

    def rule(self, path: str, name: str, kind: str, size: int) -> str | None:
        """Return the rule that leaves this entry out, for people; None where none does."""
        if path in self.trees:
            return "/" + path
        if self._pattern is not None and (fits := self._pattern.match(path)) is not None and fits.lastindex:
            return "/" + self.patterns[fits.lastindex - 1]
        if kind == FILE:
            return _PID_FILES if size <= _PID_FILE_BYTES and name.endswith(".pid") else None
        if kind == FOLDER:
            return next((cache for cache in self.caches if path == cache or path.endswith("/" + cache)), None)
        return _SOCKETS if kind == SOCKET else None


def excludes_of(*, leave_out: Iterable[str] = (), keep: Iterable[str] = ()) -> Excludes:
    """
    Return the usual rules with an owner's own: `leave_out` are added, `keep` (rules as `loss` shows them) taken back.

    A pattern may begin with `/`; one without any `/` fits that name in every folder. What each start makes anew and
    the kernel's own trees stay out. Raises ValueError for one that would leave out everything, and for a `keep` that
    is no rule.
    """
    usual = Excludes()
    wanted = {rule.strip("/") for rule in keep}
    known = (usual.trees - _NO_FILES - NEVER_RESTORED) | set(usual.caches)
    if unknown := sorted(wanted - known):
        raise ValueError(f"{unknown[0]} is no rule that can be taken back; there are {', '.join(sorted(known))}")
    patterns = tuple(part for pattern in leave_out for part in _patterns(pattern))
    return Excludes(
        trees=usual.trees - wanted,
        caches=tuple(cache for cache in usual.caches if cache not in wanted),
        patterns=patterns,
    )


def _patterns(text: str) -> tuple[str, ...]:
    pattern = text.strip().strip("/")
    if not pattern.strip("*/."):
        raise ValueError(f"{text!r} would leave out everything")
    anywhere = "/" not in text.strip().rstrip("/")
    return (pattern, f"*/{pattern}") if anywhere else (pattern,)
