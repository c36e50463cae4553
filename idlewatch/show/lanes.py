"""
Verdicts over time as a line of characters, one a stretch: readable without colour, in a log and through a pipe.

    #  active: somebody or something used it     h  held           +  waited for: a person connected, a server warm
    ?  unknown: not read, or not yet             .  quiet          -  absent: there is no such thing
    blank: no daemon looked

A column shows the strongest that was in it, so that no activity is lost in a long stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from idlewatch.history.verdicts import HELD, HOLD, Span
from idlewatch.model import Activity
from idlewatch.show.folding import COLUMNS, NARROWEST, Paragraph

LEGEND = "# active  h held  + waited for  ? unknown  . quiet  - absent  blank: no look"
_STRENGTH = " -.?+h#"
_GLYPHS: Mapping[str, str] = {
    Activity.ACTIVE: "#",
    Activity.UNKNOWN: "?",
    Activity.QUIET: ".",
    Activity.ABSENT: "-",
    HELD: "h",
}
POD = "the Pod"
LANE_MOST = 60
"""A lane is no longer than this, however wide the terminal."""


def lane(spans: Iterable[Span], from_s: float, to_s: float, columns: int) -> str:
    """The strongest verdict of each of `columns` equal stretches from `from_s` to `to_s`."""
    each_s, drawn = (to_s - from_s) / columns, [" "] * columns
    for span in spans:
        first = max(0, int((span.from_s - from_s) / each_s))
        last = min(columns - 1, int((span.to_s - from_s) / each_s))
        for column in range(first, last + 1) if span.to_s >= from_s and span.from_s < to_s else ():
            drawn[column] = max(drawn[column], _glyph(span), key=_STRENGTH.index)
    return "".join(drawn)


def _glyph(span: Span) -> str:
    quiet = span.verdict == Activity.QUIET
    return "+" if quiet and span.bars else _GLYPHS.get(span.verdict, "?")


def pod_lane(spans: Sequence[Span], from_s: float, to_s: float, columns: int) -> str:
    """The same of the Pod as a whole: what a refining signal could not read does not make it unknown."""
    counted = [span for span in spans if not (span.refines and span.verdict == Activity.UNKNOWN)]
    return lane((span for span in counted if span.verdict != Activity.ABSENT), from_s, to_s, columns)


def lanes(spans: Sequence[Span], now_s: float, now: datetime, *, hours: float, width: int = COLUMNS) -> Iterator[str]:
    """A lane a signal, the Pod's first, below a line of times (UTC), in lines of at most `width` columns."""
    from_s = now_s - hours * 3600.0
    names = [name for name in dict.fromkeys(span.name for span in spans) if name != HOLD]
    widest = max(map(len, (POD, *names, HOLD)))
    columns = min(LANE_MOST, max(NARROWEST, width) - widest - 4)
    yield f"  {'':<{widest}}  {_times(now, hours, columns)}"
    yield f"  {POD:<{widest}}  {pod_lane(spans, from_s, now_s, columns)}"
    for name in [*names, *([HOLD] if any(span.name == HOLD for span in spans) else [])]:
        own = [span for span in spans if span.name == name]
        yield f"  {name:<{widest}}  {lane(own, from_s, now_s, columns)}"
    yield from Paragraph(LEGEND, "  ", "  ").lines(width)


def _times(now: datetime, hours: float, columns: int) -> str:
    """Times at each quarter of the axis, each where its column begins."""
    line, step = [" "] * columns, columns // 4
    for quarter in range(4):
        at = now - timedelta(hours=hours * (1 - quarter / 4))
        label = f"{at:%H:%M}"
        line[quarter * step : quarter * step + len(label)] = label
    return "".join(line).rstrip()
