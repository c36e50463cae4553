"""
What every GPU did over the last minutes, and what is said of it: for the screen and for programs.

`idlewatch gpu --json`, format 1 (null: not known, never 0; instants and spans are seconds, CLOCK_BOOTTIME):

    format 1; at: wall time; at_s: its instant; source: `daemon` (its readings) or `own` (a reader of this command)
    verdict       `active`, `quiet`, `unknown`, `absent`, or `settling`: the driver was just opened, what it says does
                  not count yet and will in settles_in_s (else null); reason: in words; notes: what else to know
    driver, expected, found    as in a reading of the GPU signal (`idlewatch.signals.gpu`); newest_s: its instant
    column_s      how long one column of the sparkline is
    gpus          list, one object a GPU: label, uuid, name, verdict, reason;
                  idle_w: what it draws when idle, learned in this Pod; limit_w: the mean power above which it worked;
                  power_mean_w and above_idle_w: its mean power since the last look, and how much of it is above idle_w;
                  facts: the newest facts of this GPU as that module documents them, null where they are not of now;
                  points: oldest first, {from_s, to_s, util_max_pct, counts}: the highest utilization of that time

Time that is in no point was not seen. With MIG, util_max_pct is the highest busy share of its instances.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from idlewatch.gpu import UTILIZATION
from idlewatch.model import Activity, Json
from idlewatch.show.sparkline import Seen
from idlewatch.signals.gpu import GpuLook

FORMAT = 1
SETTLING = "settling"
DAEMON, OWN = "daemon", "own"
KEPT_S = 3600.0
LATE_COLUMNS = 2
"""The newest look is drawn at the right edge while it is at most so old; then the gap behind it grows."""

Facts: TypeAlias = "Mapping[str, Any]"
"""Facts of a reading of the GPU signal, or of one GPU in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One GPU."""

    label: str
    uuid: str
    name: str
    verdict: str
    reason: str
    facts: Facts | None
    """None: nothing of it is known of now."""
    seen: tuple[Seen, ...]
    idle_w: float | None = None
    limit_w: float | None = None

    @property
    def watts(self) -> float | None:
        """Mean power since the last look."""
        watts = self.facts.get("power_mean_w") if self.facts else None
        return None if watts is None else float(watts)

    @property
    def above_idle_w(self) -> float | None:
        """How far that is above what it draws when idle."""
        return None if self.watts is None or self.idle_w is None else round(self.watts - self.idle_w, 2)

    @property
    def blind(self) -> str | None:
        """Why nothing can be drawn of it; None where something was seen, or may still be."""
        if self.facts is None or any(one.pct is not None for one in self.seen):
            return None
        why = self.facts.get("error") or self.facts.get("not_readable", {}).get(UTILIZATION)
        return None if why is None else str(why)

    def as_json(self) -> dict[str, Json]:
        """As the module documents it."""
        points: Json = [
            {"from_s": one.from_s, "to_s": one.to_s, "util_max_pct": one.pct, "counts": one.counts} for one in self.seen
        ]
        return {
            "label": self.label,
            "uuid": self.uuid,
            "name": self.name,
            "verdict": self.verdict,
            "reason": self.reason,
            "idle_w": self.idle_w,
            "limit_w": self.limit_w,
            "power_mean_w": self.watts,
            "above_idle_w": self.above_idle_w,
            "facts": None if self.facts is None else dict(self.facts),
            "points": points,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of all GPUs together."""

    activity: str
    """An `Activity`, or `settling`."""
    reason: str
    settles_in_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All there is to show at one instant."""

    now_s: float
    source: str
    verdict: Verdict
    rows: tuple[GpuRow, ...]
    whole: Facts = field(default_factory=dict)
    """Facts that are not of one GPU: driver, expected, found."""
    newest_s: float | None = None
    """When GPUs were last looked at."""
    column_s: float = 5.0

    @property
    def absent(self) -> bool:
        """Whether it is proven that there is no GPU."""
        return self.verdict.activity == Activity.ABSENT

    @property
    def end_s(self) -> float:
        """Where the time axis ends."""
        late_s = self.now_s - LATE_COLUMNS * self.column_s
        return self.now_s if self.newest_s is None else max(self.newest_s, late_s)

    def as_json(self, at: datetime) -> dict[str, Json]:
        """As the module documents it; `at` is the wall time of `now_s`."""
        return {
            "format": FORMAT,
            "at": at.isoformat(),
            "at_s": self.now_s,
            "source": self.source,
            "verdict": self.verdict.activity,
            "reason": self.verdict.reason,
            "settles_in_s": self.verdict.settles_in_s,
            "notes": [*self.verdict.notes],
            **{name: self.whole.get(name) for name in ("driver", "expected", "found")},
            "newest_s": self.newest_s,
            "column_s": self.column_s,
            "gpus": [row.as_json() for row in self.rows],
        }


@dataclass(slots=True)
class _Gpu:
    facts: Facts
    at_s: float
    counts: bool
    seen: deque[Seen] = field(default_factory=deque)


class Trail:
    """Remembers what was seen of every GPU over the last hour; instants are the readings' own."""

    def __init__(self) -> None:
        self._gpus: dict[str, _Gpu] = {}
        self._now = False
        self.whole: Facts = {}
        self.newest_s: float | None = None

    def saw(self, facts: Facts, at_s: float, *, counts: bool = True) -> None:
        """Take the facts of a reading, or of polls that do not count yet."""
        self._now, self.whole, self.newest_s = True, facts, at_s
        for place, gpu in enumerate(facts.get("gpus", [])):
            uuid = str(gpu.get("uuid", place))
            known = self._gpus.setdefault(uuid, _Gpu(gpu, at_s, counts))
            known.facts, known.at_s, known.counts = gpu, at_s, counts
            point = _point(gpu, at_s, known.seen[-1].to_s if known.seen else 0.0, counts=counts)
            if point:
                known.seen.append(point)
        self._forget(at_s - KEPT_S)

    def missed(self) -> None:
        """Nothing could be read: what is known is not of now."""
        self._now = False

    def rows(self, looks: Mapping[str, GpuLook]) -> tuple[GpuRow, ...]:
        """Every GPU by its number; `looks`: UUID -> what the newest judged reading made of it."""
        rows = [self._row(uuid, gpu, looks.get(uuid)) for uuid, gpu in self._gpus.items()]
        return tuple(sorted(rows, key=lambda row: (len(row.label), row.label)))

    def _row(self, uuid: str, gpu: _Gpu, look: GpuLook | None) -> GpuRow:
        now = self._now and gpu.at_s == self.newest_s
        verdict, reason = Activity.UNKNOWN.value, "" if now else "not in the newest reading"
        if now and not gpu.counts:
            verdict = SETTLING
        elif now and look:
            verdict, reason = look.activity.value, look.reason
        return GpuRow(
            label=f"gpu{gpu.facts.get('index', '')}",
            uuid=uuid,
            name=str(gpu.facts.get("name") or "GPU"),
            verdict=verdict,
            reason=reason,
            facts=gpu.facts if now else None,
            seen=tuple(gpu.seen),
            idle_w=look.idle_w if look else None,
            limit_w=look.limit_w if look else None,
        )

    def _forget(self, before_s: float) -> None:
        for gpu in self._gpus.values():
            while gpu.seen and gpu.seen[0].to_s < before_s:
                gpu.seen.popleft()
        self._gpus = {uuid: gpu for uuid, gpu in self._gpus.items() if gpu.at_s >= before_s}


def _point(gpu: Facts, at_s: float, after_s: float, *, counts: bool) -> Seen | None:
    """The highest utilization and the time it is of; None where none was read, or nothing is new."""
    told = [gpu.get("util_max_pct"), *(part.get("util_mean_pct") for part in gpu.get("instances", []))]
    read = [float(pct) for pct in told if pct is not None]
    if not read or at_s <= after_s:
        return None
    return Seen(max(after_s, at_s - float(gpu.get("covered_s") or 0.0)), at_s, max(read), counts)
