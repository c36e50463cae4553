"""
The decision rehearsed: a recorded evening of GPU use through the real daemon and policy, the clock running fast.

Nothing is saved and nothing is stopped; the actions are stand-ins that answer at once.
"""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from rich.console import Console

from idlewatch.daemon import Daemon, Tick
from idlewatch.durations import format_duration
from idlewatch.model import Action, Activity, Decision, Finding, Limits, Outcome, Reading
from idlewatch.policy import Moment

TRACE = "plato_dev_session.csv.gz"
_ACTIVE_ABOVE_PCT = 5.0
_USD_PER_HOUR = 3.99
_START = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)


class FastClock:
    """A clock that `sleep` moves."""

    def __init__(self) -> None:
        """Begins at 0."""
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds since the simulated Pod started."""
        return self._now_s

    def wall(self) -> datetime:
        """A Friday afternoon and what follows."""
        return _START + timedelta(seconds=self._now_s)

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self._now_s += seconds


class RecordedGpu:
    """Recorded utilization, one instant read every 5 s; quiet after the recording's end."""

    name = "gpu"

    def __init__(self, rows: list[tuple[float, float]]) -> None:
        """`rows`: (seconds since the start, utilization in per cent), in order."""
        self._rows = rows
        self._next = 0
        self._read_s = 0.0

    @property
    def ends_s(self) -> float:
        """When the recording ends."""
        return self._rows[-1][0]

    def read(self, now_s: float) -> Reading:
        """The largest utilization recorded since the last read."""
        since = self._next
        while self._next < len(self._rows) and self._rows[self._next][0] <= now_s:
            self._next += 1
        most = max((pct for _, pct in self._rows[since : self._next]), default=0.0)
        covers_s, self._read_s = now_s - self._read_s, now_s
        return Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts={"util_max_pct": most})

    def judge(self, reading: Reading) -> Finding:
        """Active above 5 %."""
        pct = float(str(reading.facts["util_max_pct"]))
        busy = pct > _ACTIVE_ABOVE_PCT
        sign = ">" if busy else "<="
        return Finding(
            signal=self.name,
            activity=Activity.ACTIVE if busy else Activity.QUIET,
            reason=f"utilization {pct:.0f} % {sign} {_ACTIVE_ABOVE_PCT:.0f} %",
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=reading.at_s if busy else None,
        )

    def close(self) -> None:
        """Nothing was opened."""


class Rehearsed:
    """Actions that answer at once and touch nothing."""

    def __init__(self) -> None:
        """Nothing under way."""
        self.stopped = False
        self._outcome: Outcome | None = None

    def carry_out(self, decision: Decision, now_s: float) -> None:
        """Answer SAVE and STOP as a Pod with nothing to save and a willing provider would."""
        if decision.action is Action.SAVE:
            self._outcome = Outcome(action=Action.SAVE, ok=True, reason="rehearsed", save_began_s=now_s)
        if decision.action is Action.STOP:
            self._outcome = Outcome(action=Action.STOP, ok=True, reason="rehearsed")
            self.stopped = True

    def poll(self, now_s: float) -> Outcome | None:
        """The answer, once."""
        del now_s
        outcome, self._outcome = self._outcome, None
        return outcome


class Narrator:
    """Tells what happens as it happens."""

    def __init__(self, console: Console, clock: FastClock) -> None:
        """Speaks through `console`."""
        self._console = console
        self._clock = clock
        self._busy: bool | None = None

    def tick(self, report: Tick) -> None:
        """Say what changed."""
        busy = any(f.activity is Activity.ACTIVE for f in report.findings)
        if busy != self._busy and busy:
            self._line("green", "active", report.findings[0].reason)
        self._busy = busy
        if report.decision.action is not Action.WAIT:
            self._line("yellow", report.decision.action.value, report.decision.reason)

    def _line(self, style: str, what: str, why: str) -> None:
        self._console.print(f"{self._clock.wall():%a %H:%M:%S}  [{style}]{what:<7}[/{style}] {why}", highlight=False)


def recorded_rows() -> list[tuple[float, float]]:
    """The recording that ships with idlewatch; source and licence in `traces/NOTICE.md`."""
    packed = files("idlewatch.demo").joinpath("traces", TRACE).read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return [(float(row["t_s"]), float(row["util_pct"])) for row in csv.DictReader(lines)]


def rehearse(console: Console, limits: Limits) -> bool:
    """Run the recording and the idle evening after it; returns whether the simulated Pod was stopped."""
    clock, actions = FastClock(), Rehearsed()
    gpu = RecordedGpu(recorded_rows())
    daemon = Daemon(
        clock=clock,
        signals=[gpu],
        actions=actions,
        record=Narrator(console, clock),
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=limits,
    )
    give_up_s = gpu.ends_s + 86400.0
    daemon.run(until=lambda: actions.stopped or clock.now_s() > give_up_s)
    if not actions.stopped:
        console.print("Not stopped within a day: with these settings idleness does not stop the Pod.")
        return False
    _sum_up(console, clock, gpu)
    return True


def _sum_up(console: Console, clock: FastClock, gpu: RecordedGpu) -> None:
    monday = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    spared_h = (monday - clock.wall()).total_seconds() / 3600
    after = format_duration(clock.now_s() - gpu.ends_s)
    console.print()
    console.print(f"Would have stopped on {clock.wall():%A at %H:%M}, {after} after the recording ends.")
    console.print(f"Left running until Monday 09:00 it would have cost ${spared_h * _USD_PER_HOUR:.0f} more.")
    console.print("This was a rehearsal of the decision: nothing was saved, nothing was stopped.")
