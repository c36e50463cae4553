"""
The GPU reader's child process on a moved clock: `python -m benchmarks.gpu_stepped_child POLL_S AT_S`.

All else is the child as it is: its loop, its lines, the real pynvml. Where it would wait it writes READY, and goes on
at the instant (CLOCK_BOOTTIME seconds) that the next line of its standard input names. So an hour of polls takes
seconds, and the same steps give the same lines.
"""

from __future__ import annotations

import os
import sys

from idlewatch.gpu import child

READY = b"ready\n"


class SteppedClock:
    """Stands in for the child's two ways to meet time."""

    def __init__(self, at_s: float, out: int) -> None:
        self._at_s = at_s
        self._out = out

    def now_s(self) -> float:
        """The instant of the last step."""
        return self._at_s

    def told_to_end(self, wait_s: float) -> bool:
        """Wait for the next step; true where standard input closed."""
        if wait_s <= 0:
            return False
        os.write(self._out, READY)
        step = sys.stdin.readline()
        if not step:
            return True
        self._at_s = float(step)
        return False


def main(argv: list[str]) -> int:
    """Poll as stepped until standard input closes."""
    clock = SteppedClock(float(argv[2]), os.dup(1))  # the child itself keeps descriptor 1 from what libraries print
    child.now_s, child.told_to_end = clock.now_s, clock.told_to_end
    return child.main(["child", argv[1]])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
