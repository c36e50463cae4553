"""
What 90 days of one start cost: the size of its history, thinning it, and how long page and report take to answer.

    .venv/bin/python -m benchmarks.ninety_days [--days 90] [--gpus 8] [--folder DIR]

A made-up daemon's history: ticks of 5 s in the last three days, one reading a minute before, as thinning leaves them,
with spells of work, gaps, flickering verdicts and events. Nothing of this machine is looked at; what is written is
removed, unless a folder is named, which is then filled once and used again.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from idlewatch.history.archive import keep_on_volume
from idlewatch.history.recording import name_of
from idlewatch.history.store import DATABASE_FILE, FULL_DETAIL_S, History
from idlewatch.model import Json
from idlewatch.report import advice_of, billed, boots_of
from idlewatch.settings import environment_with
from idlewatch.web import charts
from idlewatch.web.charts import Window
from tests.web_state import BOOT_KEY, START, SetClock, fill_history, readings, show_status

DAY_S, HOUR_S = 86400.0, 3600.0


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--days", type=float, default=90.0)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with _folder(given.folder) as folder:
        clock = SetClock(now_s=400 * DAY_S)
        if not (folder / DATABASE_FILE).exists():
            print(f"filled in {_took(lambda: fill_history(folder, clock, given.days, given.gpus))[0]:.0f} s")
        show_status(folder, clock.now_s())
        _measure(folder, clock, given.days, given.gpus)


@contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    if named:
        named.mkdir(parents=True, exist_ok=True)
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="idlewatch-") as made:
        yield Path(made)


def _measure(folder: Path, clock: SetClock, days: float, gpus: int) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith(DATABASE_FILE))
    print(f"history: {size / 1e6:.0f} MB for {days:.0f} days of {gpus} GPUs")
    for name in (1.0, 7.0, days):
        window = _window(clock, name)
        _print(f"page, charts of {name:.0f} days", partial(charts.series, folder, window))
        _print(f"page, timeline of {name:.0f} days", partial(charts.timeline, folder, window))
    _print("report, its sums", lambda: _sums(folder, clock, days))
    _print("advice", lambda: advice_of(folder, clock.now_s(), 3.99))
    for verb in (("status",), ("why",), ("history",)):
        _print(f"idlewatch {verb[0]}, its whole process", partial(_verb, folder, verb))
    with tempfile.TemporaryDirectory(prefix="idlewatch-") as made:
        copy = Path(made)
        shutil.copy(folder / DATABASE_FILE, copy)
        _record(copy, clock, days)
        _hours(copy, clock, days, gpus)
    print(f"memory, at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _window(clock: SetClock, days: float) -> Window:
    now_s = clock.now_s()
    less_s = clock.wall().timestamp() - now_s
    return Window(from_s=now_s - days * DAY_S, to_s=now_s, wall_less_boot_s=less_s)


def _record(folder: Path, clock: SetClock, days: float) -> None:
    """Make a boot's recording on the volume, and the report that reads it as an earlier start."""
    volume = folder / "volume"
    print(f"the same recorded on a volume, for the first time: {_kept(folder, clock, days)}")
    _print("report, its sums with that recording", lambda: _sums(folder, clock, days, volume))


def _kept(folder: Path, clock: SetClock, days: float) -> str:
    """What writing into the recording took, and how much of it was written."""
    head: dict[str, Json] = {"boot_key": "an earlier one", "started_s": clock.now_s() - days * DAY_S}
    name = name_of(START - timedelta(days=days), "earlier")
    volume = folder / "volume"
    before = {path.stat().st_ino: path.stat().st_size for path in volume.glob("*/*.gz")}
    cpu_s = time.process_time()
    took_s, path = _took(lambda: keep_on_volume(volume, folder, name, head))
    cpu_s = time.process_time() - cpu_s
    now = Path(str(path)).stat()
    written = now.st_size - before.get(now.st_ino, 0)
    return f"{took_s:.2f} s, {cpu_s:.2f} s of CPU, {written / 1e6:.2f} MB written of {now.st_size / 1e6:.1f} MB"


def _sums(folder: Path, clock: SetClock, days: float, volume: Path | None = None) -> None:
    now, now_s = clock.wall(), clock.now_s()
    started_s = now_s - days * DAY_S
    boots = boots_of(folder, volume, now=now, now_s=now_s, boot_key=BOOT_KEY, started_s=started_s)
    billed(boots, from_=now - timedelta(days=days), to=now, usd_per_hour=3.99)


def _verb(folder: Path, words: tuple[str, ...]) -> None:
    given = environment_with({"IDLEWATCH_STATE_DIR": str(folder), "IDLEWATCH_SAVE_ROOT": str(folder)})
    command = [sys.executable, "-m", "idlewatch", *words]
    subprocess.run(command, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _hours(folder: Path, clock: SetClock, days: float, gpus: int) -> None:
    """What comes once an hour: thinning in the daemon's tick, and keeping the history on the volume; then a fold."""
    history, noise = History(folder), random.Random(1)
    print(f"thinning, the first after a start: {_took(lambda: history.thin(clock.now_s()))[0] * 1e3:.0f} ms")
    taken: list[float] = []
    for hour in range(int(FULL_DETAIL_S / HOUR_S) + 1):
        with history.together():
            for tick in range(720):
                at_s = clock.now_s() + tick * 5.0
                history.saw(readings(at_s, gpus, noise), clock.wall())
        clock.sleep(HOUR_S)
        taken.append(_took(lambda: history.thin(clock.now_s()))[0])
        if hour < 3:
            print(f"keeping an hour on the volume: {_kept(folder, clock, days)}")
    print(f"thinning, each later hour: {sorted(taken)[len(taken) // 2] * 1e3:.0f} ms")
    print(f"keeping three days on the volume, with a fold: {_kept(folder, clock, days)}")
    history.close()


def _took(what: Callable[[], object]) -> tuple[float, object]:
    began_s = time.perf_counter()
    told = what()
    return time.perf_counter() - began_s, told


def _print(name: str, what: Callable[[], object]) -> None:
    taken = sorted(_took(what)[0] for _ in range(3))
    print(f"{name}: {taken[1] * 1e3:.0f} ms (of three; load {os.getloadavg()[0]:.0f})")


if __name__ == "__main__":
    main()
