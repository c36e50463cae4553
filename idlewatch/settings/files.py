"""
Secrets that lie in a file: `IDLEWATCH_RUNPOD_API_KEY_FILE=/run/secrets/key`, as Docker and Kubernetes hand them out.

They are read at the daemon's start and by each of its tasks, so they must not lie where reading may hang for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from idlewatch.errors import SettingsError, SnapshotError
from idlewatch.settings.fields import VOLUME, secret_variables, variable
from idlewatch.settings.sources import Source, first
from idlewatch.snapshot import places
from idlewatch.snapshot.mounts import Mount, read_mounts
from idlewatch.snapshot.objects import SECRETS

SUFFIX = "_FILE"
_MOST_BYTES = 64 * 1024
_OVER_A_NETWORK = ("fuse", "nfs", "cifs", "smb", "ceph", "lustre", "glusterfs", "beegfs")
"""How the names of file systems begin that may hang for good; RunPod's network volumes are `fuse`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithFiles:
    """The sources, each with the secrets that it only named a file for."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...] = field(repr=False)
    """Files that could not be read."""


def file_variables() -> frozenset[str]:
    """The variables that name a file."""
    return frozenset(f"{name}{SUFFIX}" for name in secret_variables())


def secret_file(sources: Sequence[Source], field: str) -> tuple[str, Path] | None:
    """The variable and the file that a secret setting came from, of `with_files`; None: not from a file."""
    name = variable(field)
    source = next((source for source in sources if source.variables.get(name)), None)
    path = None if source is None else source.variables.get(f"{name}{SUFFIX}")
    return (f"{name}{SUFFIX}", Path(path)) if path else None


def with_files(sources: Sequence[Source]) -> WithFiles:
    """Read the files that are named; a variable that is set goes before its file in the same source."""
    problems: list[str] = []
    save_to = first(sources, variable("save_to"))
    names = [*sorted(secret_variables()), *(SECRETS if save_to and save_to[1] != VOLUME else ())]
    made = tuple(_with_files(source, names, problems) for source in sources)
    return WithFiles(sources=made, problems=(*problems, *_empty_key(sources, made)))


def _empty_key(given: Sequence[Source], made: Sequence[Source]) -> Iterator[str]:
    """A secret that was renamed or deleted leaves an empty variable, and saves would be made that anybody can read."""
    key = variable("snapshot_key")
    if first(made, key) or any(key in source.withheld for source in made):
        return
    for name in (key, f"{key}{SUFFIX}"):
        if any(source.variables.get(name) == "" for source in given):
            yield f"{name} is set and empty: give it its value, or take the variable away; without it saves are plain"


def _with_files(source: Source, names: Sequence[str], problems: list[str]) -> Source:
    variables, unread = dict(source.variables), set(source.withheld)
    for name in names:
        path = variables.get(f"{name}{SUFFIX}")
        if path and variables.get(name):
            del variables[f"{name}{SUFFIX}"]
        elif path:
            try:
                variables[name] = _content(Path(path))
            except SettingsError as error:
                unread.add(name)
                problems.append(f"{name}{SUFFIX}={path}: {error.problems[0]}")
    return replace(source, variables=variables, withheld=frozenset(unread))


def _content(path: Path) -> str:
    """Raises SettingsError with one sentence, which tells nothing of what is in it."""
    if not path.is_absolute():
        raise SettingsError(["this is not an absolute path; write it from / on"])
    try:
        mounts = read_mounts()
        real = places.resolved(path, lambda step: may_hang(kind_of_mount(step, mounts)))
        kind = kind_of_mount(real, mounts)
        if may_hang(kind):
            where = f"it lies on a network volume ({kind}), which may hang"
            raise SettingsError([f"{where}; put it elsewhere, or its content into the variable itself"])
        # a pipe that nobody writes into must not hold the daemon up
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise SettingsError(["this is no file"])
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError([str(error.strerror)]) from None
    except SnapshotError as error:
        raise SettingsError([str(error)]) from None
    return _one_line(content)


def _one_line(content: bytes) -> str:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    lines = text.splitlines()
    told = lines if len(lines) == 1 else [line for line in lines if not line.startswith("#")]  # as age-keygen writes
    if len(told) != 1 or len(content) > _MOST_BYTES:
        raise SettingsError(["there must be one line in it, and nothing else but comments"])
    return told[0].strip()


def may_hang(kind: str) -> bool:
    """Whether a file system of this kind is one that may hang for good."""
    return kind.startswith(_OVER_A_NETWORK)


def kind_of_mount(path: Path, mounts: Sequence[Mount]) -> str:
    """The kind of file system that a path lies on, by its text: looking closer might hang already."""
    above = [mount for mount in mounts if path == Path(mount.point) or Path(mount.point) in path.parents]
    return max(reversed(above), key=lambda mount: len(mount.point)).fs_type if above else ""
