"""
A real daemon whose only evidence are the GPUs, read by the real reader in a hurry: the machine is shared, and what
others do on it must not decide a test.

    python tests/gpu_daemon.py POLL_S START_S GRACE_S
"""

from __future__ import annotations

import sys

from idlewatch.gpu.reader import GpuReader
from idlewatch.model import Signal
from idlewatch.pod.assembled import Assembly
from idlewatch.signals import gpu_count
from idlewatch.signals.gpu import GpuSignal
from tests.quiet_daemon import main

REST_S = 3.0
"""Before a reader that ended is replaced; 60 s in a Pod, where it polls twenty times less often."""


def gpus(here: Assembly) -> list[Signal]:
    """The GPU signal as in a Pod; its reader's times come from the command line."""
    poll_s, start_s, grace_s = map(float, sys.argv[1:])
    reader = GpuReader(poll_s=poll_s, start_s=start_s, grace_s=grace_s, rest_s=REST_S)
    return [GpuSignal(reader=reader, gpu_count=gpu_count(here.loaded.pod_variables()))]


if __name__ == "__main__":
    main(gpus)
