"""
One line of the child process, read back: whole and plausible, or an error.

A line is a JSON object with `seq`, `at_s` and either an `error` in words or `expected`, `found`, `found_error`,
`settles_in_s` and `gpus`. What is missing, of another type or out of range makes the whole line an error; nothing
in it ever becomes a 0.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from idlewatch.errors import SignalError

Facts = dict[str, Any]
"""A JSON object that was parsed but not yet looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of a GPU with MIG."""

    uuid: str
    mem_used_mib: int | None
    util_mean_pct: float | None
    """Share of the time since the last poll in which it worked; None where that is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPoll:
    """What one poll saw of one GPU; None is "not known", never 0."""

    index: int
    uuid: str
    name: str
    kind: str
    mig: bool
    virtual: str | None
    instant: bool
    """The samples are single looks, one a second: there is no ring."""
    instances: tuple[Instance, ...]
    util_max_pct: float | None
    util_second_pct: float | None
    """The second highest sample: a lone busy one is told by it."""
    util_mean_pct: float | None
    samples: int
    covered_s: float
    """Seconds up to the poll that the samples cover; 0 where something was not read."""
    ring_span_s: float | None
    ring_period_s: float | None
    engines_max_pct: dict[str, float]
    energy_total_mj: int | None
    """The driver's counter, not a difference: it bridges a reader that crashed."""
    power_w: float | None
    """What it drew just now; asked only where there is no energy counter."""
    power_limit_w: float | None
    mem_used_mib: int | None
    mem_total_mib: int | None
    processes: int | None
    not_readable: dict[str, str]
    unsupported: tuple[str, ...]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One line: one poll of every GPU, or why there was none (`error`, then nothing else counts)."""

    seq: int
    at_s: float
    error: str | None = None
    settles_in_s: float = 0.0
    """Seconds until readings count, after NVML was opened."""
    expected: int = 0
    """GPUs at the opening."""
    found: int | None = None
    found_error: str | None = None
    driver: str | None = None
    poll_s: float | None = None
    """Seconds between two polls."""
    gpus: tuple[GpuPoll, ...] = ()


def parsed(line: bytes) -> Poll:
    """The poll that a line tells of; raises SignalError where it is not one, quoting its start."""
    try:
        return _poll(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SignalError(f"GPU reader wrote a line that can't be read ({error}): {line[:60]!r}") from error


def _poll(facts: Facts) -> Poll:
    seq, at_s, error = int(_number(facts, "seq")), _number(facts, "at_s"), _text_or_none(facts, "error")
    if error is not None:
        return Poll(seq=seq, at_s=at_s, error=error)
    return Poll(
        seq=seq,
        at_s=at_s,
        settles_in_s=_number(facts, "settles_in_s"),
        expected=int(_number(facts, "expected")),
        found=_whole_or_none(facts, "found"),
        found_error=_text_or_none(facts, "found_error"),
        driver=_text_or_none(facts, "driver"),
        poll_s=_number_or_none(facts, "poll_s"),
        gpus=tuple(_gpu(gpu) for gpu in _list(facts, "gpus")),
    )


def _gpu(facts: Facts) -> GpuPoll:
    return GpuPoll(
        index=int(_number(facts, "index")),
        uuid=_text(facts, "uuid"),
        name=_text(facts, "name"),
        kind=_text(facts, "kind"),
        mig=_flag(facts, "mig"),
        virtual=_text_or_none(facts, "virtual"),
        instant=_flag(facts, "instant"),
        instances=tuple(_instance(part) for part in _list(facts, "instances")),
        util_max_pct=_percent_or_none(facts, "util_max_pct"),
        util_second_pct=_percent_or_none(facts, "util_second_pct"),
        util_mean_pct=_percent_or_none(facts, "util_mean_pct"),
        samples=int(_number(facts, "samples")),
        covered_s=_number(facts, "covered_s"),
        ring_span_s=_number_or_none(facts, "ring_span_s"),
        ring_period_s=_number_or_none(facts, "ring_period_s"),
        engines_max_pct={name: _percent(engines, name) for name, engines in _named(facts, "engines_max_pct")},
        energy_total_mj=_whole_or_none(facts, "energy_total_mj"),
        power_w=_number_or_none(facts, "power_w"),
        power_limit_w=_number_or_none(facts, "power_limit_w"),
        mem_used_mib=_whole_or_none(facts, "mem_used_mib"),
        mem_total_mib=_whole_or_none(facts, "mem_total_mib"),
        processes=_whole_or_none(facts, "processes"),
        not_readable={name: _text(reasons, name) for name, reasons in _named(facts, "not_readable")},
        unsupported=tuple(str(metric) for metric in _list(facts, "unsupported")),
        error=_text_or_none(facts, "error"),
    )


def _instance(facts: Any) -> Instance:
    return Instance(
        uuid=_text(facts, "uuid"),
        mem_used_mib=_whole_or_none(facts, "mem_used_mib"),
        util_mean_pct=_percent_or_none(facts, "util_mean_pct"),
    )


def _number(facts: Facts, name: str) -> float:
    value = facts[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is no number from 0")
    return value


def _percent(facts: Facts, name: str) -> float:
    value = _number(facts, name)
    if value > 100:
        raise ValueError(f"{name} is above 100 %")
    return value


def _percent_or_none(facts: Facts, name: str) -> float | None:
    return None if facts[name] is None else _percent(facts, name)


def _number_or_none(facts: Facts, name: str) -> float | None:
    return None if facts[name] is None else _number(facts, name)


def _named(facts: Facts, name: str) -> list[tuple[str, Facts]]:
    """Each name in an object, with the object."""
    if not isinstance(facts[name], dict):
        raise TypeError(f"{name} is no object")
    return [(key, facts[name]) for key in facts[name]]


def _flag(facts: Facts, name: str) -> bool:
    if not isinstance(facts[name], bool):
        raise TypeError(f"{name} is neither true nor false")
    return bool(facts[name])


def _whole_or_none(facts: Facts, name: str) -> int | None:
    return None if facts[name] is None else int(_number(facts, name))


def _text(facts: Facts, name: str) -> str:
    if not isinstance(facts[name], str):
        raise TypeError(f"{name} is no text")
    return str(facts[name])


def _text_or_none(facts: Facts, name: str) -> str | None:
    return None if facts[name] is None else _text(facts, name)


def _list(facts: Facts, name: str) -> list[Any]:
    if not isinstance(facts[name], list):
        raise TypeError(f"{name} is no list")
    return list(facts[name])
