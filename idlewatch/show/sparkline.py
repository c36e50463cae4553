"""
A sparkline: one column a stretch of time, the highest percentage seen in it, and what was not seen left open.

Pure. A 0 is drawn only where most of the column's time was seen; anything above 0 wherever it was seen, however
shortly: work is never averaged away, and time without a look is never drawn as rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from idlewatch.durations import format_duration

GLYPHS = "▁▂▃▄▅▆▇█"
"""0 % alone is the lowest; each further one stands for a seventh of what is above."""
UNSEEN = "·"
SETTLES = "~"
_SEEN_SHARE = 0.5
_NARROWEST_LABEL = 10
_LABEL_STEPS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True, slots=True)
class Seen:
    """The highest percentage of the time from `from_s` to `to_s`; None: nothing could be read then."""

    from_s: float
    to_s: float
    pct: float | None
    counts: bool = True
    """False: the driver had just been opened, and what it said then proves nothing."""


@dataclass(frozen=True, slots=True)
class Column:
    """One stretch of the time axis."""

    pct: float | None = None
    """None: not seen."""
    counts: bool = True


def columns(seen: Iterable[Seen], *, end_s: float, column_s: float, count: int) -> list[Column]:
    """
    The `count` columns of `column_s` seconds each that end at `end_s`, oldest first.

    No two of `seen` may overlap. Each is drawn where it fills half a column, or else where most of it lies, so that
    polls which come a little early or late are not drawn twice as wide.
    """
    touching: list[list[tuple[Seen, float]]] = [[] for _ in range(count)]
    own: list[list[Seen]] = [[] for _ in range(count)]
    for one in seen:
        if one.pct is None:
            continue
        shares = dict(_shares(one, end_s, column_s, count))
        for index, share_s in shares.items():
            touching[index].append((one, share_s))
        half = [index for index, share_s in shares.items() if share_s >= column_s / 2]
        for index in half or sorted(shares, key=lambda index: shares[index])[-1:]:
            own[index].append(one)
    return [_column(mine, there, column_s) for mine, there in zip(own, touching, strict=True)]


def _shares(one: Seen, end_s: float, column_s: float, count: int) -> Iterator[tuple[int, float]]:
    """
    Each column that it touches, and for how many seconds; an instant lies in the column that ends with it.

    Reckoned from the end: the newest instant is often the end itself, and must not fall off it by a rounding.
    """
    newest = math.floor((end_s - one.to_s) / column_s)
    oldest = math.floor((end_s - one.from_s) / column_s)
    for back in range(max(0, newest), min(count - 1, oldest) + 1):
        to_s = end_s - back * column_s
        share_s = min(one.to_s, to_s) - max(one.from_s, to_s - column_s)
        if share_s > 0 or one.from_s >= one.to_s:
            yield count - 1 - back, share_s


def _column(own: Sequence[Seen], touching: Sequence[tuple[Seen, float]], column_s: float) -> Column:
    mostly = sum(share_s for _, share_s in touching) > column_s * _SEEN_SHARE
    there = own or [one for one, _ in touching if mostly]
    highest = max((one.pct for one in there if one.pct is not None), default=None)
    if highest is None or (highest == 0 and not mostly):
        return Column()
    return Column(highest, counts=any(one.counts for one in there))


def glyph(pct: float) -> str:
    """The block of a percentage; values outside 0 to 100 as the nearest of them."""
    steps = len(GLYPHS) - 1
    return GLYPHS[min(steps, max(0, -int(-pct * steps // 100)))]


def drawn(of: Sequence[Column]) -> str:
    """One character a column; blank before anything was seen, a dot for what was missed since."""
    text = "".join(UNSEEN if column.pct is None else glyph(column.pct) for column in of)
    return text.lstrip(UNSEEN).rjust(len(text))


def settling(of: Sequence[Column]) -> str:
    """A line for below: a mark under each column that does not count; empty where all do."""
    return "".join(" " if column.counts else SETTLES for column in of).rstrip()


def axis(count: int, column_s: float) -> str:
    """The time axis of `count` columns: how long ago a column began stands above it, `now` above the last ones."""
    line = [" "] * count
    step_s = next((step for step in _LABEL_STEPS_S if step >= _NARROWEST_LABEL * column_s), _LABEL_STEPS_S[-1])
    for at in range(1, int(count * column_s // step_s) + 1):
        place = count - round(at * step_s / column_s)
        label = f"-{format_duration(at * step_s).replace(' ', '')}"
        if place >= 0 and place + len(label) < count - len("now"):
            line[place : place + len(label)] = label
    line[max(0, count - len("now")) :] = "now"[: max(0, count)]
    return "".join(line)
