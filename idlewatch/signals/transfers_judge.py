"""
Whether something is being moved: pure, from readings of the transfers signal in their order.

Every kind of mover has its own floor over ten minutes. What an unknown program moves over its connections is bulk
evidence and needs a rate: 0.1 Mbit/s (12.5 KB/s) is chatter, 60 KB/s is a transfer, and the floor lies half-way
between them on a scale of ratios. What a transfer tool or a growing file shows is progress of a known thing: 1 MiB is
enough, also with gaps. What a tool writes may be its progress bar (0.6 MB in ten minutes, 1 MB of a busy one). A tool
that is started again and again and keeps nothing of what it receives (`aws s3 sync` each minute with nothing new, a
listing of 360 KB) is no known thing, and needs the rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from idlewatch.model import Activity, Finding, Json
from idlewatch.signals.proofs import ALONE_S, TOLD_MAX, Facts, Lonely, Proof, minutes, number, objects, proven, size
from idlewatch.signals.transfers_look import CONNECTIONS, FILE, TOOL_CONNECTIONS, TOOL_READS, TOOL_WRITES, TRANSCRIPT

WINDOW_S = 600.0
LEAST_S = 120.0
"""A window that is not full counts as at least so long, so that a first look can't fill it alone."""
FLOOR_BYTES_PER_S = 27e3
"""Of an unknown program's connections, mean over the window."""
BUSY_NOW_BYTES_PER_S = 10 * FLOOR_BYTES_PER_S
"""One look above it pauses and bars, and never clears."""
FLOOR_BYTES = {
    TOOL_CONNECTIONS: 1 << 20,
    TOOL_READS: 1 << 20,
    TOOL_WRITES: 4 << 20,
    FILE: 1 << 20,
    TRANSCRIPT: 16 << 10,
}
"""Moved within the window, by kind."""
KEPT = 0.2
"""Of what a tool received; what it writes, sends and lets grow is more, if it moves something (TLS sends some KB)."""
_OF_TOOLS = frozenset({TOOL_CONNECTIONS, TOOL_READS, TOOL_WRITES})


@dataclass(frozen=True, slots=True)
class _Look:
    """What one mover did up to one instant."""

    at_s: float
    span_s: float
    bytes: float
    sent_bytes: float | None
    """None: it is not known whether it kept what it received."""
    pid: Json


@dataclass(slots=True)
class _Mover:
    """One mover's looks within the window."""

    kind: str
    label: str
    looks: deque[_Look] = field(default_factory=deque)

    def total(self) -> float:
        return sum(look.bytes for look in self.looks)

    def sent(self) -> float:
        """Everything, where it is not known."""
        return sum(look.bytes if look.sent_bytes is None else look.sent_bytes for look in self.looks)


