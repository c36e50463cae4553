"""
What can be known of a git repository by reading its files, without running git.

The layout is git's own documentation: gitrepository-layout(5), gitformat-index(5), git-pack-refs(1). Read are the
index (what git last saw of each tracked file), the branches and where they were last seen on a remote, and the stash.
What a remote holds now, and which untracked files `.gitignore` covers, can't be known so, and nothing is said of it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idlewatch.model import Json

_MOST_INDEX_BYTES: Final = 64 * 1024 * 1024
_MOST_CHANGED: Final = 1000
_ENTRY: Final = struct.Struct(">10I20sH")
_EXTENDED_FLAG, _NAME_MASK = 0x4000, 0xFFF
_DIGEST_BYTES: Final = 20
_HEADS, _REMOTES = "refs/heads/", "refs/remotes/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository of the loss."""

    path: str
    changed: int | None
    """Tracked files that are not as git last saw them, or are gone; None: the index could not be read."""
    staged: bool | None
    """Something was added to the index that is not committed; None: not known."""
    unpushed: tuple[str, ...]
    """Branches that are on no remote, or not there as they are here."""
    stashed: bool
    remote: str
    """The address of `origin` or the first remote, without user and password; empty: there is none."""
    changed_ns: int
    """When its index or a branch last changed, wall clock nanoseconds."""

    @property
    def nowhere_else(self) -> bool:
        """Tell whether something in it is known to exist only here."""
        return bool(self.changed or self.staged or self.unpushed or self.stashed)

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return {
            "path": self.path,
            "changed": self.changed,
            "staged": self.staged,
            "unpushed": list(self.unpushed),
            "stashed": self.stashed,
            "remote": self.remote,
            "changed_ns": self.changed_ns,
            "nowhere_else": self.nowhere_else,
        }


def look_at(folder: str) -> Repository:
    """Return what can be known of the repository whose working tree is `folder`."""
    git = Path(folder) / ".git"
    refs, config = _refs(git), _config(git / "config")
    index = _index(git / "index")
    return Repository(
        path=folder,
        changed=None if index is None else _changed(folder, index),
        staged=_staged(git / "index"),
        unpushed=_unpushed(refs, config),
        stashed="refs/stash" in refs,
        remote=_remote(config),
        changed_ns=max(_mtime_ns(git / name) for name in ("index", "HEAD", "logs/HEAD")),
    )


def _mtime_ns(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _refs(git: Path) -> dict[str, str]:
    """Return name and object of each ref; a loose one hides the packed one."""
    packed = (line.split(" ", 1) for line in _text(git / "packed-refs").splitlines() if line[:1] not in "#^")
    found = {pair[1]: pair[0] for pair in packed if len(pair) == 2}
    for folder, _, files in os.walk(git / "refs"):
        for name in files:
            path = Path(folder) / name
            found[path.relative_to(git).as_posix()] = _text(path).strip()
    return found


def _config(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a configuration as git writes it; includes are not followed."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for raw in _text(path).splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = found.setdefault(line.strip("[]").replace('"', ""), {})
        elif "=" in line:
            name, _, value = line.partition("=")
            section.setdefault(name.strip().lower(), value.strip())
    return found


def _unpushed(refs: dict[str, str], config: dict[str, dict[str, str]]) -> tuple[str, ...]:
    on_remotes = {value for name, value in refs.items() if name.startswith(_REMOTES)}
    found = []
    for name, value in sorted(refs.items()):
        branch = name.removeprefix(_HEADS)
        if not name.startswith(_HEADS) or value in on_remotes:
            continue
        tracked = config.get(f"branch {branch}", {})
        there = f"{_REMOTES}{tracked.get('remote', '')}/{tracked.get('merge', '').removeprefix(_HEADS)}"
        found.append(f"{branch} (differs from its remote copy)" if there in refs else f"{branch} (on no remote)")
    return tuple(found)


def _remote(config: dict[str, dict[str, str]]) -> str:
    remotes = [name for name in config if name.startswith("remote ")]
    first = "remote origin" if "remote origin" in remotes else next(iter(remotes), "")
    scheme, mark, rest = config.get(first, {}).get("url", "").rpartition("://")
    if not mark:
        return rest
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _raw_index(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= _MOST_INDEX_BYTES else b""
    except OSError:
        return b""


def _index(path: Path) -> list[tuple[str, int, int]] | None:
    """Return path, size (32 bits) and mtime in seconds of each tracked file; None where it can't be told."""
    raw = _raw_index(path)
    if raw[:4] != b"DIRC" or int.from_bytes(raw[4:8]) not in {2, 3}:
        return None  # version 4 packs its names and is written only where a person asked for it
    try:
        return list(_entries(raw))
    except struct.error:
        return None


def _entries(raw: bytes) -> Iterator[tuple[str, int, int]]:
    at = 12
    for _ in range(int.from_bytes(raw[8:12])):
        fields = _ENTRY.unpack_from(raw, at)
        mtime_s, mode, size, flags = fields[2], fields[6], fields[9], fields[11]
        name_at = at + _ENTRY.size + (2 if flags & _EXTENDED_FLAG else 0)
        end = raw.find(b"\0", name_at)
        if end < 0:
            raise struct.error("an index that ends in a name")
        if mode >> 12 in {0o10, 0o12}:  # a file or a symlink; a submodule is a repository of its own
            yield os.fsdecode(raw[name_at:end]), size, mtime_s
        at += (end - at + 8) & ~7


def _changed(folder: str, index: list[tuple[str, int, int]]) -> int:
    changed = 0
    for name, size, mtime_s in index:
        try:
            status = os.lstat(f"{folder}/{name}")
        except OSError:
            changed += 1
        else:
            changed += (status.st_size & 0xFFFFFFFF, status.st_mtime_ns // 10**9 & 0xFFFFFFFF) != (size, mtime_s)
        if changed >= _MOST_CHANGED:
            break
    return changed


def _staged(path: Path) -> bool | None:
    """
    Tell by the index's cache of trees whether something was added since the last commit.

    Adding a path marks its trees, up to the top one, as not valid (entry count -1); a commit or a checkout writes
    them anew. An index without that cache (as after `git init`, or by another program) tells nothing.
    """
    raw = _raw_index(path)
    at = raw.rfind(b"TREE", 0, -_DIGEST_BYTES)
    if raw[:4] != b"DIRC" or at < 0:
        return None
    count = raw[at + 8 :].partition(b"\0")[2].split(b" ", 1)[0]
    return count == b"-1" if count.lstrip(b"-").isdigit() else None
