"""
`python -m benchmarks.replay_year [--days 365]`: how long `idlewatch replay` takes for a year of GPU readings each 10 s.

The log is made up (seed 1): work of 90 min in the mean, rest of 4 h in the mean, one GPU, as `nvidia-smi --format=csv`
writes it. It lies in a temporary folder, and the replay runs in a process of its own, whose CPU time and highest
resident memory are told.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

_EACH_S = 10.0
_WORK_S, _REST_S = 1.5 * 3600, 4 * 3600.0


def main() -> None:
    """Make the log, replay it, and print what that took."""
    parser = argparse.ArgumentParser(description="what the replay of a long GPU log takes")
    parser.add_argument("--days", type=float, default=365.0, help="length of the log (default: 365)")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "gpu.csv"
        with log.open("w") as file:
            file.writelines(rows(parser.parse_args().days))
        began_s = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", "idlewatch", "replay", str(log)], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began_s
        print(f"{log.stat().st_size / 1e6:.0f} MB, exit status {child.returncode}")
    print(f"{used.ru_utime + used.ru_stime:.1f} s of CPU, {wall_s:.1f} s, {used.ru_maxrss / 1024:.0f} MiB")


def rows(days: float) -> Iterator[str]:
    """The log, line by line."""
    source, at, works, left_s = random.Random(1), datetime(2025, 1, 1, tzinfo=UTC), True, 0.0
    yield "timestamp, index, utilization.gpu [%], power.draw [W], memory.used [MiB]\n"
    for _ in range(int(days * 86400 / _EACH_S)):
        if left_s <= 0:
            works = not works
            left_s = source.expovariate(1 / (_WORK_S if works else _REST_S))
        left_s -= _EACH_S
        percent, mib = (source.randint(20, 99), 18_000) if works else (0, 4)
        watts = 300.0 if works else 65 + source.random()
        yield f"{at:%Y/%m/%d %H:%M:%S}.000, 0, {percent} %, {watts:.2f} W, {mib} MiB\n"
        at += timedelta(seconds=_EACH_S)


if __name__ == "__main__":
    main()
