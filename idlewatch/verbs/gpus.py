"""
`gpu`: the GPUs live, by the daemon's readings where one watches here, else by an own reader.

Never two readers: as long as a daemon looks at the GPUs, its history is all that is read.
"""

from __future__ import annotations

import argparse
import json
import math
import sqlite3
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.gpu.line import Poll
from idlewatch.gpu.merge import Merger
from idlewatch.gpu.reader import GpuReader, Taken
from idlewatch.history.status import mapping, number
from idlewatch.history.store import newest_of, readings_of
from idlewatch.kernel.own import registered
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.show.gpu import DAEMON, OWN, SETTLING, Trail, Verdict, View
from idlewatch.show.gpu_screen import Line, screen, text_of
from idlewatch.signals import gpu_count
from idlewatch.signals.gpu import GpuSignal, Reader
from idlewatch.state_folder import said_by_daemon
from idlewatch.verbs.words import loaded, say
from idlewatch.watching.daemon import judge, read

if TYPE_CHECKING:
    from rich.text import Text

SIGNAL = "gpu"
COLUMN_S = 5.0
LOOK_BACK_S = 15 * 60.0
"""The longest memory of what judges a GPU, its idle power; older readings would change nothing."""
ANOTHER_BOOT_S = 60.0
"""An instant so far before the one kept before it was counted from another start of the machine."""
AHEAD_S = 60.0
"""Later than now: likewise, not this start's."""
SHORTEST_TICK_S = 0.1
REDRAWN_EVERY_S = 1.0
LOOKED_EVERY_S = 0.25
ENOUGH = 2
"""Energy is a difference of two."""
SNAPSHOT_WITHIN_S = 40.0
"""A reader is called hung after 30 s."""
PLAIN_WIDTH, PLAIN_HEIGHT = 80, 24
STYLES = {
    "active": "bold green",
    "quiet": "cyan",
    "unknown": "bold yellow",
    "settling": "magenta",
    "bar": "green",
    "note": "bold yellow",
    "dim": "dim",
}


def gpu(options: argparse.Namespace) -> bool:
    """`idlewatch gpu`: `once`, `json` and `for_s` (None: no end but Ctrl-C, or something to show) are its options."""
    told, clock = loaded(), MachineClock()
    clock.end_on_shutdown_request()
    watch = GpuWatch(told.settings.state_dir, gpu_count(told.pod_variables()))
    try:
        if options.json or options.once or not _is_screen():
            view = snapshot(watch, clock, options.for_s)
            lines = [text_of(line) for line in screen(view, PLAIN_WIDTH, PLAIN_HEIGHT, cut=False)]
            say([json.dumps(view.as_json(clock.wall()))] if options.json else lines)
        else:
            with registered(told.settings.state_dir):
                _live(watch, clock, options.for_s)
    finally:
        watch.close()
    return True


