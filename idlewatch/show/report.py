"""
The bill for people: as text in 80 columns, as JSON, CSV, and one HTML file that needs nothing beside it.

JSON, format 1: `from`, `to` (ISO 8601, UTC), `usd_per_hour`, `up_s`, `usd`; `kinds`: kind -> `seconds`, `usd`;
`gpu_s`, `runs`; `stops`, `stopped_s`, `saved_usd`; `storage` (what the Pod costs while it is stopped, in words, or
null); `days`: list of `date` and `seconds` by kind; `advice`: list of `name`, `text`, `remedy`, `span_s`,
`usd_per_hour`, `usd_per_day`; `other_settings`: `days`, `enough`, `starts`, `starts_left_out`, `proposed` (list of
`kind`, `setting`, `text`), `tried` (list of `setting`, `starts`, `outcome`, `now`, both with `stops`, `saved_s`,
`stops_while_working`, `stops_within_the_hour`, and `more_saved_s`, `more_saved_usd`); `card` and `serverless`
(`pod_usd`, `flex_usd`, `active_usd`, `break_even`, `busy`, `advice`), null where the card or the price is not known,
or less than 8 hours were watched.
Dollars are null where the price is not known.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from idlewatch.durations import format_duration
from idlewatch.model import Json
from idlewatch.report import Advice, Bill, Card, Comparison, Kind
from idlewatch.report.serverless import COLD_START_S, LEAST_WATCHED_S, PRICES_OF
from idlewatch.shadow import Shadow
from idlewatch.show.folding import COLUMNS, folded
from idlewatch.show.shadow import shadow_html, shadow_json, shadow_lines

FORMAT = 1
_BAR_MOST, _BAR_LEAST = 24, 6
_BAR_AT = 38
"""The column at which bars begin."""
_PERCENT_LEAST = 0.005
_NOT_COMPARED = (
    "not compared, each with its catch: a savings plan (months paid beforehand; a stop then saves nothing on the GPU), "
    "spot (ended with seconds of notice)"
)
_MEANS = {
    Kind.ACTIVE: "somebody or something used it",
    Kind.HELD: "somebody held it, unused",
    Kind.BLIND: "not known: a signal could not be read",
    Kind.IDLE: "nothing used it",
    Kind.UNWATCHED: "no daemon looked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is shown."""

    pod: str
    bill: Bill
    starts: int
    """So many starts of the Pod are told of."""
    card: Card | None = None
    comparison: Comparison | None = None
    advice: Sequence[Advice] = ()
    """Waste that is not idleness."""
    shadow: Shadow | None = None
    """What other settings would have done; None: not asked for."""
    storage: str | None = None
    """What the Pod costs while it is stopped, in words."""


def report_lines(told: Report, columns: int = COLUMNS) -> Iterator[str]:
    """The report as text, in 80 columns or fewer."""
    bar = min(_BAR_MOST, max(_BAR_LEAST, columns - _BAR_AT))
    for line in _lines(told, bar):
        yield from folded(line, columns)


def _lines(told: Report, bar_most: int = _BAR_MOST) -> Iterator[str]:
    bill = told.bill
    yield f"{told.pod} {_period(bill)}"
    yield f"up for {format_duration(bill.up_s)}{_paid(bill, bill.up_s)} in {_count(told.starts, 'start')}"
    yield ""
    for kind in Kind:
        seconds = bill.seconds[kind]
        if seconds:
            share = seconds / bill.up_s
            bar = "#" * round(share * bar_most)
            row = f"  {kind.value:<10}{_percent(share):>5} {format_duration(seconds):>8} {_dollars(bill, seconds):>9}"
            yield f"{row}  {bar}".rstrip()
            yield f"  {'':<10}{_MEANS[kind]}"
    yield ""
    yield f"A GPU was seen at work for {format_duration(bill.gpu_s)}, in {_count(bill.runs, 'run')}."
    yield from _saved(told)
    yield from _advised(told)
    yield from shadow_lines(told.shadow) if told.shadow else ()
    yield from _serverless(told)


def _period(bill: Bill) -> str:
    price = "price not known (IDLEWATCH_USD_PER_HOUR)" if bill.usd_per_hour is None else f"${bill.usd_per_hour:.2f}/h"
    return f"from {bill.from_:%Y-%m-%d %H:%M} to {bill.to:%Y-%m-%d %H:%M} UTC, {price}"


def _advised(told: Report) -> Iterator[str]:
    for one in told.advice:
        yield f"Advice: {one.text}{f' ({one.dollars})' if one.dollars else ''}; {one.remedy}."


def _saved(told: Report) -> Iterator[str]:
    bill = told.bill
    if not bill.stops:
        yield "idlewatch stopped nothing in this time."
        return
    yield (
        f"{_count(bill.stops, 'stop')} by idlewatch: {format_duration(bill.stopped_s)} not billed"
        f"{_paid(bill, bill.stopped_s)}, had it run on."
    )
    if told.storage:
        yield f"While stopped it costs {told.storage}."


