"""A volume that fails, behind `faulty_volume.c`: how it is built, and the variables that make a process find it so."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "faulty_volume.c"


def build(folder: Path) -> Path:
    """Return the library to be preloaded."""
    library = folder / "faulty_volume.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


@dataclass
class Faulty:
    """One volume and its faults."""

    library: Path
    volume: Path
    folder: Path

    @property
    def on(self) -> Path:
        """As long as it is there, the fault is; from the instant on that `variables` tells it is made by itself."""
        return self.folder / "fault"

    @property
    def begun(self) -> Path:
        """As long as it is there, no fault begins by itself."""
        return self.folder / "fault begun"

    def mend(self, *, for_good: bool = False) -> None:
        """End the fault; the next process may meet the next one, unless it is mended `for_good`."""
        self.on.unlink(missing_ok=True)
        if not for_good:
            self.begun.unlink(missing_ok=True)

    @property
    def log(self) -> Path:
        return self.folder / "operations"

    def variables(
        self, kind: str = "none", *, at: int | None = None, at_bytes: int | None = None, slow_us: int = 0
    ) -> dict[str, str]:
        """What begins with a process's operation `at`, or once it has written `at_bytes`."""
        numbers = {"FAULTY_AT": at, "FAULTY_AT_BYTES": at_bytes, "FAULTY_SLOW_US": slow_us}
        return {
            "LD_PRELOAD": str(self.library),
            "FAULTY_VOLUME": str(self.volume),
            "FAULTY_ON": str(self.on),
            "FAULTY_BEGUN": str(self.begun),
            "FAULTY_LOG": str(self.log),
            "FAULTY_KIND": kind,
            **{name: str(number) for name, number in numbers.items() if number is not None},
        }

    def operations(self) -> list[str]:
        """`call path` of each metadata operation since the last call, paths from the volume on."""
        lines = self.log.read_text().replace(f"{self.volume}", "").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines
