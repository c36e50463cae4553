"""
`python -m idlewatch.gpu.child [SECONDS]`: owns NVML and prints one line of JSON a poll.

It imports pynvml and the standard library, so that a hang or a crash of NVML ends here. It ends when its standard
input closes (the daemon holds the other end), after the call that it is in: a process that is ended inside an NVML
call has frozen a GPU (NVIDIA/dcgm-exporter#84). It never exits for a GPU's error at once: an NVML that is open reads
on where a new one can't be opened (NVIDIA/nvidia-container-toolkit#48). Where nothing has read for a minute it leaves
with code REOPEN, because only a fresh process loads another library.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from idlewatch.gpu import REOPEN

if TYPE_CHECKING:
    from types import ModuleType

SETTLE_POLLS = 6
"""Polls (30 s) after the opening that don't count: waking a GPU reads as 100 % busy."""
REOPEN_AFTER_POLLS = 12
SHORTEST_POLL_S = 0.5
PR_SET_PDEATHSIG = 1


def now_s() -> float:
    """Seconds on CLOCK_BOOTTIME, the daemon's clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def follow_parent() -> None:
    """Leave at the next chance when the daemon dies, even where someone else still holds our standard input."""
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)


def private_stdout() -> int:
    """A descriptor for our lines alone: what a library prints goes to standard error."""
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def told_to_end(wait_s: float) -> bool:
    """Whether standard input closed within `wait_s` seconds."""
    readable, _, _ = select.select([0], [], [], max(wait_s, 0.0))
    return bool(readable) and not os.read(0, 4096)


class Child:
    """Polls every GPU on its own timer and says what it saw."""

    def __init__(self, *, poll_s: float, out: int) -> None:
        self._poll_s = poll_s
        self._out = out
        self._seq = 0
        self._failed = 0

    def run(self) -> int:
        """Poll until told to end, or until a fresh process is the better chance; returns the exit code."""
        try:
            from idlewatch.gpu import nvml
        except ImportError as error:
            return self._unusable(f"pynvml can't be imported: {error}")
        try:
            gpus = nvml.opened()
        except nvml.MetricError as error:
            return self._unusable(f"NVML can't be opened: {error}")
        return self._poll_all(nvml, gpus)

    def _unusable(self, words: str) -> int:
        self._say({"error": words}, now_s())
        return REOPEN

    def _poll_all(self, nvml: ModuleType, gpus: list[Any]) -> int:
        opened_s = next_s = now_s()
        while not self._wait(gpus, next_s):
            at_s = now_s()
            line = self._line(nvml, gpus, at_s)
            if line is None:
                return 0
            line["settles_in_s"] = round(max(opened_s + SETTLE_POLLS * self._poll_s - at_s, 0.0), 3)
            self._say(line, at_s)
            self._failed = self._failed + 1 if _fails(line) else 0
            if self._failed >= REOPEN_AFTER_POLLS:
                return REOPEN
            next_s = max(next_s + self._period_s(gpus), now_s())
        return 0

    def _period_s(self, gpus: list[Any]) -> float:
        """Seconds between polls: under half of the shortest ring, so that one late poll loses nothing."""
        half_s = min((gpu.ring_span_s / 2 for gpu in gpus if gpu.ring_span_s), default=self._poll_s)
        return min(self._poll_s, max(SHORTEST_POLL_S, half_s))

    def _wait(self, gpus: list[Any], until_s: float) -> bool:
        """Wait for the next poll, tapping GPUs without a ring each second; whether we were told to end."""
        while True:
            left_s = until_s - now_s()
            taps = any(gpu.ringless for gpu in gpus)
            if told_to_end(min(left_s, 1.0) if taps else left_s):
                return True
            if now_s() >= until_s:
                return False
            for gpu in gpus:
                gpu.tap(now_s())

    def _line(self, nvml: ModuleType, gpus: list[Any], at_s: float) -> dict[str, Any] | None:
        """One poll of every GPU; None where we were told to end in between, since each call may take 45 s."""
        line: dict[str, Any] = {"error": None, "expected": len(gpus), "found": None, "found_error": None}
        try:
            line["found"] = nvml.count()
        except nvml.MetricError as error:
            line["found_error"] = str(error)
        line["gpus"] = []
        for gpu in gpus:
            if told_to_end(0):
                return None
            line["gpus"].append(gpu.poll(at_s))
        return line

    def _say(self, line: dict[str, Any], at_s: float) -> None:
        data = json.dumps({"seq": self._seq, "at_s": round(at_s, 3), **line}).encode() + b"\n"
        self._seq += 1
        while data:
            data = data[os.write(self._out, data) :]


def _fails(line: dict[str, Any]) -> bool:
    return line["found_error"] is not None or any(gpu["error"] for gpu in line["gpus"])


def main(argv: list[str]) -> int:
    """Run until standard input closes. `argv[1]` is the seconds between polls."""
    follow_parent()
    try:
        return Child(poll_s=float(argv[1]) if len(argv) > 1 else 5.0, out=private_stdout()).run()
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
