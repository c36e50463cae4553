"""What one server's counters gained between two readings: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from idlewatch.servers.known import KNOWN

Facts: TypeAlias = Mapping[str, Any]

WORK_CORES = 0.05
"""CPU of a server's processes above what they use while idle: so much of a core is work."""
_POLL_PROMPT_TOKENS, _POLL_GENERATED_TOKENS = 2, 1
"""A request of no more tokens than these is a health poll."""
_COUNTERS = ("requests", "prompt_tokens", "generated_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What was counted over `span_s`; None where it is not counted."""

    span_s: float
    requests: float | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None
    marked: bool = False
    """A mark is new."""
    stepped: bool = False
    cores: float = 0.0
    """CPU above what its processes use while idle; 0 where that is not known."""
    went_back: bool = False
    """A counter is lower than it was."""

    @property
    def tokens(self) -> float:
        """All tokens."""
        return (self.prompt_tokens or 0.0) + (self.generated_tokens or 0.0)

    @property
    def is_use(self) -> bool:
        """Whether more was asked than by health polls; the last one may be counted later than its tokens."""
        if self.marked:
            return True
        requests = self.requests or 0.0
        if self.prompt_tokens is None and self.generated_tokens is None:
            return requests > 0
        prompt, generated = self.prompt_tokens or 0.0, self.generated_tokens or 0.0
        return prompt > (requests + 1) * _POLL_PROMPT_TOKENS or generated > (requests + 1) * _POLL_GENERATED_TOKENS

    @property
    def works(self) -> bool:
        """Whether its processes compute."""
        return self.cores > WORK_CORES


def gain(before: Facts, now: Facts, span_s: float, idle_cores: float | None) -> Gain:
    """
    Return the difference of two readings of one server, `span_s` apart.

    `idle_cores`: what its processes use while idle, None where that is not known yet.
    """
    gained = {name: _gained(before[name], now[name]) for name in _COUNTERS}
    if any(each is not None and each < 0 for each in gained.values()):
        return Gain(span_s=span_s, went_back=True)
    requests = gained["requests"]
    if requests is not None and now["counts_ours"]:
        requests = max(0.0, requests - (now["asked"] - before["asked"]))
    return Gain(
        span_s=span_s,
        requests=requests,
        prompt_tokens=gained["prompt_tokens"],
        generated_tokens=gained["generated_tokens"],
        marked=any(before["marks"].get(name) != mark for name, mark in now["marks"].items()),
        stepped=None not in (before["steps"], now["steps"]) and before["steps"] != now["steps"],
        cores=_above_idle(now, idle_cores),
    )


def _gained(before: float | None, now: float | None) -> float | None:
    """A counter that is shown for the first time has counted from 0 on."""
    return None if now is None else now - (before or 0.0)


def _above_idle(now: Facts, idle_cores: float | None) -> float:
    kind = KNOWN.get(str(now["kind"]))
    if now["cpu_cores"] is None or (idle_cores is None and kind is not None and kind.spins):
        return 0.0
    return max(0.0, float(now["cpu_cores"]) - (idle_cores or 0.0))
