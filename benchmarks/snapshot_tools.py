"""What takes part in `benchmarks.snapshot`: the tree that is saved, the tools that save it, and how they are timed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MB = 1_000_000
_SMALL_BYTES = 64 * 1024
_EXT4_BYTES = 16_000 * MB
ENVIRONMENT = {**os.environ, "RESTIC_PASSWORD": "x", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}


def make_tree(root: Path, files: int, big_bytes: int) -> None:
    """Fill `root`: sources of 1 to 9 kB in folders of 100, and one file, half random bytes, half random letters."""
    source = random.Random(1)
    words = [bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz_", k=source.randint(2, 12))) for _ in range(4000)]
    for number in range(files):
        path = root / f"package{number // 1000}" / f"module{number // 100}" / f"source_{number}.py"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b" ".join(source.choices(words, k=source.randint(150, 1200))))
    sixteen_letters = bytes(b"abcdefghijklmnop"[byte % 16] for byte in range(256))
    with (root / "weights.bin").open("wb") as big:
        while big.tell() < big_bytes:
            big.write(os.urandom(MB))
            big.write(os.urandom(MB).translate(sixteen_letters))


def small_files(root: Path) -> list[Path]:
    """Return the regular files below 64 KiB, in order."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in files if path.stat().st_size < _SMALL_BYTES)


def change(files: list[Path], first: int) -> None:
    """Turn the content of 1 % of the files round, beginning with number `first`."""
    for path in files[first::100]:
        path.write_bytes(path.read_bytes()[::-1])


@contextmanager
def fresh_ext4(folder: Path) -> Iterator[Path]:
    """Yield a new ext4 in a file, mounted (root): one from which many files were removed makes new ones slowly."""
    image, place = folder / "ext4.img", folder / "ext4"
    place.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(_EXT4_BYTES)
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", eager, str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Shell scripts that save the tree `$1` to the volume `$2` and bring it back to `$3`; `$4` is this Python."""

    name: str
    save: str
    restore: str
    make: str = ":"
    """What makes a repository."""


# What tar brings back is the same as ours: see docs/snapshots.md, "By hand".
TAR = Tool(
    name="tar and zstd -T0 -3",
    save='tar --format=posix --sparse --xattrs -C "$1" -cf - . | zstd -q -T0 -3 -f -o "$2/tar.zst"'
    ' && sync "$2/tar.zst"',
    restore='zstd -dc "$2/tar.zst" | tar -x -p --xattrs --xattrs-include="*" --numeric-owner -C "$3"',
)
OURS = Tool(
    name="idlewatch",
    save='exec "$4" -m benchmarks.snapshot --child save "$1" "$2"',
    restore='exec "$4" -m benchmarks.snapshot --child restore "$2" "$3"',
)
OTHERS = (
    Tool(
        name="restic",
        make='restic -q -r "$2/restic" init',
        save='cd "$1" && restic -q -r "$2/restic" --cache-dir "$2/../restic-cache" backup .',
        restore='restic -q -r "$2/restic" --cache-dir "$2/../restic-cache" restore latest --target "$3"',
    ),
    Tool(
        name="borg",
        make='borg init -e none "$2/borg"',
        save='cd "$1" && borg create --sparse -C zstd,3 "$2/borg::$(date +%s%N)" .',
        restore='cd "$3" && borg extract --sparse "$2/borg::$(borg list --short --last 1 "$2/borg")"',
    ),
)


def tools() -> tuple[list[Tool], list[str]]:
    """Return those that can take part, tar first and idlewatch last, and a sentence for each that can't."""
    if missing := [name for name in ("tar", "zstd", "find", "sync") if shutil.which(name) is None]:
        raise SystemExit(f"no {', '.join(missing)} here")
    there = [tool for tool in OTHERS if shutil.which(tool.name)]
    return [TAR, *there, OURS], [f"not measured: {tool.name} is not installed" for tool in OTHERS if tool not in there]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took."""

    wall_s: float
    cpu_s: float
    """Its own and its children's."""
    peak_mib: float
    """Of the largest of its processes."""
    mb: float = 0.0
    """What lies on the volume more than before."""


def least(costs: Iterable[Cost]) -> Cost:
    """Return the least of each figure: other work on the machine only adds."""
    runs = list(costs)
    return Cost(**{part.name: min(getattr(run, part.name) for run in runs) for part in fields(Cost)})


def timed(script: str, root: Path, volume: Path, target: Path, *more: str) -> tuple[Cost, str]:
    """Run a script and return what it took and what it said. Exits where it fails."""
    places = [str(place) for place in (root, volume, target)]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            ["sh", "-ec", script, "sh", *places, sys.executable, *more], env=ENVIRONMENT, stdout=output
        )
        _, status, used = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"failed: {script}")
        output.seek(0)
        cpu_s = used.ru_utime + used.ru_stime
        return Cost(wall_s=wall_s, cpu_s=cpu_s, peak_mib=used.ru_maxrss / 1024), output.read()


def folder_mb(folder: Path) -> float:
    """Return what the files in a folder weigh."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB


def warm_up(folder: Path) -> None:
    """Read all that lies in a folder, once what was written before is on the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(MB):
                    pass


def drop_caches() -> str:
    """Have the kernel forget what it read, so that the next run reads the disk. Returns why it can't, in words."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        return f"the caches can't be dropped here ({error.strerror}): nothing cold can be measured"
    return ""
