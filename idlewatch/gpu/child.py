"""
`python -m idlewatch.gpu.child [SECONDS] [--gpm] [--drm FOLDER] [--dev FOLDER]`: owns the driver's library.

It prints one line of JSON a poll. It imports pynvml and the standard library, so that a hang or a crash of NVML ends
here. It ends when its standard input closes (the daemon holds the other end), after the call that it is in: a process
that is ended inside an NVML call has frozen a GPU (NVIDIA/dcgm-exporter#84). It never exits for a GPU's error at
once: an NVML that is open reads on where a new one can't be opened (NVIDIA/nvidia-container-toolkit#48). Where
nothing has read for a minute, or one GPU has not for ten, it leaves with code REOPEN, because only a fresh process
loads another library.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from idlewatch.gpu import REOPEN
from idlewatch.gpu.words import MetricError, at_the_opening

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SETTLE_POLLS = 6
"""Polls (30 s) after the opening that don't count: waking a GPU reads as 100 % busy."""
AWAY_S = 60.0
"""Between two polls so far apart this process slept (the machine was suspended, a call hung): it settles anew."""
REOPEN_AFTER_POLLS = 12
REOPEN_FOR_ONE_AFTER_POLLS = 120
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


class Options(NamedTuple):
    """What the command line says."""

    poll_s: float = 5.0
    gpm: bool = False
    drm: str = "/sys/class/drm"
    dev: str = "/dev"

    @classmethod
    def parsed(cls, words: Sequence[str]) -> Options:
        """The options in `words`; raises ValueError, IndexError or TypeError where they are none."""
        said: dict[str, Any] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--gpm":
                said["gpm"] = True
            elif word in {"--drm", "--dev"}:
                said[word[2:]] = rest.pop(0)
            else:
                said["poll_s"] = float(word)
        return cls(**said)


class Source:
    """The GPUs of this machine, as one driver knows them."""

    def __init__(self, gpus: Sequence[Any], count: Callable[[], int], driver: str | None, settle_polls: int) -> None:
        self.gpus, self.count, self.driver, self.settle_polls = gpus, count, driver, settle_polls


class Unusable(Exception):
    """No driver can be asked here; the text says why, in words for people."""


def opened(options: Options) -> Source:
    """NVIDIA's GPUs, or AMD's where there is no NVIDIA driver. Raises Unusable."""
    try:
        return _nvidia(options)
    except MetricError as error:
        words = f"NVML can't be opened: {at_the_opening(error)}"
        if error.no_driver and os.path.exists(f"{options.dev}/kfd"):  # noqa: PTH110  (pathlib is for AMD only)
            return _amd(options, words)
        raise Unusable(words) from error


def _nvidia(options: Options) -> Source:
    try:
        from idlewatch.gpu import card, nvml
    except ImportError as error:
        raise Unusable(f"pynvml can't be imported: {error}") from error
    nvml.opened()
    return Source(card.cards(gpm=options.gpm), nvml.count, nvml.driver_version(), SETTLE_POLLS)


def _amd(options: Options, no_nvidia: str) -> Source:
    from pathlib import Path

    from idlewatch.gpu import amd

    drm, dev = Path(options.drm), Path(options.dev)
    found = amd.cards(drm, dev)
    if not found:
        raise Unusable(f"{dev}/kfd is there, but no AMD GPU under {drm} has a render node in {dev}/dri ({no_nvidia})")
    return Source(found, lambda: len(amd.cards(drm, dev)), None, 0)


class Child:
    """Polls every GPU on its own timer and says what it saw."""

    def __init__(self, options: Options, *, out: int) -> None:
        self._options = options
        self._poll_s = options.poll_s
        self._out = out
        self._seq = self._blind = self._failed = 0

    def run(self) -> int:
        """Poll until told to end, or until a fresh process is the better chance; returns the exit code."""
        try:
            source = opened(self._options)
        except Unusable as error:
            self._say({"error": str(error)}, now_s())
            return REOPEN
        return self._poll_all(source)

    def _poll_all(self, source: Source) -> int:
        settled_s = now_s() + source.settle_polls * self._poll_s
        next_s = last_s = now_s()
        while not self._wait(source.gpus, next_s):
            at_s = now_s()
            if at_s - last_s > AWAY_S + self._poll_s:
                settled_s = at_s + source.settle_polls * self._poll_s
            line = self._line(source, at_s)
            if line is None:
                return 0
            line.update(driver=source.driver, poll_s=round(self._period_s(source.gpus), 3))
            line["settles_in_s"] = round(max(settled_s - at_s, 0.0), 3)
            self._say(line, at_s)
            if self._gives_up(line):
                return REOPEN
            next_s, last_s = max(next_s + self._period_s(source.gpus), now_s()), at_s
        return 0

    def _gives_up(self, line: dict[str, Any]) -> bool:
        failed = [bool(gpu["error"]) for gpu in line["gpus"]]
        uncounted = line["found_error"] is not None
        self._blind = self._blind + 1 if all(failed) and (failed or uncounted) else 0
        self._failed = self._failed + 1 if uncounted or any(failed) else 0
        return self._blind >= REOPEN_AFTER_POLLS or self._failed >= REOPEN_FOR_ONE_AFTER_POLLS

    def _period_s(self, gpus: Sequence[Any]) -> float:
        """Seconds between polls: under half of the shortest ring, so that one late poll loses nothing."""
        half_s = min((gpu.ring_span_s / 2 for gpu in gpus if gpu.ring_span_s), default=self._poll_s)
        return min(self._poll_s, max(SHORTEST_POLL_S, half_s))

    def _wait(self, gpus: Sequence[Any], until_s: float) -> bool:
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

    def _line(self, source: Source, at_s: float) -> dict[str, Any] | None:
        """One poll of every GPU; None where we were told to end in between, since each call may take 45 s."""
        line: dict[str, Any] = {"error": None, "expected": len(source.gpus), "found": None, "found_error": None}
        try:
            line["found"] = source.count()
        except MetricError as error:
            line["found_error"] = str(error)
        line["gpus"] = []
        for gpu in source.gpus:
            if told_to_end(0):
                return None
            line["gpus"].append(gpu.poll(at_s))
        return line

    def _say(self, line: dict[str, Any], at_s: float) -> None:
        data = json.dumps({"seq": self._seq, "at_s": round(at_s, 3), **line}).encode() + b"\n"
        self._seq += 1
        while data:
            data = data[os.write(self._out, data) :]


def main(argv: list[str]) -> int:
    """Run until standard input closes; `argv` as in the module's first line."""
    follow_parent()
    try:
        return Child(Options.parsed(argv[1:]), out=private_stdout()).run()
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
