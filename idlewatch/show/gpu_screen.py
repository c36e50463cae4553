"""The screen of `idlewatch gpu`: lines of styled words, readable without colour, whatever their width and number."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from idlewatch.durations import format_duration
from idlewatch.model import Activity
from idlewatch.show.gpu import DAEMON, SETTLING, Facts, GpuRow, View
from idlewatch.show.sparkline import SETTLES, UNSEEN, Column, axis, columns, drawn, settling

PLAIN = ""
NAMED_METRICS = 4
_GUTTER, _TAIL = 6, 17


class Words(NamedTuple):
    """Some words of one style: a verdict, `dim`, `note`, or plain."""

    text: str
    style: str = PLAIN


Line: TypeAlias = "tuple[Words, ...]"


def text_of(line: Line) -> str:
    """A line without its styles."""
    return "".join(words.text for words in line).rstrip()


def clean(text: object) -> str:
    """Words from elsewhere (a driver, a file) with everything escaped that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def screen(view: View, width: int, height: int, *, cut: bool) -> list[Line]:
    """
    The whole screen in `width` columns: with all details where `height` lines are enough, else two lines a GPU.

    `cut`: what still does not fit is left out, and said to be.
    """
    lines = _lines(view, width, details=True)
    if len(lines) > height:
        lines = _lines(view, width, details=False)
    if not cut or len(lines) <= height:
        return lines
    kept = max(0, height - 1)
    return [*lines[:kept], (Words(f"… {len(lines) - kept} more lines; a higher terminal shows them"[:width], "dim"),)]


def _lines(view: View, width: int, *, details: bool) -> list[Line]:
    head = _verdict(view, width)
    if view.absent:
        return head
    drawn_rows = [(row, _columns(row, view, width)) for row in view.rows]
    lines = [*head, *_about(view, width)]
    if drawn_rows:
        lines += _axis([of for _, of in drawn_rows], view.column_s)
    for row, of in drawn_rows:
        lines.append(_row(row, of))
        lines += _details(row, width) if details else _short(row, width)
    return [*lines, *_footer(view, width, details=details)]


# -------------------------------------------------------------------- the top


def _verdict(view: View, width: int) -> list[Line]:
    said = view.verdict
    if view.absent:
        lines = _wrapped(f"No GPU here: {said.reason}", width)
    else:
        lines = _wrapped(f"GPU {said.activity.upper()}" + (f": {said.reason}" if said.reason else ""), width)
    return [*[(Words(line, said.activity),) for line in lines], *_notes(view, width)]


def _notes(view: View, width: int) -> list[Line]:
    return [(Words(line, "note"),) for note in view.verdict.notes for line in _wrapped(f"! {note}", width)]


def _about(view: View, width: int) -> list[Line]:
    names = Counter(clean(row.name) for row in view.rows)
    told = [name if count == 1 else f"{count} {name}" for name, count in names.items()]
    if view.whole.get("driver"):
        told.append(f"driver {view.whole['driver']}")
    ago = "" if view.newest_s is None else f" {format_duration(max(0.0, view.now_s - view.newest_s))} ago"
    told.append(f"read by the daemon{ago}" if view.source == DAEMON else f"read here{ago}: no daemon watches GPUs")
    return [(Words(line, "dim"),) for line in _wrapped(", ".join(told), width)]


def _axis(drawn_columns: Sequence[Sequence[Column]], column_s: float) -> list[Line]:
    lines: list[Line] = [(Words(" " * _GUTTER + axis(len(drawn_columns[0]), column_s), "dim"),)]
    marks = max((settling(of) for of in drawn_columns), key=lambda text: text.count(SETTLES))
    return [*lines, (Words(" " * _GUTTER + marks, SETTLING),)] if marks else lines


# -------------------------------------------------------------------- one GPU


def _columns(row: GpuRow, view: View, width: int) -> list[Column]:
    count = max(8, width - _GUTTER - _TAIL)
    return columns(row.seen, end_s=view.end_s, column_s=view.column_s, count=count)


def _row(row: GpuRow, of: Sequence[Column]) -> Line:
    newest = row.seen[-1].pct if row.seen and row.facts is not None and row.blind is None else None
    pct = "    ?  " if newest is None else f"{newest:5.0f} %"
    return (
        Words(f"{clean(row.label)[: _GUTTER - 1]:<{_GUTTER}}"),
        *_drawn(row, of),
        Words(f"{pct}  "),
        Words(row.verdict, row.verdict),
    )


def _drawn(row: GpuRow, of: Sequence[Column]) -> list[Words]:
    """The sparkline, what does not count in another style; or why there is none."""
    if row.blind:
        return [Words(_fitted(f"not seen: {row.blind}", len(of)).ljust(len(of)), Activity.UNKNOWN)]
    styles = ["bar" if column.counts else SETTLING for column in of]
    return [Words(glyph, style) for glyph, style in zip(drawn(of), styles, strict=True)]


