"""
What watching an idle Pod costs: `python -m benchmarks.idle_cost [--seconds 120] [--json]`.

idlewatch, a polling shell loop and Debian's autosuspend run at the same time, on the same machine, with the same
pause between two looks, over one measured span; CPU an hour is what the span took, times the spans in an hour. A
look of the loop costs the same however long it sleeps after it, so its once-a-minute row is the same looks, 60 an
hour. Starting up and settling are not in the span. Memory is taken at its end, without what the loop's short-lived
commands need.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import contenders
from benchmarks.contenders import GPUS, SOURCES, Contender, Unmeasured
from benchmarks.idle_report import READER, Imports, Report, Row, lines, once_a_minute, row, split
from benchmarks.process_cost import Part, Sample, sample, visible_processes
from idlewatch.history.store import status_of
from idlewatch.settings import environment_with

END_WITHIN_S = 10.0
IMPORTED = "import idlewatch.cli, idlewatch.gpu.reader"
HEAVY = ("rich", "asyncio", "ssl", "email", "httpx", "psutil", "pynvml", "pydantic_settings", "pydantic", "sqlite3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """A contender at one end of the span."""

    sample: Sample
    written: int | None
    """Lines of output so far, one a look; of idlewatch the writes of its GPU reader, one a poll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A contender under measurement."""

    contender: Contender
    process: subprocess.Popen[bytes]

    def now(self) -> Instant:
        """Look at its processes. Raises Unmeasured with its last words where it has ended."""
        if self.process.poll() is not None:
            words = (self.contender.folder / "err").read_text(errors="replace").strip().splitlines()
            raise Unmeasured(f"it ended with {self.process.returncode}: {words[-1] if words else 'no word'}")
        seen = sample(self.process.pid)
        output = (self.contender.folder / "out").read_bytes().count(b"\n")
        return Instant(sample=seen, written=writes_of(seen.parts) if self.contender.ours else output)


def writes_of(parts: Sequence[Part]) -> int | None:
    """How many writes the GPU reader has made (proc_pid_io(5), syscw); None where /proc hides it."""
    try:
        pid = next(part.pid for part in parts if READER in part.command)
        told = Path(f"/proc/{pid}/io").read_text().splitlines()
        return int(dict(line.split(": ", 1) for line in told)["syscw"])
    except (OSError, StopIteration, KeyError):
        return None


@contextmanager
def started(contender: Contender) -> Iterator[Running]:
    """Run a contender; at the end its whole session is asked to end, and made to where it does not."""
    with (contender.folder / "out").open("wb") as out, (contender.folder / "err").open("wb") as err:
        process = subprocess.Popen(
            contender.command,
            cwd=contender.folder,
            env=environment_with(contender.variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        yield Running(contender=contender, process=process)
    finally:
        _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_and_count(seconds: float, state_dir: Path) -> int:
    """Let time pass and return how many ticks idlewatch has shown meanwhile; each shows for a whole interval."""
    until_s = time.monotonic() + seconds
    shown = {(status_of(state_dir) or {}).get("at_s")}
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(0.5, left_s))
        shown.add((status_of(state_dir) or {}).get("at_s"))
    return len(shown) - 1


def look(runs: list[Running], ended: dict[str, str]) -> dict[str, Instant]:
    """Everybody now, by name; who has ended is noted in `ended`. Raises Unmeasured where that is idlewatch."""
    seen: dict[str, Instant] = {}
    for run in runs:
        try:
            seen[run.contender.name] = run.now()
        except Unmeasured as error:
            if run.contender.ours:
                raise
            ended[run.contender.name] = str(error)
    return seen


def prepared(folder: Path, options: argparse.Namespace) -> tuple[list[Contender], dict[str, str]]:
    """Everybody who can take part here, idlewatch first, and why the others can't."""
    ready, missing = [contenders.idlewatch(folder / "idlewatch", options.interval)], {}
    try:
        ready.append(contenders.shell_loop(folder / "loop", options.interval))
    except Unmeasured as error:
        missing["shell loop"] = str(error)
    try:
        ready.append(contenders.autosuspend(folder / "autosuspend", options.interval, options.autosuspend))
    except Unmeasured as error:
        missing["autosuspend"] = str(error)
    return ready, missing


