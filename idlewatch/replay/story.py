"""A life that can be replayed: from a scenario written by hand, or from a recording of a real Pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idlewatch.errors import SettingsError
from idlewatch.model import Question, Signal, Surroundings
from idlewatch.replay.engine import relive
from idlewatch.replay.expected import Expectation
from idlewatch.replay.life import Life, Lived
from idlewatch.settings import PREFIX, Loaded, Source, load

Factories = Mapping[str, Callable[[Surroundings], Signal | None]]
"""Name of a signal -> what makes one, as `signals.SIGNALS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One file, understood."""

    path: Path
    id: str
    """A recording has its file's name."""
    title: str
    source: str
    """Where it happened."""
    variables: Mapping[str, str]
    """The settings that it brings."""
    life: Life
    signals: tuple[str, ...]
    """Those that it has readings of."""
    recorded: bool = False
    """Of a real Pod; it goes on after a stop that the policy would have made."""
    expectations: tuple[Expectation, ...] = ()
    known_wrong: str | None = None
    """Why what comes of it is not as expected, where that is known."""
    notes: tuple[str, ...] = field(default=())
    """What people should know of how it was understood."""

    def loaded(self, overrides: Mapping[str, str] | None = None) -> Loaded:
        """Its settings, `overrides` before its own. Raises SettingsError."""
        sources = [
            Source(name="--set", variables=overrides or {}),
            Source(name=str(self.path), variables=self.variables),
        ]
        return load(sources)

    def relived(self, loaded: Loaded, factories: Factories) -> Lived:
        """What the policy makes of it."""
        names = watched(self.signals, loaded)
        return relive(
            self.life,
            lambda: judges(names, loaded, self.life.started_s, factories),
            loaded.settings,
            until_stopped=not self.recorded,
        )

    def unmet(self, lived: Lived) -> list[str]:
        """Every expectation that is not met, in words."""
        held = [(one.text, one.unmet(lived, self.life.started_s)) for one in self.expectations]
        return [f"{text}: {failure}" for text, failure in held if failure is not None]


def watched(there: Sequence[str], loaded: Loaded) -> list[str]:
    """The signals of those that are there that these settings watch."""
    settings = loaded.settings
    asked = there if settings.signals == ("auto",) else settings.signals
    return [name for name in there if name in asked and name not in settings.ignore]


def judges(names: Sequence[str], loaded: Loaded, started_s: float, factories: Factories) -> list[Signal]:
    """Judges for readings that were made elsewhere: nothing is read or asked here."""
    unasked = {name: Question(task=name, request=None, every_s=60.0, within_s=60.0) for name in names}
    pod = Surroundings(
        variables=loaded.pod_variables(),
        started_s=started_s,
        connected_for_s=loaded.settings.connected_for.total_seconds(),
        gpu_limit_pct=loaded.settings.gpu_limit * 100,
        questions=unasked,
        start_task=_not_here,
    )
    return [signal for name in names if (signal := factories[name](pod)) is not None]


def _not_here(*_: object) -> None:
    raise SettingsError(["nothing is asked in a replay"])


def foreign_variables(variables: Mapping[str, str]) -> list[str]:
    """Names that are neither settings nor the platform's variables."""
    return [name for name in variables if not name.startswith((PREFIX, "RUNPOD_"))]