def _short(row: GpuRow, width: int) -> list[Line]:
    """The one line below, where there is little room."""
    if row.facts is None:
        return _below([row.reason], width)
    engines = [f"{name} {pct:.0f} %" for name, pct in row.facts.get("engines_max_pct", {}).items() if pct]
    told = [_power(row, short=True), *engines, *_kind(row.facts), _memory(row.facts)]
    return _below([_fitted(", ".join(told), width - _GUTTER)], width)


def _details(row: GpuRow, width: int) -> list[Line]:
    if row.facts is None:
        return _below([f"{row.name}: {row.reason}"], width)
    engines = ", ".join(f"{name} {pct:.0f} %" for name, pct in row.facts.get("engines_max_pct", {}).items())
    parts = [
        f"{part.get('uuid')}: {_memory(part)}, {_busy_share(part.get('util_mean_pct'))}"
        for part in row.facts.get("instances", [])
    ]
    told = [
        ", ".join([row.name, *_kind(row.facts)]),
        _power(row, short=False),
        _memory(row.facts),
        *([f"engines: {engines}"] if engines else []),
        *(["single looks, one a second: what happens between two is missed"] if row.facts.get("instant") else []),
        *parts,
        *([f"{row.verdict}: {row.reason}"] if row.reason else []),
    ]
    return _below(told, width)


def _below(told: Iterable[str], width: int) -> list[Line]:
    lines = [line for text in told for line in _wrapped(text, width - _GUTTER)]
    return [(Words(" " * _GUTTER + line),) for line in lines]


def _kind(facts: Facts) -> list[str]:
    """What is not an ordinary GPU about it."""
    parts = len(facts.get("instances", []))
    told = [f"MIG, {parts} instance{'' if parts == 1 else 's'}"] if facts.get("mig") else []
    told += [str(facts["virtual"])] if facts.get("virtual") else []
    return [*told, *(["single looks"] if facts.get("instant") else [])]


def _power(row: GpuRow, *, short: bool) -> str:
    watts, above_w = row.watts, row.above_idle_w
    if watts is None:
        missing = (row.facts or {}).get("not_readable", {})
        return "power not readable" if {"energy", "power"} <= set(missing) else "power not known yet"
    if above_w is None or row.idle_w is None:
        idle = "" if short else ", its idle power is not known yet"
    elif row.limit_w is not None and watts <= row.limit_w:
        idle = " (idle)" if short else f", its idle power is {row.idle_w:.0f} W"
    else:
        idle = f" ({above_w:+.0f})" if short else f", {above_w:.0f} W above its idle power of {row.idle_w:.0f} W"
    most = (row.facts or {}).get("power_limit_w")
    return f"{watts:.0f} W{idle}" if short else f"power {watts:.0f} W{idle}{f'; at most {most:.0f} W' if most else ''}"


def _memory(facts: Facts) -> str:
    used, total, processes = facts.get("mem_used_mib"), facts.get("mem_total_mib"), facts.get("processes")
    of = f" of {_mib(total)}" if total else ""
    told = "memory not readable" if used is None else f"memory {_mib(used)}{of}"
    return told if processes is None else f"{told}, {processes} process{'' if processes == 1 else 'es'}"


def _mib(mib: float) -> str:
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def _busy_share(pct: float | None) -> str:
    return "how busy is not told" if pct is None else f"worked {pct:.1f} % of the time"


# ----------------------------------------------------------------- the bottom


def _footer(view: View, width: int, *, details: bool) -> list[Line]:
    told = [f"Highest % of each {format_duration(view.column_s)}; {UNSEEN} not seen"] if view.rows else []
    if any(not one.counts for row in view.rows for one in row.seen):
        told[0] += f"; {SETTLES} does not count: the driver was just opened"
    told += [] if details else [f"Unknown: {text}" for text in _unknown(view.rows)]
    told += [f"Not readable: {text}" for text in _not_readable(view.rows)]
    return [(Words(line, "dim"),) for text in told for line in _wrapped(text, width)]


def _unknown(rows: Iterable[GpuRow]) -> list[str]:
    """Why GPUs could not be judged, each reason once."""
    said_of: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict == Activity.UNKNOWN and row.reason:
            said_of.setdefault(row.reason, []).append(row.label)
    return [f"{', '.join(labels)}: {reason}" for reason, labels in said_of.items()]


def _not_readable(rows: Iterable[GpuRow]) -> list[str]:
    """What each GPU lacks and why, each reason once: `gpu0, gpu1: jpeg, ofa: Not Supported`."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_reason: dict[str, list[str]] = {}
        for metric, why in (row.facts or {}).get("not_readable", {}).items():
            by_reason.setdefault(str(why), []).append(metric)
        for why, metrics in by_reason.items():
            lacking.setdefault((_together(metrics), why), []).append(row.label)
    return [f"{', '.join(labels)}: {metrics}: {why}" for (metrics, why), labels in lacking.items()]


def _together(metrics: Sequence[str]) -> str:
    if len(metrics) <= NAMED_METRICS:
        return ", ".join(metrics)
    return f"{metrics[0]} and {len(metrics) - 1} other readings"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(clean(text), max(20, width), subsequent_indent="  ") or [""]


def _fitted(text: str, width: int) -> str:
    shown = clean(text)
    return shown if len(shown) <= width else shown[: max(0, width - 1)] + "…"
