"""
The text beside an archive: how to unpack it by hand, what was installed, what ran.

It is for a person who has only the volume, and perhaps not even idlewatch. Nothing in it is run by a restore.
Processes and what they had in memory do not come back; their command lines do, so that a person can start them again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot import running
from idlewatch.snapshot.dpkg import versions
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.object_shelf import ObjectShelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.repositories import Repository

_SITES: Final = ("site-packages", "dist-packages")
_DIST_INFO: Final = re.compile(r"([^/]+)-([^/-]+)\.(?:dist|egg)-info")
_PYTHONS: Final = ("usr/lib", "usr/local/lib", "opt/conda/lib", "root/.local/lib", "root/miniconda3/lib", "venv/lib")
_CONDA_PREFIXES: Final = ("opt/conda", "root/miniconda3", "root/anaconda3", "opt/miniconda3", "root/miniforge3")
_CONDA_META: Final = ("conda-meta", "envs/*/conda-meta")


def write_up(
    snapshot: Snapshot,
    *,
    root: str,
    sites: Sequence[str],
    repositories: Sequence[Repository],
    live: bool,
    clean: Callable[[str], str],
) -> str:
    """
    Return the text. `sites` are folders of Python packages that are part of the loss, `repositories` those in it.

    Reads names and tables only; where it is `live`, so `root` is this machine, also what runs, without secrets, and
    tmux is asked for its windows. `clean` takes out what is known to be secret here.
    """
    parts = [_how_to(snapshot), *_unpushed(repositories), *_environments(root, sites), *_conda(root), *_packages(root)]
    if live:
        found = running.programs()
        parts += [*running.tmux(), *running.notebooks(found, root), *running.command_lines(found, clean)]
    return "\n\n".join(parts) + "\n"


def _how_to(snapshot: Snapshot) -> str:
    base = [snapshot.archive.replace(snapshot.id, snapshot.base)] if snapshot.base else []
    unpack = "age -d -i KEY_FILE {} | zstd -dc" if snapshot.locked is not None else "zstd -dc {}"
    if isinstance(snapshot.shelf, ObjectShelf):  # one object, or many
        unpack = "cat {}* | " + unpack.replace("{} ", "").replace(" {}", "")
    options = "-p --xattrs --xattrs-include='*' --numeric-owner -C DIR"
    lines = [
        f"Snapshot {snapshot.id} of {snapshot.pod_id}, begun {snapshot.began_at}, idlewatch {snapshot.version}",
        "To have it back:  idlewatch restore " + snapshot.id,
        "By hand, into the folder DIR, in this order:",
        *(f"  {unpack.format(name)} | tar -x {options}" for name in [*base, snapshot.archive]),
    ]
    lost = [*snapshot.gone, *snapshot.deleted]
    if lost:
        lines += [
            "Then remove what is in an archive or the image but was gone:",
            *(f"  ./{shown(path)}" for path in lost),
        ]
    return "\n".join(lines)


def _environments(root: str, sites: Sequence[str]) -> Iterator[str]:
    usual = (
        path for above in _PYTHONS for site in _SITES for path in Path(root or "/").glob(f"{above}/python3*/{site}")
    )
    for folder in sorted({*sites, *(str(path) for path in usual)}):
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except OSError:
            continue
        found = [f"{match[1]}=={match[2]}" for name in names if (match := _DIST_INFO.fullmatch(name))]
        if found:
            yield "\n".join([f"# Python packages in {shown(folder)}, as `pip freeze` would list them", *sorted(found)])


def _conda(root: str) -> Iterator[str]:
    for meta in (f"{prefix}/{meta}" for prefix in _CONDA_PREFIXES for meta in _CONDA_META):
        for folder in sorted(Path(root or "/").glob(meta)):
            found = sorted(path.stem.rsplit("-", 2) for path in folder.glob("*-*-*.json"))
            if found:
                title = f"# conda packages in {shown(str(folder.parent))}, as `conda list --export` would list them"
                yield "\n".join([title, *map("=".join, found)])


def _unpushed(repositories: Sequence[Repository]) -> Iterator[str]:
    """Yield the part that names work that is known to be nowhere else. None of it is touched, least of all by git."""
    rows = [
        f"{shown(one.path)}: {'; '.join(_why_only_here(one))}" + (f" (remote: {shown(one.remote)})" * bool(one.remote))
        for one in repositories
        if one.nowhere_else
    ]
    if rows:
        yield "\n".join(["# Git repositories with work that is nowhere else", *rows])


def _why_only_here(one: Repository) -> Iterator[str]:
    if one.changed:
        yield f"{one.changed} files changed since git last looked"
    if one.staged:
        yield "something staged and not committed"
    if one.stashed:
        yield "something stashed"
    yield from (f"branch {shown(branch)}" for branch in one.unpushed)


def _packages(root: str) -> Iterator[str]:
    installed = sorted(versions(root).values(), key=lambda one: one.name)
    if installed:
        asked_for = (f"{one.name}={one.version}" for one in installed if not one.automatic)
        yield "\n".join(["# Debian packages asked for (the others came with them)", *asked_for])
        selections = (f"{one.name}\t{one.selection}" for one in installed)
        yield "\n".join(["# All Debian packages, for `dpkg --set-selections`", *selections])
