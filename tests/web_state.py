"""A state folder as a daemon leaves it, made up: status, and a history of any length with gaps, spells and events."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from idlewatch.files import write_atomically
from idlewatch.history.store import STATUS_FILE, History
from idlewatch.history.verdicts import Span
from idlewatch.model import Json, Limits, Reading
from idlewatch.settings import Source, load
from idlewatch.web.live import Watched

POD = "abc123def456gh"
BOOT_KEY = f"{POD}@boot+1.00"
START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self, now_s: float = 1_000_000.0, at: datetime = START) -> None:
        self._now_s, self._at = now_s, at

    def now_s(self) -> float:
        return self._now_s

    def wall(self) -> datetime:
        return self._at

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        self._at += timedelta(seconds=seconds)


def watched(state_dir: Path, clock: SetClock) -> Watched:
    return Watched(state_dir=state_dir, clock=clock, limits=limits(), hold_max_s=86400.0)


def limits() -> Limits:
    return load([Source(name="environment", variables={})]).settings.limits()


def show_status(state_dir: Path, now_s: float, **changed: Json) -> None:
    """What the daemon showed at `now_s`."""
    signals: dict[str, Json] = {
        "gpu": said("quiet", "every GPU at or below 5 %: gpu0 0 %, 71 W", now_s, since_s=now_s - 760),
        "people": said("quiet", "root on pts/0 typed 42m ago", now_s, since_s=now_s - 2500, bars=True),
        "host": said("quiet", "CPU 0.7 % of a core ≤ 5.0 %, network 0.2 KB/s", now_s, since_s=now_s - 755),
        "jupyter": said("unknown", "the server on port 8888 wants a token", now_s, since_s=now_s - 90),
        "jobs": said("absent", "no process but the container's own", now_s, since_s=now_s - 5000),
    }
    status: dict[str, Json] = {
        "format": 1,
        "at": START.isoformat(),
        "at_s": now_s,
        "interval_s": 5.0,
        "mode": "stop",
        "pod_id": POD,
        "boot_key": BOOT_KEY,
        "phase": "watching",
        "action": "wait",
        "reason": "quiet for 12m 30s of 30m; people: root is connected",
        "cause": None,
        "idle_for_s": 750.0,
        "acts_at_s": None,
        "troubles": {},
        "holds": [],
        "started_s": now_s - 30000.0,
        "spent_usd": 33.25,
        "usd_per_hour": 3.99,
        "previous_stop": None,
        "signals": signals,
    }
    write_atomically(state_dir / STATUS_FILE, json.dumps(status | changed))


def said(activity: str, reason: str, now_s: float, *, since_s: float, bars: bool = False) -> Json:
    return {
        "activity": activity,
        "reason": reason,
        "bars": bars,
        "pauses": False,
        "since_s": since_s,
        "read_s": now_s - 1.0,
    }


@dataclass(frozen=True)
class Ticks:
    """When the made-up daemon looked: every 5 s in the last three days, every minute before, as it is kept."""

    now_s: float
    days: float
    full_days: float

    def __iter__(self) -> Iterator[float]:
        full_from_s = self.now_s - min(self.days, self.full_days) * 86400.0
        at_s = self.now_s - self.days * 86400.0
        while at_s < self.now_s:
            yield at_s
            at_s += 5.0 if at_s >= full_from_s else 60.0


def fill_history(state_dir: Path, clock: SetClock, days: float, gpus: int = 2, full_days: float = 3.0) -> None:
    """A history of so many days up to now; work in the mornings, and an hour in which nobody looked."""
    history, noise = History(state_dir), random.Random(7)
    now_s, wall = clock.now_s(), clock.wall()
    with history.together():
        for at_s in Ticks(now_s, days, full_days):
            if 7200 < now_s - at_s < 10800:
                continue
            history.saw(readings(at_s, gpus, noise), wall - timedelta(seconds=now_s - at_s))
        history.judged(spans(now_s, days))
        for index in range(int(days * 6)):
            at_s = now_s - days * 86400 + index * 14400
            kind, text = [("warn", "everything quiet for 30m"), ("alarm", "blind:gpu: no GPU reader for 15m")][
                index % 2
            ]
            history.happened(kind, text, at_s=at_s, wall=wall - timedelta(seconds=now_s - at_s), facts={})
    history.close()


def readings(at_s: float, gpus: int, noise: random.Random) -> list[Reading]:
    busy = at_work(at_s)
    found: list[Json] = [
        {
            "index": index,
            "uuid": f"GPU-{index}",
            "instant": False,
            "util_max_pct": round(min(100.0, 70 + 25 * math.sin(at_s / 900 + index) + noise.gauss(0, 4)))
            if busy
            else 0.0,
            "mem_used_mib": 61000 + 200 * index if busy else 450,
            "power_mean_w": 430 + noise.gauss(0, 20) if busy else 71 + noise.gauss(0, 1),
            "error": None,
        }
        for index in range(gpus)
    ]
    host: dict[str, Json] = {
        "cpu_busy_s": 5 * (3.2 + noise.gauss(0, 0.4) if busy else 0.01),
        "span_s": 5.0,
        "net_bytes": int(5 * (180e3 if busy else 300) * noise.uniform(0.5, 1.5)),
        "disk_bytes": int(5 * (6e6 if busy else 0) * noise.uniform(0, 2)),
    }
    return [
        Reading(signal="gpu", at_s=at_s - 0.4, covers_s=5.0, facts={"gpus": found, "expected": gpus}),
        Reading(signal="host", at_s=at_s, covers_s=5.0, facts=host),
        *(
            Reading(signal=name, at_s=at_s, covers_s=5.0, facts={})
            for name in ("people", "jobs", "transfers", "servers")
        ),
    ]


def at_work(at_s: float) -> bool:
    return at_s % 14400 < 9000


def spans(now_s: float, days: float) -> list[Span]:
    """What the judges would have said, roughly."""
    made: list[Span] = []
    at_s = now_s - days * 86400
    while at_s < now_s:
        to_s = min(now_s, (at_s // 14400) * 14400 + (9000 if at_work(at_s) else 14400))
        verdict = "active" if at_work(at_s) else "quiet"
        made += [Span(name, at_s, to_s, verdict, reason=f"{name} was {verdict}") for name in ("gpu", "host", "jobs")]
        half_s = (at_s + to_s) / 2
        made.append(Span("people", at_s, half_s, "quiet", bars=True, reason="root is connected"))
        made.append(Span("people", half_s, to_s, "active", reason="root typed into pts/0"))
        made += flickers(at_s)
        made.append(Span("transfers", at_s + 480, to_s, "quiet", reason="chatter"))
        made.append(Span("jupyter", half_s, min(to_s, half_s + 600), "unknown", reason="it wants a token"))
        at_s = to_s
    made.append(Span("hold", now_s - 5000, now_s - 3000, "held", reason="root (pts/0): a long upload"))
    return made


def flickers(at_s: float) -> Iterator[Span]:
    """Too short to be seen in a long window."""
    for from_s in (at_s + 40 * index for index in range(12)):
        yield Span("transfers", from_s, from_s + 20, "active", reason="a burst")
        yield Span("transfers", from_s + 20, from_s + 40, "quiet", reason="chatter")
