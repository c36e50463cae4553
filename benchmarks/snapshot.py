"""
How long a save takes, against `tar | zstd`, restic and borg on one tree: `python -m benchmarks.snapshot [--small]`.

50,000 small files and one file of 1 GB, half of it compressible. All run in turns, each in a child process of its
own, over a warm cache, and sync what they wrote; the table shows the best of each and the ratio. Verifying is told
apart: tar doesn't do it. Then 1 % of the small files change and all save again, and all bring it back. restic and
borg take part where they are installed.
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


def save_in_child(root: str, volume: str, *, incremental: bool) -> None:
    """Save once and print what it took, as JSON; runs in a process of its own."""
    stages: dict[str, float] = {}

    def note(progress: Progress) -> None:
        stages.setdefault(progress.stage, time.monotonic())
        cpu.setdefault(progress.stage, time.process_time())

    cpu: dict[str, float] = {}
    began, cpu_began = time.monotonic(), time.process_time()
    snapshot = save(
        SaveRequest(
            volume=Path(volume), pod_id="bench", boot_key="b", root=Path(root), keep=2, incremental=incremental
        ),
        note,
    )
    assert isinstance(snapshot, Snapshot)  # noqa: S101 - an empty tree is no benchmark
    answer = {
        "members": snapshot.members,
        "save_s": stages["verify"] - began,
        "save_cpu_s": cpu["verify"] - cpu_began,
        "verify_s": time.monotonic() - stages["verify"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "packed_mb": snapshot.archive_bytes / MB,
    }
    print(json.dumps(answer))


def run_save(root: Path, volume: Path, *more: str) -> dict[str, float]:
    """Run `save_in_child` and return its figures."""
    call = [sys.executable, "-m", "benchmarks.snapshot", "--child", str(root), str(volume), *more]
    answer: dict[str, float] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return answer


def timed(script: str, *arguments: object) -> dict[str, float]:
    """Run a shell script and return wall and CPU seconds, and the peak memory of its largest process in MiB."""
    began = time.monotonic()
    child = subprocess.Popen(
        ["sh", "-ec", script, "sh", *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed: {script}")
    cpu = used.ru_utime + used.ru_stime
    return {"save_s": time.monotonic() - began, "save_cpu_s": cpu, "peak_mib": used.ru_maxrss / 1024}


ENVIRONMENT = {**os.environ, "RESTIC_PASSWORD": "x", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
TAR = 'tar --format=posix --sparse --xattrs -C "$1" -cf - . | zstd -q -T0 -3 -f -o "$2/tar.zst" && sync "$2/tar.zst"'
UNPACK = "tar -x -p --xattrs --xattrs-include='*' --numeric-owner"
"""As docs/snapshots.md says: so that tar brings back the same."""
OTHERS = {
    "restic": (
        'restic -q -r "$2/restic" init',
        'cd "$1" && restic -q -r "$2/restic" --cache-dir "$2/../cache" backup .',
        'restic -q -r "$2/restic" --cache-dir "$2/../cache" restore latest --target "$3"',
    ),
    "borg": (
        'borg init -e none "$2/borg"',
        'cd "$1" && borg create --sparse -C zstd,3 "$2/borg::$(date +%s%N)" .',
        'cd "$3" && borg extract --sparse "$2/borg::$(borg list --short --last 1 "$2/borg")"',
    ),
}
"""Name to how a repository is made, how a tree `$1` is saved to a volume `$2`, and brought back to `$3`."""


def folder_mb(folder: Path) -> float:
    """Return what the files in a folder weigh."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB


