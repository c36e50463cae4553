"""What a Pod does over a stretch of time, and whether it was needed: the vocabulary in which lives are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from idlewatch.signals.host_window import HostLimits

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
HUM_AT_MOST = HostLimits().cpu_median_max_cores
"""Cores that the host's judge may take for a hum: what takes more is work, whoever looks."""
ALWAYS = 1e6
"""So many bursts a minute are one in every look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What can be measured while it goes on; what is not said is not done."""

    bursts_per_min: float = 0.0
    """Of the GPU, as a Poisson process."""
    peak_pct: float = 0.0
    """The highest sample of a burst."""
    share: float = 0.0
    """Of a look with a burst in it, how much of it the GPU was at work."""
    gpus: int | None = None
    """How many of the Pod's GPUs work; None: all."""
    watts: float = 65.0
    mib: float = 4.0
    """Of the GPU's memory."""
    cpu_cores: float = 0.01
    job: str | None = None
    """The program whose CPU that is; None: a notebook's kernel, a server or the system."""
    network: float = 300.0
    """Bytes a second."""
    disk: float = 0.0
    moved: float = 0.0
    """Bytes a second that a transfer tool moves."""
    talks: float = 0.0
    """Bytes a second over the connections of a program that nobody knows."""
    keys_per_min: float = 0.0
    cells_per_min: float = 0.0
    """Executions in a notebook."""
    commands_per_min: float = 0.0
    """Commands that a coding agent starts."""
    asked_per_min: float = 0.0
    """Requests to the server."""
    busy_kernel: bool = False
    """A notebook's cell is running."""
    gpu_mib_per_min: float = 0.0
    """By which the memory of its GPU grows."""
    mib_per_min: float = 0.0
    """By which the Pod's own memory grows."""
    late_per_min: float = 0.0
    """Looks that came late, so that the GPU's samples describe the second half only, as a Poisson process."""
    late_watts: float = 0.0
    """By how much the power of such a look is above that of rest: work in the half that no sample describes."""
    unread: float = 0.0
    """Of the looks, how many can't read the GPU; some minutes of them in a row."""

    @property
    def shows(self) -> bool:
        """Whether anything of it is more than a Pod at rest: what a perfect look would see."""
        acts = (self.bursts_per_min, self.keys_per_min, self.cells_per_min, self.commands_per_min, self.asked_per_min)
        busy = self.cpu_cores > HUM_AT_MOST or self.busy_kernel
        return any(acts) or busy or self.moved > 0 or self.talks > 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """From and to which second of the life; `needed` is the truth that no rule can see."""

    from_s: float
    to_s: float
    doing: Doing
    needed: bool


@dataclass(frozen=True, slots=True)
class Connection:
    """Somebody is connected over SSH; what it carries ends at `answers_until_s`, when their machine fell asleep."""

    from_s: float
    to_s: float
    answers_until_s: float


@dataclass(slots=True, kw_only=True)
class PodLife:
    """One Pod from the hour at which it was started."""

    kind: str
    seed: int
    gpus: int = 1
    begins_hour: float = 9.0
    """Of the day, UTC."""
    stretches: list[Stretch] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    editor: bool = False
    """Its person works in an editor over SSH without a terminal."""
    notebook: bool = False
    """Its person works in a browser, over the provider's proxy: nobody is connected as far as the Pod sees."""
    server: bool = False
    """A model server runs."""
    hum_cores: float = 0.0
    """CPU that something nobody needs takes all the time: a sync, a polled page."""

    @property
    def ends_s(self) -> float:
        """When the person needs it again, the next day at the latest."""
        return self.stretches[-1].to_s if self.stretches else 0.0

    def add(self, minutes: float, doing: Doing, *, needed: bool = True) -> None:
        """Go on with that for so long."""
        from_s = self.ends_s
        self.stretches.append(Stretch(from_s, from_s + minutes * 60.0, doing, needed))

    def until(self, at_s: float, doing: Doing, *, needed: bool = False) -> None:
        """Go on with that until then; nothing where that is over."""
        if at_s > self.ends_s:
            self.add((at_s - self.ends_s) / 60.0, doing, needed=needed)

    def cut(self, at_s: float) -> None:
        """Nothing after that."""
        kept = [one for one in self.stretches if one.from_s < at_s]
        if kept and kept[-1].to_s > at_s:
            last = kept.pop()
            kept.append(Stretch(last.from_s, at_s, last.doing, last.needed))
        self.stretches = kept

    def gaps(self) -> list[tuple[float, float]]:
        """The spans in which nobody needed it, in order."""
        return spans([(one.from_s, one.to_s) for one in self.stretches if not one.needed])

    def unseen(self) -> list[tuple[float, float]]:
        """The spans in which nothing showed, needed or not: what a learned wait learns from."""
        return spans([(one.from_s, one.to_s) for one in self.stretches if not one.doing.shows])


def spans(parts: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What touches is one."""
    found: list[tuple[float, float]] = []
    for from_s, to_s in parts:
        if found and from_s - found[-1][1] < 1e-6:
            found[-1] = found[-1][0], to_s
        else:
            found.append((from_s, to_s))
    return found
