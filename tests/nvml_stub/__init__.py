"""
An NVML for tests: a C library that the real pynvml loads, and the script that it follows while it runs.

    directory = build(tmp_path)                 # once a session: for LD_LIBRARY_PATH
    script = NvmlScript(tmp_path / "script", gpus=2)
    script.util(0, 87)                          # takes effect at the next call of the library
    argv = child_argv(directory, script, poll_s=0.1)
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml_stub.c"
LIBRARY = "libnvidia-ml.so.1"
ALL = "*"


def build(directory: Path, *, old: bool = False) -> Path:
    """
    Compile the stub into `directory` and return it, for LD_LIBRARY_PATH; fails where there is no `cc`.

    `old`: without MIG, GPM, JPEG, OFA, and with only the second version of the process lists.
    """
    (directory / LIBRARY).write_bytes(_compiled(old=old))
    return directory


@functools.cache
def _compiled(*, old: bool) -> bytes:
    """The library, compiled once a process: many test modules need it."""
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{LIBRARY}", *(["-DOLD"] if old else [])]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, LIBRARY)
        subprocess.run(["cc", *flags, "-o", str(made), str(SOURCE), "-lm"], check=True)
        return made.read_bytes()


def environment(directory: Path, script: NvmlScript) -> dict[str, str]:
    """The variables that make a process, and its children, find the stub and its script."""
    return {"LD_LIBRARY_PATH": str(directory), "NVML_STUB_SCRIPT": str(script.path)}


def child_argv(directory: Path, script: NvmlScript, *options: str, poll_s: float) -> list[str]:
    """The command of the reader's child process on the stub."""
    variables = [f"{name}={value}" for name, value in environment(directory, script).items()]
    return ["env", *variables, sys.executable, "-P", "-m", "idlewatch.gpu.child", str(poll_s), *options]


