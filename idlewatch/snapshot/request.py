"""What is asked of a save, as values that pass through JSON into a child process."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import Key
from idlewatch.snapshot.excludes import Excludes
from idlewatch.snapshot.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from idlewatch.model import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRequest:
    """What to save, and where to."""

    pod_id: str
    boot_key: str
    volume: Path | None = None
    """Folder on the storage that survives a stop."""
    objects: Objects | None = None
    """Where it goes instead of the volume. Its secrets are never part of the JSON, see `key`."""
    root: Path = Path("/")
    skip: tuple[Path, ...] = ()
    """idlewatch's state folder; the volume is always left out, see `left`."""
    since_ns: int | None = None
    """Wall clock nanoseconds; None: the birth of this container where `root` is `/`, else everything counts."""
    keep: int = 3
    """How many whole snapshots of this Pod to keep, this one among them."""
    max_bytes: int | None = None
    """A loss above this is not saved at all."""
    keep_bytes: int | None = None
    """How much all snapshots of this Pod may weigh on the volume; the newest stays in any case."""
    state_dir: Path | None = None
    """Where the names of the image were noted; None: deletions are not known."""
    incremental: bool = True
    """Whether it may build upon an earlier snapshot and write only what has changed since."""
    trust_untouched: bool = False
    """Whether an archive that nobody has touched since it was proven is built upon without being read again."""
    began_s: float | None = None
    """CLOCK_BOOTTIME instant at which the caller began; only recorded."""
    excludes: Excludes = field(default_factory=Excludes)
    key: Key | None = None
    """Encrypts what is saved. Never part of the JSON: whoever carries the request out gets it by a way of its own."""

    clean: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """Takes known secrets out of what is written down of command lines; comes by the same way."""

    @property
    def place(self) -> Path | Objects:
        """Where it goes. Raises SnapshotError where nothing is named."""
        place = self.objects or self.volume
        if place is None:
            raise SnapshotError("not a request for a save: it names no place")
        return place

    @property
    def left(self) -> tuple[Path, ...]:
        """What lies below the root and is none of the loss."""
        return self.skip if self.volume is None else (*self.skip, self.volume)

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        skip: list[Json] = [str(path) for path in self.skip]
        trees: list[Json] = [*sorted(self.excludes.trees)]
        caches: list[Json] = [*self.excludes.caches]
        return {
            "volume": None if self.volume is None else str(self.volume),
            "objects": None if self.objects is None else self.objects.url,
            "pod_id": self.pod_id,
            "boot_key": self.boot_key,
            "root": str(self.root),
            "skip": skip,
            "since_ns": self.since_ns,
            "keep": self.keep,
            "max_bytes": self.max_bytes,
            "keep_bytes": self.keep_bytes,
            "state_dir": None if self.state_dir is None else str(self.state_dir),
            "incremental": self.incremental,
            "trust_untouched": self.trust_untouched,
            "began_s": self.began_s,
            "excludes": {"trees": trees, "caches": caches, "patterns": [*self.excludes.patterns]},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Json]) -> SaveRequest:
        """Return the request of `as_json`; what is missing has its default. Raises SnapshotError for a wrong one."""
        known = {field.name for field in fields(cls)} - {"key", "clean"}
        if unknown := sorted(raw.keys() - known):
            raise SnapshotError(f"not a request for a save: unknown {', '.join(unknown)}")
        values = cast("dict[str, Any]", dict(raw))
        try:
            return cls(**{name: _FROM_JSON.get(name, _as_it_is)(value) for name, value in values.items()})
        except (TypeError, KeyError) as error:
            raise SnapshotError(f"not a request for a save: {error}") from error


def _as_it_is(value: Any) -> Any:
    return value


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "volume": _path,
    "objects": lambda url: None if url is None else Objects(url=url),
    "root": Path,
    "state_dir": _path,
    "skip": lambda paths: tuple(Path(path) for path in paths),
    "excludes": lambda raw: Excludes(
        trees=frozenset(raw["trees"]), caches=tuple(raw["caches"]), patterns=tuple(raw.get("patterns", ()))
    ),
}
