"""
What a loss consists of, in the words of those who made it: packages, repositories, models, notebooks, dotfiles.

All of it is told by names and by files that are read as data. Nothing found here is run, least of all git: a
repository can name programs to be run in its own configuration.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot.dpkg import DPKG_INFO, package_of, versions
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.repositories import Repository, look_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idlewatch.model import Json
    from idlewatch.snapshot.scan import Entry

_DIST_INFO: Final = re.compile(r"((?:site|dist)-packages)/([^/]+)-([^/-]+)\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
_CONDA: Final = re.compile(r"/conda-meta/([^/]+)-([^/-]+)-[^/-]+\.json")
_HUB: Final = re.compile(r"(.*/huggingface/hub/)(models|datasets|spaces)--([^/]+)/")
_HOMES: Final = ("root/", "home/")
_DOTFILE: Final = re.compile(r"(root|home/[^/]+)/(\.[^/]+)")
_HUB_FOLDERS: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
_LAST_LETTERS: Final = frozenset("AOtbn")
"""With which the names end that `_by_name` looks at."""
_MOST_NOTEBOOKS = 50
_MOST_REPOSITORIES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the loss that has a name of its own."""

    name: str
    detail: str
    """A version, or what else is to be said."""
    disk_bytes: int
    changed_ns: int
    """The newest ctime in it, wall clock nanoseconds."""
    where: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        place: dict[str, Json] = {"where": self.where} if self.where else {}
        named: dict[str, Json] = {"name": self.name, "detail": self.detail}
        return {**named, "bytes": self.disk_bytes, "changed_ns": self.changed_ns, **place}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The parts, each kind with the newest first."""

    pip: tuple[Part, ...] = ()
    conda: tuple[Part, ...] = ()
    apt: tuple[Part, ...] = ()
    removed: tuple[Part, ...] = ()
    """Packages that the image held and that are gone, or gone in that version."""
    models: tuple[Part, ...] = ()
    """What lies in a cache of the Hugging Face hub: it can be fetched again as long as the hub still has it."""
    notebooks: tuple[Part, ...] = ()
    dotfiles: tuple[Part, ...] = ()
    repositories: tuple[Repository, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        kinds = ("pip", "conda", "apt", "removed", "models", "notebooks", "dotfiles", "repositories")
        return {kind: [part.as_json() for part in getattr(self, kind)] for kind in kinds}


@dataclass(slots=True)
class _Sum:
    detail: str = ""
    where: str = ""
    disk_bytes: int = 0
    changed_ns: int = 0

    def add(self, entry: Entry) -> None:
        self.disk_bytes += entry.disk_bytes
        self.changed_ns = max(self.changed_ns, entry.ctime_ns)


@dataclass(slots=True)
class Sorting:
    """Takes the entries of a loss one by one and tells what they are; `entries` may be a million."""

    root: str
    _pip: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)
    _conda: dict[tuple[str, str], _Sum] = field(default_factory=dict)
    _apt: dict[str, int] = field(default_factory=dict)
    _models: dict[str, _Sum] = field(default_factory=dict)
    _dotfiles: dict[str, _Sum] = field(default_factory=dict)
    _notebooks: list[tuple[int, str, int]] = field(default_factory=list)
    _repositories: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Take one entry; a name is looked at closer only where its end says so."""
        path, kind, _, _, _ = entry
        if kind == FOLDER:
            if path.endswith("/.git") or path == ".git":
                self._repositories.add(path.rpartition("/")[0])
            return
        if path[-1] in _LAST_LETTERS:
            self._by_name(entry, path)
        if "--" in path or path.startswith(_HOMES):
            self._by_folder(entry)

    def _by_name(self, entry: Entry, path: str) -> None:
        if path.endswith(("/METADATA", "/PKG-INFO")):
            self._package(entry)
        elif path.endswith(".list") and path.startswith(DPKG_INFO):
            self._apt[package_of(path)] = entry.ctime_ns
        elif path.endswith(".ipynb") and "/.ipynb_checkpoints/" not in path:
            self._notebook(entry)
        elif path.endswith(".json") and (found := _CONDA.search(path)):
            self._conda.setdefault((found[1], found[2]), _Sum()).add(entry)

    def _by_folder(self, entry: Entry) -> None:
        if "--" in entry.path and (found := _HUB.match(entry.path)):
            name = _HUB_FOLDERS[found[2]] + found[3].replace("--", "/")
            self._models.setdefault(name, _Sum(where=self._full(found[1]))).add(entry)
        elif found := _DOTFILE.match(entry.path):
            self._dotfiles.setdefault(self._full(found[0]), _Sum()).add(entry)

    def _package(self, entry: Entry) -> None:
        if found := _DIST_INFO.search(entry.path):
            where = self._full(entry.path[: found.end(1)])
            self._pip[found[2], found[3], where] = (entry.path.rpartition("/")[0], entry.ctime_ns)

    def _notebook(self, entry: Entry) -> None:
        item = (entry.ctime_ns, entry.path, entry.disk_bytes)
        if len(self._notebooks) < _MOST_NOTEBOOKS:
            heapq.heappush(self._notebooks, item)
        elif item > self._notebooks[0]:
            heapq.heapreplace(self._notebooks, item)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/") or "/"

    def contents(self, deleted: Iterable[str] = ()) -> Contents:
        """Return the parts; `deleted` is what the image held and is gone."""
        notebooks = sorted(self._notebooks, reverse=True)
        return Contents(
            pip=self._pip_parts(),
            conda=_newest(_part(name, version, total, "") for (name, version), total in self._conda.items()),
            apt=self._apt_parts(),
            removed=tuple(_removed(deleted)),
            models=_newest(_part(name, "", total, total.where) for name, total in self._models.items()),
            notebooks=tuple(
                Part(name=self._full(path), detail="", disk_bytes=size, changed_ns=changed)
                for changed, path, size in notebooks
            ),
            dotfiles=_newest(_part(name, "", total, "") for name, total in self._dotfiles.items()),
            repositories=self._looked_at(),
        )

    def _pip_parts(self) -> tuple[Part, ...]:
        return _newest(
            Part(
                name=name,
                detail=version,
                disk_bytes=_recorded_bytes(Path(f"{self.root}/{folder}/RECORD")),
                changed_ns=changed,
                where=where,
            )
            for (name, version, where), (folder, changed) in self._pip.items()
        )

    def _apt_parts(self) -> tuple[Part, ...]:
        known = versions(self.root) if self._apt else {}
        return _newest(
            Part(name=name, detail=known[name].version, disk_bytes=known[name].disk_bytes, changed_ns=changed)
            for name, changed in self._apt.items()
            if name in known
        )

    def _looked_at(self) -> tuple[Repository, ...]:
        folders = sorted(self._repositories)[:_MOST_REPOSITORIES]
        found = (look_at(self._full(folder)) for folder in folders)
        return tuple(sorted(found, key=lambda one: one.changed_ns, reverse=True))


def _part(name: str, detail: str, total: _Sum, where: str) -> Part:
    return Part(name=name, detail=detail, disk_bytes=total.disk_bytes, changed_ns=total.changed_ns, where=where)


def _recorded_bytes(record: Path) -> int:
    """Return what a package's files weigh by its own list (RECORD, PyPA's "Recording installed projects")."""
    try:
        lines = record.read_bytes().splitlines()
    except OSError:
        return 0
    sizes = (line.rpartition(b",")[2] for line in lines)
    return sum(int(size) for size in sizes if size.isdigit())


def _newest(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (-part.changed_ns, part.name)))


def _removed(deleted: Iterable[str]) -> Iterable[Part]:
    for path in sorted(deleted):
        if found := _DIST_INFO.search(path + "/METADATA"):
            yield Part(name=found[2], detail=found[3], disk_bytes=0, changed_ns=0, where="pip")
        elif path.startswith(DPKG_INFO) and path.endswith(".list"):
            yield Part(name=package_of(path), detail="", disk_bytes=0, changed_ns=0, where="apt")
