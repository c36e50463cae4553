"""One screen that says what is true now, from `status.json`, readable without colour in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from idlewatch.durations import format_duration
from idlewatch.model import Json

STALE_TICKS = 3


def is_stale(status: Mapping[str, Json], now_s: float) -> bool:
    """Whether the daemon that wrote it has missed ticks: then nothing in it is true of now."""
    age_s, interval_s = now_s - number(status.get("at_s")), number(status.get("interval_s"))
    return "problems" in status or bool(status.get("ended")) or not -5.0 <= age_s <= STALE_TICKS * interval_s + 5.0


def status_lines(status: Mapping[str, Json], now_s: float) -> list[str]:
    """The screen's lines."""
    age_s = now_s - number(status.get("at_s"))
    problems = status.get("problems")
    if isinstance(problems, list):
        told = [f"  ! {problem}" for problem in problems]
        return ["NOT RUNNING: the settings are wrong; nothing guards this Pod.", *told]
    if status.get("ended"):
        ago = format_duration(max(0.0, age_s))
        return [
            f"NOT RUNNING: the daemon was asked to end {ago} ago; nothing guards this Pod.",
            "Start it with `idlewatch run`.",
        ]
    if is_stale(status, now_s):
        ago = f"{format_duration(age_s)} ago" if age_s >= 0 else "in an earlier boot"
        return [
            f"NOT RUNNING: the daemon last looked {ago}; nothing guards this Pod.",
            "Start it with `idlewatch run`.",
        ]
    lines = [
        f"{status.get('phase')} ({status.get('mode')}) · idle for {format_duration(number(status.get('idle_for_s')))}",
        f"  {status.get('reason')}",
    ]
    acts_at = status.get("acts_at_s")
    if acts_at is not None:
        lines.append(f"  saves in {format_duration(max(0.0, number(acts_at) - now_s))}; keep it up: idlewatch hold 2h")
    lines += [f"  ! {name}: {text}" for name, text in mapping(status.get("troubles")).items()]
    lines += _signals(mapping(status.get("signals")))
    lines += _holds(status.get("holds"), now_s)
    before = status.get("previous_stop")
    return [*lines, f"  before this start: {before}"] if before else lines


def _signals(signals: Mapping[str, Json]) -> list[str]:
    rows = {name: mapping(said) for name, said in signals.items()}
    return [f"  {name:<8} {said.get('activity')!s:<8} {said.get('reason')}" for name, said in rows.items()]


def _holds(holds: Json, now_s: float) -> list[str]:
    rows = [mapping(hold) for hold in holds] if isinstance(holds, list) else []
    return [
        f"  held by {hold.get('who')} for {format_duration(number(hold.get('until_s')) - now_s)}: {hold.get('reason')}"
        for hold in rows
    ]


def number(value: Json) -> float:
    """A number of the status; 0 where it has none."""
    return float(value) if isinstance(value, int | float) else 0.0


def mapping(value: Json) -> Mapping[str, Json]:
    """An object of the status; empty where it has none."""
    return value if isinstance(value, dict) else {}
