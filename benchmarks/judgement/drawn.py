"""Pictures as SVG text: rules as points of idle dollars and stops in use, and a curve for each default."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence

from benchmarks.judgement.sensitive import Curve
from benchmarks.judgement.table import BOUND, PRODUCT, Table

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 460, 70, 60, 30
_STYLE = "font-family:sans-serif;font-size:12px;fill:#222"
_OURS, _OTHERS, _TRUTH = "#0a7d4f", "#8a3b2e", "#777777"


def scatter(table: Table) -> str:
    """One point a rule: idle dollars a day against stops in use a hundred days, on a scale that begins linear."""
    rows = [row for row in table.rows if row.name != "never"]
    most_usd = max(row.total.idle_usd / row.total.days for row in rows) * 1.1
    most_stops = _squeezed(max(100 * row.total.in_use / row.total.days for row in rows)) * 1.1
    parts = [_axes("idle dollars paid, a day", "stops while in use, a hundred days")]
    below = _HEIGHT - _BOTTOM + 18
    parts += [_text(_x(usd / most_usd), below, str(usd), "middle") for usd in range(0, int(most_usd) + 1, 2)]
    marks = [(stops, _squeezed(stops) / most_stops) for stops in (0, 3, 10, 30, 100, 300, 1000)]
    parts += [_text(_LEFT - 8, _y(share) + 4, str(stops), "end") for stops, share in marks if share <= 1]
    for number, row in enumerate(sorted(rows, key=lambda row: row.total.usd), 1):
        across = _x(row.total.idle_usd / row.total.days / most_usd)
        up = _y(_squeezed(100 * row.total.in_use / row.total.days) / most_stops)
        colour = _TRUTH if row.name == BOUND else _OURS if row.name.startswith(PRODUCT) else _OTHERS
        parts += [_dot(across, up, colour), _text(across + 8, up - 5 - 6 * (number % 2), str(number), "start")]
        parts += [_dot(_WIDTH - 265, _TOP + 20 * number, colour)]
        parts += [_text(_WIDTH - 255, _TOP + 20 * number + 4, f"{number}  {row.name}", "start")]
    return _svg(parts, _HEIGHT)


def curves(told: Sequence[Curve]) -> str:
    """A small picture for each default: what idleness and restarts cost, and its stops in use at each point."""
    columns, width, height = 3, 290, 190
    parts: list[str] = []
    for place, curve in enumerate(told):
        left, top = (place % columns) * width, (place // columns) * height
        parts += _curve(curve, left + 45, top + 35, width - 70, height - 85)
    return _svg(parts, height * math.ceil(len(told) / columns), width * columns)


def _curve(curve: Curve, left: float, top: float, width: float, height: float) -> Iterator[str]:
    most = max(point.usd_a_day for point in curve.points) * 1.15
    places = [
        (left + width * index / max(1, len(curve.points) - 1), top + height * (1 - point.usd_a_day / most))
        for index, point in enumerate(curve.points)
    ]
    yield _text(left, top - 18, f"{curve.name}: $ a day (stops in use)", "start")
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
    yield f'<polyline points="{line}" fill="none" stroke="{_TRUTH}"/>'
    for (x, y), point in zip(places, curve.points, strict=True):
        yield _dot(x, y, _OURS if point.is_default else _TRUTH)
        yield _text(x, y - 8, f"{point.usd_a_day:.1f} ({point.in_use})", "middle")
        yield _text(x, top + height + 16, point.value, "middle")


def _squeezed(value: float) -> float:
    return math.log1p(value)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - 300)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _axes(across: str, up: str) -> str:
    corner = f"M{_LEFT},{_TOP} V{_HEIGHT - _BOTTOM} H{_WIDTH - 290}"
    return (
        f'<path d="{corner}" fill="none" stroke="#444"/>'
        + _text(_LEFT + 250, _HEIGHT - 18, across, "middle")
        + _text(_LEFT, _TOP - 12, up, "start")
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" style="{_STYLE}">{html.escape(words)}</text>'


def _svg(parts: Sequence[str], height: int, width: int = _WIDTH) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", ""])