def measured(folder: Path, options: argparse.Namespace) -> Report:
    """Run them all over one span. Raises Unmeasured where idlewatch itself ended."""
    ready, missing = prepared(folder, options)
    state_dir = contenders.state_dir(ready[0].folder)
    with ExitStack() as running:
        runs = [running.enter_context(started(contender)) for contender in ready]
        wait_and_count(options.settle, state_dir)
        before = look(runs, missing)
        ticks = wait_and_count(options.seconds, state_dir)
        after = look(runs, missing)
        status, processes = status_of(state_dir) or {}, visible_processes()
    both = [(contender, before[name], after[name]) for contender in ready if (name := contender.name) in after]
    return Report(
        seconds=options.seconds,
        settle_s=options.settle,
        interval_s=options.interval,
        gpus=GPUS,
        cpus=os.cpu_count(),
        processes=processes,
        load=os.getloadavg()[0],
        signals=status.get("signals"),
        rows=[line for contender, then, now in both for line in rows(contender, then, now, ticks, options)],
        imports=import_cost(),
        not_measured=missing,
    )


def rows(contender: Contender, then: Instant, now: Instant, ticks: int, options: argparse.Namespace) -> list[Row]:
    """A contender's lines of the table."""
    written = None if then.written is None or now.written is None else now.written - then.written
    if contender.ours:
        return [
            row(contender.name, then.sample, now.sample, ticks),
            *split(then.sample, now.sample, ticks, written),
        ]
    if contender.a_line_a_look:
        loop = row(contender.name, then.sample, now.sample, written)
        return [loop, once_a_minute(loop)]
    return [row(contender.name, then.sample, now.sample, round(options.seconds / options.interval))]


def import_cost() -> Imports:
    """Import the daemon's modules in a process that does nothing else."""
    tell = (
        "import json, sys, time; began = time.process_time(); {work}; spent = time.process_time() - began;"
        "rollup = dict(line.split(':') for line in open('/proc/self/smaps_rollup').read().splitlines()[1:]);"
        "print(json.dumps([int(rollup['Rss'].split()[0]) / 1024, spent, len(sys.modules),"
        "[name for name in {heavy} if name in sys.modules]]))"
    )
    bare, full = (
        json.loads(subprocess.run(call, check=True, capture_output=True, cwd=contenders.ROOT).stdout)
        for call in ([sys.executable, "-c", tell.format(work=work, heavy=HEAVY)] for work in ("pass", IMPORTED))
    )
    return Imports(bare_rss_mib=bare[0], rss_mib=full[0], cpu_s=full[1], modules=full[2], heavy=tuple(full[3]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="the measured span (default: 120)")
    parser.add_argument("--settle", type=float, default=40.0, help="seconds before it (default: 40)")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two looks (default: 5)")
    parser.add_argument("--autosuspend", choices=["auto", *SOURCES], default="auto", help="where to take it from")
    parser.add_argument("--require-autosuspend", action="store_true", help="fail where it can't be measured")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nobody who was started is left behind
    with tempfile.TemporaryDirectory(prefix="idlewatch-benchmark-") as folder:
        try:
            report = measured(Path(folder), options)
        except Unmeasured as error:
            sys.stderr.write(f"not measured: idlewatch: {error}\n")
            return 1
    print(json.dumps({**asdict(report), "ratios": report.ratios}) if options.json else "\n".join(lines(report)))
    missing = any(name.startswith("autosuspend") for name in report.not_measured)
    return 1 if missing and options.require_autosuspend else 0


if __name__ == "__main__":
    raise SystemExit(main())
