"""What must come of a life: said in a scenario, held against what the policy made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from idlewatch.durations import format_duration
from idlewatch.model import Action
from idlewatch.replay.life import Lived, Look

STOPPED, WARNED, CANCELLED = "stopped", "warned", "cancelled"
HAPPENINGS: Mapping[str, Action] = {STOPPED: Action.STOP, WARNED: Action.WARN, CANCELLED: Action.CANCEL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing that must come of it; spans are seconds since the container's start, both ends in them."""

    text: str
    """As it was written, for people."""
    from_s: float = 0.0
    to_s: float = float("inf")
    pods: tuple[str, ...] = ()
    """What the Pod must be at every tick of the span: one of these."""
    verdicts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Signal -> what its verdict must be at every tick of the span: one of these."""
    happenings: Mapping[str, bool] = field(default_factory=dict)
    """`stopped`, `warned`, `cancelled` -> whether that must happen within the span, or must not."""
    alarms: Mapping[str, bool] = field(default_factory=dict)
    """Name of an alarm -> whether there must be one within the span, or must not."""
    reason: str | None = None
    """Words in what is decisive at the end of the span."""

    def unmet(self, lived: Lived, started_s: float) -> str | None:
        """What is not as it must be, the first thing of several; None where all is."""
        looks = [look for look in lived.looks if self._within(look.at_s - started_s)]
        failures = [*self._happened(lived, started_s), *self._alarmed(lived, started_s), *self._was(looks, started_s)]
        return failures[0] if failures else None

    def _within(self, after_s: float) -> bool:
        return self.from_s <= after_s <= self.to_s

    def _happened(self, lived: Lived, started_s: float) -> Iterator[str]:
        for name, wanted in self.happenings.items():
            all_s = [at_s - started_s for at_s in lived.when(HAPPENINGS[name])]
            within = [after_s for after_s in all_s if self._within(after_s)]
            if wanted and not within:
                yield f"it was {name} {'never' if not all_s else f'after {_listed(all_s)}'}"
            if not wanted and within:
                yield f"it was {name} after {_listed(within)}"

    def _alarmed(self, lived: Lived, started_s: float) -> Iterator[str]:
        there = {name: text for at_s, name, text in lived.alarms if self._within(at_s - started_s)}
        for name, wanted in self.alarms.items():
            if wanted and name not in there:
                yield f"there was no alarm {name}, but {', '.join(sorted(there)) or 'none at all'}"
            if not wanted and name in there:
                yield f"there was an alarm {name}: {there[name]}"

    def _was(self, looks: Sequence[Look], started_s: float) -> Iterator[str]:
        if not looks and (self.pods or self.verdicts or self.reason):
            yield "nobody looked within that span (a stop ends a scenario)"
        for look in looks:
            at = f"after {format_duration(look.at_s - started_s)}"
            if self.pods and look.pod not in self.pods:
                yield f"{at} the Pod was {look.pod} ({look.decisive})"
            for signal, wanted in self.verdicts.items():
                if look.verdicts.get(signal) not in wanted:
                    yield f"{at} {signal} was {look.verdicts.get(signal, 'not there')} ({look.decisive})"
        if self.reason and looks and self.reason not in looks[-1].decisive:
            yield f"at its end it was {looks[-1].pod} ({looks[-1].decisive})"


def _listed(spans_s: Sequence[float]) -> str:
    told = [format_duration(span_s) for span_s in spans_s[:3]]
    return ", ".join(told) + (" …" if len(spans_s) > len(told) else "")
