"""
What saving and restoring costs, against tar with zstd, restic and borg, and a scan against `find`, over one tree.

`python -m benchmarks.snapshot [--small | --tree DIR] [--cold] [--rounds 3]`, as root: 50,000 small files and one of
1 GB, half of it compressible (`--small`: 5,000 and 100 MB), or a copy of a folder. All run in turns, each in processes
of its own; the table shows the least of each figure, and its ratio to tar. First everything is saved, then what is left
to save after 1 % of the small files changed, then all is brought back into a new ext4 and synced. `--cold` drops the
kernel's caches before every run, which slows down everything else on the machine, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from benchmarks.snapshot_tools import (
    MB,
    OURS,
    Cost,
    Tool,
    change,
    drop_caches,
    folder_mb,
    fresh_ext4,
    least,
    make_tree,
    small_files,
    timed,
    tools,
    warm_up,
)
from idlewatch.snapshot import Progress, SaveRequest, find, measure_loss, restore, save

POD = "bench"
BEFORE_VERIFYING = "idlewatch, before verifying"
FIND = 'find "$1" -xdev -newerct "@$5" -printf "%p" > "$2/names"; rm "$2/names"'
SCAN = 'exec "$4" -m benchmarks.snapshot --child scan "$1" "$5"'


def child(verb: str, *arguments: str) -> None:
    """Do one thing in a process of its own."""
    if verb == "save":
        child_save(*map(Path, arguments))
    elif verb == "restore":
        restore(find(Path(arguments[0]), POD), Path(arguments[1]))
    else:
        began, cpu = time.monotonic(), time.process_time()
        measure_loss(Path(arguments[0]), since_ns=int(float(arguments[1]) * 1e9))
        print(json.dumps({"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}))


def child_save(root: Path, volume: Path) -> None:
    """Save once, and print what verifying took, which the others don't do: of what was written, and of its base."""
    begun: list[tuple[str, float, float]] = []

    def note(progress: Progress) -> None:
        if not begun or progress.stage != begun[-1][0]:
            begun.append((progress.stage, time.monotonic(), time.process_time()))

    if save(SaveRequest(volume=volume, pod_id=POD, boot_key="b", root=root, keep=99), note) is None:
        raise SystemExit("an empty tree is no benchmark")
    stages = [(ends[1] - begins[1], ends[2] - begins[2]) for begins, ends in pairwise(begun) if begins[0] == "verify"]
    print(json.dumps({"wall_s": sum(wall_s for wall_s, _ in stages), "cpu_s": sum(cpu_s for _, cpu_s in stages)}))


