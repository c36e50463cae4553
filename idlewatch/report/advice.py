"""
Waste that is not idleness, as advice with dollars. Pure. Nothing here is ever acted upon.

    few at work      some GPUs did nothing for a day of work while another one was at it, and all are billed
    nobody asks      a model lies in GPU memory, and its server had no request for a day
    hardly used      all GPUs together were used less than a tenth for a week in which the Pod was mostly in use

Each needs its whole span seen well enough, at least four parts of five, and is not given else: an hour says nothing of
a week. GPUs whose utilization can't be read (MIG, vGPU) are told nothing of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from idlewatch.durations import format_duration
from idlewatch.history.verdicts import Span
from idlewatch.model import Activity, Json

DAY_S, WEEK_S = 86400.0, 7 * 86400.0
_HOUR_S = 3600.0
SAMPLES = 2016
"""Over a week: one in five minutes."""
WORKED_PCT = 5.0
"""Mean utilization above which a GPU was at work, as everywhere else."""
IDLE_PCT = 1.0
"""Mean below which a GPU did nothing."""
HARDLY_PCT = 10.0
"""Mean of all GPUs over a week below which a smaller card would do."""
MODEL_MIB = 1024.0
"""More memory than a bare context takes is a model."""
_SEEN_SHARE = 0.8
_IN_USE_SHARE = 0.5
_WORK_S = 6 * _HOUR_S
"""So much work must have been seen before the GPUs that had no part in it are told of."""
_OTHERS_SHARE = 0.1
"""More use by anything else than the server, and the Pod is not kept for the model alone."""
GPU, SERVERS = "gpu", "servers"


@dataclass(frozen=True, slots=True)
class Look:
    """What one reading says of the GPUs; a GPU that could not be read is None."""

    at_s: float
    percent: tuple[float | None, ...]
    """Mean utilization of each."""
    memory_mib: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One waste and what could be done."""

    name: str
    """`few at work`, `nobody asks` or `hardly used`."""
    text: str
    remedy: str
    span_s: float
    """How long it was seen."""
    usd_per_hour: float | None
    """What it costs; None: the price is not known."""

    @property
    def usd_per_day(self) -> float | None:
        """The same over a day."""
        return None if self.usd_per_hour is None else 24 * self.usd_per_hour

    @property
    def dollars(self) -> str:
        """`$1.40 an hour, $33.60 a day`; empty where the price is not known."""
        if self.usd_per_hour is None:
            return ""
        return f"${self.usd_per_hour:.2f} an hour, ${24 * self.usd_per_hour:.2f} a day"

    def as_json(self) -> dict[str, Json]:
        """For programs."""
        return {**asdict(self), "usd_per_day": self.usd_per_day}


def look_of(at_s: float, facts: Mapping[str, Any]) -> Look:
    """What facts of a reading of the GPU signal say."""
    gpus = facts.get("gpus") or []
    readable = [not gpu.get("error") for gpu in gpus]
    percent = tuple(gpu.get("util_mean_pct") if ok else None for gpu, ok in zip(gpus, readable, strict=True))
    memory = tuple(gpu.get("mem_used_mib") if ok else None for gpu, ok in zip(gpus, readable, strict=True))
    return Look(at_s, percent, memory)


def advised(
    looks: Sequence[Look], spans: Sequence[Span], *, now_s: float, step_s: float, usd_per_hour: float | None
) -> list[Advice]:
    """
    Return what can be said. `looks` lie `step_s` apart; `spans` are the verdicts of the same time.

    Both end at `now_s`, and what lies further back than a week counts for nothing.
    """
    looks = [look for look in looks if look.at_s > now_s - WEEK_S]
    found = (
        _few_at_work(looks, now_s, step_s, usd_per_hour),
        _nobody_asks(looks, spans, now_s, step_s, usd_per_hour),
        _hardly_used(looks, spans, now_s, step_s, usd_per_hour),
    )
    return [one for one in found if one]


