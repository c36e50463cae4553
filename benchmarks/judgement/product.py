"""
idlewatch itself on made-up lives: its real judges and its real policy, as `idlewatch replay` runs them.

A start of the Pod is one replay, from the look at which it was started to its stop. What is under test is not the
reading of /proc and of NVML, which other tests and benchmarks do, but what is made of what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from benchmarks.judgement.doing import PodLife
from benchmarks.judgement.facts import Scribe
from benchmarks.judgement.observed import Seen
from idlewatch.model import Action, Signal, Surroundings
from idlewatch.replay import Life, relive
from idlewatch.replay.story import judges, watched
from idlewatch.settings import Loaded, Source, load
from idlewatch.signals import SIGNALS

ZERO_S = 1000.0
SAVE_TAKES_S = 60.0
_DAY = datetime(2026, 11, 2, tzinfo=UTC)

Factories = Mapping[str, Callable[[Surroundings], Signal | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """idlewatch with these settings; `factories` may make judges with other limits."""

    name: str = "idlewatch"
    variables: Mapping[str, str] = field(default_factory=dict)
    factories: Factories = field(default_factory=lambda: SIGNALS)

    def stop(self, life: PodLife, looks: Sequence[Seen], start: int, step_s: float) -> int | None:
        """The look at which it stops a Pod that was started before look `start`; None: never."""
        told = self._loaded(step_s)
        began_s = ZERO_S + start * step_s
        lived = relive(_told(life, looks[start:], began_s, step_s), self._judges(told, began_s), told.settings)
        stops_s = lived.when(Action.STOP)
        return None if not stops_s else min(len(looks) - 1, max(start, round((stops_s[0] - ZERO_S) / step_s) - 1))

    def _loaded(self, step_s: float) -> Loaded:
        interval = {"IDLEWATCH_INTERVAL": f"{step_s:g}s"}
        return load([Source(name="benchmark", variables={**interval, **self.variables})])

    def _judges(self, told: Loaded, began_s: float) -> Callable[[], Sequence[Signal]]:
        names = watched(("gpu", "host", "people", "jupyter", "jobs", "transfers", "servers"), told)
        return lambda: judges(names, told, began_s, self.factories)


def _told(life: PodLife, looks: Sequence[Seen], began_s: float, step_s: float) -> Life:
    scribe = Scribe(editor=life.editor, notebook=life.notebook, server=life.server, zero_s=ZERO_S)
    return Life(
        started_s=began_s,
        watched_from_s=began_s + step_s,
        ends_s=began_s + len(looks) * step_s,
        readings=scribe.readings(looks, step_s),
        save_takes_s=SAVE_TAKES_S,
        began_at=_DAY + timedelta(hours=life.begins_hour) - timedelta(seconds=ZERO_S),
    )
