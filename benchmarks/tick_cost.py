"""
What a tick costs with every signal on, beside 200 processes and 500 sockets: wall and CPU time, and share of a core.

    python -m benchmarks.tick_cost [--seconds 120] [--interval 5] [--processes 200] [--sockets 500] [--json]

The daemon's own loop in this process, all signals that need no setting, its history in a temporary folder; children of
the daemon count, too. Target: at most 0.5 % of a core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from idlewatch import assembly, logs
from idlewatch.deciding.moment import Moment
from idlewatch.effects.observed import ObservedActions
from idlewatch.history.store import History
from idlewatch.machine_clock import MachineClock
from idlewatch.pod.assembled import assembled
from idlewatch.settings import Source, load
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord

TARGET = 0.005


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick_cost")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    logs.set_up(least=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="idlewatch-ticks-") as folder, crowd(options.processes, options.sockets):
        found = measured(Path(folder), options.seconds, options.interval)
    print(json.dumps(found) if options.json else "\n".join(f"{name:<24} {value}" for name, value in found.items()))
    return 0 if float(str(found["share_of_a_core"])) <= TARGET else 1


@contextmanager
def crowd(processes: int, sockets: int) -> Iterator[None]:
    """Sleeping processes and connected sockets."""
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            sleeper = stack.enter_context(subprocess.Popen(["sleep", "3600"]))
            stack.callback(sleeper.kill)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=sockets))
        for _ in range(sockets // 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
            stack.enter_context(listener.accept()[0])
        yield


def measured(folder: Path, seconds: float, interval_s: float) -> dict[str, object]:
    """Ticks of a real daemon; CPU in seconds, spans in milliseconds."""
    variables = {"IDLEWATCH_STATE_DIR": str(folder), "IDLEWATCH_INTERVAL": f"{interval_s:g}s"}
    here = assembled(load([Source(name="benchmark", variables=variables)]))
    clock, history, signals = MachineClock(), History(folder), assembly.signals(here)
    record = DaemonRecord(history, clock, here.loaded, here.pod)
    daemon = Daemon(
        clock=clock,
        signals=signals,
        actions=ObservedActions(),
        record=record,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s - here.pod.started_s),
        limits=here.loaded.settings.limits(),
    )
    daemon.tick()
    walls, cpus, began_s, spent_s = [], [], time.monotonic(), cpu_s()
    while time.monotonic() - began_s < seconds:
        wall_s, used_s = time.monotonic(), cpu_s()
        daemon.tick()
        walls.append(1000 * (time.monotonic() - wall_s))
        cpus.append(1000 * (cpu_s() - used_s))
        clock.sleep(max(0.0, interval_s - (time.monotonic() - wall_s)))
    share = (cpu_s() - spent_s) / (time.monotonic() - began_s)
    daemon.close()
    history.close()
    return {
        "signals": ",".join(signal.name for signal in signals),
        "ticks": len(walls),
        "cpu_ms_median": round(statistics.median(cpus), 2),
        "cpu_ms_max": round(max(cpus), 2),
        "wall_ms_median": round(statistics.median(walls), 2),
        "wall_ms_max": round(max(walls), 2),
        "share_of_a_core": round(share, 5),
        "target": TARGET,
    }


def cpu_s() -> float:
    """CPU seconds of this process, its threads and its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