class TransfersJudge:
    """Remembers what each mover moved in the last ten minutes."""

    def __init__(self, *, alone_s: float = ALONE_S) -> None:
        self._lonely = Lonely("transfer", alone_s)
        self._movers: dict[str, _Mover] = {}
        self._spans: deque[tuple[float, float]] = deque()

    def finding(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        """Return the verdict on the facts of one reading. Raises KeyError, TypeError or ValueError on garbage."""
        moving = [_parsed(one, at_s, covers_s) for one in objects(facts["moving"])]
        unseen = facts["unseen"]
        self._take_in(moving, at_s, covers_s)
        used = list(self._proofs())
        busy = "" if used else self._busy_now(at_s, covers_s)
        return replace(
            _worded(used, busy or self._quiet(), None if unseen is None else str(unseen)),
            seen_from_s=at_s - covers_s,
            seen_to_s=at_s,
            bars=bool(busy),
            pauses=bool(busy),
            notice=self._lonely.notice(self._only(used), at_s),
        )

    def _take_in(self, moving: list[tuple[str, _Mover, _Look]], at_s: float, covers_s: float) -> None:
        self._spans.append((at_s, covers_s))
        for id_, named, look in moving:
            mover = self._movers.setdefault(id_, named)
            mover.label = named.label
            mover.looks.append(look)
        oldest_s = at_s - WINDOW_S
        while self._spans[0][0] <= oldest_s:
            self._spans.popleft()
        for mover in self._movers.values():
            while mover.looks and mover.looks[0].at_s <= oldest_s:
                mover.looks.popleft()
        self._movers = {id_: mover for id_, mover in self._movers.items() if mover.looks}

    @property
    def _counted_s(self) -> float:
        return max(LEAST_S, min(WINDOW_S, sum(covers_s for _, covers_s in self._spans)))

    def _proofs(self) -> Iterator[Proof]:
        for id_, mover in sorted(self._movers.items(), key=lambda item: -item[1].total()):
            is_bulk, total = mover.kind == CONNECTIONS, mover.total()
            floor = FLOOR_BYTES_PER_S * self._counted_s if is_bulk else FLOOR_BYTES[mover.kind]
            rate = FLOOR_BYTES_PER_S if is_bulk else floor / WINDOW_S
            newest_s = max((look.at_s for look in mover.looks if look.bytes > rate * look.span_s), default=None)
            if total >= floor and newest_s is not None and not self._keeps_nothing(id_, mover):
                yield Proof(id_, f"{mover.label} {self._moved(mover, total)}", newest_s, "transfers,host")

    def _keeps_nothing(self, id_: str, mover: _Mover) -> bool:
        """Whether a tool is a poll: it starts again and again, receives little, and neither writes nor sends."""
        whose = id_.partition(":")[2]
        received = self._movers.get(f"{TOOL_CONNECTIONS}:{whose}")
        if mover.kind not in {TOOL_CONNECTIONS, TOOL_READS} or received is None:
            return False
        starts_again = len({look.pid for look in received.looks}) > 1
        written = sum(
            each.total()
            for other, each in self._movers.items()
            if each.kind not in {TOOL_CONNECTIONS, TOOL_READS} and f"{other.partition(':')[2]}:".startswith(f"{whose}:")
        )
        keeps_little = received.sent() + written <= KEPT * received.total()
        is_slow = max(mover.total(), received.total()) < FLOOR_BYTES_PER_S * self._counted_s
        return starts_again and keeps_little and is_slow

    def _busy_now(self, at_s: float, covers_s: float) -> str:
        now = [
            f"{mover.label} {size(look.bytes)} in {covers_s:.0f} s"
            for mover in self._movers.values()
            for look in mover.looks
            if look.at_s == at_s and mover.kind == CONNECTIONS and look.bytes > BUSY_NOW_BYTES_PER_S * covers_s
        ]
        return f"busy now: {', '.join(now[:TOLD_MAX])}" if now else ""

    def _moved(self, mover: _Mover, total: float) -> str:
        did = {TOOL_READS: "read", TOOL_WRITES: "wrote", FILE: "grew by", TRANSCRIPT: "grew by"}.get(
            mover.kind, "moved"
        )
        return f"{did} {size(total)} in {minutes(self._counted_s)}"

    def _quiet(self) -> str:
        most = max(self._movers.values(), key=_Mover.total, default=None)
        if most is None:
            return "nothing is being moved"
        return f"no transfer above its floor; most: {most.label} {self._moved(most, most.total())}"

    def _only(self, used: list[Proof]) -> Proof | None:
        """The one transfer that there is, where it may be a hum: no growing file, nor a tool that moves much."""
        whose = {proof.id.partition(":")[2] for proof in used}
        return used[0] if len(whose) == 1 and all(self._may_hum(self._movers[proof.id]) for proof in used) else None

    def _may_hum(self, mover: _Mover) -> bool:
        is_slow = mover.total() < FLOOR_BYTES_PER_S * self._counted_s
        return mover.kind == CONNECTIONS or (mover.kind in _OF_TOOLS and is_slow)


def _worded(used: list[Proof], otherwise: str, unseen: str | None) -> Finding:
    if used:
        return proven("transfers", used)
    if unseen is not None:
        otherwise = f"{otherwise}; {unseen}; the host signal sees the container's network"
    return Finding(signal="transfers", activity=Activity.QUIET, reason=otherwise)


def _parsed(one: Facts, at_s: float, covers_s: float) -> tuple[str, _Mover, _Look]:
    kind, file, sent = str(one["kind"]), one["file"], one.get("sent_bytes")
    if kind != CONNECTIONS and kind not in FLOOR_BYTES:
        raise ValueError(f"{kind!r} is no kind of transfer")
    whose = str(one["name"]) if one["pid"] is None else f"{one['name']} (pid {one['pid']})"
    # Of a look that is longer than the window (the daemon was stopped) only its share is in the window.
    share = min(1.0, WINDOW_S / covers_s)
    look = _Look(
        at_s, covers_s, number(one["bytes"]) * share, None if sent is None else number(sent) * share, one["pid"]
    )
    return str(one["id"]), _Mover(kind, whose if file is None else f"{whose}: {file}"), look
