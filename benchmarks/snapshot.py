"""
How long a save takes, against `tar | zstd` on the same tree: `python -m benchmarks.snapshot [--small]`.

50,000 small files and one file of 1 GB, half of it compressible. Both engines run in turns, each in a child process
of its own, over a warm cache, and sync what they wrote; the table shows the best of each and the ratio. Verifying is
told apart: tar doesn't do it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from idlewatch.snapshot import Progress, SaveRequest, Snapshot, find, measure_loss, restore, save

MB = 1_000_000
ROUNDS = 3


def make_tree(root: Path, files: int, big_bytes: int) -> None:
    """Fill `root`: sources of 1 to 9 kB in folders of 100, and one file, half random bytes, half random letters."""
    source = random.Random(1)
    words = [bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz_", k=source.randint(2, 12))) for _ in range(4000)]
    for number in range(files):
        folder = root / f"package{number // 1000}" / f"module{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        content = b" ".join(source.choices(words, k=source.randint(150, 1200)))
        (folder / f"source_{number}.py").write_bytes(content)
    sixteen_letters = bytes(b"abcdefghijklmnop"[byte % 16] for byte in range(256))
    with (root / "weights.bin").open("wb") as big:
        while big.tell() < big_bytes:
            big.write(os.urandom(MB))
            big.write(os.urandom(MB).translate(sixteen_letters))


def save_in_child(root: str, volume: str) -> None:
    """Save once and print what it took, as JSON; runs in a process of its own."""
    stages: dict[str, float] = {}

    def note(progress: Progress) -> None:
        stages.setdefault(progress.stage, time.monotonic())
        cpu.setdefault(progress.stage, time.process_time())

    cpu: dict[str, float] = {}
    began, cpu_began = time.monotonic(), time.process_time()
    snapshot = save(SaveRequest(volume=Path(volume), pod_id="bench", boot_key="b", root=Path(root), keep=1), note)
    assert isinstance(snapshot, Snapshot)  # noqa: S101 - an empty tree is no benchmark
    answer = {
        "save_s": stages["verify"] - began,
        "save_cpu_s": cpu["verify"] - cpu_began,
        "verify_s": time.monotonic() - stages["verify"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "packed_mb": snapshot.archive_bytes / MB,
    }
    print(json.dumps(answer))


def run_save(root: Path, volume: Path) -> dict[str, float]:
    """Run `save_in_child` and return its figures."""
    call = [sys.executable, "-m", "benchmarks.snapshot", "--child", str(root), str(volume)]
    answer: dict[str, float] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return answer


def run_tar(root: Path, volume: Path) -> dict[str, float]:
    """Run `tar | zstd -T0 -3` into a file, sync it, and return the figures."""
    out = volume / "tar.zst"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    script = 'tar --format=posix --sparse --xattrs -C "$1" -cf - . | zstd -q -T0 -3 >"$2" && sync "$2"'
    subprocess.run(["sh", "-c", script, "sh", str(root), str(out)], check=True)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    packed = out.stat().st_size / MB
    out.unlink()
    return {"save_s": wall, "save_cpu_s": cpu, "packed_mb": packed}


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of each figure: other load on the machine only adds."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    """Make the tree, run both in turns, print the table."""
    if sys.argv[1:2] == ["--child"]:
        save_in_child(sys.argv[2], sys.argv[3])
        return
    small = "--small" in sys.argv
    folder = Path(tempfile.mkdtemp(prefix="idlewatch-benchmark-"))
    try:
        compare(folder, files=5_000 if small else 50_000, big_bytes=(100 if small else 1000) * MB)
    finally:
        shutil.rmtree(folder)


def compare(folder: Path, files: int, big_bytes: int) -> None:
    """Print the figures of both over one tree, then scan and restore."""
    root, volume, target = folder / "root", folder / "volume", folder / "target"
    for part in (root, volume, target):
        part.mkdir()
    make_tree(root, files, big_bytes)
    tar_runs, save_runs = [], []
    for _ in range(ROUNDS):
        tar_runs.append(run_tar(root, volume))
        save_runs.append(run_save(root, volume))
    tar, own = best(tar_runs), best(save_runs)
    print(f"{files} files and one of {big_bytes / MB:.0f} MB, {os.cpu_count()} CPUs, best of {ROUNDS}, in turns")
    print(f"{'':24}{'wall s':>8}{'CPU s':>8}{'MB':>8}")
    print(f"{'tar | zstd -T0 -3':24}{tar['save_s']:8.2f}{tar['save_cpu_s']:8.2f}{tar['packed_mb']:8.0f}")
    print(f"{'idlewatch save':24}{own['save_s']:8.2f}{own['save_cpu_s']:8.2f}{own['packed_mb']:8.0f}")
    wall, cpu = own["save_s"] / tar["save_s"], own["save_cpu_s"] / tar["save_cpu_s"]
    print(f"{'ratio':24}{wall:8.2f}{cpu:8.2f}")
    print(f"{'verify (not in it)':24}{own['verify_s']:8.2f}     peak memory {own['peak_mib']:.0f} MiB")
    began = time.monotonic()
    measure_loss(root)
    scanned = time.monotonic()
    restore(find(volume, "bench"), target)
    print(f"{'scan':24}{scanned - began:8.2f}")
    print(f"{'restore and compare':24}{time.monotonic() - scanned:8.2f}")


if __name__ == "__main__":
    main()