class Overheard:
    """A reader whose polls are seen a second time: the signal leaves out those that do not count yet."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.newest: Taken | None = None
        """What the last `take` gave; None where nobody took."""
        self.heard = 0
        """How often it gave polls."""

    def forget(self) -> None:
        """Nobody took yet."""
        self.newest = None

    def take(self, now_s: float) -> Taken:
        """As the reader."""
        self.newest = self._reader.take(now_s)
        self.heard += bool(self.newest.polls)
        return self.newest

    def close(self) -> None:
        """As the reader."""
        self._reader.close()


class GpuWatch:
    """Looks at the GPUs from wherever they can be seen, and remembers what was seen."""

    def __init__(
        self, state_dir: Path, gpu_count: int | None, *, reader: Reader | None = None, column_s: float = COLUMN_S
    ) -> None:
        """`reader` is used only while no daemon looks at GPUs; it starts its process at the first look."""
        self._state_dir, self._column_s = state_dir, column_s
        self._heard = Overheard(reader or GpuReader())
        self._signal = GpuSignal(reader=self._heard, gpu_count=gpu_count)
        self._merger = Merger(gpu_count)
        self._trail = Trail()
        self._own = False
        self._settled_s = 0.0
        self._after: int | None = None
        self.ready = False
        """Whether there is all to show that a snapshot can have."""

    def look(self, now_s: float) -> View:
        """What there is to show now; never waits."""
        said = said_by_daemon(self._state_dir, now_s)
        if said is not None and SIGNAL in mapping(said.get("signals")):
            return self._by_daemon(said, now_s)
        return self._by_own(now_s)

    def close(self) -> None:
        """End the own reader, gently."""
        self._heard.close()

    # ----------------------------------------------------- the daemon's readings

    def _by_daemon(self, said: Mapping[str, Json], now_s: float) -> View:
        if self._own:
            self._own = False
            self._heard.close()
        self.ready = True
        shown = mapping(mapping(said.get("signals")).get(SIGNAL))
        notes = [str(text) for name, text in mapping(said.get("troubles")).items() if name.endswith(f":{SIGNAL}")]
        try:
            for reading in self._kept(said, now_s):
                self._judged(reading)
        except (sqlite3.Error, zlib.error, ValueError, TypeError) as error:
            self._trail.missed()
            notes.append(f"the daemon's readings in {self._state_dir} can't be read: {error}")
        verdict = Verdict(activity=str(shown.get("activity")), reason=str(shown.get("reason")), notes=tuple(notes))
        return self._view(DAEMON, verdict, now_s, max(self._column_s, number(said.get("interval_s"))))

    def _judged(self, reading: Reading) -> None:
        judge(self._signal, reading)
        if reading.error or reading.absent:
            self._trail.missed()
        else:
            self._trail.saw(reading.facts, reading.at_s)

    def _kept(self, said: Mapping[str, Json], now_s: float) -> list[Reading]:
        """The daemon's readings of GPUs since the last look, oldest first. Raises what a broken history raises."""
        newest = newest_of(self._state_dir).reading
        if self._after is None or newest < self._after:
            ticks = LOOK_BACK_S / max(number(said.get("interval_s")), SHORTEST_TICK_S)
            self._after = max(0, newest - math.ceil(ticks * len(mapping(said.get("signals")))))
        kept: list[Reading] = []
        before_s = -math.inf
        for _, reading in readings_of(self._state_dir, self._after):
            self._after += 1
            if reading.signal == SIGNAL:
                if reading.at_s < before_s - ANOTHER_BOOT_S:
                    kept.clear()
                kept.append(reading)
                before_s = reading.at_s
        return [reading for reading in kept if now_s - LOOK_BACK_S <= reading.at_s <= now_s + AHEAD_S]

    # ------------------------------------------------------------ an own reader

    def _by_own(self, now_s: float) -> View:
        self._own = True
        self._heard.forget()
        reading = read(self._signal, now_s)
        finding = judge(self._signal, reading)
        taken = self._heard.newest
        if reading.absent or taken is None or (taken.error and not taken.polls):
            self._trail.missed()
        elif taken.polls:
            self._drawn(taken.polls)
        ended = taken is not None and taken.error is not None and taken.pid is None
        self.ready = bool(reading.absent) or ended or self._heard.heard >= ENOUGH
        return self._view(OWN, self._verdict(finding, reading, now_s), now_s, self._column_s)

    def _drawn(self, polls: Sequence[Poll]) -> None:
        """Polls that do not count yet are drawn, too; beside such that do they are left out, as from the verdict."""
        counted = [poll for poll in polls if not poll.settles_in_s]
        facts, _ = self._merger.facts(counted or polls)
        self._trail.saw(facts, polls[-1].at_s, counts=bool(counted))
        self._settled_s = 0.0 if counted else polls[-1].at_s + polls[-1].settles_in_s

    def _verdict(self, finding: Finding, reading: Reading, now_s: float) -> Verdict:
        notes = (finding.notice,) if finding.notice else ()
        healthy, left_s = self._heard.newest is not None and self._heard.newest.error is None, self._settled_s - now_s
        if reading.error and healthy and left_s > 0:
            reason = f"the driver was just opened, readings count in {left_s:.0f} s"
            return Verdict(activity=SETTLING, reason=reason, settles_in_s=round(left_s, 3), notes=notes)
        return Verdict(activity=finding.activity.value, reason=finding.reason, notes=notes)

    def _view(self, source: str, verdict: Verdict, now_s: float, column_s: float) -> View:
        absent = verdict.activity == Activity.ABSENT
        return View(
            now_s=now_s,
            source=source,
            verdict=verdict,
            rows=() if absent else self._trail.rows({look.uuid: look for look in self._signal.looks}),
            whole=self._trail.whole,
            newest_s=self._trail.newest_s,
            column_s=column_s,
        )


def snapshot(watch: GpuWatch, clock: MachineClock, for_s: float | None) -> View:
    """Look until there is all to show (or for `for_s`), or a shutdown request comes."""
    began_s = clock.now_s()
    while True:
        now_s = clock.now_s()
        view = watch.look(now_s)
        for_now_s = now_s - began_s
        enough = for_now_s >= for_s if for_s is not None else watch.ready or for_now_s >= SNAPSHOT_WITHIN_S
        if enough or view.absent or clock.ended():
            return view
        clock.sleep(LOOKED_EVERY_S)


def _is_screen() -> bool:
    """Whether lines can be drawn over again: a terminal that knows how."""
    from rich.console import Console

    return sys.stdout.isatty() and not Console().is_dumb_terminal


def _live(watch: GpuWatch, clock: MachineClock, for_s: float | None) -> None:
    """Draw anew each second until a shutdown request, or for `for_s`; the last picture stays."""
    from rich.console import Console
    from rich.live import Live

    console, began_s = Console(highlight=False), clock.now_s()
    end_s = math.inf if for_s is None else began_s + for_s
    view = watch.look(began_s)
    if not view.absent:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not clock.ended() and clock.now_s() < end_s:
                live.update(_styled(screen(view, console.width, console.height, cut=True)), refresh=True)
                clock.sleep(REDRAWN_EVERY_S)
                view = watch.look(clock.now_s())
    console.print(_styled(screen(view, console.width, console.height, cut=False)))


def _styled(lines: list[Line]) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop", end="\n")
    for number_of, line in enumerate(lines):
        text.append("\n" if number_of else "")
        for words in line:
            text.append(words.text, style=STYLES.get(words.style, ""))
    return text
