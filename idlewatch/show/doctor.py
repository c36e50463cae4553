"""
The doctor's report, for people and for programs.

`idlewatch doctor --json`, format 1; new keys may be added, none is renamed:

    format   1
    at       wall clock, ISO 8601, UTC; took_s: seconds that it took
    works    false where a line says `will not work` (exit 1), else true (exit 0)
    pod_id   null where there is none
    hung     names of what did not answer in time: machine, api, network, signals, volume, loss
    lines    in the order of the report: `group` (`this Pod`, `the key and the API`, `what sees use`, `what is saved`,
             `who is told`, `who starts it`, `the drill`), `name` (stable within its group: `stop`, `signal:gpu`),
             `standing` (`ok`, `warning`, `unproven`, `will not work`), `text`, `remedy` (null where it is ok)
    drill    null, or of --drill: `done`, `snapshot` (its id; null: nothing to save), `warning` (its text), `told`
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from idlewatch.doctor.lines import Line, Standing, works
from idlewatch.model import Json

FORMAT = 1
_STANDING_WIDTH = max(len(standing.value) for standing in Standing) + 2
_LONG = 120
_NARROWEST, _WIDEST = 60, 110


def report_lines(lines: Sequence[Line], width: int) -> Iterator[str]:
    """Every line under its group, wrapped; what would help on a line of its own, and what is long only once."""
    group, told = None, set[str]()
    for line in lines:
        if line.group is not group:
            group = line.group
            yield f"{group.value}"
        yield from _wrapped(f"  {line.standing.value:<{_STANDING_WIDTH}}", line.text, width)
        if line.remedy:
            again = len(line.remedy) > _LONG and line.remedy in told
            told.add(line.remedy)
            yield from _wrapped(" " * (_STANDING_WIDTH + 2), f"-> {'as above' if again else line.remedy}", width)
    yield ""
    yield from _wrapped("", summary(lines), width)


def _wrapped(first: str, text: str, width: int) -> list[str]:
    fits = min(max(width, _NARROWEST), _WIDEST)
    return textwrap.wrap(
        text,
        fits,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,  # a path or a command is copied
    ) or [first]


def summary(lines: Sequence[Line]) -> str:
    """What it all comes to, in one sentence."""
    broken = [line for line in lines if line.standing is Standing.BROKEN]
    unproven = any(line.name == "stop" and line.standing is Standing.UNPROVEN for line in lines)
    if broken:
        first = "" if len(broken) == 1 else " Begin with the first."
        return f"{len(broken)} of {len(lines)} will not work: {', '.join(map(_called, broken))}.{first}"
    warnings = sum(1 for line in lines if line.standing is Standing.WARNING)
    worth = f", {warnings} worth a look" if warnings else ""
    end = "; the stop itself stays unproven until one was seen." if unproven else "."
    return f"Nothing was found that will not work{worth}{end}"


def _called(line: Line) -> str:
    """`REST v2 with RUNPOD_API_KEY`, `gpu`, `daemon`."""
    return "stopping this machine" if line.name == "kind" else line.name.partition(":")[2] or line.name


def report_json(
    lines: Sequence[Line], *, at: str, took_s: float, pod_id: str | None, hung: Sequence[str], drill: Json
) -> dict[str, Json]:
    """The report as the module's first lines describe it."""
    return {
        "format": FORMAT,
        "at": at,
        "took_s": round(took_s, 1),
        "works": works(lines),
        "pod_id": pod_id,
        "hung": [*hung],
        "lines": [line.as_json() for line in lines],
        "drill": drill,
    }
