"""What `idle_cost` found: rows, ratios, and the table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.process_cost import Part, Sample

READER = "idlewatch.gpu.child"
MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    cpu_s_per_hour: float | None
    looks: int | None = None
    """How many looks (ticks, polls) the span held."""
    ms_per_look: float | None = None
    rss_mib: float
    pss_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What a process weighs that has imported the daemon's modules and done nothing."""

    bare_rss_mib: float
    """Of the interpreter alone."""
    rss_mib: float
    cpu_s: float
    modules: int
    heavy: tuple[str, ...]
    """Of the modules known to be heavy, those that came in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run has to tell."""

    seconds: float
    settle_s: float
    interval_s: float
    gpus: int
    cpus: int | None
    processes: int
    """Visible in /proc: whoever looks at all of them pays for each."""
    load: float
    """The machine's load average of the last minute: cold caches make every look dearer."""
    signals: object
    """What idlewatch's last status says of each of its signals."""
    rows: Sequence[Row]
    imports: Imports
    not_measured: Mapping[str, str]

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """Our figures by each other contender's: below 1 we cost less."""
        fields = ("cpu_s_per_hour", "rss_mib", "pss_mib")
        others = [row for row in self.rows[1:] if not row.name.startswith(" ")]
        return {
            other.name: {name: getattr(self.rows[0], name) / getattr(other, name) for name in fields}
            for other in others
            if other.cpu_s_per_hour
        }


def row(name: str, before: Sample, after: Sample, looks: int | None) -> Row:
    """One contender's line."""
    return _row(name, after.cpu_s - before.cpu_s, after.at_s - before.at_s, looks, after.parts)


def _row(name: str, cpu_s: float, span_s: float, looks: int | None, parts: Sequence[Part]) -> Row:
    return Row(
        name=name,
        cpu_s_per_hour=cpu_s * HOUR_S / span_s,
        looks=looks,
        ms_per_look=cpu_s * 1000 / looks if looks else None,
        rss_mib=sum(part.rss_mib for part in parts),
        pss_mib=sum(part.pss_mib for part in parts),
    )


def split(before: Sample, after: Sample, ticks: int, polls: int | None) -> list[Row]:
    """Our line taken apart: the daemon with the children that it waited for, the GPU reader, the rest."""
    span_s, rows = after.at_s - before.at_s, []
    for label, looks in (("daemon", ticks), ("GPU reader", polls), ("other children", None)):
        then, now = _labelled(before, label), _labelled(after, label)
        if now:
            cpu_s = sum(part.cpu_s for part in now) - sum(part.cpu_s for part in then)
            rows.append(_row(f"  {label}", cpu_s, span_s, looks, now))
    return rows


def _labelled(sample: Sample, label: str) -> list[Part]:
    return [part for part in sample.parts if _label(part, sample.parts[0]) == label]


def _label(part: Part, root: Part) -> str:
    if part is root:
        return "daemon"
    return "GPU reader" if READER in part.command else "other children"


def once_a_minute(loop: Row) -> Row:
    """The loop as people run it: the measured looks, 60 an hour."""
    return Row(
        name=loop.name.replace("shell loop", "shell loop once a minute"),
        cpu_s_per_hour=None if loop.ms_per_look is None else loop.ms_per_look / 1000 * HOUR_S / MINUTE_S,
        ms_per_look=loop.ms_per_look,
        rss_mib=loop.rss_mib,
        pss_mib=loop.pss_mib,
    )


def lines(report: Report) -> Iterator[str]:
    """The table for people."""
    yield (
        f"{report.seconds:g} s of idleness after {report.settle_s:g} s of settling, a look every "
        f"{report.interval_s:g} s; {report.gpus} GPUs (stub), {report.cpus} CPUs, {report.processes} processes, "
        f"load {report.load:.1f}"
    )
    yield f"{'':50}{'CPU s/h':>9}{'looks':>7}{'ms/look':>9}{'RSS MiB':>9}{'PSS MiB':>9}"
    for one in report.rows:
        yield (
            f"{one.name:50}{_shown(one.cpu_s_per_hour):>9}{_shown(one.looks, 0):>7}{_shown(one.ms_per_look):>9}"
            f"{_shown(one.rss_mib):>9}{_shown(one.pss_mib):>9}"
        )
    yield "idlewatch / theirs (below 1: idlewatch costs less)"
    for name, ratio in report.ratios.items():
        yield f"  {name:48}{ratio['cpu_s_per_hour']:9.2f}{ratio['rss_mib']:25.2f}{ratio['pss_mib']:9.2f}"
    yield from _footnotes(report)


def _footnotes(report: Report) -> Iterator[str]:
    imports = report.imports
    yield (
        f"importing the daemon's modules: {imports.rss_mib:.1f} MiB RSS (bare interpreter {imports.bare_rss_mib:.1f}), "
        f"{imports.cpu_s:.2f} CPU s, {imports.modules} modules, among them {', '.join(imports.heavy)}"
    )
    yield f"signals at the end: {json.dumps(report.signals)}"
    for name, why in report.not_measured.items():
        yield f"not measured: {name}: {why}"


def _shown(figure: float | None, digits: int = 2) -> str:
    """A figure in few digits; a dash where there is none."""
    return "-" if figure is None else f"{figure:.{digits}f}"
