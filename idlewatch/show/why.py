"""Why the Pod is up: what every signal said and since when, what keeps it up, and what would have been without that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from idlewatch.durations import format_duration
from idlewatch.history.status import mapping, number
from idlewatch.history.verdicts import HELD, HOLD, Span, would_have_stopped_s
from idlewatch.model import FIRST_READING, Activity, Json, Limits
from idlewatch.show.folding import Paragraph, drawn

LOOK_BACK_S = 24 * 3600.0
"""How far back the policy is asked what it would have done."""
_UP_NOW_S = 60.0
"""A verdict that stood at most so long ago still keeps the Pod up."""
_WORDS = {
    "GPU reader": "The GPU reader is a process of idlewatch's own that asks the driver; your programs do without it.",
    "NVML": "NVML is the part of NVIDIA's driver that tells how busy a GPU is.",
    "MIG": "MIG is a GPU cut into instances, each somebody's own.",
}
"""What words in a reason mean to somebody who reads them for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Something that keeps the Pod up, and what would have been without it."""

    name: str
    reason: str
    stopped_s: float | None
    """When the Pod would have been stopped (CLOCK_BOOTTIME seconds); None: not by now either."""
    verdict: str = Activity.ACTIVE
    """An `Activity`, or `held`."""
    since_s: float = 0.0
    """Since when it says so."""
    refines: bool = False

    @property
    def is_unseen(self) -> bool:
        """Whether it keeps the Pod up because nothing is known of it."""
        return self.verdict == Activity.UNKNOWN

    @property
    def is_young(self) -> bool:
        """Whether its next reading settles it."""
        return self.reason == FIRST_READING


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The whole answer."""

    now_s: float
    at: datetime
    status: Mapping[str, Json]
    keepers: Sequence[Keeper]
    connected_for_s: float
    """IDLEWATCH_CONNECTED_FOR: how long a signal that only refines is waited for."""

    def wall(self, at_s: float) -> datetime:
        """The wall time of an instant."""
        return self.at + timedelta(seconds=at_s - self.now_s)

    def as_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "at": self.at.isoformat(),
            "phase": self.status.get("phase"),
            "reason": self.status.get("reason"),
            "idle_for_s": self.status.get("idle_for_s"),
            "learned_why": self.status.get("learned_why"),
            "signals": dict(mapping(self.status.get("signals"))),
            "keepers": [
                {
                    "name": keeper.name,
                    "verdict": str(keeper.verdict),
                    "reason": keeper.reason,
                    "without_it_stopped_at": None
                    if keeper.stopped_s is None
                    else self.wall(keeper.stopped_s).isoformat(),
                }
                for keeper in self.keepers
            ],
        }

    def lines(self, columns: int | None = None) -> list[str]:
        """For people, folded where `columns` says how wide their terminal is."""
        return list(drawn(self._told(), columns))

    def _told(self) -> list[Paragraph]:
        told = [Paragraph(f"{self.status.get('phase')}: {self.status.get('reason')}", "", "  ")]
        told += [_signal_line(name, mapping(said), self.now_s) for name, said in self._signals().items()]
        learned = self.status.get("learned_why")
        told += [Paragraph(f"Idleness is waited out for so long because {learned}.")] if learned else []
        if not self.keepers and str(self.status.get("reason")).startswith("quiet for"):
            return [*told, Paragraph("Nothing keeps this Pod up but the time that is still to pass.")]
        young = [keeper.name for keeper in self.keepers if keeper.is_young]
        told += (
            [_sentence(f"Read once so far: {', '.join(young)}. Two readings tell; ask again in a minute.")]
            if young
            else []
        )
        seen = [keeper for keeper in self.keepers if not keeper.is_young]
        return told + [_sentence(text) for keeper in seen for text in self._sentences(keeper)]

    def _signals(self) -> Mapping[str, Json]:
        return mapping(self.status.get("signals"))

    def _sentences(self, keeper: Keeper) -> list[str]:
        kept = self._unseen(keeper) if keeper.is_unseen else [f"Kept up by {keeper.name}: {keeper.reason}."]
        if keeper.stopped_s is None:
            return [*kept, f"  Without it this Pod would not have been stopped yet: {self._still_to_pass()}."]
        spent = self._dollars_since(keeper.stopped_s)
        ago = format_duration(self.now_s - keeper.stopped_s)
        at = self.wall(keeper.stopped_s).astimezone()
        return [*kept, f"  Without it this Pod would have been stopped at {at:%a %H:%M}, {ago} ago{spent}."]

    def _unseen(self, keeper: Keeper) -> list[str]:
        """What is kept up because nothing is known of it, for somebody who knows neither signals nor NVML."""
        name, for_ = keeper.name, format_duration(max(0.0, self.now_s - keeper.since_s))
        until = f"until {name} is seen again"
        if name == "gpu":
            from idlewatch.signals.gpu_proof import LOOK_AFTER_S  # with it come all signals: only where it is told

            until += f" or, after {format_duration(LOOK_AFTER_S)}, no program has a GPU open"
        if keeper.refines:
            until += f", but for {format_duration(self.connected_for_s)} at the most; then the other signals decide"
        return [
            f"Kept up because {name} can't be seen, for {for_} now: {keeper.reason}.",
            f"  What can't be seen is never taken for idle: this Pod stays up {until}.",
            *(f"  {meaning}" for word, meaning in _WORDS.items() if word in keeper.reason),
            "  To find the cause: idlewatch doctor. To save and stop now all the same: idlewatch stop.",
            f"  To have the other signals decide without it: set IDLEWATCH_IGNORE={name} and start the daemon anew.",
        ]

    def _still_to_pass(self) -> str:
        others = [keeper for keeper in self.keepers if not keeper.is_young]
        return "no stop was due yet" if len(others) == 1 else "something else kept it up as well"

    def _dollars_since(self, at_s: float) -> str:
        price = number(self.status.get("usd_per_hour"))
        return f" (${price * (self.now_s - at_s) / 3600:.2f})" if price else ""