def _serverless(told: Report) -> Iterator[str]:
    if told.comparison is None or told.card is None:
        yield f"Pod or Serverless: not compared; {_not_compared_because(told)}"
        return
    yield f"Pod or Serverless ({told.card.label}): {told.comparison.advice}."
    if told.comparison.active_usd is not None:
        yield f"  one active worker all the time, with none beside it, would cost ${told.comparison.active_usd:.2f}"
    if told.bill.seconds[Kind.UNWATCHED]:
        yield f"  over the {format_duration(told.bill.watched_s)} in which a daemon looked"
    yield f"  list prices of {PRICES_OF}, {COLD_START_S:.0f} s of cold start billed for each run; see docs/report.md"
    yield f"  {_NOT_COMPARED}"


def _not_compared_because(told: Report) -> str:
    if told.bill.usd_per_hour is None:
        return "the price is not known (IDLEWATCH_USD_PER_HOUR)"
    if told.card is None:
        return "no card of Serverless was seen here"
    watched, least = format_duration(told.bill.watched_s), format_duration(LEAST_WATCHED_S)
    return f"{watched} of this time was watched, and less than {least} says nothing"


def _percent(share: float) -> str:
    """A share that is there is not told as none."""
    return f"{share:.0%}" if share >= _PERCENT_LEAST else "< 1%"


def _dollars(bill: Bill, seconds: float) -> str:
    usd = bill.usd(seconds)
    return "" if usd is None else f"${usd:.2f}"


def _paid(bill: Bill, seconds: float) -> str:
    usd = _dollars(bill, seconds)
    return f" ({usd})" if usd else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def report_json(told: Report) -> dict[str, Json]:
    """The report for programs; see the module."""
    bill, comparison = told.bill, told.comparison
    kinds: dict[str, Json] = {
        kind.value: {"seconds": seconds, "usd": bill.usd(seconds)} for kind, seconds in bill.seconds.items()
    }
    days: list[Json] = [{"date": day.date, "seconds": dict(_by_name(day.seconds))} for day in bill.days]
    serverless: Json = None
    if comparison:
        serverless = {
            "pod_usd": comparison.pod_usd,
            "flex_usd": comparison.flex_usd,
            "active_usd": comparison.active_usd,
            "break_even": comparison.break_even,
            "busy": comparison.busy,
            "advice": comparison.advice,
        }
    return {
        "format": FORMAT,
        "pod": told.pod,
        "from": bill.from_.isoformat(),
        "to": bill.to.isoformat(),
        "usd_per_hour": bill.usd_per_hour,
        "up_s": bill.up_s,
        "usd": bill.usd(bill.up_s),
        "kinds": kinds,
        "gpu_s": bill.gpu_s,
        "runs": bill.runs,
        "stops": bill.stops,
        "stopped_s": bill.stopped_s,
        "saved_usd": bill.usd(bill.stopped_s),
        "storage": told.storage,
        "days": days,
        "advice": [one.as_json() for one in told.advice],
        "other_settings": shadow_json(told.shadow) if told.shadow else None,
        "card": told.card.label if told.card else None,
        "serverless": serverless,
    }


def _by_name(seconds: Mapping[Kind, float]) -> Iterator[tuple[str, Json]]:
    for kind in Kind:
        yield kind.value, seconds.get(kind, 0.0)


