"""Simulated Pods with GPUs: a real daemon, its reader with the real pynvml, on an NVML that follows a script."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.history.status import mapping, number
from idlewatch.model import Json
from idlewatch.show.status import status_lines
from tests.nvml_stub import NvmlScript, environment
from tests.waiting import comes
from tests.whole_path import POD_ID, Place, simulated

GPU_DAEMON = str(Path(__file__).parent / "gpu_daemon.py")
FAST = (GPU_DAEMON, "0.25", "30", "60")
"""Polls twenty times as often as in a Pod, and so counts readings after 1.5 s and calls a silence of 0.75 s a hang."""
HURRIED = (GPU_DAEMON, "0.25", "4", "2")
"""And ends a hung reader's process after seconds."""
IMPATIENT = (GPU_DAEMON, "0.25", "2", "1")
"""Grants the opening of NVML 2 s: for readers that never come so far."""
SLOW = (GPU_DAEMON, "2", "30", "60")
"""Polls seldom enough that a short burst stands only in the driver's ring; counts readings after 12 s."""
VERB = ("-m", "idlewatch", "run", "--observe")
"""The verb itself, with the reader's own times; it only observes, for it would warn on every terminal of a machine."""

IDLE_AFTER_S, WARN_FOR_S = 1.0, 1.0
ENDS_WITHIN_S = 20.0


@dataclass
class GpuPod:
    """A simulated Pod and the NVML in it."""

    place: Place
    script: NvmlScript
    asked: bool = False

    def at_s(self) -> float:
        """The newest tick."""
        return number(self.place.status().get("at_s"))

    def activity(self) -> str:
        """The newest verdict on the GPUs."""
        return str(gpu_of(self.place.status()).get("activity"))

    def reason(self) -> str:
        """And its words."""
        return str(gpu_of(self.place.status()).get("reason"))

    def readers(self) -> list[int]:
        """The reader's processes."""
        return [pid for pid in self.place.processes() if b"idlewatch.gpu.child" in command_line(pid)]

    def ask_to_end(self) -> None:
        """One shutdown request to the daemon: a second one would end Python itself while it takes itself apart."""
        if not self.asked:
            self.asked = True
            self.place.daemons[-1].send_signal(signal.SIGTERM)

    def ended(self) -> tuple[int | None, list[int]]:
        """Ask the daemon to end; returns its exit status (None: it runs on), and what it left running."""
        daemon = self.place.daemons[-1]
        self.ask_to_end()
        comes(lambda: daemon.poll() is not None, ENDS_WITHIN_S)
        comes(lambda: not self.place.processes(), ENDS_WITHIN_S)
        return daemon.poll(), self.place.processes()


def gpu_of(status: Mapping[str, Json]) -> Mapping[str, Json]:
    """What a status says of the GPUs."""
    return mapping(mapping(status.get("signals")).get("gpu"))


def screen_of(status: Mapping[str, Json]) -> str:
    """What `idlewatch status` shows of it at once."""
    return "\n".join(status_lines(status, number(status.get("at_s"))))


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def gpu_pod(folder: Path, library: Path, *, gpus: int = 1, command: Sequence[str] = FAST) -> Iterator[GpuPod]:
    """A Pod whose NVML lies in `library`; nothing runs in it yet."""
    with simulated(folder, LoopbackPod(pod_id=POD_ID)) as place:
        script = NvmlScript(folder / "script", gpus=gpus)
        place.command = command
        place.settings = {
            "RUNPOD_GPU_COUNT": str(gpus),
            "IDLEWATCH_SIGNALS": "gpu",
            "IDLEWATCH_IDLE_AFTER": f"{IDLE_AFTER_S}s",
            "IDLEWATCH_WARN_FOR": f"{WARN_FOR_S}s",
            "IDLEWATCH_INTERVAL": "0.25s",
            **environment(library, script),
        }
        yield GpuPod(place, script)