def now_s() -> float:
    """The stub's clock, CLOCK_BOOTTIME seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NvmlScript:
    """
    What the stub answers; every method takes effect at its next call. A GPU is an index, or `ALL`.

    Calls that can fail, hang or die are named `init`, `count`, `handle`, `uuid`, `name`, `mig`, `util`,
    `util_samples` (how many rows), `util_rows` (the rows), the same three for `encoder`, `decoder`, `jpeg` and
    `ofa`, `mem`, `mem2`, `energy`, `power`, `power_limit`, `processes`, `graphics`, `virtual`, `instances`,
    `instance`, `part_mem` (an instance's memory), `gpm_support`, `gpm_sample`, `gpm_metrics`; `*` with `error` is all
    of them. Without a line about it a GPU is at 0 %, 70 W of 700 W, 3 MiB, without a process.
    """

    def __init__(self, path: Path, *, gpus: int = 1) -> None:
        self.path = path
        self._lines: list[str] = []
        self._energy: dict[int | str, tuple[float, float, float]] = {}
        self._add(f"gpus * {gpus}")

    def util(self, gpu: int | str, pct: float, *, since_s: float | None = None) -> None:
        """Steady utilization from now (or an instant in the past) on; what was before stays in the ring."""
        self._add(f"util {gpu} {pct} {now_s() if since_s is None else since_s}")

    def engine(self, gpu: int | str, name: str, pct: float) -> None:
        """Utilization of `encoder`, `decoder`, `jpeg` or `ofa` from now on."""
        self._add(f"{name} {gpu} {pct} {now_s()}")

    def burst(
        self, gpu: int | str, *, busy_s: float, every_s: float, pct: float = 100, since_s: float | None = None
    ) -> None:
        """Busy for `busy_s` at the start of each `every_s` from now on; ring and instant readings agree."""
        self._add(f"burst {gpu} {busy_s} {every_s} {pct} {now_s() if since_s is None else since_s}")

    def series(self, gpu: int | str, points: list[tuple[float, float]], metric: str = "util") -> None:
        """Steps of utilization (or of an engine): (seconds, percent from then on), in order of time, past or future."""
        for at_s, pct in points:
            self._lines.append(f"{metric} {gpu} {pct} {at_s}")
        self._write()

    def samples(self, gpu: int | str, rows: list[tuple[float, int]]) -> None:
        """Exactly these ring rows (seconds, percent), in this order; nothing else comes into the ring."""
        self._add(f"given {gpu} 1")
        self._add(f"samples {gpu} " + " ".join(f"{at_s:.6f}:{pct}" for at_s, pct in rows))

    def instant(self, gpu: int | str, pct: int) -> None:
        """What nvmlDeviceGetUtilizationRates says, whatever the ring holds."""
        self._add(f"instant {gpu} {pct}")

    def dry(self, gpu: int | str, *, on: bool = True) -> None:
        """The ring has nothing newer: NOT_FOUND, as on a sleeping GPU."""
        self._add(f"dry {gpu} {int(on)}")

    def ring(self, *, depth: int = 100, sample_s: float = 1 / 6) -> None:
        """How many samples the ring keeps and how far apart they are."""
        self._add(f"ring * {depth}")
        self._add(f"sample_s * {sample_s}")

    def energy_w(self, gpu: int, watts: float) -> None:
        """Power from now on; the energy counter goes on from where it stands."""
        self._step_energy(gpu, watts, now_s())
        self._write()

    def power_series(self, gpu: int, points: list[tuple[float, float]]) -> None:
        """Steps of power: (seconds, watts from then on), in order of time, past or future; the counter adds it up."""
        for at_s, watts in points:
            self._step_energy(gpu, watts, at_s)
        self._write()

    def mem(self, gpu: int | str, mib: int) -> None:
        """Memory in use, without the driver's reserve of 480 MiB (which the old call counts in)."""
        self._add(f"mem {gpu} {mib}")

    def processes(self, gpu: int | str, count: int) -> None:
        """Processes with a context."""
        self._add(f"processes {gpu} {count}")

    def count(self, gpus: int) -> None:
        """What nvmlDeviceGetCount says from now on."""
        self._add(f"count * {gpus}")

    def gone(self, gpu: int) -> None:
        """A GPU that is no longer listed; those behind it move up, as on real drivers."""
        self._add(f"gone {gpu} 1")

    def mig(self, gpu: int | str, *, on: bool = True) -> None:
        """MIG mode."""
        self._add(f"mig {gpu} {int(on)}")

    def instance(self, gpu: int | str, slot: int, mib: int) -> None:
        """An instance with so much memory in use, -1: none in this slot. Slots are 0 to 6, with gaps."""
        self._add(f"instance {gpu} {slot} {mib}")

    def instance_util(self, gpu: int | str, slot: int, pct: float) -> None:
        """What GPM counts of an instance from now on."""
        self._add(f"gpm{slot} {gpu} {pct} {now_s()}")

    def without_gpm(self, gpu: int | str) -> None:
        """A GPU that has no GPM."""
        self._add(f"gpm {gpu} 0")

    def virtual(self, gpu: int | str, mode: int) -> None:
        """The nvmlGpuVirtualizationMode_t: 1 passed through, 2 a vGPU."""
        self._add(f"virtual {gpu} {mode}")

    def error(self, call: str, code: int, gpu: int | str = ALL, *, times: int = 0) -> None:
        """Let a call fail with an nvmlReturn_t (0 ends it): always, or `times` times before each success."""
        self._add(f"error {gpu} {call} {code} {times}")

    def stall(self, call: str, seconds: float, gpu: int | str = ALL) -> None:
        """Let a call hang."""
        self._add(f"stall {gpu} {call} {seconds}")

    def works(self, gpu: int, pct: float = 87) -> None:
        """A model at work, all in one: utilization, 16 GB, one process, 300 W."""
        self.util(gpu, pct)
        self.mem(gpu, 16000)
        self.processes(gpu, 1)
        self.energy_w(gpu, 300)

    def rests(self, gpu: int) -> None:
        """The same model without a request: it stays loaded and draws 120 W."""
        self.util(gpu, 0)
        self.energy_w(gpu, 120)

    def segv(self, call: str, gpu: int | str = ALL) -> None:
        """Let a call crash the process."""
        self._add(f"die {gpu} {call} -1")

    def exit(self, call: str, code: int, gpu: int | str = ALL) -> None:
        """Let a call end the process."""
        self._add(f"die {gpu} {call} {code}")

    def reset(self, *, gpus: int = 1) -> None:
        """Forget everything said so far."""
        self._lines.clear()
        self._energy.clear()
        self._add(f"gpus * {gpus}")

    def _step_energy(self, gpu: int, watts: float, at_s: float) -> None:
        before_w, since_s, joules = self._energy.get(gpu, (70.0, 0.0, 0.0))
        self._energy[gpu] = (watts, at_s, joules + before_w * (at_s - since_s))
        self._lines.append(f"energy {gpu} {watts} {at_s} {self._energy[gpu][2]}")

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._write()

    def _write(self) -> None:
        """Written aside and moved into place: the library may be reading it."""
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("\n".join(self._lines) + "\n")
        fresh.replace(self.path)