def report_csv(told: Report) -> str:
    """One line a day: date, seconds and dollars by kind."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["date", *(f"{kind.value}_s" for kind in Kind), *(f"{kind.value}_usd" for kind in Kind)])
    for day in told.bill.days:
        seconds = [day.seconds.get(kind, 0.0) for kind in Kind]
        usd = [told.bill.usd(one) for one in seconds]
        rows.writerow(
            [day.date, *(f"{one:.0f}" for one in seconds), *("" if one is None else f"{one:.4f}" for one in usd)]
        )
    return written.getvalue()


_STYLE = """
:root { color-scheme: light dark; --active: #2f7d4f; --held: #8a6bbf; --blind: #c9822b; --idle: #b9bec7;
  --unwatched: #e4c9c5; --ink: #1d2430; --paper: #fbfbf9; --line: #d8dbe0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ee; --paper: #14171c; --line: #333a44; --idle: #59616d;
  --unwatched: #57403d; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } p { margin: .3rem 0; max-width: 44rem; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1.2rem 0; }
.figures b { display: block; font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; }
.advice { border-left: 3px solid var(--blind); padding: .4rem .9rem; margin: .8rem 0; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
td + td { white-space: nowrap; } .chart { overflow-x: auto; }
@media (max-width: 40rem) { .means { display: none; } svg text { font-size: 16px; }
  .figures { gap: .6rem 2rem; } .figures b { font-size: 1.6rem; } td, th { padding: .3rem .3rem; } }
svg line { stroke: var(--line); } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
"""


def report_html(told: Report) -> str:
    """One file with its charts in it, readable in the dark; nothing is fetched."""
    bill = told.bill
    rows = "".join(
        f'<tr><td><span class="swatch" style="background:var(--{kind.value})"></span>{kind.value}'
        f'<span class="means">: {_MEANS[kind]}</span></td>'
        f"<td>{bill.seconds[kind] / (bill.up_s or 1):.1%}</td><td>{format_duration(bill.seconds[kind])}</td>"
        f"<td>{_dollars(bill, bill.seconds[kind])}</td></tr>"
        for kind in Kind
    )
    advice = "".join(_advice_html(one) for one in told.advice)
    others = f"<h2>Other settings</h2>{shadow_html(told.shadow)}" if told.shadow else ""
    title = html.escape(f"What {told.pod} cost")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{html.escape(_period(bill))}</p>{_figures(told)}{advice}"
        f"<h2>Hours a day</h2>{_chart(bill)}<table><tr><th>state<th>share<th>time<th>dollars</tr>{rows}</table>"
        f"<h2>Stops</h2>{_paragraphs(_saved(told))}<h2>Pod or Serverless</h2>{_paragraphs(_serverless(told))}"
        f"{others}</html>\n"
    )


def _figures(told: Report) -> str:
    """The three that matter, in large: what was paid, for what of it nothing was had, and what stopping saved."""
    bill = told.bill
    idle_s, stops = bill.seconds[Kind.IDLE], _count(bill.stops, "stop")
    figures = (
        (bill.up_s, f"for {format_duration(bill.up_s)} in {_count(told.starts, 'start')}"),
        (idle_s, f"of it idle, {format_duration(idle_s)}"),
        (bill.stopped_s, f"not billed after {stops}, {format_duration(bill.stopped_s)}"),
    )
    cells = (
        f"<div><b>{_dollars(bill, seconds) or format_duration(seconds)}</b>{html.escape(words)}</div>"
        for seconds, words in figures
    )
    return f'<div class="figures">{"".join(cells)}</div>'


def _paragraphs(lines: Iterable[str]) -> str:
    told = (line.strip() for line in lines)
    return "".join(f"<p>{html.escape(f'{line[0].upper()}{line[1:]}'.rstrip('.'))}.</p>" for line in told)


def _advice_html(one: Advice) -> str:
    dollars = f" <b>{html.escape(one.dollars)}</b>" if one.dollars else ""
    remedy = html.escape(one.remedy[:1].upper() + one.remedy[1:])
    return f'<p class="advice">{html.escape(one.text)}.{dollars}<br>{remedy}.</p>'


_WIDTH, _HEIGHT, _FOOT, _LEFT = 900, 230, 22, 42
_WIDEST_BAR = 48.0
_NARROWED = 0.6
"""A chart is drawn so much smaller on a phone, and beyond that scrolled."""


def _chart(bill: Bill) -> str:
    """Hours a day, one stacked bar each, over lines of six hours."""
    if not bill.days:
        return ""
    each = (_WIDTH - _LEFT) / len(bill.days)
    wide = min(each * 0.8, _WIDEST_BAR)
    step = min(each, _WIDEST_BAR / 0.6)
    bars = "".join(
        part for at, day in enumerate(bill.days) for part in _bar(day.date, day.seconds, _LEFT + at * step, wide)
    )
    often = max(1, round(45 / step))
    labels = "".join(
        f'<text x="{_LEFT + at * step + wide / 2:.1f}" y="{_HEIGHT - 5}" text-anchor="middle">{day.date[5:]}</text>'
        for at, day in enumerate(bill.days)
        if at % often == 0
    )
    whole = round(_LEFT + len(bill.days) * step)
    drawn = f"{_hours(whole)}{bars}{labels}"
    chart = (
        f'<svg viewBox="0 0 {whole} {_HEIGHT}" style="max-width:{whole}px;min-width:{whole * _NARROWED:.0f}px"'
        f' role="img" aria-label="hours a day by state">{drawn}</svg>'
    )
    return f'<div class="chart" tabindex="0" role="region" aria-label="Hours a day">{chart}</div>'


def _height(seconds: float) -> float:
    return seconds / 86400.0 * (_HEIGHT - _FOOT - 10)


def _hours(width: int) -> str:
    """A line and its name at each six hours."""
    rows = ((hours, _HEIGHT - _FOOT - _height(hours * 3600.0)) for hours in (0, 6, 12, 18, 24))
    return "".join(
        f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/><text x="0" y="{y + 4:.1f}">{hours} h</text>'
        for hours, y in rows
    )


def _bar(date: str, seconds: Mapping[Kind, float], x: float, width: float) -> Iterable[str]:
    y = float(_HEIGHT - _FOOT)
    for kind in Kind:
        height = _height(seconds.get(kind, 0.0))
        if not height:
            continue
        y -= height
        told = f"{date}: {kind.value} {format_duration(seconds[kind])}"
        yield (
            f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" fill="var(--{kind.value})">'
            f"<title>{told}</title></rect>"
        )
