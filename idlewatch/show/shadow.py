"""What other settings would have done: as text, HTML and JSON."""

from __future__ import annotations

import html
from collections.abc import Iterator

from idlewatch.durations import format_duration
from idlewatch.model import Json
from idlewatch.replay.comparison import Outcome
from idlewatch.shadow import ENOUGH_DAYS, Shadow, Tried, proposals


def shadow_lines(told: Shadow) -> Iterator[str]:
    """What is proposed, in whole lines."""
    if not told.enough:
        yield f"Other settings: not enough history yet to compare them, {told.days} of {ENOUGH_DAYS} days."
        return
    found = proposals(told)
    if not found:
        yield f"Other settings: none of {len(told.tried)} would have done better {_seen(told)}."
    for one in found:
        yield f"Other settings: {one.text} {_seen(told, one.tried)}."


def _seen(told: Shadow, one: Tried | None = None) -> str:
    starts = one.starts if one else told.starts - told.left_out
    of = f"the newest {starts} of {told.starts} starts" if starts < told.starts else f"{told.days} days"
    return f"(by the verdicts of {of})"


def shadow_html(told: Shadow) -> str:
    """The same, and every setting that was tried as a table."""
    words = "".join(f"<p>{html.escape(line)}</p>" for line in shadow_lines(told))
    if not told.tried:
        return words
    rows = "".join(_row(told, one) for one in told.tried)
    head = "<th>setting<th>stopped for longer<th>dollars<th>stops<th>while working<th>within the hour<th>starts"
    return f"{words}<table><tr>{head}</tr>{rows}</table>"


def _row(told: Shadow, one: Tried) -> str:
    usd = told.usd(one.more_s)
    counts = (
        (one.outcome.stops, one.now.stops),
        (one.outcome.working, one.now.working),
        (one.outcome.too_soon, one.now.too_soon),
    )
    cells = [
        one.other.words,
        format_duration(one.more_s),
        "" if usd is None else f"{'-' if usd < 0 else ''}${abs(usd):,.2f}",
        *(f"{count} (now {now})" for count, now in counts),
        str(one.starts),
    ]
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def shadow_json(told: Shadow) -> dict[str, Json]:
    """For programs, as `show.report` says."""
    proposed = proposals(told) if told.enough else []
    return {
        "days": told.days,
        "enough": told.enough,
        "starts": told.starts,
        "starts_left_out": told.left_out,
        "proposed": [{"kind": one.kind, "setting": one.tried.other.words, "text": one.text} for one in proposed],
        "tried": [_tried_json(told, one) for one in told.tried],
    }


def _tried_json(told: Shadow, one: Tried) -> Json:
    return {
        "setting": one.other.words,
        "starts": one.starts,
        "outcome": _outcome_json(one.outcome),
        "now": _outcome_json(one.now),
        "more_saved_s": one.more_s,
        "more_saved_usd": told.usd(one.more_s),
    }


def _outcome_json(one: Outcome) -> Json:
    return {
        "stops": one.stops,
        "saved_s": one.saved_s,
        "stops_while_working": one.working,
        "stops_within_the_hour": one.too_soon,
    }