def run_tar(root: Path, volume: Path) -> dict[str, float]:
    """Run `tar | zstd -T0 -3` into a file, sync it, and return the figures."""
    found = timed(TAR, root, volume)
    return {**found, "packed_mb": (volume / "tar.zst").stat().st_size / MB}


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of each figure: other load on the machine only adds."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    """Make the tree, run both in turns, print the table."""
    if sys.argv[1:2] == ["--child"]:
        save_in_child(sys.argv[2], sys.argv[3], incremental="--incremental" in sys.argv)
        return
    if sys.argv[1:2] == ["--restore"]:
        restore_in_child(sys.argv[2], sys.argv[3])
        return
    small = "--small" in sys.argv
    folder = Path(tempfile.mkdtemp(prefix="idlewatch-benchmark-"))
    try:
        compare(folder, files=5_000 if small else 50_000, big_bytes=(100 if small else 1000) * MB)
    finally:
        shutil.rmtree(folder)


def row(name: str, figures: dict[str, float]) -> None:
    """Print one row of the table."""
    told = (figures["save_s"], figures["save_cpu_s"], figures.get("packed_mb", 0), figures["peak_mib"])
    print(f"{name:28}{told[0]:8.2f}{told[1]:8.2f}{told[2]:8.0f}{told[3]:8.0f}")


def compare(folder: Path, files: int, big_bytes: int) -> None:
    """Print the figures of all over one tree: scan, first save, second save, restore."""
    root, volume = folder / "root", folder / "volume"
    for part in (root, volume):
        part.mkdir()
    make_tree(root, files, big_bytes)
    others = [name for name in OTHERS if shutil.which(name)]
    print(f"{files} files and one of {big_bytes / MB:.0f} MB, {os.cpu_count()} CPUs, best of {ROUNDS}, in turns")
    scans(root)
    print(f"{'':28}{'wall s':>8}{'CPU s':>8}{'MB':>8}{'MiB RAM':>8}")
    tar, own = first_saves(root, volume, others)
    print(f"{'ratio to tar | zstd':28}{own['save_s'] / tar['save_s']:8.2f}{own['save_cpu_s'] / tar['save_cpu_s']:8.2f}")
    print(f"{'verify (not in it)':28}{own['verify_s']:8.2f}")
    second_saves(root, volume, files, others, own)
    restores(folder, volume, others)


def scans(root: Path) -> None:
    """Print the scan against `find`, both warm."""
    since = time.time() - 86400
    finds = [timed('find "$1" -xdev -newerct "@$2" -printf "%p" ', root, since)["save_s"] for _ in range(ROUNDS)]
    own = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        measure_loss(root)
        own.append(time.monotonic() - began)
    print(f"{'find -newerct / loss':28}{min(finds):8.2f}{min(own):8.2f}  ratio {min(own) / min(finds):.1f}")


def first_saves(root: Path, volume: Path, others: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Print the rows of the first saves, and return those of tar and of idlewatch."""
    tar_runs, save_runs = [], []
    for _ in range(ROUNDS):
        tar_runs.append(run_tar(root, volume))
        save_runs.append(run_save(root, volume))
    tar, own = best(tar_runs), best(save_runs)
    row("tar | zstd -T0 -3", tar)
    row("idlewatch save", own)
    for name in others:
        make, keep, _ = OTHERS[name]
        timed(make, root, volume)
        found = timed(keep, root, volume)
        row(name, {**found, "packed_mb": folder_mb(volume / name)})
    return tar, own


def second_saves(root: Path, volume: Path, files: int, others: list[str], first: dict[str, float]) -> None:
    """Print the rows of the second saves, each after a change of its own to 1 % of the small files."""
    runs = []
    for round_ in range(ROUNDS):
        for number in range(round_, files, 100):
            path = root / f"package{number // 1000}" / f"module{number // 100}" / f"source_{number}.py"
            path.write_bytes(path.read_bytes()[::-1])
        runs.append(run_save(root, volume, "--incremental"))
    own = best(runs)
    print("second, after 1 % of the files changed:")
    row("idlewatch save", own)
    whole, before = own["save_s"] + own["verify_s"], first["save_s"] + first["verify_s"]
    print(f"{'ratio to its first, all told':28}{whole / before:8.2f}")
    for name in others:
        before_mb = folder_mb(volume / name)
        found = timed(OTHERS[name][1], root, volume)
        row(name, {**found, "packed_mb": folder_mb(volume / name) - before_mb})


def restores(folder: Path, volume: Path, others: list[str]) -> None:
    """Print how long each takes to bring everything back; idlewatch's own proves it first and compares it after."""
    print("restore:")
    scripts = {"zstd -dc | tar -x": f'zstd -dc "$2/tar.zst" | {UNPACK} -C "$3" && sync -f "$3"'}
    scripts |= {name: OTHERS[name][2] for name in others}
    scripts["idlewatch restore"] = 'exec "$4" -m benchmarks.snapshot --restore "$2" "$3"'
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in scripts}
    for number in range(ROUNDS):
        for name, script in scripts.items():
            # Removed only at the end: ext4 is slow to make files for a while after many were removed.
            target = folder / f"target {name.partition(' ')[0]} {number}"
            target.mkdir()
            runs[name].append(timed(script, folder, volume, target, sys.executable))
    for name, found in runs.items():
        row(name, best(found))


def restore_in_child(volume: str, target: str) -> None:
    """Restore once; runs in a process of its own."""
    restore(find(Path(volume), "bench"), Path(target))
    subprocess.run(["sync", "-f", target], check=True)


if __name__ == "__main__":
    main()