def _few_at_work(looks: Sequence[Look], now_s: float, step_s: float, usd_per_hour: float | None) -> Advice | None:
    looks = _seen(looks, now_s - DAY_S, now_s, step_s)
    many = len(looks[0].percent) if looks else 0
    at_work = [look for look in looks if max(percent or 0.0 for percent in look.percent) > WORKED_PCT]
    if many < 2 or len(at_work) * step_s < _WORK_S:
        return None
    means = [_mean(look.percent[place] for look in at_work) for place in range(many)]
    idle = [place for place, mean in enumerate(means) if mean <= IDLE_PCT]
    if not idle:
        return None
    busy, worked_s = many - len(idle), len(at_work) * step_s
    who = f"gpu{idle[0]}" if len(idle) == 1 else f"{len(idle)} of {many} GPUs"
    return Advice(
        name="few at work",
        text=f"{who} did nothing in the {format_duration(worked_s)} of work of the last day; all {many} are billed",
        remedy=f"a Pod with {_gpus(busy)} would have done the same; or let the work use them all",
        span_s=DAY_S,
        usd_per_hour=None if usd_per_hour is None else usd_per_hour * len(idle) / many,
    )


def _nobody_asks(
    looks: Sequence[Look], spans: Sequence[Span], now_s: float, step_s: float, usd_per_hour: float | None
) -> Advice | None:
    there = [span for span in spans if span.name == SERVERS and span.verdict != Activity.ABSENT]
    asked_s = max((span.to_s for span in there if span.verdict == Activity.ACTIVE), default=float("-inf"))
    since_s = max(asked_s, min((span.from_s for span in there), default=now_s), now_s - WEEK_S)
    seen = [span for span in there if span.verdict == Activity.QUIET]
    if now_s - since_s < DAY_S or _covered(seen, since_s, now_s) < _SEEN_SHARE * (now_s - since_s):
        return None
    others = [span for span in spans if span.name != SERVERS and span.verdict == Activity.ACTIVE]
    looks = _seen(looks, since_s, now_s, step_s)
    loaded = [look for look in looks if any(mib is not None and mib > MODEL_MIB for mib in look.memory_mib)]
    used_s = _covered(others, since_s, now_s)
    if not looks or len(loaded) < _SEEN_SHARE * len(looks) or used_s > _OTHERS_SHARE * (now_s - since_s):
        return None
    gib = max(sum(mib or 0.0 for mib in look.memory_mib) for look in loaded) / 1024
    return Advice(
        name="nobody asks",
        text=f"a model lies in {gib:.0f} GiB of GPU memory, and no request came for {format_duration(now_s - since_s)}",
        remedy="stop the Pod until somebody asks; or Serverless, which bills requests (see the comparison)",
        span_s=now_s - since_s,
        usd_per_hour=usd_per_hour,
    )


def _hardly_used(
    looks: Sequence[Look], spans: Sequence[Span], now_s: float, step_s: float, usd_per_hour: float | None
) -> Advice | None:
    looks = _seen(looks, now_s - WEEK_S, now_s, step_s)
    active = [span for span in spans if span.verdict == Activity.ACTIVE]
    if not looks or _covered(active, now_s - WEEK_S, now_s) < _IN_USE_SHARE * WEEK_S:
        return None
    mean = _mean(percent for look in looks for percent in look.percent)
    if mean >= HARDLY_PCT:
        return None
    return Advice(
        name="hardly used",
        text=f"the GPUs were used {mean:.0f} % over the last week, and billed whole",
        remedy="a smaller or shared card may do, or a CPU Pod for what needs no GPU; or Serverless for short runs",
        span_s=WEEK_S,
        usd_per_hour=None if usd_per_hour is None else usd_per_hour * (1 - mean / 100),
    )


def _seen(looks: Sequence[Look], from_s: float, to_s: float, step_s: float) -> list[Look]:
    """The looks of a span in which every GPU was seen; none where they are too few to speak of all of it."""
    within = [look for look in looks if from_s <= look.at_s <= to_s and look.percent and None not in look.percent]
    whole = [look for look in within if len(look.percent) == len(within[-1].percent)]
    return whole if len(whole) * step_s >= _SEEN_SHARE * (to_s - from_s) else []


def _covered(spans: Iterable[Span], from_s: float, to_s: float) -> float:
    """Seconds of the span in which at least one of these stood."""
    total_s, reached_s = 0.0, from_s
    for span in sorted(spans, key=lambda one: one.from_s):
        begins_s, ends_s = max(span.from_s, reached_s), min(span.to_s, to_s)
        if ends_s > begins_s:
            total_s, reached_s = total_s + ends_s - begins_s, ends_s
    return total_s


def _mean(values: Iterable[float | None]) -> float:
    seen = [value for value in values if value is not None]
    return sum(seen) / len(seen) if seen else 0.0


def _gpus(many: int) -> str:
    return "1 GPU" if many == 1 else f"{many} GPUs"
