"""
What the charts and the timeline are drawn from: only the part of the history that is shown, thinned in SQL.

Instants that go out are wall clock seconds since 1970; in the database they are CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idlewatch.history.sampling import Sample, facts_in, rows
from idlewatch.model import Json

POINTS = 480
"""The most points of a line: about one for two pixels of a chart."""
_READS = 4500
"""The most readings of one signal that are unpacked for one answer, six hours of ticks; of more, evenly spread ones."""
MIB_PER_GIB = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of the past that is shown."""

    from_s: float
    to_s: float
    wall_less_boot_s: float
    """Wall clock seconds since 1970, less CLOCK_BOOTTIME seconds."""
    interval_s: float = 5.0
    """Time between two ticks."""

    @property
    def step_s(self) -> float:
        """What one point stands for: at least a tick."""
        return max(self.interval_s, (self.to_s - self.from_s) / POINTS)

    def wall(self, at_s: float) -> float:
        """The wall clock's seconds of an instant, to a tenth."""
        return round(at_s + self.wall_less_boot_s, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart: its lines come from one signal's facts."""

    name: str
    title: str
    unit: str
    signal: str
    lines: Callable[[Mapping[str, Any]], dict[str, float | None]]
    """Facts -> name of a line -> value; None where it was not seen."""
    highest: bool = False
    """A point is the highest of its readings, else their mean: what decides about activity is the highest."""
    top: float | None = None


def _of_gpus(fact: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], dict[str, float | None]]:
    def lines(facts: Mapping[str, Any]) -> dict[str, float | None]:
        return {
            f"gpu{gpu.get('index', '?')}": _scaled(gpu.get(fact), scale) if not gpu.get("error") else None
            for gpu in facts.get("gpus") or []
        }

    return lines


def _rate(name: str, fact: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], dict[str, float | None]]:
    def lines(facts: Mapping[str, Any]) -> dict[str, float | None]:
        span_s = facts.get("span_s")
        return {name: _scaled(facts.get(fact), scale / span_s)} if span_s and fact in facts else {}

    return lines


def _scaled(value: object, scale: float) -> float | None:
    return value * scale if isinstance(value, int | float) and not isinstance(value, bool) else None


CHARTS = (
    Chart(
        name="gpu",
        title="GPU utilization",
        unit="%",
        signal="gpu",
        lines=_of_gpus("util_max_pct"),
        highest=True,
        top=100.0,
    ),
    Chart(
        name="gpu-memory",
        title="GPU memory",
        unit="GiB",
        signal="gpu",
        lines=_of_gpus("mem_used_mib", 1 / MIB_PER_GIB),
    ),
    Chart(name="gpu-power", title="GPU power", unit="W", signal="gpu", lines=_of_gpus("power_mean_w")),
    Chart(name="cpu", title="CPU", unit="cores", signal="host", lines=_rate("cpu", "cpu_busy_s")),
    Chart(name="network", title="Network", unit="KB/s", signal="host", lines=_rate("network", "net_bytes", 1e-3)),
    Chart(name="disk", title="Disk", unit="MB/s", signal="host", lines=_rate("disk", "disk_bytes", 1e-6)),
)


