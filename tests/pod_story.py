"""
What happens in one Pod's life, made up from a seed: use, faults, holds, requests, deaths of the daemon, suspensions.

All spans are `(from, to)` in CLOCK_BOOTTIME seconds. Each life ends with hours in which nothing is used and nothing
fails any more, so that a Pod that still runs at its end must have said why. The end sequence is where it matters most,
so a life provokes: each time one begins, something may happen in the middle of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

Span = tuple[float, float]

BORN_S = 50_000.0
"""When the container starts."""
CALM_S = 2.5 * 3600.0
SIGNALS = {"gpu": False, "host": False, "people": True}
"""Name -> whether it only refines."""


def within(spans: Sequence[Span], at_s: float) -> bool:
    """Whether an instant lies in one of them."""
    return any(from_s <= at_s < to_s for from_s, to_s in spans)


def touch(spans: Sequence[Span], from_s: float, to_s: float) -> bool:
    """Whether one of them reaches into `from_s` to `to_s`."""
    return any(start < to_s and end > from_s for start, end in spans)


@dataclass(kw_only=True)
class Story:
    """One life."""

    seed: int
    used: dict[str, list[Span]]
    """Signal -> when what it watches is really in use."""
    faults: dict[str, list[Span]]
    """Signal -> when it can't be read."""
    stuck: dict[str, list[Span]]
    """Signal -> when it hands over its old reading again."""
    holds: list[Span]
    requests: list[Span]
    """When a person's `idlewatch stop` stands."""
    deaths: list[Span]
    """The daemon is killed hard at the beginning, and started again at the end."""
    suspensions: list[Span]
    """The whole machine stands still."""
    wall_jumps_s: list[tuple[float, float]]
    """Instant, and by how much somebody sets the wall clock then."""
    ceiling_s: float
    """Uptime at which the owner wants a stop; 0: none."""
    trouble_to_s: float
    """Saves and stops may fail before this instant."""
    faulty: bool
    """Whether anything ever fails in it."""
    provocations: int
    """So many times something happens in the middle of an end sequence."""
    calm_s: float
    """From when on nothing happens any more; provocations put it off."""

    @property
    def ends_s(self) -> float:
        """The end of the life, stopped or not."""
        return self.calm_s + CALM_S

    def provoke(self, random: Random, now_s: float) -> None:
        """Let something happen in the minutes after `now_s`, when an end sequence has just begun or got on."""
        if not self.provocations or random.random() > 0.7:
            return
        self.provocations -= 1
        from_s = now_s + random.choice((5.0, 60.0, 280.0, 320.0, 500.0)) * random.random()
        span = from_s, from_s + random.choice((1.0, 20.0, 200.0, 2000.0))
        used, unread = [*self.used.values()], [*self.faults.values(), *self.stuck.values()]
        one = random.choice([*used, self.holds, *([self.requests, *unread] if self.faulty else [])])
        one.append(span)
        one.sort()
        if self.faulty and random.random() < 0.15:
            self.deaths.append((from_s, from_s + 5.0 + random.expovariate(1 / 200.0)))
            self.deaths.sort()
        self.calm_s = max(self.calm_s, span[1], from_s + 600.0)


def story(seed: int) -> Story:
    """Make up the life of a seed."""
    random = Random(seed)
    eventful_s = random.uniform(0.2, 3.0) * 3600.0
    calm_s = BORN_S + eventful_s

    def spans(most: int, mean_s: float, chance: float) -> list[Span]:
        if random.random() > chance:
            return []
        begins = sorted(random.uniform(BORN_S + 60.0, calm_s) for _ in range(random.randint(1, most)))
        return [(at_s, min(calm_s, at_s + random.expovariate(1 / mean_s))) for at_s in begins]

    faulty = random.random() < 0.8  # the others show that a Pod where all is well is stopped on time
    return Story(
        seed=seed,
        used={name: spans(4, 120.0, 0.7) for name in SIGNALS},
        faults={name: spans(4, 400.0, 0.5 * faulty) for name in SIGNALS},
        stuck={name: spans(2, 200.0, 0.3 * faulty) for name in SIGNALS},
        holds=spans(2, 1200.0, 0.3),
        requests=spans(1, 1500.0, 0.15),
        deaths=_apart(spans(3, 200.0, 0.4 * faulty)),
        suspensions=spans(2, 900.0, 0.2 * faulty),
        wall_jumps_s=[(at_s, random.choice((-3.0, 3.0)) * 3600.0) for at_s, _ in spans(2, 1.0, 0.3)],
        ceiling_s=random.uniform(0.6, 1.2) * eventful_s if random.random() < 0.15 else 0.0,
        trouble_to_s=calm_s if faulty and random.random() < 0.6 else BORN_S,
        faulty=faulty,
        provocations=random.randint(0, 6),
        calm_s=calm_s,
    )


def _apart(spans: list[Span]) -> list[Span]:
    """Without those that begin in another: a daemon dies once at a time."""
    kept: list[Span] = []
    for span in spans:
        if not kept or span[0] > kept[-1][1] + 30.0:
            kept.append(span)
    return kept