@dataclass(slots=True)
class Bench:
    """One tree, and the costs of all that was run over it, by phase and name."""

    folder: Path
    rounds: int
    cold: bool
    tools: list[Tool]
    costs: dict[str, dict[str, list[Cost]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    @property
    def root(self) -> Path:
        """The tree."""
        return self.folder / "root"

    def run(self, script: str, volume: Path, target: Path, *more: str, reads: Path) -> tuple[Cost, str]:
        """Run a script with what it `reads` in the kernel's cache, or not: borg drops what it has read from it."""
        if self.cold:
            drop_caches()
        else:
            warm_up(reads)
        return timed(script, self.root, volume, target, *more)

    def scan(self, phase: str, since_s: float) -> None:
        """Let find and idlewatch look for what has changed since; our interpreter's start is not in it."""
        for _ in range(self.rounds):
            for name, script in (("find -xdev -newerct", FIND), ("idlewatch loss", SCAN)):
                cost, said = self.run(script, self.folder, self.folder, f"{since_s:f}", reads=self.root)
                self.costs[phase][name].append(replace(cost, **json.loads(said or "{}")))

    def save(self, phase: str, tool: Tool, volume: Path) -> None:
        """Let a tool save the tree; of ours also note what it took without verifying."""
        before = folder_mb(volume)
        cost, said = self.run(tool.save, volume, volume, reads=self.root)
        cost = replace(cost, mb=folder_mb(volume) - before)
        if tool is OURS:
            verify = json.loads(said)
            written = replace(cost, wall_s=cost.wall_s - verify["wall_s"], cpu_s=cost.cpu_s - verify["cpu_s"])
            self.costs[phase][BEFORE_VERIFYING].append(written)
        self.costs[phase][tool.name].append(cost)

    def first_saves(self, phase: str) -> None:
        """Save everything, each time into a new repository; the last ones stay."""
        for round_ in range(self.rounds):
            for tool in self.tools:
                volume = self.folder / f"volume {tool.name}"
                if round_:
                    shutil.rmtree(volume)
                volume.mkdir()
                timed(tool.make, self.root, volume, volume)
                self.save(phase, tool, volume)

    def second_saves(self, phase: str) -> None:
        """Save again after each change; tar has to save everything."""
        files = small_files(self.root)
        for round_ in range(self.rounds):
            change(files, round_)
            for tool in self.tools:
                self.save(phase, tool, self.folder / f"volume {tool.name}")

    def restores(self, phase: str) -> None:
        """Bring everything back into an ext4 that is new each time."""
        for _ in range(self.rounds):
            for tool in self.tools:
                volume = self.folder / f"volume {tool.name}"
                with fresh_ext4(self.folder) as target:
                    cost, _ = self.run(f'({tool.restore}); sync -f "$3"', volume, target, reads=volume)
                self.costs[phase][tool.name].append(cost)


def table(bench: Bench) -> str:
    """Return all phases as a table, with the ratios to what comes first in each."""
    lines = ["| | wall s | CPU s | MB | MiB of memory | wall, ratio | CPU, ratio |", "| --- |" + " --- |" * 6]
    for phase, runs in bench.costs.items():
        lines.append(f"| **{phase}** | | | | | | |")
        first = least(next(iter(runs.values())))
        for name, costs in runs.items():
            cost = least(costs)
            told = f"{cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.mb:.0f} | {cost.peak_mib:.0f}"
            lines.append(f"| {name} | {told} | {cost.wall_s / first.wall_s:.2f} | {cost.cpu_s / first.cpu_s:.2f} |")
    return "\n".join(lines)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Make the tree, run everything, print the table."""
    files, big_bytes = (5_000, 100 * MB) if arguments.small else (50_000, 1000 * MB)
    what = f"{files} files and one of {big_bytes // MB} MB" if arguments.tree is None else f"{arguments.tree}"
    there, missing = tools()
    if arguments.cold and (refused := drop_caches()):
        raise SystemExit(refused)
    bench = Bench(folder=folder, rounds=arguments.rounds, cold=arguments.cold, tools=there)
    if arguments.tree is None:
        bench.root.mkdir()
        make_tree(bench.root, files, big_bytes)
    else:
        subprocess.run(["cp", "-a", str(arguments.tree), str(bench.root)], check=True)
    bench.scan("scan, nothing has changed", time.time() + 1)
    bench.scan("scan, everything has changed", 0)
    bench.first_saves("first save")
    bench.second_saves("save after 1 % of the files changed")
    bench.restores("restore")
    caches = "cold" if arguments.cold else "warm"
    print(f"{what}, {caches}, {os.cpu_count()} CPUs, best of {bench.rounds};")
    print(f"load {os.getloadavg()[1]:.1f} in the last 5 minutes", *missing, sep="; ", end="\n\n")
    print(table(bench))


def main() -> None:
    """Measure, in a folder that is removed afterwards."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tenth of the tree")
    parser.add_argument("--tree", type=Path, help="a folder of which a copy is saved instead")
    parser.add_argument("--cold", action="store_true", help="drop the kernel's caches before every run (root)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="idlewatch-benchmark-"))
    try:
        measure(folder, arguments)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