def explained(
    status: Mapping[str, Json], spans: Sequence[Span], limits: Limits, now_s: float, wall: Callable[[], datetime]
) -> Why:
    """Ask the policy what it would have done without each of what keeps the Pod up now; `spans` by their beginning."""
    started_s = number(status.get("started_s"))
    newest, held = {span.name: span for span in spans}, bool(status.get("holds"))
    keepers = [
        Keeper(
            name="a hold" if span.name == HOLD else span.name,
            reason=span.reason,
            stopped_s=would_have_stopped_s(spans, limits, started_s, span.name),
            verdict=span.verdict,
            since_s=span.from_s,
            refines=span.refines,
        )
        for span in newest.values()
        if _keeps_up(span, limits.connected_for_s) and now_s - span.to_s <= _UP_NOW_S and (span.name != HOLD or held)
    ]
    return Why(now_s=now_s, at=wall(), status=status, keepers=keepers, connected_for_s=limits.connected_for_s)


def _keeps_up(span: Span, connected_for_s: float) -> bool:
    if span.verdict == Activity.UNKNOWN and span.refines and not span.bars:
        return span.to_s - span.from_s < connected_for_s
    return span.bars or span.verdict in (Activity.ACTIVE, Activity.UNKNOWN, HELD)


def _signal_line(name: str, said: Mapping[str, Json], now_s: float) -> Paragraph:
    stands = format_duration(now_s - number(said.get("since_s")))
    read = format_duration(max(0.0, now_s - number(said.get("read_s"))))
    head = f"  {name:<9} {said.get('activity')!s:<8} "
    return Paragraph(f"{said.get('reason')}  (for {stands}, read {read} ago)", head, " " * len(head))


def _sentence(text: str) -> Paragraph:
    """What explains the sentence before it is indented, and stays so."""
    plain = text.lstrip(" ")
    indent = text[: len(text) - len(plain)]
    return Paragraph(plain, indent, indent)