@dataclass(slots=True)
class _Line:
    """One line while it is summed up: by number of its point."""

    sums: dict[int, float] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    highest: dict[int, float] = field(default_factory=dict)

    def add(self, point: int, value: float) -> None:
        self.sums[point] = self.sums.get(point, 0.0) + value
        self.counts[point] = self.counts.get(point, 0) + 1
        self.highest[point] = max(value, self.highest.get(point, value))

    def values(self, points: int, *, highest: bool) -> list[Json]:
        if highest:
            return [_rounded(self.highest.get(point)) for point in range(points)]
        return [_rounded(self.sums[p] / self.counts[p]) if p in self.counts else None for p in range(points)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def series(state_dir: Path, window: Window) -> dict[str, Json]:
    """Return the lines of every chart: format 1. Charts that have nothing to show are left out."""
    points = max(1, round((window.to_s - window.from_s) / window.step_s))
    drawn: list[Json] = []
    for signal in dict.fromkeys(chart.signal for chart in CHARTS):
        drawn += _drawn(signal, facts_in(state_dir, _sample(signal, window)), window, points)
    return {
        "format": 1,
        "at": [window.wall(window.from_s + (point + 0.5) * window.step_s) for point in range(points)],
        "step_s": window.step_s,
        "sampled": _is_sampled(window),
        "charts": drawn,
    }


def _sample(signal: str, window: Window) -> Sample:
    return Sample(signal=signal, from_s=window.from_s, to_s=window.to_s, cells=_READS if _is_sampled(window) else None)


def _drawn(signal: str, told: Iterator[tuple[float, Mapping[str, Any]]], window: Window, points: int) -> list[Json]:
    charts = [chart for chart in CHARTS if chart.signal == signal]
    lines: dict[str, dict[str, _Line]] = {chart.name: {} for chart in charts}
    for at_s, facts in told:
        point = min(points - 1, int((at_s - window.from_s) / window.step_s))
        for chart in charts:
            for name, value in chart.lines(facts).items():
                line = lines[chart.name].setdefault(name, _Line())
                if value is not None:
                    line.add(point, value)
    return [
        _as_json(chart, lines[chart.name], points)
        for chart in charts
        if any(x.sums for x in lines[chart.name].values())
    ]


def _as_json(chart: Chart, lines: Mapping[str, _Line], points: int) -> Json:
    return {
        "name": chart.name,
        "title": chart.title,
        "unit": chart.unit,
        "top": chart.top,
        "how": "highest" if chart.highest else "mean",
        "lines": [
            {"name": name, "values": line.values(points, highest=chart.highest)} for name, line in sorted(lines.items())
        ],
    }


def _is_sampled(window: Window) -> bool:
    return (window.to_s - window.from_s) / window.interval_s > _READS


_SPANS = """
SELECT shown.name, shown.from_s, shown.to_s, shown.spans, verdicts.verdict, verdicts.bars, verdicts.reason
FROM (
    SELECT name, min(from_s) AS from_s, max(to_s) AS to_s, count(*) AS spans, max(
        rowid + 10000000000 * CASE WHEN verdict IN ('active', 'held') THEN 4 WHEN verdict = 'unknown' THEN 3
        WHEN bars THEN 2 WHEN verdict = 'quiet' THEN 1 ELSE 0 END) % 10000000000 AS strongest
    FROM verdicts WHERE to_s >= :from_s AND from_s <= :to_s
    GROUP BY name, CASE WHEN to_s - from_s >= :step_s THEN from_s ELSE -1 - CAST(from_s / :step_s AS INTEGER) END
) AS shown JOIN verdicts ON verdicts.rowid = shown.strongest ORDER BY shown.name, shown.from_s
"""
"""Spans too short to be seen are told as one, with the strongest verdict among them."""
_EVENTS = "SELECT at_s, kind, text FROM events WHERE at_s >= :from_s AND at_s <= :to_s ORDER BY rowid DESC LIMIT 300"


def timeline(state_dir: Path, window: Window) -> dict[str, Json]:
    """Return the verdicts by signal and the newest events of a window, the newest first: format 1."""
    lanes: dict[str, list[Json]] = {}
    events: list[Json] = []
    given = {"from_s": window.from_s, "to_s": window.to_s, "step_s": window.step_s}
    for name, from_s, to_s, spans, verdict, bars, reason in rows(state_dir, _SPANS, given):
        span: list[Json] = [window.wall(from_s), window.wall(to_s), verdict, bool(bars), reason, spans]
        lanes.setdefault(name, []).append(span)
    for at_s, kind, text in rows(state_dir, _EVENTS, given):
        events.append({"at": window.wall(at_s), "kind": kind, "text": text})
    return {
        "format": 1,
        "from": window.wall(window.from_s),
        "to": window.wall(window.to_s),
        "lanes": [{"name": name, "spans": spans} for name, spans in lanes.items()],
        "events": events,
    }


def oldest_s(state_dir: Path) -> float | None:
    """Return the instant of the oldest reading that is kept; None where there is none."""
    return next((at_s for (at_s,) in rows(state_dir, "SELECT min(at_s) FROM readings")), None)
