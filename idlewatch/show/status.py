"""One screen that says what is true now, from `status.json`, readable without colour in 80 columns, or fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from idlewatch.deciding.remedies import to_keep_up
from idlewatch.durations import format_duration
from idlewatch.history.status import is_stale, mapping, number
from idlewatch.model import Json, Phase
from idlewatch.printable import printable
from idlewatch.show.folding import COLUMNS, Paragraph, drawn
from idlewatch.watching.unwritten import remedy_for

_BAR = 30
_OLD_TICKS = 3
"""A reading of so many looks ago is told with its age."""
OBSERVE = "observe"
"""`mode` of a daemon that acts on nothing."""
NOT_RUNNING = "NOT RUNNING"
START_IT = "Start it with `idlewatch run`."
_CAN_BE_KEPT = (Phase.WARNED, Phase.SAVING, Phase.LAST_LOOK)
"""Phases of the end sequence in which the stop is not yet asked for."""


def status_lines(
    status: Mapping[str, Json],
    now_s: float,
    *,
    lives: bool | None = None,
    fault: str | None = None,
    more: Sequence[str] = (),
    lanes: Mapping[str, str] = MappingProxyType({}),
    columns: int = COLUMNS,
) -> list[str]:
    """
    The screen's lines, each of at most so many columns.

    `lives`: whether a daemon lives, by its lock; None: not known, its last look decides. `fault`: what is wrong with
    the state folder, in words. `more`: what else is known of a Pod that is watched, a line each. `lanes`: signal ->
    its newest verdicts, drawn; left out where the terminal is narrow.
    """
    told = _nothing_guards(status, now_s, lives=lives) or _hangs(status, now_s, fault)
    if not told:
        drawn_lanes = lanes if columns >= COLUMNS else {}
        told = [*_true_now(status, now_s, fault, drawn_lanes), *(Paragraph(one, "  ", "    ") for one in more)]
    return _drawn(told, columns)


def _drawn(told: Sequence[Paragraph], columns: int) -> list[str]:
    return [printable(line) for line in drawn(told, columns)]


def _nothing_guards(status: Mapping[str, Json], now_s: float, *, lives: bool | None) -> list[Paragraph]:
    """Why what was shown last is not true of now; nothing where a daemon lives."""
    problems = status.get("problems")
    if isinstance(problems, list) and not lives:
        told = [Paragraph(f"! {problem}", "  ", "    ") for problem in problems]
        return [Paragraph(f"{NOT_RUNNING}: the settings are wrong; nothing guards this Pod."), *told]
    age_s = now_s - number(status.get("at_s"))
    if status.get("ended") and not lives:
        how = f"was asked to end {format_duration(max(0.0, age_s))} ago"
    elif lives is False and age_s >= 0:
        how = f"ended without a word, and last looked {format_duration(age_s)} ago"
    elif is_stale(status, now_s) and not lives:
        how = f"last looked {format_duration(age_s)} ago" if age_s >= 0 else "last looked in an earlier boot"
    else:
        return []
    return [Paragraph(f"{NOT_RUNNING}: the daemon {how}; nothing guards this Pod."), Paragraph(START_IT)]


def _hangs(status: Mapping[str, Json], now_s: float, fault: str | None) -> list[Paragraph]:
    """What to say of a daemon that lives and has not shown anything for long; nothing where it has."""
    if not is_stale(status, now_s):
        return []
    age_s = now_s - number(status.get("at_s"))
    ago = f"for {format_duration(age_s)}" if age_s >= 0 else "since its start"
    return _not_shown(f"nothing {ago}", fault)


def not_shown(what: str, fault: str | None, columns: int = COLUMNS) -> list[str]:
    """What to say of a daemon that lives and shows nothing, or nothing new."""
    return _drawn(_not_shown(what, fault), columns)


def _not_shown(what: str, fault: str | None) -> list[Paragraph]:
    text = f"NOT SHOWN: a daemon runs here, but has shown {what}"
    if fault:
        remedy = f"It goes on from memory; to see it again, {remedy_for(fault)}."
        return [Paragraph(f"{text}: its state folder can't be written ({fault})."), Paragraph(remedy)]
    return [
        Paragraph(f"{text}: it hangs, or is only starting."),
        Paragraph("Its log says more; where it hangs, end it and start it again."),
    ]


def _true_now(status: Mapping[str, Json], now_s: float, fault: str | None, lanes: Mapping[str, str]) -> list[Paragraph]:
    observing = status.get("mode") == OBSERVE
    mode = "only observing: nothing is done" if observing else status.get("mode")
    usd = status.get("spent_usd")
    spent = f" · ${number(usd):.2f} so far" if usd is not None else ""
    idle = format_duration(number(status.get("idle_for_s")))
    told = [
        Paragraph(f"{status.get('phase')} ({mode}) · idle for {idle}{spent}", "", "  "),
        Paragraph(_reason(status), "  ", "  ", 3),
        *_waiting(status),
    ]
    if status.get("phase") in _CAN_BE_KEPT and not observing:
        told.append(Paragraph(to_keep_up(_text(status.get("cause")), _text(status.get("why")) or ""), "  ", "  "))
    if fault:
        old = format_duration(max(0.0, now_s - number(status.get("at_s"))))
        text = f"! the state folder can't be written ({fault}): what stands here is {old} old"
        told.append(Paragraph(text, "  ", "    "))
    troubles = mapping(status.get("troubles"))
    told += [Paragraph(f"! {name}: {text}", "  ", "    ", 4) for name, text in troubles.items()]
    told += [*_signals(status, now_s, lanes), *_holds(status.get("holds"), now_s)]
    told += _advice(status.get("advice"))
    before = status.get("previous_stop")
    return told + ([Paragraph(f"before this start: {before}", "  ", "    ")] if before else [])


def _waiting(status: Mapping[str, Json]) -> list[Paragraph]:
    """How far the quiet time has come, and why so much of it is waited for where that is learned."""
    idle_s, whole_s = number(status.get("idle_for_s")), number(status.get("idle_after_s"))
    if status.get("phase") != Phase.WATCHING or not whole_s:
        return []
    done = min(_BAR, int(idle_s / whole_s * _BAR))
    bar = f"[{'#' * done}{'.' * (_BAR - done)}] {format_duration(idle_s)} of {format_duration(whole_s)} quiet"
    why = _text(status.get("learned_why"))
    return [Paragraph(bar, "  ", "    "), *([Paragraph(f"waits so long: {why}", "  ", "    ")] if why else [])]


def _reason(status: Mapping[str, Json]) -> str:
    """What goes on, and in the end sequence also why; that stands in some reasons already."""
    reason, why = str(status.get("reason")), _text(status.get("why"))
    return f"{reason}: {why}" if why and why not in reason else reason


def _signals(status: Mapping[str, Json], now_s: float, lanes: Mapping[str, str]) -> list[Paragraph]:
    """A row a signal: what it sees now, its newest verdicts drawn, why, and how old that is where it is no news."""
    rows = {name: mapping(said) for name, said in mapping(status.get("signals")).items()}
    old_s = _OLD_TICKS * number(status.get("interval_s"))
    widest, longest = max(map(len, rows), default=0), max(map(len, lanes.values()), default=0)
    told = []
    for name, said in rows.items():
        drawn_lane = f"{lanes.get(name, ''):<{longest}}  " if longest else ""
        column = f"  {name:<{widest}}  {said.get('activity')!s:<7}  {drawn_lane}"
        age_s = now_s - number(said.get("read_s")) if said.get("read_s") else 0.0
        age = f" ({format_duration(age_s)} ago)" if age_s > old_s else ""
        told.append(Paragraph(f"{said.get('reason')}{age}", column, " " * len(column), 2 + bool(longest)))
    return told


def _holds(holds: Json, now_s: float) -> list[Paragraph]:
    told = []
    for hold in [mapping(one) for one in holds] if isinstance(holds, list) else []:
        left, reason = format_duration(max(0.0, number(hold.get("until_s")) - now_s)), hold.get("reason")
        text = f"held by {hold.get('who')}, {left} left{f': {reason}' if reason else ''}"
        told.append(Paragraph(text, "  ", "    ", 2))
    return told


def _advice(advice: Json) -> list[Paragraph]:
    told = []
    for one in [mapping(found) for found in advice] if isinstance(advice, list) else []:
        usd = number(one.get("usd_per_day"))
        dollars = f" (${usd:.2f} a day)" if usd else ""
        told.append(Paragraph(f"advice: {one.get('text')}{dollars}: {one.get('remedy')}", "  ", "    ", 4))
    return told


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None
